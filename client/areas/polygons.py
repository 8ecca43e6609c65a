"""Reads polygons, in every form in which users have them, as rings of longitude and latitude.

Accepted: the name of a region; a bounding box, as four numbers (west, south, east, north) or as
their text; GeoJSON as a mapping, as text or in a file; a path to GeoParquet or another file that
geopandas reads; a GeoDataFrame or GeoSeries; a DataFrame or Series of shapely geometries; one
shapely geometry, or any object with `__geo_interface__`; the coordinates (n, 2) of one ring; a list
of any of these, one polygon each. GeoJSON, boxes, rings and names need neither shapely nor
geopandas. All forms are checked in the same way.

Coordinates are WGS 84 degrees, unless the object carries another CRS (GeoJSON by its member `crs`)
or one is named. A row of a table, list or collection may have no shape, or an empty one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unigeo.client.areas.shapely_polygons import (
    are_shapely,
    is_missing,
    is_shapely,
    polygons_from_shapely,
)
from unigeo.client.shapes.polygon_rings import (
    Polygons,
    checked_polygons,
    refuse,
    row_name,
)
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.bounds import grid_bounds
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.region_forms import box_of_numbers, is_number, load_region
from unigeo.schemas.geo.regions import Region, named_regions, region_of_bbox
from unigeo.schemas.geo.ring_degrees import chosen_crs
from unigeo.schemas.geo.rings import Ring, crs_of_geojson, geometries_of, in_ring, parts_of_geometry
from unigeo.schemas.geo.us_outlines import us_region
from unigeo.schemas.tables.object_types import kind_of

_FORMS = (
    "give a GeoDataFrame, GeoJSON, a path, shapely geometries, a box (west, south, east, north) or "
    "the name of a region"
)


def read_polygons(polygons: Any, crs: Any = None, grid: Grid | None = None) -> Polygons:
    """Read polygons in any accepted form.

    Args:
        polygons: see the module's docstring.
        crs: CRS of coordinates that do not carry one; WGS 84 degrees by default.
        grid: grid of the field; a box whose west exceeds its east is refused unless the field
            reaches the antimeridian.

    Raises:
        RegionError: naming the first row that is no polygon, not finite, not valid, or not on the
            globe.
        MissingExtraError: if a form needs shapely or geopandas and it is not installed.

    >>> read_polygons((177.0, -20.0, -178.0, -15.0)).lonlat[:, 0].tolist()
    [177.0, 182.0, 182.0, 177.0, 177.0]
    """
    import pandas as pd

    if isinstance(polygons, Polygons):
        return polygons
    polygons = load_region(polygons)
    if grid is not None and chosen_crs(None, crs) is None:
        _check_boxes(polygons, grid)
    if isinstance(polygons, Region):
        parts = _parts_of_region(polygons)
        return checked_polygons([parts], pd.Index([polygons.name]), None, valid=True)
    if kind_of(polygons) is not None:
        return _from_table(polygons, crs)
    if is_shapely(polygons):
        return polygons_from_shapely([polygons], chosen_crs(None, crs), pd.RangeIndex(1))
    if isinstance(polygons, Mapping):
        return _from_geojson(polygons, crs)
    if isinstance(getattr(polygons, "__geo_interface__", None), Mapping):
        return _from_geojson(polygons.__geo_interface__, crs)
    if not isinstance(polygons, Sequence | np.ndarray) or isinstance(polygons, bytes):
        raise RegionError(f"cannot read polygons from a {type(polygons).__name__}: {_FORMS}")
    if np.ma.is_masked(polygons) or (isinstance(polygons, np.ndarray) and polygons.ndim == 0):
        raise RegionError(f"cannot read polygons from a masked array, or one number: {_FORMS}")
    rings = _parts_of_numbers(polygons, crs)
    if rings is not None:
        return checked_polygons([rings], pd.RangeIndex(1), chosen_crs(None, crs))
    return _from_list(polygons, crs, pd.RangeIndex(len(polygons)))


def _check_boxes(polygons: Any, grid: Grid) -> None:
    """Refuse boxes with west and east exchanged, unless they cross the antimeridian in the field.

    Raises:
        RegionError: naming the first such box.
    """
    if isinstance(polygons, str | bytes | Mapping) or not isinstance(
        polygons, Sequence | np.ndarray
    ):
        return
    alone = box_of_numbers(polygons)
    boxes = [alone] if alone is not None else map(_box_or_none, polygons)
    exchanged = next((box for box in boxes if box is not None and box[0] > box[2]), None)
    if exchanged is None:
        return
    west, _, east, _ = grid_bounds(grid)
    if not (west > east or east - west == 360):
        raise RegionError(
            f"the bounding box {exchanged} has its west, {exchanged[0]:g}, east of its east, "
            f"{exchanged[2]:g}, and the field does not reach the antimeridian: exchange the two"
        )


def _box_or_none(item: Any) -> tuple[float, float, float, float] | None:
    is_box = isinstance(item, Sequence | np.ndarray) and not isinstance(item, str | bytes)
    return box_of_numbers(item) if is_box and len(item) == 4 else None


def read_region_polygons(region: Any, crs: Any = None, grid: Grid | None = None) -> Polygons:
    """Read the polygons of a region: at least one, each with a shape.

    Args:
        region: in any form that `read_polygons` takes.
        crs: as in `read_polygons`.
        grid: as in `read_polygons`.

    Raises:
        RegionError: as `read_polygons`; or if there is none, or one without a shape.
    """
    polygons = read_polygons(region, crs, grid)
    if not len(polygons):
        raise RegionError("no polygon was given; name a box, a region or a geometry")
    refuse(
        polygons.missing, polygons.index, lambda k: "has no shape, or an empty one; drop it first"
    )
    return polygons


def _parts_of_numbers(value: Any, crs: Any) -> list[list[Ring]] | None:
    """Return the parts of a box or of one ring; None if the value is not made of numbers.

    Raises:
        RegionError: if the numbers are neither a box nor a ring.
    """
    box = box_of_numbers(value)
    if box is not None:
        return _box(box, crs)
    pairs = len(value) and all(
        isinstance(pair, Sequence | np.ndarray) and len(pair) == 2 and all(map(is_number, pair))
        for pair in value
    )
    if pairs:
        ring = {"type": "Polygon", "coordinates": [value]}
        return parts_of_geometry(ring, "the ring of coordinates")
    return None


def _box(edges: tuple[float, float, float, float], crs: Any) -> list[list[Ring]]:
    """Return a box's ring; in another CRS than WGS 84 its edges are straight in that CRS."""
    west, south, east, north = edges
    if chosen_crs(None, crs) is None:
        return [list(region_of_bbox(edges).rings)]
    if not np.isfinite(edges).all() or west >= east or south >= north:
        raise RegionError(
            f"the bounding box {edges} must be west, south, east, north in {crs!s:.60}, "
            "with west < east and south < north"
        )
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    return [[np.array(corners)]]


