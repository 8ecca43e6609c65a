"""Read an embedding field: open, sample, join, probe."""
