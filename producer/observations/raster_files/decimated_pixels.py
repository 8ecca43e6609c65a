"""Pixels of a raster averaged to larger ones, from the file's own pixels.

GDAL averages too, faster and with the overviews of a file. It averages codes of a palette, counts
voids that a file does not declare, and reads no Zarr; such rasters are averaged here, by the same
rules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from rasterio.windows import Window as RasterWindow

STRIP_PIXELS = 1 << 23
"""Number of file pixels that are averaged together."""

RawPixels = Callable[
    [RasterWindow],
    tuple[Shaped[np.ndarray, "band row col"], Bool[np.ndarray, "band row col"]],
]
"""Returns the numbers of a part of a raster, and which of them are data; a damaged part raises
`DamagedPixelsError`."""


class DamagedPixelsError(Exception):
    """A part of a file that cannot be read."""


@dataclass(frozen=True, eq=False)
class ReadWindow:
    """Decimated pixels of a part of a raster."""

    values: Float[np.ndarray, "band row col"]
    """Mean of the raster pixels in each read pixel, or the commonest class counted from 1; zero
    where there is no data."""
    data: Bool[np.ndarray, "row col"]
    """Whether there is data: in any band of an image (unsigned integers), else in every band."""
    unreadable: Bool[np.ndarray, "row col"]
    """Whether the file could not be read there."""


def empty_window(shape: tuple[int, ...]) -> ReadWindow:
    """Return a window of bands, rows and columns without data."""
    data = np.zeros(shape[1:], bool)
    return ReadWindow(np.zeros(shape, np.float32), data, data.copy())


@dataclass(frozen=True, kw_only=True)
class Decimation:
    """How the pixels in a read pixel become one."""

    keep: Literal["mean", "commonest"] = "mean"
    """The mean of those with data, or the number that most of them have."""
    rounded: bool = False
    """Whether means are rounded to integers, halves away from zero, as GDAL rounds them."""
    any_band: bool = False
    """Whether data in one band are enough, else every band needs them."""
    blank: tuple[float, ...] = ()
    """Number of each band where it alone has no data; 0 where it is empty."""

    def read(
        self, raw: RawPixels, window: RasterWindow, height: int, width: int, bands: int
    ) -> tuple[Float[np.ndarray, "band row col"], Bool[np.ndarray, "row col"]]:
        """Read a window as `height` x `width` pixels; half of what is averaged must be data.

        Args:
            raw: reads the file's own pixels.
            window: in the file's pixels, whole multiples of `height` and `width`.
            height: rows to return.
            width: columns to return.
            bands: number of bands.

        Returns:
            Means, and which read pixels have data.

        Raises:
            DamagedPixelsError: from `raw`.
        """
        down, across = window.height // height, window.width // width
        means = np.zeros((bands, height, width))
        data = np.zeros((height, width), bool)
        # In strips of read rows: undecimated, a block of a large raster can be gigabytes.
        step = max(1, STRIP_PIXELS // (down * window.width * bands))
        for first in range(0, height, step):
            rows = slice(first, min(first + step, height))
            count = rows.stop - first
            strip = RasterWindow(
                window.col_off, window.row_off + first * down, window.width, count * down
            )
            numbers, known = raw(strip)
            blocks = (bands, count, down, width, across)
            numbers, known = numbers.reshape(blocks), known.reshape(blocks)
            present = known.sum(axis=(2, 4))
            enough = 2 * present >= down * across
            if self.keep == "mean":
                read = self._means(numbers, known, present)
            else:
                read = _commonest(numbers, known)
            for band, value in enumerate(self.blank):
                read[band][present[band] == 0] = value
            means[:, rows] = read
            data[rows] = enough.any(axis=0) if self.any_band else enough.all(axis=0)
        return means, data

    def _means(
        self,
        numbers: Shaped[np.ndarray, "band row down col across"],
        known: Bool[np.ndarray, "band row down col across"],
        present: Int[np.ndarray, "band row col"],
    ) -> Float[np.ndarray, "band row col"]:
        """Return the mean of the pixels with data; 0 where there are none."""
        total = np.where(known, numbers, 0).astype(np.float64).sum(axis=(2, 4))
        means = np.zeros(total.shape)
        np.divide(total, present, out=means, where=present > 0)
        if self.rounded:
            means = np.copysign(np.floor(np.abs(means) + 0.5), means)
        return means


def _commonest(
    numbers: Shaped[np.ndarray, "band row down col across"],
    known: Bool[np.ndarray, "band row down col across"],
) -> Float[np.ndarray, "band row col"]:
    """Return the commonest number of the pixels with data, of equally common ones the smallest."""
    bands, rows, down, cols, across = numbers.shape
    if down == across == 1:
        return numbers[:, :, 0, :, 0].astype(np.float64)
    result = np.zeros((bands, rows, cols))
    cell = np.arange(rows * cols).reshape(rows, 1, cols, 1)
    for band, (codes, data) in enumerate(zip(numbers, known, strict=True)):
        values, index = np.unique(codes, return_inverse=True)
        # One number for each pair of a read pixel and a code: files may hold codes by the million,
        # so that a table of all pairs would not fit into memory.
        pairs = (cell * len(values) + index.reshape(codes.shape))[data]
        pair, count = np.unique(pairs, return_counts=True)
        # In this order the commonest code of a cell, or the smallest of several, is written last.
        ordered = pair[np.lexsort((-pair, count))]
        result[band].flat[ordered // len(values)] = values[ordered % len(values)]
    return result
