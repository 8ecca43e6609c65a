"""Coordinates of the points of a GeoJSON document."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import PointsError
from unigeo.schemas.geo.crs import crs_member
from unigeo.schemas.tables.numeric_values import as_numbers

GEOJSON_TYPES = (
    "Point",
    "MultiPoint",
    "LineString",
    "MultiLineString",
    "Polygon",
    "MultiPolygon",
    "GeometryCollection",
    "Feature",
    "FeatureCollection",
)
"""Values of the member `type` by which a mapping is recognized as GeoJSON."""
_NO_POSITION = (np.nan, np.nan)
_LISTS = (list, tuple, np.ndarray)


def read_geojson_points(
    document: Mapping[str, Any],
) -> tuple[Float[np.ndarray, "point 2"], str | None]:
    """Read the points of a document: one per feature, or those of a bare geometry.

    Args:
        document: a Point, a MultiPoint, a Feature or a FeatureCollection. A feature is a row, so
            its geometry must be a Point.

    Returns:
        The coordinates, NaN where a feature has no geometry or an empty one; and the CRS that the
        document names, if any.

    Raises:
        PointsError: naming the first feature that is not a point, or has a CRS of its own.
    """
    crs = _read_crs(document)
    kind = document.get("type")
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, _LISTS):
            raise PointsError("not valid GeoJSON: the FeatureCollection has no list of features")
        rows = [_read_feature(one, f"feature {k}", crs) for k, one in enumerate(features)]
    elif kind == "Feature":
        rows = [_read_feature(document, "the feature", crs)]
    elif kind == "Point":
        rows = [_read_position(document.get("coordinates"), "the Point")]
    elif kind == "MultiPoint":
        vertices = document.get("coordinates")
        if not isinstance(vertices, _LISTS):
            raise PointsError("not valid GeoJSON: the MultiPoint has no list of coordinates")
        rows = [_read_position(one, f"vertex {k}") for k, one in enumerate(vertices)]
    else:
        raise PointsError(f"GeoJSON points must be Point or MultiPoint, found {kind!r:.60}")
    return as_numbers(rows, "the coordinates of GeoJSON").reshape(-1, 2), crs


def _read_feature(feature: Any, name: str, crs: str | None) -> Any:
    """Return the coordinates of one feature."""
    if not isinstance(feature, Mapping) or "geometry" not in feature:
        raise PointsError(f"not valid GeoJSON: {name} has no member 'geometry'")
    geometry = feature["geometry"]
    if geometry is None:
        return _NO_POSITION
    if not isinstance(geometry, Mapping):
        raise PointsError(f"not valid GeoJSON: the geometry of {name} is {geometry!r:.60}")
    for part in (feature, geometry):
        if "crs" in part and _read_crs(part) != crs:
            raise PointsError(
                f"{name} names a CRS of its own, {_read_crs(part)}, and the document names {crs}: "
                "write all coordinates in one CRS"
            )
    if geometry.get("type") != "Point":
        raise PointsError(
            f"{name} is a {geometry.get('type')!s:.60}; a feature is one row, so each must be a "
            "Point: split MultiPoints into features, take the centroid of other shapes, or their "
            "zonal means"
        )
    return _read_position(geometry.get("coordinates"), name)


def _read_position(coordinates: Any, name: str) -> Any:
    """Return longitude and latitude of a Point without its altitude; NaN if it is empty."""
    if not isinstance(coordinates, _LISTS) or len(coordinates) == 1:
        raise PointsError(f"not valid GeoJSON: the coordinates of {name} are {coordinates!r:.60}")
    return tuple(coordinates[:2]) if len(coordinates) else _NO_POSITION


def _read_crs(document: Mapping[str, Any]) -> str | None:
    try:
        return crs_member(document)
    except ValueError as error:
        raise PointsError(str(error)) from error
