"""Pixels of a raster in a NetCDF file or a Zarr store."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped
from rasterio.windows import Window as RasterWindow

from unigeo.producer.observations.raster_files.array_files import ARRAY_ERRORS, open_raster_array
from unigeo.producer.observations.raster_files.array_numbers import ArrayNumbers
from unigeo.producer.observations.raster_files.decimated_pixels import (
    DamagedPixelsError,
    Decimation,
    ReadWindow,
    empty_window,
)
from unigeo.producer.observations.raster_files.raster_source import RasterSource, has_value


class ArrayPixels:
    """Reader of an open array."""

    def __init__(self, source: RasterSource) -> None:
        """Open the file or store.

        Raises:
            ObservationsError: it could be read when the source was made, and cannot now.
        """
        self._source = source
        opened = open_raster_array(source.path, source.form, source.variable, source.label)
        self._opened = opened
        self._numbers = ArrayNumbers.of(opened.array)
        # Bands of a read: along each dimension the positions that any band needs, then those of
        # each band among them.
        positions = np.array([opened.band_index(band) for band in source.bands], dtype=np.intp)
        self._needed, self._of_bands = [], []
        for axis in range(len(opened.others)):
            needed, of_bands = np.unique(positions[:, axis], return_inverse=True)
            self._needed.append(needed)
            self._of_bands.append(of_bands.ravel())
        kind, declared = self._numbers.dtype.kind, self._numbers.no_data
        blank = (*declared, 0.0 if source.nodata is None else source.nodata)[0]
        self._decimation = Decimation(
            keep="commonest" if source.encoder == "classes" else "mean",
            # As GDAL does where it averages; voids that only the description knows it does not.
            rounded=kind in "iu"
            and (source.heights is None or (declared != () and source.nodata is None)),
            any_band=kind == "u" and source.heights is None,
            blank=(blank,) * len(source.bands),
        )

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def raw(
        self, window: RasterWindow
    ) -> tuple[Shaped[np.ndarray, "band row col"], Bool[np.ndarray, "band row col"]]:
        """Read a part of the array: its own numbers, and which of them are data.

        Raises:
            DamagedPixelsError: the file cannot be read there.
        """
        rows, cols = self._opened.spatial
        indexers: dict[str, Any] = {
            rows: slice(window.row_off, window.row_off + window.height),
            cols: slice(window.col_off, window.col_off + window.width),
        }
        others = self._opened.others
        for name, needed in zip(others, self._needed, strict=True):
            whole = slice(int(needed[0]), int(needed[-1]) + 1)
            indexers[name] = whole if len(needed) == whole.stop - whole.start else needed
        try:
            part = self._opened.array.isel(indexers).transpose(*others, rows, cols).values
        except ARRAY_ERRORS as error:
            raise DamagedPixelsError from error
        if others:
            part = part[tuple(self._of_bands)]
        numbers = part.reshape(-1, window.height, window.width).astype(
            self._numbers.dtype.newbyteorder("="), copy=False
        )
        return numbers, self._numbers.data(numbers) & has_value(numbers, self._source.nodata)

    def read(self, window: RasterWindow, height: int, width: int) -> ReadWindow:
        """Read a window of the array as `height` x `width` pixels.

        Raises:
            MeaningError: numbers of a surface model are no heights.
        """
        source = self._source
        result = empty_window((len(source.bands), height, width))
        try:
            values, data = self._decimation.read(
                self._checked, window, height, width, len(source.bands)
            )
        except DamagedPixelsError:
            result.unreadable[:] = True
            return result
        if source.heights is not None:
            values = source.heights.to_metres(values)
        values, data = source.number_classes(source.to_values(values), data)
        result.values[:], result.data[:] = values, data
        result.values[:, ~data] = 0
        return result

    def _checked(
        self, window: RasterWindow
    ) -> tuple[Shaped[np.ndarray, "band row col"], Bool[np.ndarray, "band row col"]]:
        numbers, known = self.raw(window)
        if self._source.heights is not None:
            self._source.heights.check(numbers, known, self._source.label)
        return numbers, known
