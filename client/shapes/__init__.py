"""Shapes on a grid: rings of polygons, discs, and the exact share of each cell that they cover.

Start with `outlines.outlines_on` and `discs.disc_outlines`, which place polygons and discs on a
grid, and `coverage.cover`, which computes the shares.
"""
