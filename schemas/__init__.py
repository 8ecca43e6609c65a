"""What producer and client agree on: grid, regions, layout, quantization, points, tables."""
