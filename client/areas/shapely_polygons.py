"""Polygons from shapely geometries, read as arrays without a loop over their vertices."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool

from unigeo.client.shapes.polygon_rings import INVALID, Polygons, polygons_in_degrees, refuse


def is_shapely(value: Any) -> bool:
    """Return whether a value is a shapely geometry, without importing shapely."""
    shapely = sys.modules.get("shapely")
    return shapely is not None and isinstance(value, shapely.Geometry)


def are_shapely(values: Any) -> bool:
    """Return whether at least one value is a shapely geometry, and the others are missing."""
    shapes = [is_shapely(value) for value in values]
    return any(shapes) and all(
        shape or is_missing(value) for shape, value in zip(shapes, values, strict=True)
    )


def is_missing(value: Any) -> bool:
    """Return whether a value stands for no shape: None, NaN, pandas' NA or NaT, or masked."""
    return (
        value is None
        or value is np.ma.masked
        or (isinstance(value, float) and value != value)
        or type(value).__name__ in ("NAType", "NaTType")
    )


def polygons_from_shapely(geometries: Any, crs: Any, index: Any) -> Polygons:
    """Read one polygon per shapely geometry; a missing or an empty one gives a row without shape.

    Args:
        geometries: polygons, multipolygons, collections of these, or missing.
        crs: of the coordinates, as `chosen_crs` returns it.
        index: labels of the geometries.

    Raises:
        RegionError: naming the first that is of another type, not valid or not on the globe.
    """
    import shapely

    shapes = np.empty(len(geometries), object)
    shapes[:] = [None if is_missing(shape) else shape for shape in geometries]
    collection = shapely.GeometryType.GEOMETRYCOLLECTION
    for k in np.flatnonzero(shapely.get_type_id(shapes) == collection):
        shapes[k] = _as_multipolygon(shapes[k])
    present = np.flatnonzero(~(shapely.is_missing(shapes) | shapely.is_empty(shapes)))

    def refuse_shapes(bad: Bool[np.ndarray, " present"], why: Callable[[int], str]) -> None:
        polygon = np.zeros(len(shapes), bool)
        polygon[present[bad]] = True
        refuse(polygon, index, why)

    types = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    refuse_shapes(
        ~np.isin(shapely.get_type_id(shapes[present]), types),
        lambda k: f"is a {_type_name(shapes[k])}; give Polygon or MultiPolygon",
    )
    # Flatten shapes to parts, parts to rings, and rings to vertices, with the index of each parent.
    parts, row_of_part = shapely.get_parts(shapes[present], return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    xy, ring_of = shapely.get_coordinates(rings, return_index=True)
    first = np.cumsum([0, *shapely.get_num_coordinates(rings)])
    row = present[row_of_part[part_of_ring]].astype(np.int64)
    hole = np.ones(len(rings), bool)  # all rings of a part but the first
    hole[np.unique(part_of_ring, return_index=True)[1]] = False
    broken = row[ring_of[~np.isfinite(xy).all(axis=1)]]
    refuse_shapes(
        np.isin(present, broken), lambda k: "has a vertex with a coordinate that is NaN or infinite"
    )
    polygons = polygons_in_degrees(xy, first, row, hole, index, crs)
    refuse_shapes(
        ~shapely.is_valid(shapes[present]),
        lambda k: f"is not valid ({shapely.is_valid_reason(shapes[k])}); {INVALID}",
    )
    return polygons


def _as_multipolygon(shape: Any) -> Any:
    """Convert a collection of polygons only to a MultiPolygon; return any other unchanged."""
    import shapely

    members = shapely.get_parts(shape)
    if not len(members) or {member.geom_type for member in members} - {"Polygon", "MultiPolygon"}:
        return shape
    parts = shapely.get_parts(members)
    return shapely.MultiPolygon(list(parts[~shapely.is_empty(parts)]))


def _type_name(shape: Any) -> str:
    """Return a geometry's type; of a collection those of its members too."""
    import shapely

    members = sorted({member.geom_type for member in shapely.get_parts(shape)})
    several = shape.geom_type == "GeometryCollection"
    return f"{shape.geom_type} of {', '.join(members)}" if several else str(shape.geom_type)