def _parts_of_region(area: Region) -> list[list[Ring]]:
    """Return a region's rings as parts: a ring within an odd number of others is a hole."""
    outer: list[np.ndarray] = []
    holes: list[np.ndarray] = []
    bounds = np.array([[*ring.min(axis=0), *ring.max(axis=0)] for ring in area.rings])
    for number, ring in enumerate(area.rings):
        x, y = ring[0]
        # Few rings can hold the vertex, which saves most tests in a region of many islands.
        west, south, east, north = bounds.T
        near = np.flatnonzero((west <= x) & (x <= east) & (south <= y) & (y <= north))
        around = sum(bool(in_ring(area.rings[k], ring[:1])[0]) for k in near if k != number)
        (holes if around % 2 else outer).append(ring)
    # `Polygons` knows only whether a ring is a hole, so any part may take the holes.
    return [[outer[0], *holes], *([ring] for ring in outer[1:])]


def _from_table(table: Any, crs: Any) -> Polygons:
    """Read one polygon per row of a table with a geometry column, or of such a column."""
    kind = kind_of(table)
    if kind in ("pandas", "geodataframe"):
        table = _geometry_column(table, kind)
        kind = kind_of(table)
    if kind not in ("series", "geoseries", "geometries"):
        raise RegionError(f"cannot read polygons from a {type(table).__name__}: {_FORMS}")
    import pandas as pd

    index = pd.RangeIndex(len(table)) if kind == "geometries" else table.index
    own_crs = None if kind == "series" else table.crs
    values = np.asarray(table, dtype=object)
    if kind != "series" or are_shapely(values):
        return polygons_from_shapely(values, chosen_crs(own_crs, crs), index)
    return _from_list(values, crs, index)


