"""Frames from files, frames to files, and their division into chunks."""
