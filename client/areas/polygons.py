"""Polygons in every form users have them, read as rings of longitude and latitude.

Accepted: a bounding box (west, south, east, north) in degrees; the name of a region; GeoJSON (a
mapping, or a path to a file); a path to GeoParquet or another file geopandas reads; a GeoDataFrame
or GeoSeries; a DataFrame or Series of shapely geometries; one shapely geometry; a list of any of
these, one polygon each. GeoJSON, boxes and names need neither shapely nor geopandas.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.schemas.errors import MissingExtraError, RegionError
from unigeo.schemas.regions import Region, named_regions, region, region_of_bbox
from unigeo.schemas.rings import pieces_per_edge, polygons_of_geojson, refine, within

_PARQUET = (".parquet", ".geoparquet", ".pq")
_JSON = (".json", ".geojson")
_BOX = 4


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

    def __len__(self) -> int:
        return len(self.index)


def read_polygons(polygons: Any, crs: Any = None) -> Polygons:
    """Read polygons in any accepted form.

    Args:
        polygons: see the module's docstring.
        crs: of shapely geometries that do not carry one; WGS 84 longitude and latitude by default.

    Raises:
        RegionError: naming the first bad row: no polygon, empty, not finite, crossing itself.
        MissingExtraError: if a form needs shapely or geopandas and it is not installed.

    >>> read_polygons((177.0, -20.0, -178.0, -15.0)).lonlat[:, 0].tolist()
    [177.0, 182.0, 182.0, 177.0, 177.0]
    """
    import pandas as pd

    if isinstance(polygons, Polygons):
        return polygons
    if isinstance(polygons, str | Path):
        if str(polygons) in named_regions():
            named = region(str(polygons))
            return _of_parts([_parts_of_region(named)], pd.Index([named.name]))
        polygons = read_polygon_file(Path(polygons))
    if isinstance(polygons, Region):
        return _of_parts([_parts_of_region(polygons)], pd.Index([polygons.name]))
    if isinstance(polygons, Mapping):
        return _of_geojson(polygons)
    if _is_box(polygons):
        return _of_parts([_parts_of_region(_box(polygons))], pd.RangeIndex(1))
    if hasattr(polygons, "geom_type") and hasattr(polygons, "wkb"):
        return _of_shapely([polygons], crs, pd.RangeIndex(1))
    if hasattr(polygons, "geometry") or (
        hasattr(polygons, "columns") and "geometry" in list(polygons.columns)
    ):
        polygons = polygons.geometry if hasattr(polygons, "crs") else polygons["geometry"]
    if hasattr(polygons, "index") and hasattr(polygons, "array"):  # a GeoSeries or Series
        own = getattr(polygons, "crs", None)
        if own is not None and crs is not None and own != crs:
            raise RegionError(
                f"the polygons carry the CRS {own.name}, and {crs} was named; leave out one of them"
            )
        return _of_shapely(polygons, crs if own is None else own, polygons.index)
    if isinstance(polygons, Sequence | np.ndarray):
        return _of_list(polygons, crs)
    raise RegionError(
        f"cannot read polygons from a {type(polygons).__name__}: give a GeoDataFrame, GeoJSON, a "
        "path, shapely geometries, a box (west, south, east, north) or the name of a region"
    )


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, Sequence | np.ndarray)
        and len(value) == _BOX
        and all(isinstance(v, int | float | np.number) for v in value)
    )


def _box(value: Any) -> Region:
    west, south, east, north = (float(v) for v in value)
    return region_of_bbox((west, south, east, north))


def _of_list(polygons: Any, crs: Any) -> Polygons:
    """A list of shapely geometries, read together, or of other forms, read one by one."""
    import pandas as pd

    if len(polygons) and all(hasattr(polygon, "geom_type") for polygon in polygons):
        return _of_shapely(polygons, crs, pd.RangeIndex(len(polygons)))
    rings: list[np.ndarray] = []
    row: list[np.ndarray] = []
    hole: list[np.ndarray] = []
    for number, polygon in enumerate(polygons):
        if isinstance(polygon, str) and polygon not in named_regions():
            raise RegionError(f"polygon in row {number}: there is no region {polygon!r}")
        try:
            one = read_polygons(polygon, crs)
        except RegionError as error:
            raise RegionError(f"polygon in row {number}: {error}") from error
        rings += np.split(one.lonlat, one.first[1:-1])
        row.append(np.full(len(one.row), number))
        hole.append(one.hole)
    return _joined(rings, row, hole, pd.RangeIndex(len(polygons)))


def _joined(
    rings: list[np.ndarray], row: list[np.ndarray], hole: list[np.ndarray], index: Any
) -> Polygons:
    lonlat = np.concatenate(rings) if rings else np.empty((0, 2))
    first = np.cumsum([0, *map(len, rings)])
    rows = np.concatenate(row).astype(np.int64) if row else np.empty(0, np.int64)
    return Polygons(lonlat, first, rows, np.concatenate(hole) if hole else rows > 0, index)


def _of_parts(polygons: list[list[list[np.ndarray]]], index: Any) -> Polygons:
    """From polygons, each a list of parts, each an outer ring and its holes."""
    rings = [ring for parts in polygons for part in parts for ring in part]
    row = [np.full(sum(map(len, parts)), k) for k, parts in enumerate(polygons)]
    hole = [np.arange(len(part)) > 0 for parts in polygons for part in parts]
    return _joined(rings, row, hole, index)


def _parts_of_region(area: Region) -> list[list[np.ndarray]]:
    """A region's rings by role: a ring within an odd number of others is a hole."""
    outer: list[np.ndarray] = []
    holes: list[np.ndarray] = []
    for ring in area.rings:
        around = sum(bool(within(other, ring[:1])[0]) for other in area.rings if other is not ring)
        (holes if around % 2 else outer).append(ring)
    return [[outer[0], *holes], *([ring] for ring in outer[1:])]


