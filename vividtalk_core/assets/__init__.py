"""The files that ship inside the pack, and the code that rebuilds them."""
