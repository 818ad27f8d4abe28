"""The 3-D morphable head: its shape, landmarks, lids and teeth, and how curves move it."""
