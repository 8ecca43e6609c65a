"""Transformation of polygons' rings from any CRS to WGS 84 longitude and latitude."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.schemas.errors import PointsError, RegionError
from unigeo.schemas.geo.crs import is_degrees, is_same_crs, known_crs
from unigeo.schemas.geo.rings import pieces_per_edge, split_edges

Refuse = Callable[[Bool[np.ndarray, " ring"], str], None]
"""Function of a mask of bad rings and the reason; raises, naming the polygon, if any is bad."""

_WGS84 = "OGC:CRS84"
_MOST_LONGITUDE = 540.0
"""Largest longitude in degrees: half a turn beyond longitudes of 0 to 360."""
_TURN = 360.0
"""Degrees of longitude in one turn."""


def chosen_crs(carried: Any, named: Any) -> Any:
    """Return the CRS of polygons, which may carry one and have one named; None is WGS 84.

    Args:
        carried: CRS that the polygons carry, or None.
        named: CRS that the user names, or None.

    Raises:
        RegionError: if the two differ, one is unknown, or it is neither geographic nor projected.
    """
    try:
        if carried is not None and named is not None and not is_same_crs(carried, named):
            raise RegionError(
                f"the polygons carry the CRS {known_crs(carried).name}, and {named!s:.100} was "
                "named; leave out one of them"
            )
        crs = named if carried is None else carried
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
    """Transform rings to longitude and latitude, splitting edges that are straight in their CRS.

    Args:
        xy: vertices of all rings, ring by ring, each ring closed.
        first: index of each ring's first vertex, then the number of vertices.
        crs: CRS of the vertices, as `chosen_crs` returns it.
        refuse: called with the rings that cannot be used, and the reason.

    Returns:
        Vertices and indices in the same form.

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
    # The rough transformation of the vertices alone tells how finely to split the edges.
    nowhere = f"has a vertex or an edge with no place on the globe in {crs.name}"
    refuse(_not_finite(rough, ring, count), nowhere)
    edge = np.flatnonzero(ring[1:] == ring[:-1])
    pieces = pieces_per_edge(rough[edge], rough[edge + 1])
    points, of = split_edges(xy[edge], xy[edge + 1], pieces)
    lonlat = np.stack(to_wgs84.transform(*points.T), axis=-1)
    refuse(_not_finite(lonlat, ring[edge[of]], count), nowhere)
    closed = []
    for number, part in enumerate(np.split(lonlat, np.flatnonzero(np.diff(ring[edge[of]])) + 1)):
        # Unwrap: a step of nearly 360 degrees is the jump at the antimeridian, not an edge.
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
    """Refuse rings that leave the globe, or span more than one turn of longitude."""
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
