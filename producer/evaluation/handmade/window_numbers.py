"""Statistics of square windows of a raster's own pixels, round points.

A window has an odd number of pixels along rows and columns, the one nearest to its side on the
ground, round the pixel that holds the point. Pixels without data, and those off the raster, are
left out. Nothing is resampled: maxima and deviations are those of the file.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from affine import Affine
from jaxtyping import Float, Int

from unigeo.producer.evaluation.handmade.number_recipe import Windows, column_names
from unigeo.producer.observations.forms import Form
from unigeo.producer.observations.raster_files.modality_rasters import ModalityRasters
from unigeo.producer.observations.raster_files.patch_frames import local_lonlat
from unigeo.producer.observations.raster_files.raster_blocks import BLOCK
from unigeo.producer.observations.raster_files.raster_patches import OpenRasters
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.schemas.errors import ObservationsError

MOST_PIXELS = 1024
"""Pixels along a side of a window, above which means of several pixels are read instead."""
_ALIGNED_PX = 0.01
"""Distance, in pixels, up to which the grids of two rasters are the same."""


@dataclass(frozen=True, eq=False)
class WindowNumbers:
    """The numbers of one `[[windows]]` of a recipe."""

    windows: Windows
    form: Form
    rasters: ModalityRasters

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each number."""
        return tuple(column_names(self.windows, self.form, len(self.rasters.sources[0].bands)))

    def at(self, lonlat: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point number"]:
        """Compute the numbers at points, NaN where no pixel of a window has data.

        Args:
            lonlat: WGS 84 degrees, finite.

        Raises:
            ObservationsError: if the rasters do not share one grid, or a part of one cannot be
                read.
            ReplacedError: if a file was replaced while it was read.
        """
        sources = self.rasters.sources
        corners = _corners(sources, self.windows.modality)
        values = np.full((len(lonlat), len(self.names)), np.nan)
        if not len(lonlat):
            return values
        sides = [1000 * side for side in self.windows.sides_km]
        located = [_locate(sources[0], lonlat, side) for side in sides or [1.0]]
        centre = located[0][0]
        known = np.flatnonzero(np.isfinite(centre).all(axis=1))
        # In the order of blocks, so that each is read once however the points are sorted.
        block = np.floor(centre[known] / BLOCK)
        order = known[np.lexsort((centre[known, 1], block[:, 1], block[:, 0]))]
        with closing(OpenRasters(sources)) as opened:
            for point in order.tolist():
                middle = np.floor(centre[point] + 0.5).astype(np.int64)
                parts = []
                for _, pixels in located[: len(sides)]:
                    read = _read(opened, self.rasters, corners, middle, pixels[point])
                    parts.append(self._statistics(read))
                if self.windows.point:
                    read = _read(opened, self.rasters, corners, middle, np.ones(2))
                    parts.append(read[:, 0] if read.shape[1] else np.full(len(read), np.nan))
                values[point] = np.concatenate(parts)
            opened.check()
        return values

    def _statistics(self, pixels: Float[np.ndarray, "band pixel"]) -> Float[np.ndarray, " number"]:
        """Compute the statistics of one window, in the order of the names."""
        if self.windows.shares:
            if not pixels.size:
                return np.full(len(self.form.classes), np.nan)
            codes = pixels[0].astype(np.int64)
            counts = np.bincount(codes, minlength=len(self.form.classes) + 1)[1:]
            return np.asarray(counts / len(codes))
        if not pixels.shape[1]:
            return np.full(len(pixels) * len(self.windows.statistics), np.nan)
        return np.concatenate([statistic.of(pixels) for statistic in self.windows.statistics])


def _locate(
    source: RasterSource, lonlat: Float[np.ndarray, "point 2"], side_m: float
) -> tuple[Float[np.ndarray, "point 2"], Float[np.ndarray, "point 2"]]:
    """Locate points in a raster, and measure a length on the ground there.

    Returns:
        Row and column of each point, the centre of the first pixel at 0; and pixels along rows and
        columns of a square of that side. NaN where the CRS does not reach.
    """
    half = side_m / 2
    east, north = np.array([0, -half, half, 0, 0]), np.array([0, 0, 0, -half, half])
    rowcol = source.rowcol(local_lonlat(lonlat, east, north), lonlat)
    eastward, northward = rowcol[:, 2] - rowcol[:, 1], rowcol[:, 4] - rowcol[:, 3]
    pixels = np.hypot(eastward, northward)  # one of the two is 0 where axes run east and north
    pixels = np.where(np.isfinite(pixels), pixels, np.nan)
    centre = np.where(np.isfinite(pixels), rowcol[:, 0], np.nan)
    return centre, pixels


def _corners(sources: Sequence[RasterSource], modality: str) -> Int[np.ndarray, "source 2"]:
    """Return row and column of each raster's first pixel in the grid of the first raster.

    Raises:
        ObservationsError: if a raster lies on another grid.
    """
    first = sources[0]
    inverse = ~Affine(*first.affine)
    corners = np.zeros((len(sources), 2), np.int64)
    for number, source in enumerate(sources):
        x, y = source.affine[2], source.affine[5]
        row = inverse.d * x + inverse.e * y + inverse.f
        col = inverse.a * x + inverse.b * y + inverse.c
        corner = np.rint([row, col])
        same_step = np.allclose(np.delete(source.affine, (2, 5)), np.delete(first.affine, (2, 5)))
        aligned = np.abs(corner - (row, col)).max() <= _ALIGNED_PX
        if source.crs != first.crs or not same_step or not aligned:
            raise ObservationsError(
                f"{source.label or source.path} lies on another grid than "
                f"{first.label or first.path}, so {modality} has no windows of pixels that span "
                "both: warp them onto one grid, as gdalwarp does, or join them in a VRT"
            )
        corners[number] = corner.astype(np.int64)
    return corners


def _read(
    opened: OpenRasters,
    rasters: ModalityRasters,
    corners: Int[np.ndarray, "source 2"],
    middle: Int[np.ndarray, " 2"],
    wanted: Float[np.ndarray, " 2"],
) -> Float[np.ndarray, "band pixel"]:
    """Read the pixels with data of a window; where rasters overlap, of the first with data.

    Args:
        opened: the rasters.
        rasters: their description.
        corners: row and column of the first pixel of each.
        middle: row and column of the middle of the window.
        wanted: pixels along rows and columns; NaN where the CRS does not reach so far.

    Raises:
        ObservationsError: if a part of a file cannot be read.
    """
    if not np.isfinite(wanted).all():
        return np.empty((len(rasters.sources[0].bands), 0))
    factors = np.maximum(np.ceil(wanted / MOST_PIXELS), 1).astype(np.int64)
    half = np.rint((wanted / factors - 1) / 2).astype(np.int64).clip(min=0)
    shape = tuple((2 * half + 1).tolist())
    values, data = np.zeros((len(rasters.sources[0].bands), *shape)), np.zeros(shape, bool)
    for number, source in enumerate(rasters.sources):
        # The window in this raster; floor division keeps the middle in its decimated pixel.
        centre = (middle - corners[number]) // factors
        low, high = centre - half, centre + half + 1
        sizes = -(-np.array(source.shape) // factors)
        if ((high <= 0) | (low >= sizes)).any():
            continue
        window = opened.blocks(number).window(
            tuple(factors.tolist()), (int(low[0]), int(high[0])), (int(low[1]), int(high[1]))
        )
        if window.unreadable.any():
            raise ObservationsError(
                f"a part of {rasters.file_name(source.path)} cannot be read, and numbers without "
                "it would be wrong: copy the file anew"
            )
        added = window.data & ~data
        values[:, added] = window.values[:, added]
        data |= added
        if data.all():
            break
    return values[:, data]
