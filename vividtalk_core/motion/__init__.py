"""Expression curves and head poses as data: files, edits, other frame rates, blinks, plots."""
