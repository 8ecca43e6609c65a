"""Polygons on the command line, with the columns that came with them."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unigeo.client.areas.polygon_files import read_polygon_file
from unigeo.schemas.errors import MissingExtraError, RegionError
from unigeo.schemas.regions import named_regions
from unigeo.schemas.tables import PIPE

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Areas:
    """Polygons and what is known of them."""

    own: "pd.DataFrame"
    """One row per polygon; with geometry if that was asked for and is there."""
    polygons: Any
    """As `Field.zonal` takes them."""


def read_areas(region: Any, format: str | None = None, *, geometry: bool = False) -> Areas:  # noqa: A002
    """Read polygons and their columns.

    Args:
        region: a box, the name of a region, a file that `read_polygons` reads, or `-`: GeoJSON on
            standard input.
        format: `geojson` or `parquet`, of standard input.
        geometry: keep the shapes beside the columns, to be written with them.

    Raises:
        RegionError: if they cannot be read.
        MissingExtraError: if they need geopandas and it is not installed.
    """
    import pandas as pd

    if isinstance(region, tuple):
        return Areas(pd.DataFrame({"region": [",".join(f"{edge:g}" for edge in region)]}), region)
    if region in named_regions():
        return Areas(pd.DataFrame({"region": [region]}), region)
    read = _read_pipe(format) if region == PIPE else read_polygon_file(Path(region))
    if isinstance(read, dict):
        return Areas(_of_features(read, geometry), read)
    if not hasattr(read, "geometry"):
        raise RegionError(f"{region} holds no polygons")
    own = read.reset_index(drop=True)
    return Areas(own if geometry else pd.DataFrame(own.drop(columns=own.geometry.name)), read)


def _read_pipe(format: str | None) -> Any:  # noqa: A002
    if format not in (None, "geojson", "parquet"):
        raise RegionError(f"polygons on standard input are geojson or parquet, not {format}")
    content = sys.stdin.buffer.read()
    try:
        if format != "parquet":
            return json.loads(content)
        import pyarrow  # its threads must not hold a Python object when the process ends

        return _geopandas().read_parquet(pyarrow.BufferReader(content))
    except (ValueError, OSError) as error:
        raise RegionError(f"cannot read polygons from standard input: {error}") from error


def _of_features(document: dict[str, Any], geometry: bool) -> Any:
    """The properties of GeoJSON features, and their ids."""
    import pandas as pd

    whole = document.get("type") == "FeatureCollection"
    features = document.get("features", []) if whole else [document]
    rows = [
        ({"id": feature["id"]} if "id" in feature else {}) | (feature.get("properties") or {})
        for feature in features
    ]
    own = pd.DataFrame(rows, index=range(len(rows)))
    if not geometry:
        return own
    shapes = [f["geometry"] if f.get("type") == "Feature" else f for f in features]
    collection = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    frame = _geopandas().GeoDataFrame.from_features(collection, crs="OGC:CRS84")
    return frame.join(own)[[*own.columns, "geometry"]]


def _geopandas() -> Any:
    try:
        import geopandas
    except ImportError as error:
        raise MissingExtraError(
            "polygons in Parquet, and writing them, need geopandas: pip install 'unigeo[geo]'"
        ) from error
    return geopandas
