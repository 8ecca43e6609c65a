"""Readers of open rasters, in decimated blocks."""

from collections import OrderedDict

from rasterio.windows import Window as RasterWindow

from unigeo.producer.observations.raster_files.decimated_pixels import ReadWindow, empty_window
from unigeo.producer.observations.raster_files.raster_pixels import open_pixels
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.schemas.errors import ObservationsError

BLOCK = 256
"""Read pixels per side of a block; a damaged file loses whole blocks."""
CACHE_BLOCKS = 256
"""Number of blocks cached per raster: 64 MiB per band in float32."""


class BlockReader:
    """Reader of an open raster; its blocks lie on one fixed grid, whatever window is read."""

    def __init__(self, source: RasterSource, keep: int = CACHE_BLOCKS) -> None:
        """Open the file; at most `keep` blocks are cached."""
        self._source, self._keep = source, keep
        self.decoded = 0
        """Number of blocks read so far."""
        self._cache: OrderedDict[tuple[int, int, int, int], ReadWindow] = OrderedDict()
        source.check_address()
        self._pixels = open_pixels(source)
        try:
            self.check()
        except ObservationsError:
            self.close()
            raise

    def check(self) -> None:
        """Compare the file with what it was when it was opened as a source.

        Raises:
            ReplacedError: the file was replaced.
        """
        self._source.check()

    def close(self) -> None:
        """Close the file."""
        self._pixels.close()

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
        result = empty_window((len(self._source.bands), *shape))
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
        block = empty_window((len(self._source.bands), *shape))
        row = 0
        for top, bottom, height in spans[0]:
            col = 0
            for left, right, width in spans[1]:
                part = self._pixels.read(
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
