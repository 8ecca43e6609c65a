"""GeoTIFFs that patches are cut from, checked once when they are opened.

`open_source` checks a file and returns a `GeotiffSource`, a value that holds no open file;
`raster_blocks.BlockReader` reads its pixels.
"""

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
from unigeo.producer.observations.geotiff.height_values import (
    HeightConversion,
    HeightDescription,
    check_unscaled,
    height_conversion,
)
from unigeo.schemas.errors import ObservationsError

SMALL_BYTES = 1 << 30
"""Unpacked size up to which a raster is accepted whatever the size of its file."""
MAX_COMPRESSION = 100_000
"""Largest accepted ratio of unpacked to stored bytes: a hundred times deflate's, as for sparse
tiles."""
BLOCK_BYTES = 1 << 30
"""Largest accepted size of one block of a file, unpacked."""
CHECKED_BLOCKS = 4096
"""Largest number of blocks whose offset in the file is checked at opening."""
PROBE_SIDE = 256
"""Side, in pixels, of the parts of a surface model whose heights are checked at opening."""
PROBES_PER_SIDE = 5
"""Number of those parts along each side; they cover all of a raster of 1,280 pixels."""


@dataclass(frozen=True)
class GeotiffSource:
    """One raster file: where it is, its georeference, and what its numbers mean."""

    path: Path | str
    """Local path, or an address that GDAL reads by ranges: `https://...`."""
    bands: tuple[int, ...]
    """Bands to read, counted from 1."""
    nodata: float | None
    """Nodata value, where the file does not declare it."""
    shape: tuple[int, int]
    """Rows and columns."""
    crs_wkt: str
    affine: tuple[float, ...]
    """Coefficients that turn column and row into easting and northing, as in `affine.Affine`."""
    dtype: str
    stamp: Stamp | None = None
    """State of the file when it was opened; None for an address."""
    heights: HeightConversion | None = None
    """Conversion of a surface model's numbers to metres; None for images."""
    label: str = ""
    """Name of the file in error messages, with the table that lists it."""

    @property
    def small(self) -> bool:
        """Whether each pixel fits into one byte."""
        return self.dtype == "uint8" and self.heights is None

    def check(self) -> None:
        """Compare the file with what it was.

        Raises:
            ReplacedError: the file was replaced.
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
        """Transform positions to row and column, the centre of the first pixel at 0.

        Args:
            lonlat: WGS 84 degrees.
            centre: a point near the positions in each row of `lonlat`; longitudes in a geographic
                raster are unwrapped round it.

        Returns:
            Row and column; NaN where the raster's CRS does not reach.
        """
        x, y = self._transformer.transform(lonlat[..., 0], lonlat[..., 1])
        x = np.asarray(x, float)
        if self.crs.is_geographic:
            # The raster may span 0 to 360 degrees, and a patch may cross the antimeridian. The
            # centre is moved by whole turns into the raster, and the positions next to it.
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
        """West, south, east and north, in degrees, of a box round the raster."""
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
    label: str,
    described: HeightDescription | None = None,
) -> GeotiffSource:
    """Check a raster file and collect what is needed to read it.

    Args:
        path: a GeoTIFF, or the address of one.
        bands: bands to read, counted from 1.
        nodata: nodata value, where the file does not declare it.
        label: name of the file in error messages, with the table that lists it.
        described: the description of a surface model; None for an image.

    Raises:
        ObservationsError: the file is missing, truncated, not a GeoTIFF, not georeferenced, or
            without one of the bands.
        MeaningError: (an ObservationsError) the numbers of an image are scaled, or those of a
            surface model are no heights.
    """
    if isinstance(path, Path) and not path.is_file():
        raise ObservationsError(f"{label}: no such file. Looked for it at {path}.")
    try:
        with rasterio.open(path, driver="GTiff", sharing=False) as dataset:
            if dataset.crs is None:
                raise ObservationsError(
                    f"{label} has no CRS. Set the right one with `gdal_edit.py -a_srs EPSG:...`."
                )
            if dataset.transform.is_identity or dataset.transform.is_degenerate:
                raise ObservationsError(
                    f"{label} is not georeferenced (ground control points are not used). Warp it "
                    "with gdalwarp first."
                )
            lacking = [band for band in bands if not 1 <= band <= dataset.count]
            if lacking:
                raise ObservationsError(
                    f"{label} has bands 1 to {dataset.count}, no band {lacking[0]}. Correct the "
                    "key `bands`."
                )
            _check_size(dataset, bands, path, label)
            if isinstance(path, Path):
                _check_complete(dataset, path, label)
            heights = None
            if described is None:
                check_unscaled(dataset, bands, label)
            else:
                unit = _vertical_unit(dataset.crs)
                heights = height_conversion(dataset, bands[0], unit, nodata, described, label)
                if isinstance(path, Path):
                    _check_heights(dataset, bands[0], nodata, heights, label)
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
                heights=heights,
                label=label,
            )
    except RasterioError as error:
        raise ObservationsError(
            f"{label} cannot be read as a GeoTIFF: {error}. It may be damaged or cut short; fetch "
            "it again."
        ) from error


def _vertical_unit(crs: Any) -> str:
    """Return the unit of height of a compound CRS; empty for other CRSs."""
    parts = pyproj.CRS.from_user_input(crs).sub_crs_list
    axes = [axis for part in parts if part.is_vertical for axis in part.axis_info]
    return axes[0].unit_name if axes else ""


def _check_heights(
    dataset: Any, band: int, nodata: float | None, heights: HeightConversion, label: str
) -> None:
    """Check the heights of some parts of a raster, before hours of reading."""
    numbers, data = [], []
    for top, left in product(_probe_starts(dataset.height), _probe_starts(dataset.width)):
        height, width = min(PROBE_SIDE, dataset.height - top), min(PROBE_SIDE, dataset.width - left)
        window = RasterWindow(left, top, width, height)
        try:
            values = dataset.read(band, window=window)
            mask = dataset.read_masks(band, window=window) > 0
        except RasterioError:
            continue  # a damaged block is counted as unreadable when patches are cut
        numbers.append(values.ravel())
        data.append((mask & has_value(values, nodata)).ravel())
    if numbers:
        heights.check(np.concatenate(numbers), np.concatenate(data), label)


def _probe_starts(size: int) -> list[int]:
    """Return where the probed parts along a side begin; they do not overlap."""
    if size <= PROBES_PER_SIDE * PROBE_SIDE:
        return list(range(0, size, PROBE_SIDE))
    starts: list[int] = np.linspace(0, size - PROBE_SIDE, PROBES_PER_SIDE).astype(int).tolist()
    return starts


def has_value(
    values: Shaped[np.ndarray, "*pixel"], nodata: float | None
) -> Bool[np.ndarray, "*pixel"]:
    """Return which numbers are finite and not the nodata value."""
    known = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if nodata is not None:
        # Nodata as a float32 raster stores it; for integers a fraction equals no value.
        known &= values != (values.dtype.type(nodata) if values.dtype.kind == "f" else nodata)
    return known


def _check_size(dataset: Any, bands: tuple[int, ...], path: Path | str, label: str) -> None:
    """Refuse a file whose header claims more pixels than a file of its size holds.

    Of a file behind a URL only blocks are fetched, so only their size is checked.
    """
    sizes = [np.dtype(dataset.dtypes[band - 1]).itemsize for band in bands]
    claimed = dataset.height * dataset.width * sum(sizes)
    stored = path.stat().st_size if isinstance(path, Path) else claimed
    if claimed > SMALL_BYTES and claimed > MAX_COMPRESSION * stored:
        raise ObservationsError(
            f"{label} claims {dataset.height:,} x {dataset.width:,} pixels, {claimed:,} bytes, and "
            f"has {stored:,} bytes: no codec packs {MAX_COMPRESSION:,} to one. It is damaged, or "
            "made to do harm; fetch it again from where you trust it."
        )
    rows, cols = max(dataset.block_shapes)
    bands_per_block = dataset.count if dataset.interleaving == Interleaving.pixel else 1
    block = rows * cols * max(sizes) * bands_per_block
    if block > BLOCK_BYTES:
        raise ObservationsError(
            f"{label} is stored in blocks of {rows:,} x {cols:,} pixels, {block:,} bytes, each "
            f"read whole; at most {BLOCK_BYTES:,} are. Tile it: `gdal_translate -of COG`."
        )


def _check_complete(dataset: Any, path: Path, label: str) -> None:
    """Refuse a file that ends before one of its blocks does."""
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
                f"{label} is cut short: a block ends at byte {int(offset) + int(length or 0)} and "
                f"the file has {size}. Fetch it again."
            )
