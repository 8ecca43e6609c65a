"""Tables read from and written to files and pipes: CSV, Parquet, GeoParquet, GeoJSON, Arrow.

The format follows from the ending of a file's name; on a pipe, `-`, it is CSV unless another is
named.
"""

import os
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from unigeo.schemas.errors import MissingExtraError, PointsError, StoreError
from unigeo.schemas.io.addresses import check_destination

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Format = Literal["csv", "parquet", "geojson", "arrow"]
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
}
PIPE = "-"
"""Name of standard input and output."""

FAILURES = (OSError, EOFError, zlib.error, ValueError, TypeError, NotImplementedError)
"""Errors of pandas, geopandas, Arrow and gzip for a table or a file that they cannot handle."""


def read_table(
    path: str,
    format: str | None = None,  # noqa: A002
    columns: tuple[str, str] | None = None,
) -> "pd.DataFrame":
    """Read a table from a file, or from standard input, to compute with it.

    Fields of a text table become numbers as `text_values.parse_values` describes. A table whose
    rows are written again unchanged is opened with `read_parts` instead.

    Args:
        path: name of the file, or `-`.
        format: `csv`, `parquet`, `geojson` or `arrow`, if the name has no such ending. CSV is any
            text table: its separator and encoding are detected.
        columns: names of the coordinate columns of a text table, if not usual.

    Returns:
        A DataFrame; a GeoDataFrame from GeoParquet and from Arrow with its metadata. GeoJSON points
        become columns `lon` and `lat` beside their properties.

    Raises:
        PointsError: if the table cannot be read, or its format is unknown.
    """
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
    except FAILURES as error:
        if isinstance(error, PointsError | MissingExtraError):
            raise
        raise PointsError(f"cannot read the table {where} as {kind}: {error}") from error


def write_table(
    table: "pd.DataFrame",
    path: str | None,
    format: str | None = None,  # noqa: A002
) -> None:
    """Write a table to a file, which is complete or absent, or to standard output.

    Geometry is written to Parquet and Arrow as in GeoParquet, and to GeoJSON in WGS 84. In CSV,
    points become columns `lon` and `lat` in WGS 84; if there are such columns already, or other
    shapes, the geometry is WKT in WGS 84 under its own name. Further geometry columns are WKT in
    CSV and GeoJSON, with their CRS in a column `<name>_crs`.

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
                return known  # type: ignore[no-any-return]
        raise StoreError(
            f"cannot {verb} {path}: no format {named!r}; there are {', '.join(get_args(Format))}"
        )
    if path == PIPE:
        return "csv"
    for ending, kind in ENDINGS.items():
        if path.lower().endswith(ending):
            return kind
    raise StoreError(
        f"cannot {verb} {path}: a table ends in one of {', '.join(ENDINGS)}; or name its format"
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


def _read_csv(file: Any, located: tuple[str, str] | None) -> Any:
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
    import pandas as pd

    from unigeo.schemas.tables.feature_tables import parse_features

    table = parse_features(file.read() if isinstance(file, BytesIO) else Path(file).read_bytes())
    lonlat = table.lonlat
    return pd.DataFrame(table.columns).assign(lon=lonlat[:, 0], lat=lonlat[:, 1])


def _read_arrow(file: Any) -> Any:
    from unigeo.schemas.tables.geometry_columns import to_pandas

    return to_pandas(read_arrow_file(file))


_READERS = {
    "parquet": _read_parquet,
    "geojson": _read_geojson,
    "arrow": _read_arrow,
}


def check_pyarrow() -> None:
    """Raise MissingExtraError if pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "Parquet and Arrow need pyarrow: pip install 'unigeo[tables]'"
        ) from error
