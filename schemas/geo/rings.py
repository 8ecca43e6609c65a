"""Rings of vertices: read from GeoJSON, tested for points, and split into short edges.

A ring is closed, in WGS 84 longitude and latitude, and its edges are straight lines in these.
Longitudes exceed 180 where a ring crosses the antimeridian.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.crs import crs_member
from unigeo.schemas.geo.index_ranges import expand_ranges

Ring = Float[np.ndarray, "_ 2"]

_EDGE_STEP_DEGREES = 0.1
"""Longest piece of an edge; it deviates from a straight line on the map by less than 10 m."""
_LEAST_POSITIONS = 4
"""Fewest positions of a closed ring."""


def polygons_of_geojson(document: Any, source: str) -> list[list[Ring]]:
    """Return the rings of every polygon in a GeoJSON document, each polygon's outer ring first.

    Raises:
        RegionError: naming the source, if the document holds anything but polygons.
    """
    return [
        part
        for geometry in geometries_of(document, source)
        for part in parts_of_geometry(geometry, source)
    ]


def geometries_of(document: Any, source: str) -> list[Any]:
    """Return the geometry of each feature of a GeoJSON document, or of the document itself.

    Raises:
        RegionError: naming the source, if it is not GeoJSON.
    """
    if not isinstance(document, Mapping):
        raise RegionError(f"{source} is no GeoJSON object but a {type(document).__name__}")
    if document.get("type") != "FeatureCollection":
        return [_geometry_of(document, source)]
    features = document.get("features")
    if not isinstance(features, Sequence) or isinstance(features, str):
        raise RegionError(f"{source} is not valid GeoJSON: it has no list of features")
    return [_geometry_of(one, f"{source}, feature {k}") for k, one in enumerate(features)]


def _geometry_of(feature: Any, source: str) -> Any:
    if isinstance(feature, Mapping) and feature.get("type") == "Feature":
        if "geometry" not in feature:
            raise RegionError(f"{source} is not valid GeoJSON: the feature has no geometry")
        return feature["geometry"]
    return feature


def crs_of_geojson(document: Mapping[str, Any], source: str) -> str | None:
    """Return the CRS that a GeoJSON document names for itself; None means WGS 84.

    Raises:
        RegionError: naming the source, if the CRS cannot be read, or a feature names another one.
    """
    features = document.get("features")
    try:
        document_crs = crs_member(document)
        for one in features if isinstance(features, list | tuple) else [document]:
            geometry = one.get("geometry") if isinstance(one, Mapping) else None
            for part in (one, geometry):
                if isinstance(part, Mapping) and "crs" in part and crs_member(part) != document_crs:
                    raise ValueError(
                        f"a feature names the CRS {crs_member(part)}, and the document "
                        f"{document_crs}: write all coordinates in one CRS"
                    )
    except ValueError as error:
        raise RegionError(f"{error} (in {source})") from error
    return document_crs


def parts_of_geometry(geometry: Any, source: str) -> list[list[Ring]]:
    """Return the parts of a GeoJSON geometry, each an outer ring and its holes, as written.

    Args:
        geometry: a Polygon, a MultiPolygon, a collection of these, or None.
        source: names it in errors.

    Returns:
        An empty list if there is no geometry, or it is empty.

    Raises:
        RegionError: naming the source, if it is of another kind, or a ring is malformed.
    """
    if geometry is None:
        return []
    kind = geometry.get("type") if isinstance(geometry, Mapping) else None
    try:
        if kind == "Polygon":
            return _parts([geometry["coordinates"]], source)
        if kind == "MultiPolygon":
            return _parts(geometry["coordinates"], source)
        if kind == "GeometryCollection":
            members = geometry["geometries"]
            kinds = sorted({str(member["type"]) for member in members})
            if {"Polygon", "MultiPolygon"}.issuperset(kinds):
                return [part for member in members for part in parts_of_geometry(member, source)]
            kind = f"GeometryCollection of {', '.join(kinds)}"
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        if isinstance(error, RegionError):
            raise
        raise RegionError(f"{source} is not valid GeoJSON: {error!r:.200} in a {kind}") from error
    raise RegionError(f"{source}: a region needs Polygon or MultiPolygon, found {kind!s:.100}")


def _parts(coordinates: Any, source: str) -> list[list[Ring]]:
    """Read the parts that are not empty."""
    parts = [[_ring(ring, source) for ring in part if len(ring)] for part in coordinates]
    for part, rings in zip(coordinates, parts, strict=True):
        if rings and not len(part[0]):
            raise RegionError(f"{source}: a polygon has holes and no outer ring")
    return [rings for rings in parts if rings]


def _ring(vertices: Any, source: str) -> Ring:
    """Read a ring's positions without their heights, in the CRS that they are written in."""
    try:
        pairs = [(position[0], position[1]) for position in vertices]
    except (TypeError, IndexError, KeyError) as error:
        raise RegionError(f"{source} is not valid GeoJSON: a position is no two numbers") from error
    # A set of types, as testing each of millions of numbers by itself would take seconds.
    for kind in set(map(type, chain.from_iterable(pairs))):
        if kind is bool or not issubclass(kind, Real):
            raise TypeError(f"a coordinate is a {kind.__name__}, not a number")
    ring = np.array(pairs, np.float64)
    if not np.isfinite(ring).all():
        raise RegionError(f"{source}: a vertex has a coordinate that is NaN or infinite")
    if len(ring) < _LEAST_POSITIONS or not np.array_equal(ring[0], ring[-1]):
        raise RegionError(
            f"{source}: a polygon's ring needs {_LEAST_POSITIONS} or more positions, the last the "
            f"same as the first; this one has {len(ring)}, from {ring[0].tolist()} to "
            f"{ring[-1].tolist()}"
        )
    return ring