def _geometry_column(table: Any, kind: str) -> Any:
    """Return the active geometry of a GeoDataFrame, or the column `geometry` of another table."""
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


def _from_list(polygons: Any, crs: Any, index: Any) -> Polygons:
    """Read one polygon per item, each in any form.

    Items whose parts can be read as they are written are checked together, which is faster.
    """
    if are_shapely(polygons):
        return polygons_from_shapely(polygons, chosen_crs(None, crs), index)
    parts_of_rows: list[list[list[Ring]]] = []
    read_alone: dict[int, Polygons] = {}
    for number, (item, label) in enumerate(zip(polygons, index.tolist(), strict=True)):
        name = f"polygon in {row_name(number, label)}"
        try:
            parts = _raw_parts(item, crs, name)
            if parts is None:
                read_alone[number] = _single(read_polygons(item, crs))
        except RegionError as error:
            has_name = str(error).startswith(name)
            raise error if has_name else RegionError(f"{name}: {error}") from error
        parts_of_rows.append(parts or [])
    together = checked_polygons(parts_of_rows, index, chosen_crs(None, crs))
    return _merge(together, read_alone)


def _raw_parts(item: Any, crs: Any, name: str) -> list[list[Ring]] | None:
    """Return the parts of one item as they are written; None if it must be read by itself."""
    if is_missing(item):
        return []
    if isinstance(item, bytes) or (isinstance(item, str) and not _is_name(item)):
        raise RegionError(
            f"{name}: there is no region {item!r:.60}; geometries as text or bytes are read by "
            "shapely.from_wkt, shapely.from_wkb or json.loads"
        )
    if is_shapely(item):
        item = item.__geo_interface__
    if isinstance(item, Mapping) and item.get("type") != "FeatureCollection":
        if crs_of_geojson(item, name) is None:
            (geometry,) = geometries_of(item, name)
            return parts_of_geometry(geometry, name)
        return None
    if isinstance(item, Sequence | np.ndarray) and not isinstance(item, str | bytes):
        parts = _parts_of_numbers(item, crs)
        if parts is None:
            raise RegionError(f"cannot read one polygon from a {type(item).__name__}: {_FORMS}")
        return parts
    return None


def _is_name(text: str) -> bool:
    """Return whether a text in a list names a region."""
    return text in named_regions() or us_region(text) is not None


def _single(polygons: Polygons) -> Polygons:
    if len(polygons) != 1:
        raise RegionError(f"holds {len(polygons)} polygons; a list has one in each row")
    return polygons


def _merge(together: Polygons, read_alone: dict[int, Polygons]) -> Polygons:
    """Insert the rings of polygons that were read by themselves into their rows."""
    if not read_alone:
        return together
    rings = np.split(together.lonlat, together.first[1:-1]) if len(together.row) else []
    row, hole = [together.row], [together.hole]
    for number, one in read_alone.items():
        rings += np.split(one.lonlat, one.first[1:-1]) if len(one.row) else []
        row.append(np.full(len(one.row), number))
        hole.append(one.hole)
    rows = np.concatenate(row)
    order = np.argsort(rows, kind="stable")  # rings of a row stay in their order
    rings = [rings[k] for k in order]
    first = np.cumsum([0, *map(len, rings)])
    lonlat = np.concatenate(rings) if rings else np.empty((0, 2))
    holes = np.concatenate(hole)[order]
    return Polygons(lonlat, first, rows[order], holes, together.index, together.crs)


def _from_geojson(document: Mapping[str, Any], crs: Any) -> Polygons:
    """Read one polygon per feature, labelled by the features' ids if all have one."""
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
    return checked_polygons(parts, index, crs)