def read_polygon_file(path: Path) -> Any:
    """GeoJSON as a mapping, any other file as a GeoDataFrame.

    Raises:
        RegionError: if it cannot be read.
        MissingExtraError: if it needs geopandas and that is not installed.
    """
    if path.suffix.lower() in _JSON:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RegionError(f"cannot read GeoJSON polygons from {path}: {error}") from error
    if not path.exists():
        raise RegionError(
            f"{path} is neither a file nor the name of a region; regions are "
            f"{', '.join(named_regions())}"
        )
    try:
        import geopandas
    except ImportError as error:
        raise MissingExtraError(
            f"{path.name} needs geopandas: pip install 'unigeo[geo]'; or give GeoJSON"
        ) from error
    read = geopandas.read_parquet if path.suffix.lower() in _PARQUET else geopandas.read_file
    try:
        return read(path)
    except Exception as error:  # each of its engines raises errors of its own
        raise RegionError(f"cannot read polygons from {path}: {error}") from error


def _of_geojson(document: Any) -> Polygons:
    """One row per feature, labelled by the features' ids if all have one."""
    import pandas as pd

    if document.get("type") != "FeatureCollection":
        return _of_parts([_parts_of_geojson(document, "the GeoJSON")], pd.RangeIndex(1))
    features = document.get("features", [])
    polygons = [_parts_of_geojson(part, f"polygon in row {k}") for k, part in enumerate(features)]
    labels = [part.get("id") for part in features]
    labelled = bool(labels) and all(label is not None for label in labels)
    return _of_parts(polygons, pd.Index(labels) if labelled else pd.RangeIndex(len(features)))


def _parts_of_geojson(document: Any, source: str) -> list[list[np.ndarray]]:
    parts = [list(part) for part in polygons_of_geojson(document, source) if part]
    if not parts:
        raise RegionError(f"{source} is empty; drop it first")
    return parts


