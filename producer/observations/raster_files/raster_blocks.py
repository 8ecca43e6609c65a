"""Readers of open rasters, in decimated blocks."""

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from jaxtyping import Bool, Float, Int, Shaped
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.observations.raster_files.height_values import HeightConversion
from unigeo.producer.observations.raster_files.raster_source import RasterSource, has_value
from unigeo.schemas.errors import ObservationsError

BLOCK = 256
"""Read pixels per side of a block; a damaged file loses whole blocks."""
CACHE_BLOCKS = 256
"""Number of blocks cached per raster: 64 MiB per band in float32."""
STRIP_PIXELS = 1 << 23
"""Number of file pixels that are averaged together."""


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


class BlockReader:
    """Reader of an open raster; its blocks lie on one fixed grid, whatever window is read."""

    def __init__(self, source: RasterSource, keep: int = CACHE_BLOCKS) -> None:
        """Open the file; at most `keep` blocks are cached."""
        self._source, self._keep = source, keep
        self.decoded = 0
        """Number of blocks read so far."""
        self._stack = ExitStack()
        self._cache: OrderedDict[tuple[int, int, int, int], ReadWindow] = OrderedDict()
        try:
            # Overviews hold means, which are no classes.
            levels = {"OVERVIEW_LEVEL": "NONE"} if source.classes else {}
            dataset = rasterio.open(source.path, driver="GTiff", sharing=False, **levels)
            masked = any(
                MaskFlags.all_valid not in dataset.mask_flag_enums[b - 1] for b in source.bands
            )
            # GDAL's means and the file's overviews count voids that the file does not declare as
            # heights. Such surface models are averaged here, from the file's own pixels.
            self._averages_here = source.heights is not None and (
                source.nodata is not None or not masked
            )
            self._dataset = self._stack.enter_context(dataset)
            if source.nodata is not None and not self._averages_here:
                self._dataset = self._stack.enter_context(_with_nodata(dataset, source.nodata))
        except RasterioError as error:
            self._stack.close()
            raise ObservationsError(
                f"{source.path} could be read before and cannot now: {error}. Put it back."
            ) from error
        try:
            self.check()
        except ReplacedError:
            self._stack.close()
            raise
        flags = [self._dataset.mask_flag_enums[band - 1] for band in source.bands]
        self._masked = any(MaskFlags.all_valid not in flag for flag in flags)
        self._by_value = all(MaskFlags.nodata in flag for flag in flags)
        self._nodata = [self._dataset.nodatavals[band - 1] for band in source.bands]
        self._has_alpha = self._by_value and ColorInterp.alpha in self._dataset.colorinterp
        # An image may hold its nodata value, black, in one band and still be seen in the others.
        unsigned = all(self._dataset.dtypes[band - 1].startswith("uint") for band in source.bands)
        self._combine_bands = np.any if unsigned else np.all
        self._classes = np.array(source.classes)

    def check(self) -> None:
        """Compare the file with what it was when it was opened as a source.

        Raises:
            ReplacedError: the file was replaced.
        """
        self._source.check()

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def sizes(self, decimation: tuple[int, ...]) -> tuple[int, ...]:
        """Return rows and columns of the decimated raster; a partial pixel at its edge counts."""
        return tuple(
            -(-size // factor) for size, factor in zip(self._source.shape, decimation, strict=True)
        )

    def window(
        self, decimation: tuple[int, ...], rows: tuple[int, int], cols: tuple[int, int]
    ) -> ReadWindow:
        """Read a half-open range of decimated rows and columns; there is no data off the raster."""
        shape = (rows[1] - rows[0], cols[1] - cols[0])
        result = _empty((len(self._source.bands), *shape))
        height, width = self.sizes(decimation)
        # Block rows and columns that overlap the window, rounded outwards; none off the raster.
        for i in range(max(rows[0], 0) // BLOCK, -(-min(rows[1], height) // BLOCK)):
            for j in range(max(cols[0], 0) // BLOCK, -(-min(cols[1], width) // BLOCK)):
                block = self.block(decimation, i, j)
                top, left = i * BLOCK, j * BLOCK
                bottom, right = top + block.data.shape[0], left + block.data.shape[1]
                # The overlap, then its slices of the window and of the block.
                r0, r1 = max(rows[0], top), min(rows[1], bottom)
                c0, c1 = max(cols[0], left), min(cols[1], right)
                into = (slice(r0 - rows[0], r1 - rows[0]), slice(c0 - cols[0], c1 - cols[0]))
                out_of = (slice(r0 - top, r1 - top), slice(c0 - left, c1 - left))
                result.values[:, *into] = block.values[:, *out_of]
                result.data[into] = block.data[out_of]
                result.unreadable[into] = block.unreadable[out_of]
        return result

    def block(self, decimation: tuple[int, ...], i: int, j: int) -> ReadWindow:
        """Read the block in block row `i` and block column `j`; it is smaller at the edges."""
        key = (decimation[0], decimation[1], i, j)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        # GDAL averages with one factor per read. A block takes up to four reads, because the last
        # read pixel along an axis may hold fewer raster pixels than the others.
        spans = [
            _spans(number * BLOCK, size, factor)
            for number, size, factor in zip((i, j), self._source.shape, decimation, strict=True)
        ]
        shape = tuple(sum(count for _, _, count in axis) for axis in spans)
        block = _empty((len(self._source.bands), *shape))
        row = 0
        for top, bottom, height in spans[0]:
            col = 0
            for left, right, width in spans[1]:
                part = self._read(
                    RasterWindow(left, top, right - left, bottom - top), height, width
                )
                into = (slice(row, row + height), slice(col, col + width))
                block.values[:, *into] = part.values
                block.data[into] = part.data
                block.unreadable[into] = part.unreadable
                col += width
            row += height
        self.decoded += 1
        self._cache[key] = block
        if len(self._cache) > self._keep:
            self._cache.popitem(last=False)
        return block

    def _read(self, window: RasterWindow, height: int, width: int) -> ReadWindow:
        """Read a window of the file as `height` x `width` means."""
        bands = list(self._source.bands)
        options = {
            "window": window,
            "out_shape": (len(bands), height, width),
            "resampling": Resampling.mode if len(self._classes) else Resampling.average,
        }
        result = _empty((len(bands), height, width))
        heights = self._source.heights
        try:
            if heights is not None and self._averages_here:
                result.values[0], result.data[:] = self._mean_heights(
                    window, height, width, heights
                )
                return result
            values = self._dataset.read(bands, **options)
            data = self._data_mask(bands, values, options)
        except RasterioError:  # the other blocks of a damaged file may still be readable
            result.unreadable[:] = True
            return result
        if values.dtype.kind == "f":
            data &= np.isfinite(values).all(axis=0)
        if heights is not None:
            heights.check(values[0], data, self._source.label)
            values = heights.to_metres(values)
        if len(self._classes):
            values, data = self._class_numbers(values, data)
        result.values[:], result.data[:] = values, data
        if not data.all():
            result.values[:, ~data] = 0
        return result

    def _class_numbers(
        self, values: Shaped[np.ndarray, "1 row col"], data: Bool[np.ndarray, "row col"]
    ) -> tuple[Int[np.ndarray, "1 row col"], Bool[np.ndarray, "row col"]]:
        """Number the classes of pixels from 1; other numbers are no data."""
        index = np.minimum(np.searchsorted(self._classes, values), len(self._classes) - 1)
        data = data & (self._classes[index[0]] == values[0])
        return index + 1, data

    def _mean_heights(
        self, window: RasterWindow, height: int, width: int, heights: HeightConversion
    ) -> tuple[Float[np.ndarray, "row col"], Bool[np.ndarray, "row col"]]:
        """Average the file's pixels, each of them checked; half of them must be known."""
        down, across = window.height // height, window.width // width
        means, data = np.zeros((height, width), np.float32), np.zeros((height, width), bool)
        # In strips of read rows: undecimated, a block of a large raster can be gigabytes.
        step = max(1, STRIP_PIXELS // (down * window.width))
        for first in range(0, height, step):
            rows = slice(first, min(first + step, height))
            count = rows.stop - first
            strip = RasterWindow(
                window.col_off, window.row_off + first * down, window.width, count * down
            )
            band = self._source.bands[0]
            numbers = self._dataset.read(band, window=strip)
            known = has_value(numbers, self._source.nodata)
            if self._masked:
                known &= self._dataset.read_masks(band, window=strip) > 0
            heights.check(numbers, known, self._source.label)
            metres = np.where(known, heights.to_metres(numbers), 0).astype(np.float64)
            # Axes 1 and 3 run over the file's pixels within one read pixel.
            blocks = (count, down, width, across)
            known_count = known.reshape(blocks).sum(axis=(1, 3))
            data[rows] = 2 * known_count >= down * across
            total = metres.reshape(blocks).sum(axis=(1, 3))
            np.divide(total, known_count, out=means[rows], where=data[rows], casting="same_kind")
        return means, data

    def _data_mask(
        self, bands: list[int], values: Shaped[np.ndarray, "band row col"], options: dict[str, Any]
    ) -> Bool[np.ndarray, "row col"]:
        """Return which of the read pixels have data by the file's mask or nodata value.

        A read pixel that averages several has data if half of them have. In a file with a nodata
        value whose fourth band is called alpha (it often is near infrared), the nodata value
        decides, and a read pixel has data if any of its pixels has.
        """
        if not self._masked:
            return np.ones(values.shape[1:], bool)
        undecimated = (options["window"].height, options["window"].width) == values.shape[1:]
        # GDAL's mask of a file with alpha is the alpha band, so the values are compared instead;
        # a mean, which leaves nodata out, equals nodata only where all its pixels do.
        if self._by_value and (undecimated or self._has_alpha):
            pairs = zip(values, self._nodata, strict=True)
            known = np.stack([band != nodata for band, nodata in pairs])
        else:
            known = self._dataset.read_masks(bands, **options) >= 128
        data: Bool[np.ndarray, "row col"] = self._combine_bands(known, axis=0)
        return data


def _with_nodata(dataset: Any, nodata: float) -> WarpedVRT:
    """Wrap a raster so that it declares a nodata value."""
    return WarpedVRT(
        dataset,
        src_nodata=nodata,
        nodata=nodata,
        transform=dataset.transform,
        width=dataset.width,
        height=dataset.height,
        crs=dataset.crs,
    )


def _empty(shape: tuple[int, ...]) -> ReadWindow:
    """Return a window without data."""
    data = np.zeros(shape[1:], bool)
    return ReadWindow(np.zeros(shape, np.float32), data, data.copy())


def _spans(first: int, size: int, factor: int) -> list[tuple[int, int, int]]:
    """Split one axis of a block into ranges of raster pixels.

    Args:
        first: first read pixel of the block.
        size: raster pixels along the axis.
        factor: raster pixels per read pixel.

    Returns:
        Start and stop in raster pixels, and the number of read pixels: of the complete read pixels,
        then of the partial one at the raster's edge.
    """
    complete = size // factor
    last = min(first + BLOCK, complete)
    spans = [(first * factor, last * factor, last - first)] if last > first else []
    if first + BLOCK > complete and size % factor:
        spans.append((complete * factor, size, 1))
    return spans
