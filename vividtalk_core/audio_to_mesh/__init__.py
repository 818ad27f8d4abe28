"""Stage 1 of the paper: audio to expression, head pose and mesh."""
