"""Waveform to features at video rate."""
