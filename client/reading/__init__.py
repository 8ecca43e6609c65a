"""Reads the vectors of cells and points from a store.

Start with `sampling.sample`, which turns points into vectors. It reads cells through the protocol
`cell_protocol.Cells`, which `cell_reader.StoredCells` implements on the bytes of Zarr objects.
`checked_root.open_root` opens a store so that lost, damaged or replaced objects are errors.
"""
