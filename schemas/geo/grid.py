"""The Equal Earth lattice of cells: which cell holds a point, and where cell centres lie.

There is one lattice per CRS and resolution. Its cell edges are whole multiples of the resolution
from the projection's origin, so two grids of one lattice align cell for cell, whatever region they
cover. Lattice rows count southward from the equator (negative in the north), columns eastward from
the central meridian.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.schemas.errors import LayoutError, OutsideGridError, RegionError
from unigeo.schemas.geo.projection import equal_earth_m, lattice_longitudes
from unigeo.schemas.geo.window import Window

if TYPE_CHECKING:
    from pyproj import Transformer

CENTRAL_MERIDIANS = {"EPSG:8857": 0.0, "EPSG:8858": -90.0, "EPSG:8859": 150.0}
"""Central meridians of the Equal Earth CRSs, in degrees: Greenwich, Americas, Asia-Pacific."""
SHARD = 256
"""Cells along one side of a shard: one stored object, one production task."""
_NEAR_EDGE = 1e-6
"""Distance to an edge, in cells, below which the rounding of a division may choose the cell."""


@dataclass(frozen=True)
class Grid:
    """A rectangle of the lattice's cells; row 0 is the northernmost.

    `crop`, `pad`, `align`, `coarsen` and `refine` return new grids.

    >>> grid = Grid("EPSG:8858", 25_000, row0=-256, col0=-256, shape=(256, 512))
    >>> grid.cells(np.array([[-90.0, 0.1]]))
    array([[255, 256]])
    """

    crs: str
    """One of `CENTRAL_MERIDIANS`."""
    resolution_m: float
    """Side of a cell in projected metres; its area is the square of it, everywhere."""
    row0: int
    """Lattice row of the grid's northernmost row."""
    col0: int
    """Lattice column of the grid's westernmost column."""
    shape: tuple[int, int]
    """Number of rows and of columns."""

    def __post_init__(self) -> None:
        if self.crs not in CENTRAL_MERIDIANS:
            raise RegionError(
                f"the grid's CRS is {self.crs!r}; it must be one of {', '.join(CENTRAL_MERIDIANS)}"
            )
        if not (np.isfinite(self.resolution_m) and self.resolution_m > 0):
            raise RegionError(f"the resolution must be positive metres, not {self.resolution_m}")
        if min(self.shape) < 1:
            raise RegionError(f"the grid has no cells: its shape is {self.shape}")

    @property
    def affine(self) -> tuple[float, float, float, float, float, float]:
        """(a, b, c, d, e, f) of `affine.Affine`: x = a col + b row + c, y = d col + e row + f."""
        size = self.resolution_m
        return (size, 0.0, self.col0 * size, 0.0, -size, -self.row0 * size)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north edge in projected metres."""
        size = self.resolution_m
        rows, cols = self.shape
        return (
            self.col0 * size,
            -(self.row0 + rows) * size,
            (self.col0 + cols) * size,
            -self.row0 * size,
        )

    @property
    def x(self) -> Float[np.ndarray, " col"]:
        """Eastings of the cell centres, metres."""
        return (self.col0 + np.arange(self.shape[1]) + 0.5) * self.resolution_m

    @property
    def y(self) -> Float[np.ndarray, " row"]:
        """Northings of the cell centres, metres, falling."""
        return -(self.row0 + np.arange(self.shape[0]) + 0.5) * self.resolution_m

    @property
    def full_window(self) -> Window:
        """All cells of the grid."""
        return Window(0, 0, *self.shape)

    def crop(self, window: Window) -> "Grid":
        """Return the grid of a window's cells.

        Raises:
            RegionError: if the window does not lie in the grid, or has no cells.

        >>> Grid("EPSG:8857", 1000, row0=-256, col0=0, shape=(256, 512)).crop(Window(6, 2, 3, 4))
        Grid(crs='EPSG:8857', resolution_m=1000, row0=-250, col0=2, shape=(3, 4))
        """
        if window.clipped(self.full_window) != window:
            raise RegionError(f"{window} does not lie in a grid of shape {self.shape}")
        shape = window.height, window.width
        return replace(self, row0=self.row0 + window.row, col0=self.col0 + window.col, shape=shape)

    def pad(self, cells: int) -> "Grid":
        """Return the grid widened by a number of cells on each side."""
        rows, cols = self.shape
        return replace(
            self,
            row0=self.row0 - cells,
            col0=self.col0 - cells,
            shape=(rows + 2 * cells, cols + 2 * cells),
        )

    def align(self, cells: int) -> "Grid":
        """Return the smallest grid around this one whose edges are multiples of `cells` cells.

        >>> Grid("EPSG:8857", 1000, row0=-250, col0=2, shape=(3, 4)).align(256)
        Grid(crs='EPSG:8857', resolution_m=1000, row0=-256, col0=0, shape=(256, 256))
        """
        # A window of the lattice, from whose origin the multiples are counted.
        rows, cols = Window(self.row0, self.col0, *self.shape).blocks(cells)
        return replace(
            self,
            row0=rows.start * cells,
            col0=cols.start * cells,
            shape=(len(rows) * cells, len(cols) * cells),
        )

    def coarsen(self, factor: int) -> "Grid":
        """Return the grid whose cells are each `factor` by `factor` of this one's.

        Raises:
            LayoutError: if an edge of the grid is not an edge of such cells.

        >>> Grid("EPSG:8857", 1000, row0=-256, col0=0, shape=(256, 512)).coarsen(4)
        Grid(crs='EPSG:8857', resolution_m=4000, row0=-64, col0=0, shape=(64, 128))
        """
        if any(edge % factor for edge in (self.row0, self.col0, *self.shape)):
            raise LayoutError(f"cells of the grid cannot be put together {factor} by {factor}")
        rows, cols = self.shape
        return Grid(
            self.crs,
            self.resolution_m * factor,
            self.row0 // factor,
            self.col0 // factor,
            (rows // factor, cols // factor),
        )

    def refine(self, factor: int) -> "Grid":
        """Return the grid that divides each cell into `factor` by `factor` cells.

        >>> Grid("EPSG:8857", 1000, row0=-64, col0=0, shape=(64, 128)).refine(4)
        Grid(crs='EPSG:8857', resolution_m=250.0, row0=-256, col0=0, shape=(256, 512))
        """
        rows, cols = self.shape
        return Grid(
            self.crs,
            self.resolution_m / factor,
            self.row0 * factor,
            self.col0 * factor,
            (rows * factor, cols * factor),
        )

    def offset_of(self, other: "Grid") -> tuple[int, int]:
        """Return rows and columns from this grid's corner to that of another one of its lattice."""
        return other.row0 - self.row0, other.col0 - self.col0

    def of_centres(self, x: Float[np.ndarray, " col"], y: Float[np.ndarray, " row"]) -> "Grid":
        """Return the grid of the same lattice that begins at the first of some cell centres.

        Args:
            x: eastings, rising, metres.
            y: northings, falling.
        """
        row = round(float(-y[0] / self.resolution_m - 0.5))
        col = round(float(x[0] / self.resolution_m - 0.5))
        return replace(self, row0=row, col0=col, shape=(len(y), len(x)))

    def windows(self, cells: int = SHARD) -> Iterator[Window]:
        """Yield squares of `cells` x `cells` cells, row by row; the last ones may be smaller."""
        rows, cols = self.shape
        for row in range(0, rows, cells):
            for col in range(0, cols, cells):
                yield Window(row, col, min(cells, rows - row), min(cells, cols - col))

    def shard_windows(self, shard: int = SHARD, within: Window | None = None) -> Iterator[Window]:
        """Yield the part of each of the lattice's shards that lies in the grid, row by row.

        A grid that begins inside a shard, as part of a larger field, has smaller first windows.

        Args:
            shard: cells along one side.
            within: window of the grid to cut; all of it by default.
        """
        within = within or self.full_window
        rows = _cuts(within.row, within.height, self.row0, shard)
        cols = _cuts(within.col, within.width, self.col0, shard)
        for row, height in rows:
            for col, width in cols:
                yield Window(row, col, height, width)

    def centres(self, window: Window | None = None) -> Float[np.ndarray, "row col 2"]:
        """Return longitude and latitude of the cell centres, WGS 84 degrees; NaN off the globe."""
        rows, cols = window.slices if window else (slice(None), slice(None))
        x, y = self.x[cols], self.y[rows]
        lon = lattice_longitudes(x, y, CENTRAL_MERIDIANS[self.crs])
        # Latitude depends on the northing alone: one inverse projection per row, not per cell.
        _, lat = from_wgs84(self.crs).transform(np.zeros_like(y), y, direction="INVERSE")
        centres = np.empty((*lon.shape, 2))
        centres[..., 0] = lon
        centres[..., 1] = lat[:, None]
        centres[np.isnan(lon)] = np.nan
        return centres

    def locate(
        self, lonlat: Float[np.ndarray, "point 2"]
    ) -> tuple[Int[np.ndarray, "point 2"], Bool[np.ndarray, " point"]]:
        """Find the cell of each point, and which points are on the grid at all.

        Args:
            lonlat: WGS 84 degrees, longitude first.

        Returns:
            Row and column (-1 for points off the grid), and whether each point is on the grid.
        """
        return self.locate_m(*equal_earth_m(lonlat, CENTRAL_MERIDIANS[self.crs]))

    def locate_m(
        self, x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"]
    ) -> tuple[Int[np.ndarray, "point 2"], Bool[np.ndarray, " point"]]:
        """Find the cell of each point in the grid's CRS, and which points are on the grid at all.

        A point lies in the cell of the nearest centre, as with xarray's `.sel(method="nearest")`:
        a point on the edge of two cells belongs to the eastern or northern one, and a point on the
        border of the grid to the cell inside.

        Args:
            x: eastings in the grid's CRS, metres; NaN is off the grid.
            y: northings.

        Returns:
            Row and column (-1 for points off the grid), and whether each point is on the grid.
        """
        rowcol = np.empty((len(x), 2), np.int64)
        inside = np.ones(len(x), bool)
        with np.errstate(invalid="ignore"):
            for axis, metres in ((0, -y), (1, x)):
                index = self._cell_index(metres, axis)
                inside &= (index >= 0) & (index < self.shape[axis])
                rowcol[:, axis] = index
        if not inside.all():
            rowcol[~inside] = -1
        return rowcol, inside

    def _cell_index(
        self, metres: Float[np.ndarray, " point"], axis: int
    ) -> Float[np.ndarray, " point"]:
        """Return row numbers of metres southward, or columns of metres eastward; NaN gives NaN."""
        first, count, size = (self.row0, self.col0)[axis], self.shape[axis], self.resolution_m
        exact = metres / size - first
        index = np.floor(exact)
        edge = np.rint(exact)
        near = np.flatnonzero(np.abs(exact - edge) < _NEAR_EDGE)
        # So near an edge, rounding decides. Distances to both centres are compared, as pandas does,
        # with its order of operations, so that `.sel` finds the same cell for the same coordinate.
        if len(near):
            edge, metres = edge[near], metres[near]
            before = metres - (first + edge - 0.5) * size
            after = (first + edge + 0.5) * size - metres
            second = after < before if axis == 0 else after <= before
            # The grid's outer edges belong to the cells inside.
            second = np.where(edge == 0, after <= size / 2, second)
            second = np.where(edge == count, before > size / 2, second)
            index[near] = np.where(second, edge, edge - 1)
        return index

    def position_m(
        self, x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"]
    ) -> Float[np.ndarray, "point 2"]:
        """Return fractional row and column of points in the grid's CRS; cell centres are at .5."""
        size = self.resolution_m
        return np.stack([-y / size - self.row0, x / size - self.col0], axis=-1)

    def cells(self, lonlat: Float[np.ndarray, "point 2"]) -> Int[np.ndarray, "point 2"]:
        """Find the cell that holds each point.

        Args:
            lonlat: WGS 84 degrees, longitude first.

        Returns:
            Row and column, counted from the north-west corner.

        Raises:
            OutsideGridError: if any point is off the grid.

        Source: Šavrič, Patterson & Jenny (2018), "The Equal Earth map projection".
        """
        rowcol, inside = self.locate(lonlat)
        if not inside.all():
            first = int(np.flatnonzero(~inside)[0])
            lon, lat = lonlat[first]
            raise OutsideGridError(
                f"{(~inside).sum()} of {len(lonlat)} points are outside the grid, the first at "
                f"index {first}: longitude {lon:.6g}, latitude {lat:.6g}. Drop them, or ask for "
                "them with missing='nan' to keep their rows empty."
            )
        return rowcol


def _cuts(first: int, count: int, origin: int, shard: int) -> list[tuple[int, int]]:
    """Return start and length of each part of a range of cells, cut at multiples of the shard."""
    end, second = first + count, first + shard - (first + origin) % shard
    edges = [first, *range(second, end, shard), end]
    return [(start, stop - start) for start, stop in pairwise(edges) if stop > start]


@lru_cache(maxsize=16)
def from_wgs84(crs: str) -> "Transformer":
    """Return the transformation from WGS 84 longitude and latitude to projected metres.

    Building one takes milliseconds, so they are cached.
    """
    from pyproj import Transformer

    return Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
