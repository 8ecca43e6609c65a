"""Open rasters, read in decimated blocks."""

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from jaxtyping import Bool, Float, Shaped
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.observations.folder.geotiff_source import GeotiffSource, has_value
from unigeo.producer.observations.folder.height_values import HeightConversion
from unigeo.schemas.errors import ObservationsError

BLOCK = 256
"""Read pixels per side of a block, the unit of reading and of failing."""
CACHE_BLOCKS = 256
"""Blocks kept: 64 MiB per band in float32."""
STRIP_PIXELS = 1 << 23
"""Pixels of a file looked at together."""


@dataclass(frozen=True, eq=False)
class ReadWindow:
    """Read pixels of part of a raster."""

    values: Float[np.ndarray, "band row col"]
    """Zero where there is no data."""
    data: Bool[np.ndarray, "row col"]
    """Whether there is data: in any band of a picture (unsigned integers), else in every band."""
    unreadable: Bool[np.ndarray, "row col"]
    """Whether the file could not be read there."""


class BlockReader:
    """An open raster, read in decimated blocks that do not depend on who asks for them."""

    def __init__(self, source: GeotiffSource, keep: int = CACHE_BLOCKS) -> None:
        """Open; `keep` blocks are remembered."""
        self._source, self._keep = source, keep
        self.decoded = 0
        """Blocks read so far."""
        self._stack = ExitStack()
        self._cache: OrderedDict[tuple[int, int, int, int], ReadWindow] = OrderedDict()
        try:
            dataset = rasterio.open(source.path, driver="GTiff", sharing=False)
            masked = any(
                MaskFlags.all_valid not in dataset.mask_flag_enums[b - 1] for b in source.bands
            )
            # What the file does not know as void its overviews, and GDAL's means, take for heights.
            self._own_means = source.metres is not None and (
                source.nodata is not None or not masked
            )
            self._dataset = self._stack.enter_context(dataset)
            if source.nodata is not None and not self._own_means:
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
        self._shadows = self._by_value and ColorInterp.alpha in self._dataset.colorinterp
        # A picture may be black in one band; a height of one band says nothing of another's.
        unsigned = all(self._dataset.dtypes[band - 1].startswith("uint") for band in source.bands)
        self._together = np.any if unsigned else np.all

    def check(self) -> None:
        """Compare the file with what it was when it was opened as a source.

        Raises:
            ReplacedError: it is another one.
        """
        self._source.check()

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def sizes(self, decimation: tuple[int, ...]) -> tuple[int, ...]:
        """Rows and columns of the decimated raster, a part at its edge counted whole."""
        return tuple(
            -(-size // factor) for size, factor in zip(self._source.shape, decimation, strict=True)
        )

    def window(
        self, decimation: tuple[int, ...], rows: tuple[int, int], cols: tuple[int, int]
    ) -> ReadWindow:
        """Read a half-open range of decimated rows and columns; off the raster is no data."""
        shape = (rows[1] - rows[0], cols[1] - cols[0])
        whole = _empty((len(self._source.bands), *shape))
        height, width = self.sizes(decimation)
        for i in range(max(rows[0], 0) // BLOCK, -(-min(rows[1], height) // BLOCK)):
            for j in range(max(cols[0], 0) // BLOCK, -(-min(cols[1], width) // BLOCK)):
                block = self.block(decimation, i, j)
                top, left = i * BLOCK, j * BLOCK
                bottom, right = top + block.data.shape[0], left + block.data.shape[1]
                r0, r1 = max(rows[0], top), min(rows[1], bottom)
                c0, c1 = max(cols[0], left), min(cols[1], right)
                into = (slice(r0 - rows[0], r1 - rows[0]), slice(c0 - cols[0], c1 - cols[0]))
                out_of = (slice(r0 - top, r1 - top), slice(c0 - left, c1 - left))
                whole.values[:, *into] = block.values[:, *out_of]
                whole.data[into] = block.data[out_of]
                whole.unreadable[into] = block.unreadable[out_of]
        return whole

    def block(self, decimation: tuple[int, ...], i: int, j: int) -> ReadWindow:
        """Read the block of a number downward and rightward; at the edges it is smaller."""
        key = (decimation[0], decimation[1], i, j)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
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
                piece = self._read(
                    RasterWindow(left, top, right - left, bottom - top), height, width
                )
                into = (slice(row, row + height), slice(col, col + width))
                block.values[:, *into] = piece.values
                block.data[into] = piece.data
                block.unreadable[into] = piece.unreadable
                col += width
            row += height
        self.decoded += 1
        self._cache[key] = block
        if len(self._cache) > self._keep:
            self._cache.popitem(last=False)
        return block

    def _read(self, window: RasterWindow, height: int, width: int) -> ReadWindow:
        bands = list(self._source.bands)
        how = {
            "window": window,
            "out_shape": (len(bands), height, width),
            "resampling": Resampling.average,
        }
        piece = _empty((len(bands), height, width))
        metres = self._source.metres
        try:
            if metres is not None and self._own_means:
                piece.values[0], piece.data[:] = self._means(window, height, width, metres)
                return piece
            values = self._dataset.read(bands, **how)
            data = self._mask(bands, values, how)
        except RasterioError:
            piece.unreadable[:] = True
            return piece
        if values.dtype.kind == "f":
            data &= np.isfinite(values).all(axis=0)
        if metres is not None:
            metres.check(values[0], data, self._source.shown)
            values = metres.of(values)
        piece.values[:], piece.data[:] = values, data
        if not data.all():
            piece.values[:, ~data] = 0
        return piece

    def _means(
        self, window: RasterWindow, height: int, width: int, metres: HeightConversion
    ) -> tuple[Float[np.ndarray, "row col"], Bool[np.ndarray, "row col"]]:
        """Mean heights of the file's own pixels, each looked at; half of them must be known."""
        down, across = window.height // height, window.width // width
        means, data = np.zeros((height, width), np.float32), np.zeros((height, width), bool)
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
            metres.check(numbers, known, self._source.shown)
            heights = np.where(known, metres.of(numbers), 0).astype(np.float64)
            parts = (count, down, width, across)
            seen = known.reshape(parts).sum(axis=(1, 3))
            data[rows] = 2 * seen >= down * across
            total = heights.reshape(parts).sum(axis=(1, 3))
            np.divide(total, seen, out=means[rows], where=data[rows], casting="same_kind")
        return means, data

    def _mask(
        self, bands: list[int], values: Shaped[np.ndarray, "band row col"], how: dict[str, Any]
    ) -> Bool[np.ndarray, "row col"]:
        """Which of the read pixels have data by the file's mask or nodata value.

        One that stands for several pixels has data if half of them have. In a file with a nodata
        value whose fourth band is called alpha (often it is near infrared) the value rules: there
        it has data if any of them has.
        """
        if not self._masked:
            return np.ones(values.shape[1:], bool)
        whole = (how["window"].height, how["window"].width) == values.shape[1:]
        if self._by_value and (whole or self._shadows):
            pairs = zip(values, self._nodata, strict=True)
            known = np.stack([band != nodata for band, nodata in pairs])
        else:
            known = self._dataset.read_masks(bands, **how) >= 128
        data: Bool[np.ndarray, "row col"] = self._together(known, axis=0)
        return data


def _with_nodata(dataset: Any, nodata: float) -> WarpedVRT:
    """See a raster as if its file said which value is without meaning."""
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
    """No data."""
    nothing = np.zeros(shape[1:], bool)
    return ReadWindow(np.zeros(shape, np.float32), nothing, nothing.copy())


def _spans(first: int, size: int, factor: int) -> list[tuple[int, int, int]]:
    """Split one axis of a block into ranges of raster pixels that average to whole numbers.

    Returns:
        Start, stop and number of read pixels: the whole ones, and the rest at the raster's edge.
    """
    whole = size // factor
    last = min(first + BLOCK, whole)
    spans = [(first * factor, last * factor, last - first)] if last > first else []
    if first + BLOCK > whole and size % factor:
        spans.append((whole * factor, size, 1))
    return spans
