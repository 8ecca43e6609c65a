"""Observations from a folder of rasters, street images and tables, described by a TOML file.

Start with `open_folder.open_observations`; `description` lists every key of
`observations.toml`.
"""
