"""GeoTIFFs as sources of pixels, checked once at opening; `blocks` reads them."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from affine import Affine
from jaxtyping import Bool, Float, Shaped
from rasterio.enums import Interleaving
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from unigeo.producer.observations.file_contents import Stamp
from unigeo.producer.observations.folder.height_values import (
    HeightConversion,
    HeightDescription,
    check_unscaled,
    height_conversion,
)
from unigeo.schemas.errors import ObservationsError

SMALL_BYTES = 1 << 30
"""What a raster may claim whatever its file's size."""
MOST_PACKED = 100_000
"""Bytes that one stored byte may stand for: a hundred times deflate's most, for empty tiles."""
BLOCK_BYTES = 1 << 30
"""Of one block of a file, unpacked."""
CHECKED_BLOCKS = 4096
"""File blocks, at most, whose place in the file is checked at opening."""
SEEN_SIDE = 256
"""Rows and columns of a part of a surface model that is looked at when it is opened."""
SEEN_PARTS = 5
"""Parts along each side, the first and the last among them: all of a raster of 1,280 pixels."""


@dataclass(frozen=True)
class GeotiffSource:
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
    metres: HeightConversion | None = None
    """From the numbers of a surface model to heights; None of pictures."""
    shown: str = ""
    """How errors name the file and the place that lists it."""

    @property
    def small(self) -> bool:
        """Whether its pixels fit into a byte each."""
        return self.dtype == "uint8" and self.metres is None

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
        self, lonlat: Float[np.ndarray, "point position 2"], centre: Float[np.ndarray, "point 2"]
    ) -> Float[np.ndarray, "point position 2"]:
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
    path: Path | str,
    bands: tuple[int, ...],
    nodata: float | None,
    shown: str,
    terrain: HeightDescription | None = None,
) -> GeotiffSource:
    """Check a raster file and note what is needed to read it.

    Args:
        path: a GeoTIFF, or the address of one.
        bands: bands to read, counted from 1.
        nodata: value without meaning, where the file does not say it.
        shown: how errors name the file and the place that lists it.
        terrain: what is said of heights; None of a picture, whose numbers are taken as they are.

    Raises:
        ObservationsError: no such file, not a GeoTIFF, truncated, without CRS or georeferencing,
            or without one of the bands.
        MeaningError: (an ObservationsError) numbers that are scaled in a picture, or no heights in
            a surface model.
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
            metres = None
            if terrain is None:
                check_unscaled(dataset, bands, shown)
            else:
                unit = _vertical_unit(dataset.crs)
                metres = height_conversion(dataset, bands[0], unit, nodata, terrain, shown)
                if isinstance(path, Path):
                    _check_heights(dataset, bands[0], nodata, metres, shown)
            dtypes = {dataset.dtypes[band - 1] for band in bands}
            return GeotiffSource(
                path=path,
                bands=bands,
                nodata=nodata,
                shape=(dataset.height, dataset.width),
                crs_wkt=pyproj.CRS.from_user_input(dataset.crs).to_wkt(),
                affine=tuple(dataset.transform)[:6],
                dtype=" and ".join(sorted(dtypes)),
                stamp=Stamp.of(path) if isinstance(path, Path) else None,
                metres=metres,
                shown=shown,
            )
    except RasterioError as error:
        raise ObservationsError(
            f"{shown} cannot be read as a GeoTIFF: {error}. It may be damaged or cut short; fetch "
            "it again."
        ) from error


def _vertical_unit(crs: Any) -> str:
    """Unit of the heights of a compound CRS; empty where it has none."""
    parts = pyproj.CRS.from_user_input(crs).sub_crs_list
    axes = [axis for part in parts if part.is_vertical for axis in part.axis_info]
    return axes[0].unit_name if axes else ""


def _check_heights(
    dataset: Any, band: int, nodata: float | None, metres: HeightConversion, shown: str
) -> None:
    """Look for numbers that are no heights in some parts, before hours of reading."""
    numbers, data = [], []
    for top, left in product(_spread(dataset.height), _spread(dataset.width)):
        height, width = min(SEEN_SIDE, dataset.height - top), min(SEEN_SIDE, dataset.width - left)
        window = RasterWindow(left, top, width, height)
        try:
            values = dataset.read(band, window=window)
            mask = dataset.read_masks(band, window=window) > 0
        except RasterioError:
            continue  # a damaged block is a gap of its own kind
        numbers.append(values.ravel())
        data.append((mask & has_value(values, nodata)).ravel())
    if numbers:
        metres.check(np.concatenate(numbers), np.concatenate(data), shown)


def _spread(size: int) -> list[int]:
    """Where parts along a side begin, none over another."""
    if size <= SEEN_PARTS * SEEN_SIDE:
        return list(range(0, size, SEEN_SIDE))
    starts: list[int] = np.linspace(0, size - SEEN_SIDE, SEEN_PARTS).astype(int).tolist()
    return starts


def has_value(
    values: Shaped[np.ndarray, "*pixel"], nodata: float | None
) -> Bool[np.ndarray, "*pixel"]:
    """Which numbers are finite and not the one without meaning."""
    known = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if nodata is not None:
        known &= values != (values.dtype.type(nodata) if values.dtype.kind == "f" else nodata)
    return known


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
