"""Geometry on the globe and on the map, in numpy: what producer and client must agree on.

Start with `grid.Grid`, the Equal Earth lattice of cells, and `window.Window`, a rectangle of them.
`regions` reads where to produce; `projection` and `great_circle` hold the formulas; `rings` and
`valid_polygons` read and check polygons without a geometry library.
"""
