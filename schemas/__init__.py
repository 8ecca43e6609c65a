"""What producer and client agree on: grid, regions, store layout, quantization, points."""
