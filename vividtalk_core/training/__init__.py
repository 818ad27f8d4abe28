"""Data, losses and the loop that train what ships in assets."""
