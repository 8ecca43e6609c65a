"""Patches of pixels cut from GeoTIFF rasters, whichever observations the rasters belong to.

`geotiff_source.open_source` checks a file, `raster_patches.cut` cuts patches from several of them;
`ModalityRasters` describes what a device cuts the patches of a whole shard from.
"""