def in_ring(ring: Ring, points: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
    """Tell which points lie within a ring: a ray to the east crosses it an odd number of times."""
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
    if len(near) < len(ring):  # few points: all edges at once for each of them
        (lon1, lat1), (lon2, lat2) = ring[:-1].T, ring[1:].T
        sloping = lat1 != lat2
        slope = np.divide(lon2 - lon1, lat2 - lat1, where=sloping, out=np.zeros(len(lon1)))
        for k, (x, y) in enumerate(zip(lon, lat, strict=True)):
            crossed = ((lat1 <= y) != (lat2 <= y)) & (x < lon1 + (y - lat1) * slope)
            odd[k] = np.count_nonzero(crossed) % 2
        inside[near] = odd
        return inside
    for (lon1, lat1), (lon2, lat2) in pairwise(ring):
        if lat1 == lat2:  # the edges before and after it are counted
            continue
        spans = (lat1 <= lat) != (lat2 <= lat)
        odd ^= spans & (lon < lon1 + (lat - lat1) * ((lon2 - lon1) / (lat2 - lat1)))
    inside[near] = odd
    return inside


def pieces_per_edge(
    start: Float[np.ndarray, "edge 2"], end: Float[np.ndarray, "edge 2"]
) -> Int[np.ndarray, " edge"]:
    """Return into how many pieces to cut each edge, in degrees, to follow its curve on the map."""
    span = np.abs(end - start).max(axis=1, initial=0.0)
    pieces: np.ndarray = np.maximum(1, np.ceil(span / _EDGE_STEP_DEGREES)).astype(np.int64)
    return pieces


def split_edges(
    start: Float[np.ndarray, "edge 2"],
    end: Float[np.ndarray, "edge 2"],
    pieces: Int[np.ndarray, " edge"],
) -> tuple[Float[np.ndarray, "point 2"], Int[np.ndarray, " point"]]:
    """Cut each edge into equal pieces.

    Returns:
        The first point of each piece, and the number of its edge.
    """
    edge, number = expand_ranges(np.zeros(len(start), np.int64), pieces)
    share = (number / pieces[edge])[:, None]
    return start[edge] + (end - start)[edge] * share, edge
