"""What ships inside the pack, and the command that rebuilds it."""
