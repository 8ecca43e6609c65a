"""Tables in files and pipes: CSV, Parquet, GeoParquet, GeoJSON, Arrow; whole or not at all.

The ending of a name says its format; on a pipe, `-`, it is CSV unless another is named.
"""

import json
import os
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from unigeo.schemas import kinds
from unigeo.schemas.errors import MissingExtraError, PointsError, StoreError

if TYPE_CHECKING:
    import pandas as pd

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
}
PIPE = "-"

FAILURES = (OSError, EOFError, zlib.error, ValueError, TypeError, NotImplementedError)
"""What pandas, geopandas, Arrow and gzip raise on a table or a file that they cannot handle."""


def read_table(path: str, format: str | None = None) -> Any:  # noqa: A002
    """Read a table from a file, or from standard input.

    Args:
        path: its name, or `-`.
        format: `csv`, `parquet`, `geojson` or `arrow`, where the name does not say it.

    Returns:
        A DataFrame; from GeoParquet a GeoDataFrame. GeoJSON points become columns `lon` and `lat`
        beside their properties.

    Raises:
        PointsError: if the table cannot be read, or its format is unknown.
    """
    try:
        kind = format_of(path, format, "read")
    except StoreError as error:
        raise PointsError(str(error)) from error
    where = "standard input" if path == PIPE else path
    try:
        if path != PIPE:
            return _READERS[kind](path)
        if kind == "csv":
            return _read_csv(sys.stdin)
        return _READERS[kind](BytesIO(sys.stdin.buffer.read()))
    except FAILURES as error:
        if isinstance(error, PointsError | MissingExtraError):
            raise
        raise PointsError(f"cannot read the table {where} as {kind}: {error}") from error


def write_table(
    table: "pd.DataFrame",
    path: str | None,
    format: str | None = None,  # noqa: A002
) -> None:
    """Write a table to a file, or to standard output: beside the file first, then renamed.

    Geometry goes into Parquet as GeoParquet, and into GeoJSON in WGS 84. In CSV and Arrow, points
    become columns `lon` and `lat` in WGS 84; where there are such columns, or other shapes, the
    geometry is written as WKT in WGS 84 under its own name.

    Args:
        table: a DataFrame, or a GeoDataFrame; its index is not written.
        path: a name, or None or `-` for standard output.
        format: as in `read_table`.

    Raises:
        StoreError: if it cannot be written, or its format is unknown; nothing is left behind.
    """
    check_writable(path, format)
    path = PIPE if path is None else path
    kind = format_of(path, format, "write")
    try:
        if path == PIPE:
            _write_pipe(table, kind)
            return
        target = Path(path).resolve()
        part = target.with_name(target.name + ".partial")
        try:
            with part.open("wb") as file:
                if target.name.lower().endswith(".gz"):
                    _write_gzip(table, kind, file)
                else:
                    _WRITERS[kind](table, file)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except FAILURES as error:
        if isinstance(error, StoreError | MissingExtraError):
            raise
        raise StoreError(f"cannot write the table {path} as {kind}: {error}") from error


def check_writable(path: str | None, format: str | None = None) -> None:  # noqa: A002
    """Refuse an output that cannot be written, before any work is done for it.

    Raises:
        StoreError: if the format is unknown, the folder is not there, or the name is taken by
            something that is no file.
    """
    path = PIPE if path is None else path
    format_of(path, format, "write")
    if path == PIPE:
        return
    target = Path(path)
    if not target.parent.is_dir():
        raise StoreError(f"cannot write {path}: there is no folder {target.parent}")
    if target.exists() and not target.is_file():
        raise StoreError(f"cannot write {path}: it is no file; use - for standard output")


def format_of(path: str, named: str | None, verb: Literal["read", "write"]) -> Format:
    """The format that is named, or that the path ends in.

    Raises:
        StoreError: if it is unknown.
    """
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


def _read_csv(file: Any) -> Any:
    import pandas as pd

    return pd.read_csv(file, low_memory=False)


def _read_parquet(file: Any) -> Any:
    import pandas as pd

    need_pyarrow()
    import pyarrow.parquet as pq

    is_geo = b"geo" in (pq.read_schema(file).metadata or {})
    if isinstance(file, BytesIO):
        file.seek(0)
    if not is_geo:
        return pd.read_parquet(file)
    try:
        import geopandas
    except ImportError as error:
        raise MissingExtraError("GeoParquet needs geopandas: pip install 'unigeo[geo]'") from error
    return geopandas.read_parquet(file)


