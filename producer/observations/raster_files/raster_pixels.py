"""Readers of the pixels of a raster, whatever its format."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Shaped
from rasterio.windows import Window as RasterWindow

from unigeo.producer.observations.raster_files.array_pixels import ArrayPixels
from unigeo.producer.observations.raster_files.decimated_pixels import (
    DamagedPixelsError,
    ReadWindow,
)
from unigeo.producer.observations.raster_files.formats import ARRAYS
from unigeo.producer.observations.raster_files.gdal_pixels import GdalPixels
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.schemas.errors import ObservationsError


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


def values_in(
    pixels: RasterPixels, source: RasterSource, window: RasterWindow
) -> Float[np.ndarray, "band row col"]:
    """Read the values of a window in their unit, NaN where there is no data.

    Args:
        pixels: the open raster.
        source: the raster.
        window: in whole pixels; what lies beyond the raster is left out.

    Raises:
        ObservationsError: the file is damaged there.
    """
    (first_row, last_row), (first_col, last_col) = (
        (max(0, int(start)), min(size, int(start + length)))
        for start, length, size in zip(
            (window.row_off, window.col_off),
            (window.height, window.width),
            source.shape,
            strict=True,
        )
    )
    shape = (last_row - first_row, last_col - first_col)
    if min(shape) <= 0:
        return np.empty((len(source.bands), 0, 0))
    try:
        numbers, known = pixels.raw(RasterWindow(first_col, first_row, shape[1], shape[0]))
    except DamagedPixelsError as error:
        raise ObservationsError(
            f"{source.label} cannot be read in rows {first_row} to {last_row - 1}, columns "
            f"{first_col} to {last_col - 1}. It is damaged or cut short; fetch it again."
        ) from error
    return np.where(known, source.to_values(numbers).astype(float), np.nan)
