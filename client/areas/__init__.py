"""Vectors over polygons and regions: statistics, coverage, windows, GeoTIFFs and parts.

Start with `over_areas.OverAreas`, the base of `client.Field` that has these methods.
`polygons.read_polygons` reads polygons in every form.
"""