def _of_shapely(geometries: Any, crs: Any, index: Any) -> Polygons:
    try:
        import shapely
    except ImportError as error:
        raise MissingExtraError(
            "these polygons need shapely: pip install 'unigeo[geo]'; or give GeoJSON"
        ) from error
    shapes: Any = np.asarray(geometries, dtype=object)
    _refuse(
        ~np.array([hasattr(shape, "geom_type") for shape in shapes], bool),
        index,
        lambda k: f"holds no shapely geometry but {shapes[k]!r}; drop it first",
    )
    kinds = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    _refuse(
        ~np.isin(shapely.get_type_id(shapes), kinds),
        index,
        lambda k: f"is a {shapes[k].geom_type}; give Polygon or MultiPolygon",
    )
    _refuse(shapely.is_empty(shapes), index, lambda k: "is empty; drop it first")
    finite = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    _refuse(~finite, index, lambda k: "has a coordinate that is NaN or infinite")
    _refuse(
        ~shapely.is_valid(shapes),
        index,
        lambda k: f"is not valid ({shapely.is_valid_reason(shapes[k])}); shapely.make_valid mends",
    )
    parts, row_of_part = shapely.get_parts(shapes, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    xy = shapely.get_coordinates(rings)
    first = np.cumsum([0, *shapely.get_num_coordinates(rings)])
    row = row_of_part[part_of_ring].astype(np.int64)
    hole = np.ones(len(rings), bool)
    hole[np.unique(part_of_ring, return_index=True)[1]] = False
    xy, first = _to_lonlat(xy, first, crs, row, index)
    beyond = np.maximum.reduceat(np.abs(xy[:, 1]), first[:-1]) > 90 if len(rings) else hole
    _refuse_rings(beyond, row, index, "has a latitude beyond 90 degrees; name its crs=")
    return Polygons(xy, first, row, hole, index)


def _refuse(bad: Bool[np.ndarray, " polygon"], index: Any, why: Any) -> None:
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        raise RegionError(
            f"{bad.sum()} of {len(bad)} polygons cannot be used; the first, in row {k} (label "
            f"{index[k]!r}), {why(k)}"
        )


def _refuse_rings(bad: Bool[np.ndarray, " ring"], row: np.ndarray, index: Any, why: str) -> None:
    polygon = np.zeros(len(index), bool)
    polygon[row[bad]] = True
    _refuse(polygon, index, lambda k: why)


def _to_lonlat(
    xy: Float[np.ndarray, "vertex 2"],
    first: Int[np.ndarray, " ring_end"],
    crs: Any,
    row: Int[np.ndarray, " ring"],
    index: Any,
) -> tuple[Float[np.ndarray, "point 2"], Int[np.ndarray, " ring_end"]]:
    """Edges straight in another CRS, as short ones in longitude and latitude."""
    if crs is None or not len(first[1:]):
        return xy, first
    from pyproj import CRS, Transformer
    from pyproj.exceptions import CRSError

    try:
        own = CRS.from_user_input(crs)
    except CRSError as error:
        raise RegionError(f"{crs!r} is not a CRS that PROJ knows: {error}") from error
    if own.equals(CRS("OGC:CRS84"), ignore_axis_order=True):
        return xy, first
    to_wgs84 = Transformer.from_crs(own, "OGC:CRS84", always_xy=True)
    ring = np.repeat(np.arange(len(row)), np.diff(first))
    rough = np.stack(to_wgs84.transform(*xy.T), axis=-1)
    lost = ~np.isfinite(rough).all(axis=1)
    bad = np.zeros(len(row), bool)
    bad[ring[lost]] = True
    _refuse_rings(bad, row, index, f"has a vertex with no place on the globe in {own.name}")
    edge = np.flatnonzero(ring[1:] == ring[:-1])
    pieces = pieces_per_edge(rough[edge], rough[edge + 1])
    points, of = refine(xy[edge], xy[edge + 1], pieces)
    lonlat = np.stack(to_wgs84.transform(*points.T), axis=-1)
    closed = []
    for number, part in enumerate(np.split(lonlat, np.flatnonzero(np.diff(ring[edge[of]])) + 1)):
        step = np.diff(np.append(part[:, 0], part[0, 0]))
        turns = np.cumsum(np.rint(step / 360.0))
        if turns[-1]:
            _refuse_rings(
                np.arange(len(row)) == number, row, index, "runs round a pole; cut it in two"
            )
        part[1:, 0] -= 360.0 * turns[:-1]
        closed.append(np.concatenate([part, part[:1]]))
    return np.concatenate(closed), np.cumsum([0, *map(len, closed)])
