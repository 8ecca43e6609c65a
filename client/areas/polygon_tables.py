"""Polygons of the command line, with the columns of their table or their properties."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unigeo.client.areas.polygons import read_polygons
from unigeo.client.shapes.polygon_rings import Polygons
from unigeo.schemas.errors import MissingExtraError, RegionError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.polygon_files import geojson_document
from unigeo.schemas.geo.region_forms import load_region
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.tables.table_files import PIPE

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Areas:
    """Polygons and their own columns."""

    own: "pd.DataFrame"
    """One row per polygon; with a geometry if it was requested and the form has one."""
    polygons: Polygons


def read_areas(
    region: Any,
    format: str | None = None,  # noqa: A002
    *,
    geometry: bool = False,
    crs: Any = None,
    grid: Grid | None = None,
) -> Areas:
    """Read polygons and their columns.

    Args:
        region: text that names a box, a region or a file, as `load_region` reads it; or `-` for
            polygons on standard input.
        format: format of standard input, `geojson` or `parquet`.
        geometry: keep the shapes in the table, to be written with the columns.
        crs: CRS of coordinates that do not carry one; WGS 84 by default.
        grid: as in `read_polygons`.

    Raises:
        RegionError: if they cannot be read.
        MissingExtraError: if they need geopandas and it is not installed.
    """
    import pandas as pd

    read = _read_pipe(format) if region == PIPE else load_region(region)
    polygons = read_polygons(read, crs, grid)
    if isinstance(read, Region):
        return Areas(pd.DataFrame({"region": [read.name]}), polygons)
    if isinstance(read, tuple):
        box = ",".join(f"{edge:.12g}" for edge in read)
        return Areas(pd.DataFrame({"region": [box]}), polygons)
    if isinstance(read, Mapping):
        return Areas(feature_columns(read, polygons if geometry else None), polygons)
    frame = _with_named_index(read)
    if not geometry:
        return Areas(pd.DataFrame(frame.drop(columns=frame.geometry.name)), polygons)
    if frame.crs is None and crs is not None:
        frame = frame.set_crs(polygons.crs or "OGC:CRS84")
    return Areas(frame, polygons)


def _read_pipe(format: str | None) -> Any:  # noqa: A002
    """Read GeoJSON or Parquet from standard input."""
    if format not in (None, "geojson", "parquet"):
        raise RegionError(f"polygons on standard input are geojson or parquet, not {format}")
    content = sys.stdin.buffer.read()
    if format != "parquet":
        return geojson_document(content, "standard input")
    try:
        import pyarrow

        # Not io.BytesIO: Arrow's threads must not hold a Python file when the process ends.
        return _geopandas().read_parquet(pyarrow.BufferReader(content))
    except (ValueError, OSError) as error:
        raise RegionError(f"cannot read polygons from standard input: {error}") from error


def _with_named_index(frame: Any) -> Any:
    """Turn named levels of the index into columns, and number the rows."""
    levels = [name for name in frame.index.names if name is not None and name not in frame]
    with_columns = frame.reset_index(level=levels) if levels else frame
    return with_columns.reset_index(drop=True)


def feature_columns(document: Mapping[str, Any], polygons: Polygons | None = None) -> Any:
    """Return the properties and ids of GeoJSON features; with shapes if polygons are given."""
    import pandas as pd

    is_collection = document.get("type") == "FeatureCollection"
    features = document["features"] if is_collection else [document]
    properties = [feature.get("properties") or {} for feature in features]
    if not all(isinstance(one, Mapping) for one in properties):
        raise RegionError("not valid GeoJSON: the properties of a feature are no object")
    names = dict.fromkeys(name for one in properties for name in one)
    columns = {name: [one.get(name) for one in properties] for name in names}
    if any("id" in feature for feature in features):
        id_name = _unused("id", names)
        columns = {id_name: [feature.get("id") for feature in features]} | columns
    table = pd.DataFrame(
        {name: _column(values, nested=polygons is not None) for name, values in columns.items()},
        index=range(len(features)),
    )
    if polygons is None:
        return table
    shapes = [f["geometry"] if f.get("type") == "Feature" else f for f in features]
    collection = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    crs = polygons.crs or "OGC:CRS84"
    frame = _geopandas().GeoDataFrame.from_features(collection, crs=crs, columns=["geometry"])
    geometry = _unused("geometry", table)
    table = table.assign(**{geometry: frame.geometry.values})
    return _geopandas().GeoDataFrame(table, geometry=geometry)


def _unused(name: str, columns: Any) -> str:
    """Append underscores to a name until no column has it."""
    while name in columns:
        name += "_"
    return name


def _column(values: list[Any], *, nested: bool) -> Any:
    """Return a column of JSON values in which integers stay integers if some are missing.

    Args:
        values: parsed from JSON.
        nested: keep lists and objects; otherwise they become JSON text.
    """
    import pandas as pd

    types = {type(value) for value in values if value is not None}
    if types & {dict, list} and not nested:
        return [json.dumps(v) if isinstance(v, dict | list) else v for v in values]
    if types == {int} and all(-(2**63) <= v < 2**63 for v in values if v is not None):
        return pd.array(values, dtype="int64" if None not in values else "Int64")
    if types <= {float}:
        return pd.array(values, dtype="float64")
    return values if types == {str} else pd.Series(values, dtype=object).array


def _geopandas() -> Any:
    try:
        import geopandas
    except ImportError as error:
        raise MissingExtraError(
            "polygons in Parquet, and writing them, need geopandas: pip install 'unigeo[geo]'"
        ) from error
    return geopandas
