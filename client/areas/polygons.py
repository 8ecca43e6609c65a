"""Polygons in every form users have them, read as rings of longitude and latitude.

Accepted: a bounding box (west, south, east, north); the name of a region; GeoJSON (a mapping, or a
path to a file); a path to GeoParquet or another file geopandas reads; a GeoDataFrame or GeoSeries;
a DataFrame or Series of shapely geometries; one shapely geometry, or anything else that gives
itself as GeoJSON; the coordinates (n, 2) of one ring; a list of any of these, one polygon each.
GeoJSON, boxes, rings and names need neither shapely nor geopandas. All are checked alike.

The numbers are WGS 84 degrees, unless the object carries another CRS (GeoJSON by its member `crs`)
or one is named. A row of a table, list or collection may have no shape, or an empty one.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from numbers import Complex, Real
from typing import Any

import numpy as np
from jaxtyping import Bool

from unigeo.client.areas.polygon_rings import (
    INVALID,
    Polygons,
    checked,
    in_degrees,
    refuse,
    row_name,
)
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.region_forms import load_region
from unigeo.schemas.geo.regions import Region, named_regions, region_of_bbox
from unigeo.schemas.geo.ring_degrees import chosen_crs
from unigeo.schemas.geo.rings import Ring, crs_of_geojson, geometries_of, in_ring, parts_of_geometry
from unigeo.schemas.tables.object_types import kind_of

_BOX = 4
_FORMS = (
    "give a GeoDataFrame, GeoJSON, a path, shapely geometries, a box (west, south, east, north) or "
    "the name of a region"
)


def read_polygons(polygons: Any, crs: Any = None) -> Polygons:
    """Read polygons in any accepted form.

    Args:
        polygons: see the module's docstring.
        crs: of numbers that do not carry one; WGS 84 longitude and latitude by default.

    Raises:
        RegionError: naming the first bad row: no polygon, not finite, not valid, not on the globe.
        MissingExtraError: if a form needs shapely or geopandas and it is not installed.

    >>> read_polygons((177.0, -20.0, -178.0, -15.0)).lonlat[:, 0].tolist()
    [177.0, 182.0, 182.0, 177.0, 177.0]
    """
    import pandas as pd

    if isinstance(polygons, Polygons):
        return polygons
    polygons = load_region(polygons)
    if isinstance(polygons, Region):
        parts = _parts_of_region(polygons)
        return checked([parts], pd.Index([polygons.name]), None, valid=True)
    if kind_of(polygons) is not None:
        return _of_table(polygons, crs)
    if _is_shapely(polygons):
        return _of_shapely([polygons], chosen_crs(None, crs), pd.RangeIndex(1))
    if isinstance(polygons, Mapping):
        return _of_geojson(polygons, crs)
    if isinstance(getattr(polygons, "__geo_interface__", None), Mapping):
        return _of_geojson(polygons.__geo_interface__, crs)
    if not isinstance(polygons, Sequence | np.ndarray) or isinstance(polygons, bytes):
        raise RegionError(f"cannot read polygons from a {type(polygons).__name__}: {_FORMS}")
    if np.ma.is_masked(polygons) or (isinstance(polygons, np.ndarray) and polygons.ndim == 0):
        raise RegionError(f"cannot read polygons from a masked array, or one number: {_FORMS}")
    numbers = _numbers_alone(polygons, crs)
    if numbers is not None:
        return checked([numbers], pd.RangeIndex(1), chosen_crs(None, crs))
    return _of_list(polygons, crs, pd.RangeIndex(len(polygons)))


def read_region_polygons(region: Any, crs: Any = None) -> Polygons:
    """Read the polygons of a region: at least one, each with a shape.

    Args:
        region: in any form that `read_polygons` takes.
        crs: as in `read_polygons`.

    Raises:
        RegionError: as `read_polygons`; or if there is none, or one without a shape.
    """
    polygons = read_polygons(region, crs)
    if not len(polygons):
        raise RegionError("no polygon was given; name a box, a region or a geometry")
    refuse(
        polygons.missing, polygons.index, lambda k: "has no shape, or an empty one; drop it first"
    )
    return polygons


def _is_shapely(value: Any) -> bool:
    shapely = sys.modules.get("shapely")
    return shapely is not None and isinstance(value, shapely.Geometry)


def _are_shapely(values: Any) -> bool:
    """Whether some are shapely geometries, and the others no shape at all."""
    shapes = [_is_shapely(value) for value in values]
    return any(shapes) and all(
        shape or _is_missing(value) for shape, value in zip(shapes, values, strict=True)
    )


def _is_missing(value: Any) -> bool:
    """Whether it stands for no shape: None, NaN, pandas' NA or NaT, a masked value."""
    return (
        value is None
        or value is np.ma.masked
        or (isinstance(value, float) and value != value)
        or type(value).__name__ in ("NAType", "NaTType")
    )


def _is_number(value: Any) -> bool:
    """Whether it is a number of any kind, also of one that no coordinate may be."""
    return isinstance(value, Complex | np.bool_)


