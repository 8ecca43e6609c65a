"""Readers of the pixels of a raster, whatever its format."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Shaped
from rasterio.windows import Window as RasterWindow

from unigeo.producer.observations.raster_files.array_pixels import ArrayPixels
from unigeo.producer.observations.raster_files.decimated_pixels import ReadWindow
from unigeo.producer.observations.raster_files.formats import ARRAYS
from unigeo.producer.observations.raster_files.gdal_pixels import GdalPixels
from unigeo.producer.observations.raster_files.raster_source import RasterSource


@runtime_checkable
class RasterPixels(Protocol):
    """An open raster."""

    def raw(
        self, window: RasterWindow
    ) -> tuple[Shaped[np.ndarray, "band row col"], Bool[np.ndarray, "band row col"]]:
        """Read a part of the raster: its own numbers, and which of them are data.

        Raises:
            DamagedPixelsError: the file cannot be read there.
        """
        ...

    def read(self, window: RasterWindow, height: int, width: int) -> ReadWindow:
        """Read a window as `height` x `width` pixels, each a mean of the raster's own."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_pixels(source: RasterSource) -> RasterPixels:
    """Open a raster.

    Raises:
        ObservationsError: it could be read when the source was made, and cannot now.
    """
    return ArrayPixels(source) if source.form in ARRAYS else GdalPixels(source)
