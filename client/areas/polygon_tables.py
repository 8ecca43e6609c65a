"""Polygons on the command line, with the columns that came with them."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unigeo.client.areas.polygon_rings import Polygons
from unigeo.client.areas.polygons import read_polygons
from unigeo.schemas.errors import MissingExtraError, RegionError
from unigeo.schemas.geo.polygon_files import geojson_document
from unigeo.schemas.geo.region_forms import load_region
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.tables.table_files import PIPE

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Areas:
    """Polygons and what is known of them."""

    own: "pd.DataFrame"
    """One row per polygon; with geometry if that was asked for and is there."""
    polygons: Polygons


def read_areas(
    region: Any,
    format: str | None = None,  # noqa: A002
    *,
    geometry: bool = False,
    crs: Any = None,
) -> Areas:
    """Read polygons and their columns.

    Args:
        region: a box, the name of a region, a file that `read_polygons` reads, or `-`: GeoJSON on
            standard input.
        format: `geojson` or `parquet`, of standard input.
        geometry: keep the shapes beside the columns, to be written with them.
        crs: of the numbers, where they do not carry one; WGS 84 by default.

    Raises:
        RegionError: if they cannot be read.
        MissingExtraError: if they need geopandas and it is not installed.
    """
    import pandas as pd

    read = _read_pipe(format) if region == PIPE else load_region(region)
    polygons = read_polygons(read, crs)
    if isinstance(read, Region):
        return Areas(pd.DataFrame({"region": [read.name]}), polygons)
    if isinstance(read, tuple):
        box = ",".join(f"{edge:.12g}" for edge in read)
        return Areas(pd.DataFrame({"region": [box]}), polygons)
    if isinstance(read, Mapping):
        return Areas(_of_features(read, polygons if geometry else None), polygons)
    own = _with_named_index(read)
    if not geometry:
        return Areas(pd.DataFrame(own.drop(columns=own.geometry.name)), polygons)
    if own.crs is None and crs is not None:
        own = own.set_crs(polygons.crs or "OGC:CRS84")
    return Areas(own, polygons)


def _read_pipe(format: str | None) -> Any:  # noqa: A002
    if format not in (None, "geojson", "parquet"):
        raise RegionError(f"polygons on standard input are geojson or parquet, not {format}")
    content = sys.stdin.buffer.read()
    if format != "parquet":
        return geojson_document(content, "standard input")
    try:
        import pyarrow  # its threads must not hold a Python object when the process ends

        return _geopandas().read_parquet(pyarrow.BufferReader(content))
    except (ValueError, OSError) as error:
        raise RegionError(f"cannot read polygons from standard input: {error}") from error


def _with_named_index(frame: Any) -> Any:
    """The frame with the levels of its index that have a name as columns; rows are numbered."""
    free = [name for name in frame.index.names if name is not None and name not in frame]
    kept = frame.reset_index(level=free) if free else frame
    return kept.reset_index(drop=True)


def _of_features(document: Mapping[str, Any], polygons: Polygons | None) -> Any:
    """The properties of GeoJSON features, and their ids; their shapes where polygons are given."""
    import pandas as pd

    whole = document.get("type") == "FeatureCollection"
    features = document["features"] if whole else [document]
    properties = [feature.get("properties") or {} for feature in features]
    if not all(isinstance(one, Mapping) for one in properties):
        raise RegionError("not valid GeoJSON: the properties of a feature are no object")
    names = dict.fromkeys(name for one in properties for name in one)
    columns = {name: [one.get(name) for one in properties] for name in names}
    if any("id" in feature for feature in features):
        free = "id"
        while free in names:
            free += "_"
        columns = {free: [feature.get("id") for feature in features]} | columns
    own = pd.DataFrame(
        {name: _column(values, nested=polygons is not None) for name, values in columns.items()},
        index=range(len(features)),
    )
    if polygons is None:
        return own
    shapes = [f["geometry"] if f.get("type") == "Feature" else f for f in features]
    collection = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    crs = polygons.crs or "OGC:CRS84"
    frame = _geopandas().GeoDataFrame.from_features(collection, crs=crs, columns=["geometry"])
    free = "geometry"
    while free in own:
        free += "_"
    return _geopandas().GeoDataFrame(own.assign(**{free: frame.geometry.values}), geometry=free)


def _column(values: list[Any], *, nested: bool) -> Any:
    """A column whose values stay as they are: whole numbers whole, though some are missing.

    Args:
        values: of JSON.
        nested: keep lists and objects, which are text of JSON otherwise.
    """
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if kinds & {dict, list} and not nested:
        return [json.dumps(v) if isinstance(v, dict | list) else v for v in values]
    if kinds == {int} and all(-(2**63) <= v < 2**63 for v in values if v is not None):
        return pd.array(values, dtype="int64" if None not in values else "Int64")
    if kinds <= {float}:
        return pd.array(values, dtype="float64")
    return values if kinds == {str} else pd.Series(values, dtype=object).array


def _geopandas() -> Any:
    try:
        import geopandas
    except ImportError as error:
        raise MissingExtraError(
            "polygons in Parquet, and writing them, need geopandas: pip install 'unigeo[geo]'"
        ) from error
    return geopandas
