"""Stage 2 of the paper: mesh to dense motion to frames."""