def _numbers_alone(value: Any, crs: Any) -> list[list[Ring]] | None:
    """The parts of a box or of one ring, where the value is the numbers of either.

    Raises:
        RegionError: if they are numbers, and neither.
    """
    if len(value) and all(map(_is_number, value)):
        if not all(isinstance(v, Real) and not isinstance(v, bool | np.bool_) for v in value):
            raise RegionError(f"a box is four real numbers, not {value!s:.100}")
        if len(value) != _BOX:
            raise RegionError(
                f"cannot read polygons from {len(value)} numbers: a box is four, (west, south, "
                "east, north)"
            )
        return _box([float(v) for v in value], crs)
    pairs = len(value) and all(
        isinstance(pair, Sequence | np.ndarray) and len(pair) == 2 and all(map(_is_number, pair))
        for pair in value
    )
    if pairs:
        ring = {"type": "Polygon", "coordinates": [value]}
        return parts_of_geometry(ring, "the ring of coordinates")
    return None


def _box(edges: list[float], crs: Any) -> list[list[Ring]]:
    """A box's ring; in another CRS than WGS 84 its edges are straight there."""
    west, south, east, north = edges
    if chosen_crs(None, crs) is None:
        return [list(region_of_bbox((west, south, east, north)).rings)]
    if not np.isfinite(edges).all() or west >= east or south >= north:
        raise RegionError(
            f"the bounding box {tuple(edges)} must be west, south, east, north in {crs!s:.60}, "
            "with west < east and south < north"
        )
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return [[np.array(corners)]]


def _parts_of_region(area: Region) -> list[list[Ring]]:
    """A region's rings by role: a ring within an odd number of others is a hole."""
    outer: list[np.ndarray] = []
    holes: list[np.ndarray] = []
    for ring in area.rings:
        around = sum(bool(in_ring(other, ring[:1])[0]) for other in area.rings if other is not ring)
        (holes if around % 2 else outer).append(ring)
    return [[outer[0], *holes], *([ring] for ring in outer[1:])]


def _of_table(table: Any, crs: Any) -> Polygons:
    """A row for each of a table's geometries, or of a column of them."""
    kind = kind_of(table)
    if kind in ("pandas", "geodataframe"):
        table = _geometry_column(table, kind)
        kind = kind_of(table)
    if kind not in ("series", "geoseries", "geometries"):
        raise RegionError(f"cannot read polygons from a {type(table).__name__}: {_FORMS}")
    import pandas as pd

    index = pd.RangeIndex(len(table)) if kind == "geometries" else table.index
    own = None if kind == "series" else table.crs
    values = np.asarray(table, dtype=object)
    if kind != "series" or _are_shapely(values):
        return _of_shapely(values, chosen_crs(own, crs), index)
    return _of_list(values, crs, index)


def _geometry_column(table: Any, kind: str) -> Any:
    """The active geometry of a GeoDataFrame, or the column `geometry` of another table."""
    if kind == "geodataframe":
        if table.active_geometry_name is None:
            columns = [str(name) for name, dtype in table.dtypes.items() if dtype == "geometry"]
            raise RegionError(
                "the GeoDataFrame has no active geometry: choose one by set_geometry(name) of "
                f"its geometry columns, {', '.join(columns) or 'of which there are none'}"
            )
        return table.geometry
    columns = [str(name) for name in table.columns]
    if columns.count("geometry") != 1 or "geometry" not in table.columns:
        raise RegionError(
            f"a table of polygons needs one column 'geometry', and this one has "
            f"{columns.count('geometry')}, among {', '.join(columns):.200}; or {_FORMS}"
        )
    return table["geometry"]


def _of_list(polygons: Any, crs: Any, index: Any) -> Polygons:
    """One polygon for each item of any form; those of numbers are checked together."""
    if _are_shapely(polygons):
        return _of_shapely(polygons, chosen_crs(None, crs), index)
    raw: list[list[list[Ring]]] = []
    alone: dict[int, Polygons] = {}
    for number, (item, label) in enumerate(zip(polygons, index.tolist(), strict=True)):
        name = f"polygon in {row_name(number, label)}"
        try:
            parts = _raw_parts(item, crs, name)
            if parts is None:
                alone[number] = _one(read_polygons(item, crs))
        except RegionError as error:
            told = str(error).startswith(name)
            raise error if told else RegionError(f"{name}: {error}") from error
        raw.append(parts or [])
    return _merged(checked(raw, index, chosen_crs(None, crs)), alone)


