"""Polygons as rings of longitude and latitude, checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.ring_degrees import rings_in_degrees
from unigeo.schemas.geo.rings import Ring
from unigeo.schemas.geo.valid_polygons import find_faults

INVALID = "mend it, for instance with shapely.make_valid, or drop it"
"""What to do about a polygon that is not valid."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """Areas to summarise a field over: one row may have several parts and holes.

    Edges are straight in longitude and latitude. Longitudes run on past 180 where a ring crosses
    the antimeridian, or the polygon is cut there in two.
    """

    lonlat: Float[np.ndarray, "vertex 2"]
    """Vertices of every ring, one ring after the other, each closed; WGS 84 degrees."""
    first: Int[np.ndarray, " ring_end"]
    """Number of each ring's first vertex, and of all vertices at the end."""
    row: Int[np.ndarray, " ring"]
    """Which polygon each ring is of, rising."""
    hole: Bool[np.ndarray, " ring"]
    """Whether the ring is cut out of its polygon."""
    index: Any
    """Labels of the polygons, a pandas Index."""
    crs: Any = None
    """That their numbers came in, a pyproj CRS; None is WGS 84."""

    def __len__(self) -> int:
        return len(self.index)

    @property
    def missing(self) -> Bool[np.ndarray, " polygon"]:
        """Which rows have no shape, or an empty one."""
        missing: np.ndarray = np.bincount(self.row, minlength=len(self)) == 0
        return missing

    def named(self, row: int) -> str:
        """A row as messages name it."""
        return name_of(row, self.index)


def row_name(row: int, label: Any) -> str:
    """A row as messages name it.

    >>> row_name(1, "b")
    "row 1 (label 'b')"
    """
    return f"row {row} (label {label!r:.100})"


def name_of(row: int, index: Any) -> str:
    """A row of a table as messages name it."""
    return row_name(row, index[[row]].tolist()[0])


def refuse(bad: Bool[np.ndarray, " polygon"], index: Any, why: Callable[[int], str]) -> None:
    """Refuse polygons if any is bad, with the reason of the first.

    Raises:
        RegionError: naming it.
    """
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        raise RegionError(
            f"{bad.sum()} of {len(bad)} polygons cannot be used; the first, in "
            f"{name_of(k, index)}, {why(k)}"
        )


def in_degrees(
    xy: Float[np.ndarray, "vertex 2"],
    first: Int[np.ndarray, " ring_end"],
    row: Int[np.ndarray, " ring"],
    hole: Bool[np.ndarray, " ring"],
    index: Any,
    crs: Any,
) -> Polygons:
    """Bring the rings of valid polygons to longitude and latitude.

    Args:
        xy: vertices of every ring, in the CRS.
        first: as in `Polygons`, as are `row`, `hole` and `index`.
        row: see there.
        hole: see there.
        index: see there.
        crs: as `chosen_crs` gives it.

    Raises:
        RegionError: naming the first polygon that does not lie on the globe.
    """

    def refuse_rings(bad: Bool[np.ndarray, " ring"], why: str) -> None:
        polygon = np.zeros(len(index), bool)
        polygon[row[bad]] = True
        refuse(polygon, index, lambda k: why)

    lonlat, first = rings_in_degrees(xy, first, crs, refuse_rings)
    return Polygons(lonlat, first, row, hole, index, crs)


def checked(
    parts: list[list[list[Ring]]], index: Any, crs: Any, *, valid: bool = False
) -> Polygons:
    """Check polygons that are given by the rings of their parts, in a CRS.

    Args:
        parts: of each polygon, each an outer ring and its holes; none where it has no shape.
        index: labels of the polygons.
        crs: as `chosen_crs` gives it.
        valid: whether they are known to be valid.

    Raises:
        RegionError: naming the first polygon that is not valid, or not on the globe.
    """
    rings = [ring for polygon in parts for part in polygon for ring in part]
    count = np.array([sum(map(len, polygon)) for polygon in parts], np.int64)
    row = np.repeat(np.arange(len(parts), dtype=np.int64), count)
    hole = np.array([k > 0 for each in parts for part in each for k in range(len(part))], bool)
    xy = np.concatenate(rings) if rings else np.empty((0, 2))
    first = np.cumsum([0, *map(len, rings)])
    made = in_degrees(xy, first, row, hole, index, crs)
    faults = {} if valid else find_faults(xy, first, row, hole)
    bad = np.isin(np.arange(len(parts)), list(faults))
    refuse(bad, index, lambda k: f"is not valid ({faults[k]}); {INVALID}")
    return made
