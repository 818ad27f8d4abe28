"""Augmentation of speech and of training images."""
