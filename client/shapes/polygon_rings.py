"""`Polygons`: rings of longitude and latitude in flat arrays, and the checks they pass."""

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
"""Advice for a polygon that is not valid, part of a message."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons in one table of rings; a row may have several parts and holes.

    Edges are straight in longitude and latitude. Longitudes run on past 180 where a ring crosses
    the antimeridian, or the polygon is cut there in two.
    """

    lonlat: Float[np.ndarray, "vertex 2"]
    """Vertices of all rings, one ring after the other, each closed; WGS 84 degrees."""
    first: Int[np.ndarray, " ring_end"]
    """Index of each ring's first vertex, followed by the number of vertices."""
    row: Int[np.ndarray, " ring"]
    """Row of the polygon that each ring belongs to, in rising order."""
    hole: Bool[np.ndarray, " ring"]
    """Whether each ring is a hole in its polygon."""
    index: Any
    """Labels of the polygons, a pandas Index."""
    crs: Any = None
    """CRS in which the polygons were given, a pyproj CRS; None is WGS 84."""

    def __len__(self) -> int:
        return len(self.index)

    @property
    def missing(self) -> Bool[np.ndarray, " polygon"]:
        """Whether each row has no shape, or an empty one."""
        missing: np.ndarray = np.bincount(self.row, minlength=len(self)) == 0
        return missing

    def label(self, row: int) -> str:
        """Name a row as messages do."""
        return row_label(row, self.index)


def row_name(row: int, label: Any) -> str:
    """Name a row as messages do.

    >>> row_name(1, "b")
    "row 1 (label 'b')"
    """
    return f"row {row} (label {label!r:.100})"


def row_label(row: int, index: Any) -> str:
    """Name a row of a table as messages do."""
    return row_name(row, index[[row]].tolist()[0])


def refuse(bad: Bool[np.ndarray, " polygon"], index: Any, why: Callable[[int], str]) -> None:
    """Raise if any polygon is bad, with the reason of the first.

    Raises:
        RegionError: naming the row.
    """
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        raise RegionError(
            f"{bad.sum()} of {len(bad)} polygons cannot be used; the first, in "
            f"{row_label(k, index)}, {why(k)}"
        )


def polygons_in_degrees(
    xy: Float[np.ndarray, "vertex 2"],
    first: Int[np.ndarray, " ring_end"],
    row: Int[np.ndarray, " ring"],
    hole: Bool[np.ndarray, " ring"],
    index: Any,
    crs: Any,
) -> Polygons:
    """Convert the rings of valid polygons to longitude and latitude.

    Args:
        xy: vertices of all rings, in the CRS.
        first: as in `Polygons`.
        row: as in `Polygons`.
        hole: as in `Polygons`.
        index: as in `Polygons`.
        crs: as `chosen_crs` returns it.

    Raises:
        RegionError: naming the first polygon that does not lie on the globe.
    """

    def refuse_rings(bad: Bool[np.ndarray, " ring"], why: str) -> None:
        polygon = np.zeros(len(index), bool)
        polygon[row[bad]] = True
        refuse(polygon, index, lambda k: why)

    lonlat, first = rings_in_degrees(xy, first, crs, refuse_rings)
    return Polygons(lonlat, first, row, hole, index, crs)


def checked_polygons(
    parts: list[list[list[Ring]]], index: Any, crs: Any, *, valid: bool = False
) -> Polygons:
    """Build polygons from the rings of their parts, and check them.

    Args:
        parts: the parts of each polygon, each an outer ring and its holes; no part for a row
            without a shape.
        index: labels of the polygons.
        crs: of the rings, as `chosen_crs` returns it.
        valid: skip the check of validity, for polygons that are known to be valid.

    Raises:
        RegionError: naming the first polygon that is not valid, or not on the globe.
    """
    rings = [ring for polygon in parts for part in polygon for ring in part]
    count = np.array([sum(map(len, polygon)) for polygon in parts], np.int64)
    row = np.repeat(np.arange(len(parts), dtype=np.int64), count)
    hole = np.array([k > 0 for each in parts for part in each for k in range(len(part))], bool)
    xy = np.concatenate(rings) if rings else np.empty((0, 2))
    first = np.cumsum([0, *map(len, rings)])
    polygons = polygons_in_degrees(xy, first, row, hole, index, crs)
    faults = {} if valid else find_faults(xy, first, row, hole)
    bad = np.isin(np.arange(len(parts)), list(faults))
    refuse(bad, index, lambda k: f"is not valid ({faults[k]}); {INVALID}")
    return polygons
