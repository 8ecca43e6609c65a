"""Points written as GeoJSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import PointsError
from unigeo.schemas.geo.crs import crs_member
from unigeo.schemas.tables.numeric_values import as_numbers

TYPES = (
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
"""Values of the member `type` that make a mapping GeoJSON."""
_NOWHERE = (np.nan, np.nan)
_LISTS = (list, tuple, np.ndarray)


def points_of_geojson(
    document: Mapping[str, Any],
) -> tuple[Float[np.ndarray, "point 2"], str | None]:
    """Read the points of a document: one per feature, or those of a bare geometry.

    Args:
        document: a Point, a MultiPoint, a Feature or a FeatureCollection. A feature is a row, so
            its geometry is a Point.

    Returns:
        The coordinates, NaN where a feature has no geometry or an empty one; and the CRS that the
        document names for them.

    Raises:
        PointsError: naming the first feature that is no point, or whose CRS is another.
    """
    crs = _crs_of(document)
    kind = document.get("type")
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, _LISTS):
            raise PointsError("not valid GeoJSON: the FeatureCollection has no list of features")
        rows = [_of_feature(one, f"feature {k}", crs) for k, one in enumerate(features)]
    elif kind == "Feature":
        rows = [_of_feature(document, "the feature", crs)]
    elif kind == "Point":
        rows = [_place(document.get("coordinates"), "the Point")]
    elif kind == "MultiPoint":
        vertices = document.get("coordinates")
        if not isinstance(vertices, _LISTS):
            raise PointsError("not valid GeoJSON: the MultiPoint has no list of coordinates")
        rows = [_place(one, f"vertex {k}") for k, one in enumerate(vertices)]
    else:
        raise PointsError(f"GeoJSON points must be Point or MultiPoint, found {kind!r:.60}")
    return as_numbers(rows, "the coordinates of GeoJSON").reshape(-1, 2), crs


def _of_feature(feature: Any, name: str, crs: str | None) -> Any:
    """The coordinates of one feature."""
    if not isinstance(feature, Mapping) or "geometry" not in feature:
        raise PointsError(f"not valid GeoJSON: {name} has no member 'geometry'")
    geometry = feature["geometry"]
    if geometry is None:
        return _NOWHERE
    if not isinstance(geometry, Mapping):
        raise PointsError(f"not valid GeoJSON: the geometry of {name} is {geometry!r:.60}")
    for part in (feature, geometry):
        if "crs" in part and _crs_of(part) != crs:
            raise PointsError(
                f"{name} names a CRS of its own, {_crs_of(part)}, and the document names {crs}: "
                "write all coordinates in one CRS"
            )
    if geometry.get("type") != "Point":
        raise PointsError(
            f"{name} is a {geometry.get('type')!s:.60}; a feature is one row, so each must be a "
            "Point: split MultiPoints into features, take the centroid of other shapes, or their "
            "zonal means"
        )
    return _place(geometry.get("coordinates"), name)


def _place(coordinates: Any, name: str) -> Any:
    """Two numbers; a Point without coordinates is empty, and an altitude is left out."""
    if not isinstance(coordinates, _LISTS) or len(coordinates) == 1:
        raise PointsError(f"not valid GeoJSON: the coordinates of {name} are {coordinates!r:.60}")
    return tuple(coordinates[:2]) if len(coordinates) else _NOWHERE


def _crs_of(document: Mapping[str, Any]) -> str | None:
    try:
        return crs_member(document)
    except ValueError as error:
        raise PointsError(str(error)) from error
