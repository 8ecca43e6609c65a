"""What producer and client agree on, with numpy and pydantic alone.

`geo.grid.Grid` is the lattice of cells, `store.layout.Layout` the arrays of a store, and
`tables.points.read_points` reads points in every form. `io.stores` opens a store at any address,
and `errors` holds every error that unigeo raises on purpose.
"""
