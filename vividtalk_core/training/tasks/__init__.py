"""One file per model that can be trained."""