def _read_geojson(file: Any) -> Any:
    import pandas as pd

    from unigeo.schemas.points import read_points

    content = file.read() if isinstance(file, BytesIO) else Path(file).read_bytes()
    document = json.loads(content)
    lonlat = read_points(document).lonlat
    features = document.get("features", [document]) if isinstance(document, dict) else []
    if len(features) != len(lonlat):
        raise PointsError("the GeoJSON holds MultiPoint features; give one point per feature")
    rows = [
        ({"id": feature["id"]} if "id" in feature else {}) | (feature.get("properties") or {})
        for feature in features
    ]
    return pd.DataFrame(rows, index=range(len(rows))).assign(lon=lonlat[:, 0], lat=lonlat[:, 1])


def _read_arrow(file: Any) -> Any:
    need_pyarrow()
    import pyarrow as pa
    from pyarrow import feather

    if not isinstance(file, BytesIO):
        return feather.read_feather(file)
    try:
        return pa.ipc.open_stream(file).read_pandas()
    except pa.ArrowInvalid:  # on a pipe, Arrow is a stream or a file
        file.seek(0)
        return pa.ipc.open_file(file).read_pandas()


def _write_csv(table: Any, file: Any) -> None:
    without_geometry(table).to_csv(file, index=False)


def _write_parquet(table: Any, file: Any) -> None:
    need_pyarrow()
    table.to_parquet(file, index=False)


def _write_geojson(table: Any, file: Any) -> None:
    """One feature to a line; numbers and places in WGS 84, as RFC 7946 has it."""
    from unigeo.schemas.points import find_columns, read_points

    if geometry_of(table) is not None:
        shapes = [None if shape is None else shape.__geo_interface__ for shape in _wgs84(table)]
        own = table.drop(columns=table.geometry.name)
    else:
        try:
            lonlat = read_points(table).lonlat
        except PointsError as error:
            raise StoreError(f"GeoJSON needs places in degrees: {error}") from error
        shapes = [{"type": "Point", "coordinates": place} for place in lonlat.tolist()]
        own = table.drop(columns=list(find_columns(list(table.columns))))
    rows = own.to_json(orient="records", lines=True, date_format="iso", double_precision=15)
    file.write(b'{"type": "FeatureCollection", "features": [\n')
    for number, (shape, row) in enumerate(zip(shapes, rows.splitlines(), strict=True)):
        feature = f'{{"type": "Feature", "geometry": {json.dumps(shape)}, "properties": {row}}}'
        file.write(((",\n" if number else "") + feature).encode())
    file.write(b"\n]}\n")


def _write_arrow(table: Any, file: Any) -> None:
    need_pyarrow()
    import pyarrow as pa

    arrow = pa.Table.from_pandas(without_geometry(table), preserve_index=False)
    with pa.ipc.new_file(file, arrow.schema) as writer:
        writer.write_table(arrow)


def _write_gzip(table: Any, kind: Format, file: Any) -> None:
    """Compress; the same table gives the same bytes, as the time is left out."""
    import gzip

    with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
        _WRITERS[kind](table, packed)


def _write_pipe(table: Any, kind: Format) -> None:
    """Write the whole table at once; a reader that has seen enough ends it quietly."""
    content = BytesIO()
    _WRITERS[kind](table, content)
    try:
        if kind in ("csv", "geojson"):
            sys.stdout.write(content.getvalue().decode())
        else:
            sys.stdout.buffer.write(content.getvalue())
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_READERS = {
    "csv": _read_csv,
    "parquet": _read_parquet,
    "geojson": _read_geojson,
    "arrow": _read_arrow,
}
_WRITERS = {
    "csv": _write_csv,
    "parquet": _write_parquet,
    "geojson": _write_geojson,
    "arrow": _write_arrow,
}


def geometry_of(table: Any) -> Any:
    """The geometries of a GeoDataFrame; None of any other table."""
    return kinds.geometry_of(table)


def _wgs84(table: Any) -> Any:
    """A GeoDataFrame's geometries in longitude and latitude; without a CRS they are so already."""
    return table.geometry if table.crs is None else table.geometry.to_crs("OGC:CRS84")


def without_geometry(table: Any) -> Any:
    """The table with its geometries as columns of numbers, or of WKT."""
    import pandas as pd

    if geometry_of(table) is None:
        return table
    shapes, name = _wgs84(table), table.geometry.name
    points = set(shapes.geom_type) <= {"Point"} and not {"lon", "lat"} & set(table.columns)
    plain = pd.DataFrame(table.drop(columns=name))
    if points:
        return plain.assign(lon=shapes.x, lat=shapes.y)
    return plain.assign(**{name: shapes.to_wkt()})


def need_pyarrow() -> None:
    """Refuse what needs pyarrow where it is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "Parquet and Arrow need pyarrow: pip install 'unigeo[tables]'"
        ) from error
