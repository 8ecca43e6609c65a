"""GeoTIFFs as sources of pixels: checked once at opening, then read in decimated blocks."""

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from affine import Affine
from jaxtyping import Bool, Float, Shaped
from rasterio.enums import ColorInterp, Interleaving, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from unigeo.producer.observations.contents import Stamp
from unigeo.schemas.errors import ObservationsError

BLOCK = 256
"""Read pixels per side of a block, the unit of reading and of failing."""
CACHE_BLOCKS = 256
"""Blocks kept: 64 MiB per band in float32."""
SMALL_BYTES = 1 << 30
"""What a raster may claim whatever its file's size."""
MOST_PACKED = 100_000
"""Bytes that one stored byte may stand for: a hundred times deflate's most, for empty tiles."""
BLOCK_BYTES = 1 << 30
"""Of one block of a file, unpacked."""
CHECKED_BLOCKS = 4096
"""File blocks, at most, whose place in the file is checked at opening."""


@dataclass(frozen=True)
class Source:
    """One raster file."""

    path: Path | str
    """Of this machine, or an address that GDAL reads by ranges: `https://...`."""
    bands: tuple[int, ...]
    nodata: float | None
    """Value without meaning, where the file does not say it."""
    shape: tuple[int, int]
    crs_wkt: str
    affine: tuple[float, ...]
    """From column and row to easting and northing."""
    dtype: str
    stamp: Stamp | None = None
    """The file as it was when it was opened; None of an address."""

    def check(self) -> None:
        """Compare the file with what it was.

        Raises:
            ReplacedError: it is another one.
        """
        if self.stamp is not None:
            self.stamp.check(Path(self.path))

    @cached_property
    def crs(self) -> pyproj.CRS:
        """The raster's coordinate reference system."""
        return pyproj.CRS.from_wkt(self.crs_wkt)

    @cached_property
    def _transformer(self) -> pyproj.Transformer:
        return pyproj.Transformer.from_crs(4326, self.crs, always_xy=True)

    def rowcol(
        self, lonlat: Float[np.ndarray, "point place 2"], centre: Float[np.ndarray, "point 2"]
    ) -> Float[np.ndarray, "point place 2"]:
        """Find places in the raster: row and column, the centre of the first pixel at 0.

        Args:
            lonlat: places, WGS 84 degrees.
            centre: a point near each row of places; geographic rasters are unrolled round it.
        """
        x, y = self._transformer.transform(lonlat[..., 0], lonlat[..., 1])
        x = np.asarray(x, float)
        if self.crs.is_geographic:  # 0 to 360, and places beyond the antimeridian
            middle, _ = self._transformer.transform(centre[:, 0], centre[:, 1])
            west = min(self._corners_x)
            middle = west + (np.asarray(middle)[:, None] - west) % 360
            x = middle + (x - middle + 180) % 360 - 180
        inverse = ~Affine(*self.affine)
        x, y = np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)
        row = inverse.d * x + inverse.e * y + inverse.f - 0.5
        col = inverse.a * x + inverse.b * y + inverse.c - 0.5
        return np.stack([row, col], axis=-1)

    @cached_property
    def _corners_x(self) -> list[float]:
        return [x for x, _ in self._corners]

    @cached_property
    def _corners(self) -> list[tuple[float, float]]:
        height, width = self.shape
        corners = ((0, 0), (width, 0), (0, height), (width, height))
        a, b, c, d, e, f = self.affine
        return [(a * col + b * row + c, d * col + e * row + f) for col, row in corners]

    @cached_property
    def reach(self) -> tuple[float, float, float, float]:
        """West, south, east and north, in degrees, of a box that holds the raster."""
        x, y = zip(*self._corners, strict=True)
        outline = (min(x), min(y), max(x), max(y))
        reach = self._transformer.transform_bounds(*outline, direction="INVERSE")
        west, south, east, north = (float(edge) for edge in reach)
        if not np.isfinite(reach).all():
            return -180.0, -90.0, 180.0, 90.0
        if west > east or west < -180 or east > 180:  # over the antimeridian
            west, east = -180.0, 180.0
        return west, south, east, north


def open_source(
    path: Path | str, bands: tuple[int, ...], nodata: float | None, shown: str
) -> Source:
    """Check a raster file and note what is needed to read it.

    Args:
        path: a GeoTIFF, or the address of one.
        bands: bands to read, counted from 1.
        nodata: value without meaning, where the file does not say it.
        shown: how errors name the file and the place that lists it.

    Raises:
        ObservationsError: no such file, not a GeoTIFF, truncated, without CRS or georeferencing,
            or without one of the bands.
    """
    if isinstance(path, Path) and not path.is_file():
        raise ObservationsError(f"{shown}: no such file. Looked for it at {path}.")
    try:
        with rasterio.open(path, driver="GTiff", sharing=False) as dataset:
            if dataset.crs is None:
                raise ObservationsError(
                    f"{shown} has no CRS. Set the right one with `gdal_edit.py -a_srs EPSG:...`."
                )
            if dataset.transform.is_identity or dataset.transform.is_degenerate:
                raise ObservationsError(
                    f"{shown} is not georeferenced (ground control points are not used). Warp it "
                    "with gdalwarp first."
                )
            lacking = [band for band in bands if not 1 <= band <= dataset.count]
            if lacking:
                raise ObservationsError(
                    f"{shown} has bands 1 to {dataset.count}, no band {lacking[0]}. Correct the "
                    "key `bands`."
                )
            _check_size(dataset, bands, path, shown)
            if isinstance(path, Path):
                _check_complete(dataset, path, shown)
            dtypes = {dataset.dtypes[band - 1] for band in bands}
            return Source(
                path=path,
                bands=bands,
                nodata=nodata,
                shape=(dataset.height, dataset.width),
                crs_wkt=pyproj.CRS.from_user_input(dataset.crs).to_wkt(),
                affine=tuple(dataset.transform)[:6],
                dtype=" and ".join(sorted(dtypes)),
                stamp=Stamp.of(path) if isinstance(path, Path) else None,
            )
    except RasterioError as error:
        raise ObservationsError(
            f"{shown} cannot be read as a GeoTIFF: {error}. It may be damaged or cut short; fetch "
            "it again."
        ) from error


