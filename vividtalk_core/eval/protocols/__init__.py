"""The tables that a command prints."""
