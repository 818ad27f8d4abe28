"""What trainings read: shards, windows and batches."""