def _check_size(dataset: Any, bands: tuple[int, ...], path: Path | str, shown: str) -> None:
    """Refuse a file whose header claims more than a file of its size holds, before it is read.

    Of a file behind a URL only blocks are fetched, so their size alone matters.
    """
    sizes = [np.dtype(dataset.dtypes[band - 1]).itemsize for band in bands]
    claimed = dataset.height * dataset.width * sum(sizes)
    stored = path.stat().st_size if isinstance(path, Path) else claimed
    if claimed > SMALL_BYTES and claimed > MOST_PACKED * stored:
        raise ObservationsError(
            f"{shown} claims {dataset.height:,} x {dataset.width:,} pixels, {claimed:,} bytes, and "
            f"has {stored:,} bytes: no codec packs {MOST_PACKED:,} to one. It is damaged, or made "
            "to do harm; fetch it again from where you trust it."
        )
    rows, cols = max(dataset.block_shapes)
    together = dataset.count if dataset.interleaving == Interleaving.pixel else 1
    block = rows * cols * max(sizes) * together
    if block > BLOCK_BYTES:
        raise ObservationsError(
            f"{shown} is stored in blocks of {rows:,} x {cols:,} pixels, {block:,} bytes, each "
            f"read whole; at most {BLOCK_BYTES:,} are. Tile it: `gdal_translate -of COG`."
        )


def _check_complete(dataset: Any, path: Path, shown: str) -> None:
    """Refuse a file that ends before its last block does."""
    size = path.stat().st_size
    rows, cols = dataset.block_shapes[0]
    count = (-(-dataset.height // rows), -(-dataset.width // cols))
    blocks = count[0] * count[1]
    for number in np.unique(np.linspace(0, blocks - 1, min(blocks, CHECKED_BLOCKS)).astype(int)):
        name = f"{number % count[1]}_{number // count[1]}"
        offset = dataset.get_tag_item(f"BLOCK_OFFSET_{name}", "TIFF", bidx=1)
        length = dataset.get_tag_item(f"BLOCK_SIZE_{name}", "TIFF", bidx=1)
        if offset is not None and int(offset) + int(length or 0) > size:
            raise ObservationsError(
                f"{shown} is cut short: a block ends at byte {int(offset) + int(length or 0)} and "
                f"the file has {size}. Fetch it again."
            )


@dataclass(frozen=True, eq=False)
class Window:
    """Read pixels of part of a raster."""

    values: Float[np.ndarray, "band row col"]
    """Zero where there is no data."""
    data: Bool[np.ndarray, "row col"]
    """Whether there is data: in any band of a picture (unsigned integers), else in every band."""
    unreadable: Bool[np.ndarray, "row col"]
    """Whether the file could not be read there."""


class Blocks:
    """An open raster, read in decimated blocks that do not depend on who asks for them."""

    def __init__(self, source: Source, keep: int = CACHE_BLOCKS) -> None:
        """Open; `keep` blocks are remembered."""
        self._source, self._keep = source, keep
        self.decoded = 0
        """Blocks read so far."""
        self._stack = ExitStack()
        self._cache: OrderedDict[tuple[int, int, int, int], Window] = OrderedDict()
        try:
            dataset = rasterio.open(source.path, driver="GTiff", sharing=False)
            self._dataset = self._stack.enter_context(dataset)
            if source.nodata is not None:
                self._dataset = self._stack.enter_context(_with_nodata(dataset, source.nodata))
        except RasterioError as error:
            self._stack.close()
            raise ObservationsError(
                f"{source.path} could be read before and cannot now: {error}. Put it back."
            ) from error
        self.check()
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
    ) -> Window:
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

    def block(self, decimation: tuple[int, ...], i: int, j: int) -> Window:
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

    def _read(self, window: RasterWindow, height: int, width: int) -> Window:
        bands = list(self._source.bands)
        how = {
            "window": window,
            "out_shape": (len(bands), height, width),
            "resampling": Resampling.average,
        }
        piece = _empty((len(bands), height, width))
        try:
            values = self._dataset.read(bands, **how)
            data = self._mask(bands, values, how)
        except RasterioError:
            piece.unreadable[:] = True
            return piece
        if values.dtype.kind == "f":
            data &= np.isfinite(values).all(axis=0)
        piece.values[:], piece.data[:] = values, data
        if not data.all():
            piece.values[:, ~data] = 0
        return piece

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


def _empty(shape: tuple[int, ...]) -> Window:
    """No data."""
    nothing = np.zeros(shape[1:], bool)
    return Window(np.zeros(shape, np.float32), nothing, nothing.copy())


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
