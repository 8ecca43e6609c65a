"""Tables read from and written to files and pipes: text, JSON, Parquet, Arrow, Excel, features.

The format follows from the ending of a file's name; on a pipe, `-`, it is CSV unless another is
named.
"""

import os
import sys
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from unigeo.schemas.errors import (
    MissingExtraError,
    PointsError,
    PointsWarning,
    RegionError,
    StoreError,
)
from unigeo.schemas.io.addresses import check_destination
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from unigeo.schemas.tables.feature_tables import FeatureTable

Format = Literal[
    "csv", "jsonl", "parquet", "geojson", "arrow", "xlsx", "stata", "gpkg", "fgb", "vector"
]
ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".parquet": "parquet",
    ".geoparquet": "parquet",
    ".geojson": "geojson",
    ".json": "geojson",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".tsv": "csv",
    ".tsv.gz": "csv",
    ".tab": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".geojsonl": "jsonl",
    ".geojsons": "jsonl",
    ".geojsonseq": "jsonl",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".dta": "stata",
    ".gpkg": "gpkg",
    ".fgb": "fgb",
    ".shp": "vector",
    ".shp.zip": "vector",
    ".zip": "vector",
    ".kml": "vector",
    ".gml": "vector",
    ".gdb": "vector",
    ".gpx": "vector",
}
TABBED = (".tsv", ".tsv.gz", ".tab")
"""Endings of text whose fields are separated by tabs when it is written."""
_INSTEAD: dict[str, str] = {
    ".xls": "save it as .xlsx",
    ".ods": "save it as .xlsx",
    ".sav": "export it as .dta or CSV",
    ".rds": "write it as Parquet or CSV",
    ".rdata": "write it as Parquet or CSV",
    ".nc": "open it by xarray.open_dataset, and pass that",
    ".zarr": "open it by xarray.open_zarr, and pass that",
    ".pkl": "pickles are never read, since they may run code; write Parquet",
    ".pickle": "pickles are never read, since they may run code; write Parquet",
}
"""What to do with files that are not read, by their ending."""
PIPE = "-"
"""Name of standard input and output."""

_ROOT = Path(__file__).parents[2]
_OWN_FILES = (str(_ROOT / "client"), str(_ROOT / "schemas"))
"""Folders whose lines a warning skips to show the user's line."""
FAILURES = (OSError, EOFError, zlib.error, ValueError, TypeError, NotImplementedError)
"""Errors of pandas, geopandas, Arrow and gzip for a table or a file that they cannot handle."""


def read_table(
    path: str,
    format: str | None = None,  # noqa: A002
    columns: CoordinateColumns | None = None,
) -> "pd.DataFrame":
    """Read a table from a file, or from standard input, to compute with it.

    Fields of a text table become numbers as `text_values.parse_values` describes. A table whose
    rows are written again unchanged is opened with `read_parts` instead.

    Args:
        path: name of the file, or `-`.
        format: one of `Format`, if the name has no such ending. `csv` is any text table: its
            separator and encoding are detected. `vector` is any file that GDAL reads.
        columns: names of the coordinate columns of a text table, if not usual.

    Returns:
        A DataFrame; a GeoDataFrame from files of features, from GeoParquet and from Arrow with its
        metadata. GeoJSON points become columns `lon` and `lat` beside their properties.

    Raises:
        PointsError: if the table cannot be read, or its format is unknown.
    """
    path = path if path == PIPE or "://" in path else str(Path(path).expanduser())
    try:
        kind = format_of(path, format, "read")
    except StoreError as error:
        raise PointsError(str(error)) from error
    where = "standard input" if path == PIPE else path
    try:
        source = BytesIO(sys.stdin.buffer.read()) if path == PIPE else path
        table: pd.DataFrame
        table = _read_csv(source, columns) if kind == "csv" else _READERS[kind](source)
        return table
    except RegionError as error:  # of files of features, which may hold polygons as well
        raise PointsError(f"cannot read the table {where} as {kind}: {error}") from error
    except FAILURES as error:
        if isinstance(error, PointsError | MissingExtraError):
            raise
        raise PointsError(f"cannot read the table {where} as {kind}: {error}") from error


