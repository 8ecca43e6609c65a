"""Files and text of polygons: GeoJSON as a mapping, any other format as a GeoDataFrame."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import MissingExtraError, RegionError
from unigeo.schemas.geo.regions import named_regions
from unigeo.schemas.geo.us_outlines import KNOWN, similar_names, us_region
from unigeo.schemas.io.json_text import load_json

if TYPE_CHECKING:
    import pandas as pd

_PARQUET = (".parquet", ".geoparquet", ".pq")
_JSON = (".json", ".geojson")
_FOLDERS = (".gdb", *_PARQUET)
"""Endings of folders that are one data set."""
_SHOWN = 60
"""Characters of a name in a message."""


def read_polygon_file(path: str | Path) -> Any:
    """Read GeoJSON as a mapping, and any other file as a GeoDataFrame.

    Integer columns stay integers where values are missing.

    Raises:
        RegionError: if there is no such file, it cannot be read, or it holds no polygons.
        MissingExtraError: if the file needs geopandas and it is not installed.
    """
    path = _existing_path(path)
    if path.suffix.lower() in _JSON:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RegionError(f"cannot read GeoJSON polygons from {path}: {error}") from error
        return geojson_document(content, str(path))
    frame = read_feature_file(path)
    import geopandas

    if not isinstance(frame, geopandas.GeoDataFrame):
        raise RegionError(f"{path} holds no polygons")
    return frame


def read_feature_file(path: Path) -> Any:
    """Read a file of features as a GeoDataFrame; as a DataFrame if it has no geometry.

    Raises:
        RegionError: if it cannot be read.
        MissingExtraError: if geopandas is not installed.
    """
    try:
        import geopandas
    except ImportError as error:
        raise MissingExtraError(
            f"{path.name} needs geopandas: pip install 'unigeo[geo]'; or give GeoJSON"
        ) from error
    is_parquet = path.suffix.lower() in _PARQUET
    if path.suffix.lower() == ".shp":
        _check_shapefile(path)
    try:
        read = geopandas.read_parquet(path) if is_parquet else geopandas.read_file(path)
        return _with_integers(read, path, _parquet_columns if is_parquet else _vector_columns)
    except Exception as error:  # geopandas reads by several engines, each with errors of its own
        raise RegionError(f"cannot read {path}: {error}") from error


def _check_shapefile(path: Path) -> None:
    """Raise RegionError if a shapefile has lost its end: GDAL reads the lost shapes as empty.

    Source: "ESRI Shapefile Technical Description" (1998), the main file header.
    """
    try:
        with path.open("rb") as file:
            words = int.from_bytes(file.read(28)[24:28], "big")
        size = path.stat().st_size
    except OSError as error:
        raise RegionError(f"cannot read {path}: {error}") from error
    if size < 2 * words:
        raise RegionError(
            f"cannot read {path}: it is cut short, at {size:,} of {2 * words:,} bytes"
        )


def geojson_document(content: bytes | str, source: str) -> dict[str, Any]:
    """Parse the text of a GeoJSON object.

    Args:
        content: in any encoding of JSON.
        source: its name in errors.

    Raises:
        RegionError: if it is no JSON, or no object.
    """
    try:
        document = load_json(content)
    except ValueError as error:
        raise RegionError(f"cannot read GeoJSON polygons from {source}: {error}") from error
    if not isinstance(document, dict):
        raise RegionError(
            f"cannot read GeoJSON polygons from {source}: it is no object but a "
            f"{type(document).__name__}"
        )
    return document


def shortened(name: str) -> str:
    """Shorten a long name for a message."""
    return f"{name[:_SHOWN]}..." if len(name) > _SHOWN else name


def _existing_path(given: str | Path) -> Path:
    """Return the path of an existing file.

    Raises:
        RegionError: for an empty name, an address, a folder, or a file that does not exist.
    """
    name = str(given)
    shown = shortened(name)
    if not name.strip():
        raise RegionError(
            "the name of the region is empty: name a region or a file (was a variable left unset?)"
        )
    if "://" in name:
        raise RegionError(f"{shown!r} is an address: polygons are read from local files, get it")
    path = Path(given).expanduser()
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):  # longer than a name may be, or with a character no name has
        exists = is_folder = False
    if not exists and path.suffix.lower() in _JSON:
        raise RegionError(f"cannot read GeoJSON polygons from {shown}: there is no such file")
    if not exists:
        like = " or ".join(map(repr, similar_names(name)))
        others = [one for one in named_regions() if us_region(one) is None]
        raise RegionError(
            f"{shown} is neither a file nor the name of a region"
            + (f" (did you mean {like}?)" if like else "")
            + f"; regions are {KNOWN}, {', '.join(others)}"
            + ("; a box is four numbers; shapely.from_wkt reads WKT" if "," in name else "")
        )
    if is_folder and path.suffix.lower() not in _FOLDERS:
        raise RegionError(f"{shown!r} is a folder: name a file of polygons, or a region")
    return path


def _with_integers(
    frame: "pd.DataFrame", path: Path, read_columns: Callable[[Path, list[str]], Any]
) -> "pd.DataFrame":
    """Restore integer columns that pandas read as floats because values are missing.

    Args:
        frame: the table as it was read.
        path: of its file.
        read_columns: reads columns of the file as an Arrow table, which keeps their types.
    """
    import pandas as pd

    floats = [
        name
        for name, dtype in frame.dtypes.items()
        if isinstance(name, str) and dtype == "float64" and frame[name].isna().any()
    ]
    if not floats:
        return frame
    stored = read_columns(path, floats)
    for name in floats:
        column = stored.column(name)
        dtype = str(column.type).replace("uint", "UInt").replace("int", "Int")  # pandas' names
        if dtype.lstrip("U").startswith("Int"):
            frame[name] = pd.array(column.to_pylist(), dtype=dtype)
    return frame


def _parquet_columns(path: Path, columns: list[str]) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=columns)


def _vector_columns(path: Path, columns: list[str]) -> Any:
    import pyogrio

    return pyogrio.read_arrow(path, columns=columns, read_geometry=False)[1]
