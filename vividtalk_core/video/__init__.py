"""Frames to and from files; the crop back into the portrait."""
