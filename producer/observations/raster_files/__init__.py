"""Patches of pixels cut from raster files, whichever observations the rasters belong to.

`open_source.open_source` checks a file, `raster_patches.cut` cuts patches from several of them;
`ModalityRasters` describes what a device cuts the patches of a whole shard from.
"""
