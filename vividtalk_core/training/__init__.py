"""Data, losses and the loop that trained the networks in `assets`."""
