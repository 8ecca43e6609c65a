"""Patches of pixels cut from GeoTIFF rasters, whichever observations the rasters belong to.

`geotiff_source.open_source` checks a file, `raster_patches.cut` cuts patches from several of them;
`ModalityRasters` is what a device cuts patches of a whole shard from.
"""
