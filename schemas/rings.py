"""Rings of vertices: how polygons are written in GeoJSON, tested for points and refined for maps.

A ring is closed, in WGS 84 longitude and latitude, and its edges are straight in these. Longitudes
run on past 180 where a ring crosses the antimeridian.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.schemas.errors import RegionError

Ring = Float[np.ndarray, "_ 2"]

_EDGE_STEP_DEGREES = 0.1  # an edge this short bends by less than 10 m on the map


def polygons_of_geojson(document: Any, source: str) -> list[list[Ring]]:
    """The rings of every polygon in a GeoJSON document, each polygon's outer ring first.

    Raises:
        RegionError: naming the source, if the document holds anything but polygons.
    """
    kind = document.get("type") if isinstance(document, dict) else None
    try:
        if kind == "FeatureCollection":
            return [p for part in document["features"] for p in polygons_of_geojson(part, source)]
        if kind == "Feature":
            return polygons_of_geojson(document["geometry"], source)
        if kind == "GeometryCollection":
            return [p for part in document["geometries"] for p in polygons_of_geojson(part, source)]
        if kind == "Polygon":
            return [[_ring(ring, source) for ring in document["coordinates"]]]
        if kind == "MultiPolygon":
            return [[_ring(ring, source) for ring in part] for part in document["coordinates"]]
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, RegionError):
            raise
        raise RegionError(f"{source} is not valid GeoJSON: {error!r} in a {kind}") from error
    raise RegionError(f"{source}: a region needs Polygon or MultiPolygon, found {kind!r}")


def _ring(vertices: Any, source: str) -> Ring:
    ring = np.array(vertices, np.float64)[:, :2]
    if len(ring) < 4 or not np.array_equal(ring[0], ring[-1]):
        raise RegionError(
            f"{source}: a polygon's ring needs 4 or more vertices, the last the first"
        )
    if not np.isfinite(ring).all() or np.abs(ring[:, 1]).max() > 90:
        raise RegionError(f"{source}: a vertex is not a finite WGS 84 longitude and latitude")
    return ring


def within(ring: Ring, points: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
    """Even-odd rule: a ray to the east crosses the ring an odd number of times."""
    lon, lat = points[:, 0], points[:, 1]
    inside = np.zeros(len(points), bool)
    near = np.flatnonzero(
        (lat >= ring[:, 1].min())
        & (lat <= ring[:, 1].max())
        & (lon >= ring[:, 0].min())
        & (lon <= ring[:, 0].max())
    )
    lon, lat = lon[near], lat[near]
    odd = np.zeros(len(near), bool)
    for (lon1, lat1), (lon2, lat2) in pairwise(ring):
        if lat1 == lat2:
            continue
        spans = (lat1 <= lat) != (lat2 <= lat)
        odd ^= spans & (lon < lon1 + (lat - lat1) * ((lon2 - lon1) / (lat2 - lat1)))
    inside[near] = odd
    return inside


def pieces_per_edge(
    start: Float[np.ndarray, "edge 2"], end: Float[np.ndarray, "edge 2"]
) -> Int[np.ndarray, " edge"]:
    """Into how many pieces an edge, in degrees, is cut so that none bends visibly on the map."""
    span = np.abs(end - start).max(axis=1, initial=0.0)
    pieces: np.ndarray = np.maximum(1, np.ceil(span / _EDGE_STEP_DEGREES)).astype(np.int64)
    return pieces


def refine(
    start: Float[np.ndarray, "edge 2"],
    end: Float[np.ndarray, "edge 2"],
    pieces: Int[np.ndarray, " edge"],
) -> tuple[Float[np.ndarray, "point 2"], Int[np.ndarray, " point"]]:
    """Cut each edge into equal pieces.

    Returns:
        The first point of each piece, and which edge it is of.
    """
    edge = np.repeat(np.arange(len(start)), pieces)
    number = np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    share = (number / pieces[edge])[:, None]
    return start[edge] + (end - start)[edge] * share, edge
