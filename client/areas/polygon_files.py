"""Files of polygons, with the columns that they hold."""

import json
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import MissingExtraError, RegionError
from unigeo.schemas.geo.regions import named_regions

if TYPE_CHECKING:
    import pandas as pd

_PARQUET = (".parquet", ".geoparquet", ".pq")
_JSON = (".json", ".geojson")
_FOLDERS = (".gdb", *_PARQUET)
"""Endings of folders that are one data set."""
_SHOWN = 60


def read_polygon_file(path: str | Path) -> Any:
    """Read GeoJSON as a mapping, any other file as a GeoDataFrame.

    Whole numbers of which some are missing stay whole numbers.

    Raises:
        RegionError: if there is no such file, or it cannot be read, or holds no polygons.
        MissingExtraError: if it needs geopandas and that is not installed.
    """
    path = _existing(path)
    if path.suffix.lower() in _JSON:
        return _read_json(path)
    try:
        import geopandas
    except ImportError as error:
        raise MissingExtraError(
            f"{path.name} needs geopandas: pip install 'unigeo[geo]'; or give GeoJSON"
        ) from error
    parquet = path.suffix.lower() in _PARQUET
    try:
        read = geopandas.read_parquet(path) if parquet else geopandas.read_file(path)
        frame = _with_whole_numbers(read, path, _parquet_types if parquet else _vector_types)
    except Exception as error:  # each of its engines raises errors of its own
        raise RegionError(f"cannot read polygons from {path}: {error}") from error
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise RegionError(f"{path} holds no polygons")
    return frame


def _existing(given: str | Path) -> Path:
    """The path of a file that is there.

    Raises:
        RegionError: for an empty name, text that is no path, a folder, or what is not there.
    """
    name = str(given)
    shown = f"{name[:_SHOWN]}..." if len(name) > _SHOWN else name
    if not name.strip():
        raise RegionError(
            "the name of the region is empty: name a region or a file (was a variable left unset?)"
        )
    if name.lstrip()[0] in "{[":
        raise RegionError(
            f"{shown!r} is text of GeoJSON, not the name of a file: give json.loads(text)"
        )
    if "://" in name:
        raise RegionError(f"{shown!r} is an address: polygons are read from local files, get it")
    path = Path(given)
    try:
        there, folder = path.exists(), path.is_dir()
    except (OSError, ValueError):  # too long for a name, or with a character that none has
        there = folder = False
    if not there and path.suffix.lower() in _JSON:
        raise RegionError(f"cannot read GeoJSON polygons from {shown}: there is no such file")
    if not there:
        known = named_regions()
        like = get_close_matches(name.strip().lower(), known, 1)
        raise RegionError(
            f"{shown} is neither a file nor the name of a region"
            + (f" (did you mean {like[0]!r}?)" if like else "")
            + f"; regions are {', '.join(known)}"
            + ("; a box is four numbers; shapely.from_wkt reads WKT" if "," in name else "")
        )
    if folder and path.suffix.lower() not in _FOLDERS:
        raise RegionError(f"{shown!r} is a folder: name a file of polygons, or a region")
    return path


def _read_json(path: Path) -> Any:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RegionError(f"cannot read GeoJSON polygons from {path}: {error}") from error
    if not isinstance(document, dict):
        raise RegionError(
            f"cannot read GeoJSON polygons from {path}: it is no object but a "
            f"{type(document).__name__}"
        )
    return document


def _with_whole_numbers(
    frame: "pd.DataFrame", path: Path, types: Callable[[Path, list[str]], Any]
) -> "pd.DataFrame":
    """The frame with the integers that pandas read as floats, since some are missing.

    Args:
        frame: as it was read.
        path: of its file.
        types: gives columns of the file as an Arrow table.
    """
    import pandas as pd

    floats = [
        name
        for name, dtype in frame.dtypes.items()
        if isinstance(name, str) and dtype == "float64" and frame[name].isna().any()
    ]
    if not floats:
        return frame
    stored = types(path, floats)
    for name in floats:
        column = stored.column(name)
        kind = str(column.type).replace("uint", "UInt").replace("int", "Int")
        if kind.lstrip("U").startswith("Int"):
            frame[name] = pd.array(column.to_pylist(), dtype=kind)
    return frame


def _parquet_types(path: Path, columns: list[str]) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=columns)


def _vector_types(path: Path, columns: list[str]) -> Any:
    import pyogrio

    return pyogrio.read_arrow(path, columns=columns, read_geometry=False)[1]