def _raw_parts(item: Any, crs: Any, name: str) -> list[list[Ring]] | None:
    """The parts of one item as they are written; None of what is read in another way."""
    if _is_missing(item):
        return []
    if isinstance(item, bytes) or (isinstance(item, str) and item not in named_regions()):
        raise RegionError(
            f"{name}: there is no region {item!r:.60}; geometries as text or bytes are read by "
            "shapely.from_wkt, shapely.from_wkb or json.loads"
        )
    if _is_shapely(item):
        item = item.__geo_interface__
    if isinstance(item, Mapping) and item.get("type") != "FeatureCollection":
        if crs_of_geojson(item, name) is None:
            (geometry,) = geometries_of(item, name)
            return parts_of_geometry(geometry, name)
        return None
    if isinstance(item, Sequence | np.ndarray) and not isinstance(item, str | bytes):
        parts = _numbers_alone(item, crs)
        if parts is None:
            raise RegionError(f"cannot read one polygon from a {type(item).__name__}: {_FORMS}")
        return parts
    return None


def _one(read: Polygons) -> Polygons:
    if len(read) != 1:
        raise RegionError(f"holds {len(read)} polygons; a list has one in each row")
    return read


def _merged(together: Polygons, alone: dict[int, Polygons]) -> Polygons:
    """Put the rings of polygons that were read alone into their rows."""
    if not alone:
        return together
    rings = np.split(together.lonlat, together.first[1:-1]) if len(together.row) else []
    row, hole = [together.row], [together.hole]
    for number, one in alone.items():
        rings += np.split(one.lonlat, one.first[1:-1]) if len(one.row) else []
        row.append(np.full(len(one.row), number))
        hole.append(one.hole)
    rows = np.concatenate(row)
    order = np.argsort(rows, kind="stable")
    rings = [rings[k] for k in order]
    first = np.cumsum([0, *map(len, rings)])
    lonlat = np.concatenate(rings) if rings else np.empty((0, 2))
    holes = np.concatenate(hole)[order]
    return Polygons(lonlat, first, rows[order], holes, together.index, together.crs)


def _of_geojson(document: Mapping[str, Any], crs: Any) -> Polygons:
    """One row per feature, labelled by the features' ids if all have one."""
    import pandas as pd

    source = "the GeoJSON"
    crs = chosen_crs(crs_of_geojson(document, source), crs)
    geometries = geometries_of(document, source)
    index: Any = pd.RangeIndex(len(geometries))
    if document.get("type") == "FeatureCollection":
        labels = [
            one.get("id") if isinstance(one, Mapping) else None for one in document["features"]
        ]
        if labels and all(label is not None for label in labels):
            index = pd.Index(labels)
    parts = [
        parts_of_geometry(geometry, f"polygon in {row_name(row, label)}")
        for row, (geometry, label) in enumerate(zip(geometries, index.tolist(), strict=True))
    ]
    return checked(parts, index, crs)


def _of_shapely(geometries: Any, crs: Any, index: Any) -> Polygons:
    import shapely

    shapes = np.empty(len(geometries), object)
    shapes[:] = [None if _is_missing(shape) else shape for shape in geometries]
    collection = shapely.GeometryType.GEOMETRYCOLLECTION
    for k in np.flatnonzero(shapely.get_type_id(shapes) == collection):
        shapes[k] = _of_collection(shapes[k])
    there = np.flatnonzero(~(shapely.is_missing(shapes) | shapely.is_empty(shapes)))

    def refuse_shapes(bad: Bool[np.ndarray, " there"], why: Callable[[int], str]) -> None:
        polygon = np.zeros(len(shapes), bool)
        polygon[there[bad]] = True
        refuse(polygon, index, why)

    kinds = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    refuse_shapes(
        ~np.isin(shapely.get_type_id(shapes[there]), kinds),
        lambda k: f"is a {_kind_of_shape(shapes[k])}; give Polygon or MultiPolygon",
    )
    parts, row_of_part = shapely.get_parts(shapes[there], return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    xy, ring_of = shapely.get_coordinates(rings, return_index=True)
    first = np.cumsum([0, *shapely.get_num_coordinates(rings)])
    row = there[row_of_part[part_of_ring]].astype(np.int64)
    hole = np.ones(len(rings), bool)
    hole[np.unique(part_of_ring, return_index=True)[1]] = False
    broken = row[ring_of[~np.isfinite(xy).all(axis=1)]]
    refuse_shapes(
        np.isin(there, broken), lambda k: "has a vertex with a coordinate that is NaN or infinite"
    )
    made = in_degrees(xy, first, row, hole, index, crs)
    refuse_shapes(
        ~shapely.is_valid(shapes[there]),
        lambda k: f"is not valid ({shapely.is_valid_reason(shapes[k])}); {INVALID}",
    )
    return made


def _of_collection(shape: Any) -> Any:
    """A collection of polygons alone as a MultiPolygon; any other as it is."""
    import shapely

    members = shapely.get_parts(shape)
    if not len(members) or {member.geom_type for member in members} - {"Polygon", "MultiPolygon"}:
        return shape
    parts = shapely.get_parts(members)
    return shapely.MultiPolygon(list(parts[~shapely.is_empty(parts)]))


def _kind_of_shape(shape: Any) -> str:
    import shapely

    members = sorted({member.geom_type for member in shapely.get_parts(shape)})
    several = shape.geom_type == "GeometryCollection"
    return f"{shape.geom_type} of {', '.join(members)}" if several else str(shape.geom_type)
