"""Raster files that patches are cut from, as values that hold no open file.

`open_source.open_source` checks a file and returns a `RasterSource`; `raster_blocks.BlockReader`
reads its pixels.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyproj
from affine import Affine
from jaxtyping import Bool, Float, Shaped

from unigeo.producer.observations.file_contents import Stamp
from unigeo.producer.observations.raster_files.band_facts import Encoder
from unigeo.producer.observations.raster_files.height_values import HeightConversion
from unigeo.producer.observations.raster_files.raster_addresses import AddressStamp

_WGS84 = pyproj.Geod(ellps="WGS84")


@dataclass(frozen=True)
class RasterSource:
    """One raster file: where it is, its georeference, and what its numbers mean."""

    path: Path | str
    """Local path, or an address that is read by ranges: `https://...`, `s3://...`."""
    bands: tuple[int, ...]
    """Bands to read, counted from 1; those of a palette are red, green and blue."""
    nodata: float | None
    """Nodata value, where the file does not declare it."""
    shape: tuple[int, int]
    """Rows and columns."""
    crs_wkt: str
    affine: tuple[float, ...]
    """Coefficients that turn column and row into easting and northing, as in `affine.Affine`."""
    dtype: str
    """Type of the file's numbers, of the colours where they are codes of a palette."""
    stamp: Stamp | AddressStamp | None = None
    """State of the file when it was opened; None for an address that is not watched."""
    heights: HeightConversion | None = None
    """Conversion of a surface model's numbers to metres; None for images and classes."""
    classes: tuple[int, ...] = ()
    """Numbers of the classes of a categorical raster; its pixels are read as 1 for the first."""
    class_names: tuple[str, ...] = ()
    """Names of those classes."""
    label: str = ""
    """Name of the file in error messages, with the table that lists it."""
    encoder: Encoder = "image"
    """What reads the patches."""
    form: str = "GTiff"
    """Format of the file, see `formats.format_of`."""
    scales: tuple[tuple[float, float], ...] = ()
    """Scale and offset of each band of an image; empty where its numbers are taken as they are."""
    palette: bytes = b""
    """Red, green, blue and alpha of each code of a file with a palette."""
    variable: str = ""
    """Variable of a NetCDF file, or array of a Zarr store."""
    text: str = ""
    """Checked text of a VRT."""
    parts: tuple[tuple[Path, Stamp], ...] = ()
    """Files that a VRT reads, or that place a picture, and their states when it was opened."""
    band_names: tuple[str, ...] = ()
    """Name of each band; empty without one."""
    band_units: tuple[str, ...] = ()
    """Unit of each band after scale and offset; empty without one."""

    @property
    def small(self) -> bool:
        """Whether each pixel fits into one byte."""
        plain = self.dtype == "uint8" and self.heights is None and not self.scales
        return bool(self.classes) or plain

    @property
    def files(self) -> tuple[Path | str, ...]:
        """The file, and those that a VRT reads or that place a picture."""
        return self.path, *(path for path, _ in self.parts)

    @property
    def sample(self) -> str | None:
        """Identity of the content, see `sample_digest`; None where it is not watched."""
        if self.stamp is None or not self.parts:
            return None if self.stamp is None else self.stamp.sample
        samples = [self.stamp.sample, *(stamp.sample for _, stamp in self.parts)]
        return hashlib.sha256("".join(samples).encode()).hexdigest()

    def check(self) -> None:
        """Compare the file with what it was; an address is compared by `check_address`.

        Raises:
            ReplacedError: the file was replaced.
        """
        if isinstance(self.stamp, Stamp):
            self.stamp.check(Path(self.path))
        for path, stamp in self.parts:
            stamp.check(path)

    def check_address(self) -> None:
        """Ask the server of an address whether the file is what it was.

        Raises:
            ReplacedError: the file was replaced.
        """
        if isinstance(self.stamp, AddressStamp):
            self.stamp.check()

    def to_values(
        self, numbers: Shaped[np.ndarray, "band row col"]
    ) -> Shaped[np.ndarray, "band row col"]:
        """Apply scale and offset of each band; the same array where they are taken as they are."""
        if not self.scales:
            return numbers
        factor, shift = np.array(self.scales).T[:, :, None, None]
        values: Float[np.ndarray, "band row col"] = numbers * factor + shift
        return values

    def number_classes(
        self, codes: Float[np.ndarray, "band row col"], data: Bool[np.ndarray, "row col"]
    ) -> tuple[Shaped[np.ndarray, "band row col"], Bool[np.ndarray, "row col"]]:
        """Number the classes of pixels from 1; other codes are no data.

        Returns:
            The codes as they are where the classes are not known yet; and which pixels have data.
        """
        if not self.classes:
            return codes, data
        classes = np.array(self.classes)
        index = np.minimum(np.searchsorted(classes, codes), len(classes) - 1)
        return index + 1, data & (classes[index] == codes).all(axis=0)

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
            west = min(corner for corner, _ in self._corners)
            middle = west + (np.asarray(middle)[:, None] - west) % 360
            x = middle + (x - middle + 180) % 360 - 180
        inverse = ~Affine(*self.affine)
        x, y = np.where(np.isfinite(x), x, np.nan), np.where(np.isfinite(y), y, np.nan)
        row = inverse.d * x + inverse.e * y + inverse.f - 0.5
        col = inverse.a * x + inverse.b * y + inverse.c - 0.5
        return np.stack([row, col], axis=-1)

    def pixel_m(self, lonlat: Float[np.ndarray, " 2"]) -> float | None:
        """Return the longer side, on the ground, of the pixel nearest to a point.

        Args:
            lonlat: WGS 84 degrees.

        Returns:
            Metres along the geodesic through the middles of opposite sides; None where the
            raster's CRS reaches neither that pixel nor the raster's middle.
        """
        height, width = self.shape
        (nearest,) = self.rowcol(lonlat[None, None], lonlat[None])[0]
        last = np.array([height - 1, width - 1])
        a, b, c, d, e, f = self.affine
        for row, col in (np.clip(nearest, 0, last), last / 2):
            # Middles of the west, east, north and south side, counted from the raster's corner.
            rows, cols = row + np.array([0.5, 0.5, 0, 1]), col + np.array([0, 1, 0.5, 0.5])
            x, y = a * cols + b * rows + c, d * cols + e * rows + f
            lon, lat = self._transformer.transform(x, y, direction="INVERSE")
            if np.isfinite([lon, lat]).all():
                _, _, sides = _WGS84.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
                return float(np.max(sides))
        return None

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


def has_value(
    values: Shaped[np.ndarray, "*pixel"], nodata: float | None
) -> Bool[np.ndarray, "*pixel"]:
    """Return which numbers are finite and not the nodata value."""
    known = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if nodata is not None:
        # Nodata as a float32 raster stores it; for integers a fraction equals no value.
        known &= values != (values.dtype.type(nodata) if values.dtype.kind == "f" else nodata)
    return known
