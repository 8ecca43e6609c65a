"""Rings of any CRS as rings of WGS 84 longitude and latitude."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.schemas.errors import PointsError, RegionError
from unigeo.schemas.geo.crs import is_degrees, is_same_crs, known_crs
from unigeo.schemas.geo.rings import pieces_per_edge, split_edges

Refuse = Callable[[Bool[np.ndarray, " ring"], str], None]
"""Raises if any ring is bad, with the reason, and names the polygon."""

_WGS84 = "OGC:CRS84"
_MOST_LONGITUDE = 540.0
"""Degrees: longitudes of 0 to 360 run on by half a turn too."""
_TURN = 360.0


def chosen_crs(own: Any, named: Any) -> Any:
    """The CRS of polygons that may carry one, where one may be named as well; None is WGS 84.

    Raises:
        RegionError: if the two differ, one is unknown, or it has no place for polygons.
    """
    try:
        if own is not None and named is not None and not is_same_crs(own, named):
            raise RegionError(
                f"the polygons carry the CRS {known_crs(own).name}, and {named!s:.100} was named; "
                "leave out one of them"
            )
        crs = named if own is None else own
        if crs is None or is_degrees(crs):
            return None
        known = known_crs(crs)
    except PointsError as error:
        raise RegionError(str(error)) from error
    if not (known.is_geographic or known.is_projected):
        raise RegionError(
            f"polygons cannot lie in {known.name}, a {known.type_name}: name the CRS that their "
            "coordinates are in"
        )
    return known


def rings_in_degrees(
    xy: Float[np.ndarray, "vertex 2"], first: Int[np.ndarray, " ring_end"], crs: Any, refuse: Refuse
) -> tuple[Float[np.ndarray, "point 2"], Int[np.ndarray, " ring_end"]]:
    """Turn edges straight in another CRS into short ones in longitude and latitude.

    Args:
        xy: vertices of every ring, one ring after the other, each closed.
        first: number of each ring's first vertex, and of all vertices at the end.
        crs: of the numbers, as `chosen_crs` gives it.
        refuse: called with the rings that cannot be used, and why.

    Returns:
        Vertices and the numbers of the first ones, likewise.

    Raises:
        RegionError: if PROJ knows no way from the CRS to WGS 84.
    """
    lonlat, first = _transformed(xy, first, crs, refuse)
    if len(first) > 1:
        _check_degrees(lonlat, first, refuse, named=crs is not None)
    return lonlat, first


def _transformed(
    xy: Float[np.ndarray, "vertex 2"], first: Int[np.ndarray, " ring_end"], crs: Any, refuse: Refuse
) -> tuple[Float[np.ndarray, "point 2"], Int[np.ndarray, " ring_end"]]:
    if crs is None or len(first) == 1:
        return xy, first
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    count = len(first) - 1
    try:
        to_wgs84 = Transformer.from_crs(crs, _WGS84, always_xy=True)
        rough = np.stack(to_wgs84.transform(*xy.T), axis=-1)
    except ProjError as error:
        raise RegionError(f"PROJ knows no way from {crs.name} to WGS 84: {error!s:.200}") from error
    ring = np.repeat(np.arange(count), np.diff(first))
    nowhere = f"has a vertex or an edge with no place on the globe in {crs.name}"
    refuse(_not_finite(rough, ring, count), nowhere)
    edge = np.flatnonzero(ring[1:] == ring[:-1])
    pieces = pieces_per_edge(rough[edge], rough[edge + 1])
    points, of = split_edges(xy[edge], xy[edge + 1], pieces)
    lonlat = np.stack(to_wgs84.transform(*points.T), axis=-1)
    refuse(_not_finite(lonlat, ring[edge[of]], count), nowhere)
    closed = []
    for number, part in enumerate(np.split(lonlat, np.flatnonzero(np.diff(ring[edge[of]])) + 1)):
        step = np.diff(np.append(part[:, 0], part[0, 0]))
        turns = np.cumsum(np.rint(step / _TURN))
        if turns[-1]:
            refuse(np.arange(count) == number, "runs round a pole; cut it in two")
        part[1:, 0] -= _TURN * turns[:-1]
        closed.append(np.concatenate([part, part[:1]]))
    return np.concatenate(closed), np.cumsum([0, *map(len, closed)])


def _not_finite(
    points: Float[np.ndarray, "point 2"], ring: Int[np.ndarray, " point"], count: int
) -> Bool[np.ndarray, " ring"]:
    bad = np.zeros(count, bool)
    bad[ring[~np.isfinite(points).all(axis=1)]] = True
    return bad


def _check_degrees(
    lonlat: Float[np.ndarray, "vertex 2"],
    first: Int[np.ndarray, " ring_end"],
    refuse: Refuse,
    named: bool,
) -> None:
    """Refuse rings that are not on the globe, or run round it more than once."""
    begin = first[:-1]
    lat = np.maximum.reduceat(np.abs(lonlat[:, 1]), begin)
    west = np.minimum.reduceat(lonlat[:, 0], begin)
    east = np.maximum.reduceat(lonlat[:, 0], begin)
    widest = np.maximum(np.abs(west), np.abs(east))
    advice = "" if named else "; name its CRS (crs=, or --crs)"
    swapped = (lat > 90) & (lat <= _TURN) & (widest <= 90)
    refuse(
        swapped,
        "has a latitude beyond 90 degrees: longitude and latitude look swapped, longitude comes "
        "first",
    )
    refuse(lat > 90, f"has a latitude beyond 90 degrees{advice}")
    refuse(widest > _MOST_LONGITUDE, f"has a longitude beyond {_MOST_LONGITUDE:g} degrees{advice}")
    refuse(east - west > _TURN, "spans more than 360 degrees of longitude")
