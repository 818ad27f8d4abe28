"""Metrics of trained weights on held-out people."""