def is_table_name(path: str) -> bool:
    """Return whether a path ends as a table does, GeoJSON excepted: points are read from both."""
    if Path(path).suffix.lower() in _INSTEAD:
        return True
    ending = next((one for one in ENDINGS if path.lower().endswith(one)), None)
    if ending == ".json" and Path(path).is_file():
        with Path(path).open("rb") as file:
            return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["
    return ending is not None and ENDINGS[ending] != "geojson"


def loaded_table(table: Any, columns: CoordinateColumns | None = None) -> Any:
    """Read a table if it is the path of a file; other objects are returned as they are.

    Args:
        table: the table, or its path.
        columns: names of the coordinate columns of a text table, if not usual.

    Raises:
        PointsError: as `read_table`.
    """
    return read_table(str(table), columns=columns) if isinstance(table, str | Path) else table


def write_table(
    table: "pd.DataFrame",
    path: str | None,
    format: str | None = None,  # noqa: A002
) -> None:
    """Write a table to a file, which is complete or absent, or to standard output.

    Geometry is written to Parquet and Arrow as in GeoParquet, to GeoPackage and FlatGeobuf in its
    CRS, and to GeoJSON in WGS 84. In CSV, JSON lines, Excel and Stata, points become columns `lon`
    and `lat` in WGS 84; if there are such columns already, or other shapes, the geometry is WKT in
    WGS 84 under its own name. Further geometry columns are WKT in these and GeoJSON, with their CRS
    in a column `<name>_crs`.

    Args:
        table: a DataFrame or a GeoDataFrame; its index is not written.
        path: name of the file; None or `-` for standard output.
        format: as in `read_table`.

    Raises:
        StoreError: if it cannot be written, or its format is unknown; nothing is left behind.
    """
    from unigeo.schemas.tables.part_writers import write_parts

    try:
        with write_parts(path, format) as write:
            write(table)
    except BrokenPipeError:  # the reader, such as `head`, has ended
        # Python flushes standard output once more at its exit, and would report the error there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check_writable(path: str | None, format: str | None = None) -> None:  # noqa: A002
    """Refuse an output that cannot be written, before any work is done for it.

    Raises:
        StoreError: if the format is unknown, the folder is not there or cannot be written to, or
            the name is taken by something that is no file.
    """
    path = PIPE if path is None else path
    format_of(path, format, "write")
    if path == PIPE:
        return
    target = Path(path)
    check_destination(target, path)
    if target.exists() and not target.is_file():
        raise StoreError(f"cannot write {path}: it is no file; use - for standard output")


def format_of(path: str, named: str | None, verb: Literal["read", "write"]) -> Format:
    """Return the format that is named, or that the path ends in.

    Raises:
        StoreError: if it is unknown, or the path is the address of a server.
    """
    if "://" in path:
        raise StoreError(f"cannot {verb} {path}: a table is a file, or - for a pipe")
    if named is not None:
        for known in get_args(Format):
            if named == known:
                _check_direction(path, known, verb)
                return known  # type: ignore[no-any-return]
        raise StoreError(
            f"cannot {verb} {path}: no format {named!r}; there are {', '.join(get_args(Format))}"
        )
    if path == PIPE:
        return "csv"
    for ending, kind in ENDINGS.items():
        if path.lower().endswith(ending):
            _check_direction(path, kind, verb)
            return kind
    instead = _INSTEAD.get(Path(path).suffix.lower()) if verb == "read" else None
    if instead is not None:
        raise StoreError(f"cannot read {path}: {instead}")
    raise StoreError(
        f"cannot {verb} {path}: a table ends in one of {', '.join(ENDINGS)}; or name its format"
    )


def _check_direction(path: str, kind: Format, verb: str) -> None:
    if kind == "vector" and verb == "write":
        raise StoreError(
            f"cannot write {path}: its format cuts names and types short; write GeoPackage (.gpkg)"
        )


def read_arrow_file(source: Any) -> "pa.Table":
    """Read all of an Arrow file, a Feather file or an Arrow stream.

    Raises:
        ValueError, OSError: of pyarrow.
        MissingExtraError: if pyarrow is not installed.
    """
    check_pyarrow()
    import pyarrow as pa
    from pyarrow import feather

    try:
        # If the file is truncated while it is mapped into memory, the process is killed.
        return feather.read_table(source, memory_map=False)
    except pa.ArrowInvalid as error:
        try:
            with pa.OSFile(source) if isinstance(source, str) else source as file:
                file.seek(0)
                return pa.ipc.open_stream(file).read_all()
        except pa.ArrowInvalid:
            raise error from None


def _read_csv(file: Any, located: CoordinateColumns | None) -> Any:
    import pandas as pd

    from unigeo.schemas.tables.text_tables import open_text
    from unigeo.schemas.tables.text_values import parse_values

    table = open_text(file, sys.maxsize, located)
    columns: list[list[str]] = [[] for _ in table.names]
    for part in table.parts():
        for texts, more in zip(columns, part.columns, strict=True):
            texts += more
    commas = table.dialect.decimal == ","
    values = pd.DataFrame({k: parse_values(texts, commas) for k, texts in enumerate(columns)})
    return values.set_axis(list(table.names), axis=1)


def _read_parquet(file: Any) -> Any:
    import pandas as pd

    check_pyarrow()
    import pyarrow.parquet as pq

    is_geo = b"geo" in (pq.read_schema(file).metadata or {})
    if isinstance(file, BytesIO):
        file.seek(0)
    if not is_geo:
        return pd.read_parquet(file)
    from unigeo.schemas.tables.geometry_columns import import_geopandas

    return import_geopandas("GeoParquet").read_parquet(file)


def _read_geojson(file: Any) -> Any:
    from unigeo.schemas.tables.record_tables import parse_document

    return _of_features(parse_document(_content(file)))


def _read_json_lines(file: Any) -> Any:
    from unigeo.schemas.tables.record_tables import parse_records

    return _of_features(parse_records(_content(file)))


def _of_features(table: "FeatureTable") -> Any:
    import pandas as pd

    frame = pd.DataFrame(table.columns)
    if not table.has_geometry:
        return frame
    return frame.assign(lon=table.lonlat[:, 0], lat=table.lonlat[:, 1])


def _content(file: Any) -> bytes:
    content: bytes = file.read() if isinstance(file, BytesIO) else Path(file).read_bytes()
    return content


def _read_arrow(file: Any) -> Any:
    from unigeo.schemas.tables.geometry_columns import to_pandas

    return to_pandas(read_arrow_file(file))


def _read_workbook(file: Any) -> Any:
    from unigeo.schemas.tables.spreadsheets import read_workbook

    check_pyarrow()
    table, note = read_workbook(file)
    if note:
        warnings.warn(PointsWarning(note), skip_file_prefixes=_OWN_FILES, stacklevel=2)
    return table.to_pandas()


def _read_stata(file: Any) -> Any:
    from unigeo.schemas.tables.stata_files import read_stata

    check_pyarrow()
    return read_stata(file)[0].to_pandas()


def _read_vector(file: Any) -> Any:
    from unigeo.schemas.geo.polygon_files import read_feature_file
    from unigeo.schemas.tables.vector_files import check_named

    return read_feature_file(Path(check_named(file)))


_READERS = {
    "parquet": _read_parquet,
    "geojson": _read_geojson,
    "jsonl": _read_json_lines,
    "arrow": _read_arrow,
    "xlsx": _read_workbook,
    "stata": _read_stata,
    "gpkg": _read_vector,
    "fgb": _read_vector,
    "vector": _read_vector,
}


def check_pyarrow() -> None:
    """Raise MissingExtraError if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "Parquet, Arrow, Excel and Stata need pyarrow: pip install 'unigeo[tables]'"
        ) from error
