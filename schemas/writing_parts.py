"""Tables larger than memory, written part by part: whole in the end, or not at all.

CSV and Parquet, GeoParquet too, are written so; GeoJSON and Arrow are held whole.
"""

import gzip
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from unigeo.schemas.errors import StoreError, UnigeoError
from unigeo.schemas.reading_parts import SPOOLED_BYTES
from unigeo.schemas.tables import (
    FAILURES,
    PIPE,
    Format,
    check_writable,
    format_of,
    geometry_of,
    need_pyarrow,
    without_geometry,
    write_table,
)

Write = Callable[[Any], None]
"""Takes the next part of a table."""


@contextmanager
def write_parts(path: str | None, format: str | None = None) -> Iterator[Write]:  # noqa: A002
    """Open a table to be written part by part; what is yielded takes the parts.

    A file is written beside its place and renamed when all is well. On a pipe, CSV goes out as it
    comes, and other formats when they are whole.

    Args:
        path: as in `write_table`.
        format: as in `write_table`.

    Raises:
        StoreError: as `write_table`; nothing is left behind then.
        BrokenPipeError: if nobody reads standard output any more.
    """
    check_writable(path, format)
    path = PIPE if path is None else path
    kind = format_of(path, format, "write")
    if kind in ("geojson", "arrow"):
        gathered: list[Any] = []
        yield gathered.append
        write_table(_together(gathered), path, format)
    elif path != PIPE:
        with _file_writer(path, kind) as write:
            yield write
    elif kind == "csv":
        yield _csv_to_pipe()
    else:
        with SpooledTemporaryFile(SPOOLED_BYTES) as file:
            writer = _ParquetParts(file)
            yield writer.write
            writer.close()
            file.seek(0)
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()


def _together(parts: list[Any]) -> Any:
    import pandas as pd

    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


@contextmanager
def _file_writer(path: str, kind: Format) -> Iterator[Write]:
    target = Path(path).resolve()
    beside = target.with_name(target.name + ".partial")
    opened: list[Any] = []
    try:
        with _failed_writes(path, kind):
            opened.append(beside.open("wb"))
            if target.name.lower().endswith(".gz"):
                packed = gzip.GzipFile(filename="", fileobj=opened[0], mode="wb", mtime=0)
                opened.append(packed)
            opened.append(_CsvParts(opened[-1]) if kind == "csv" else _ParquetParts(opened[-1]))
        writer = opened[-1]

        def write(part: Any) -> None:
            with _failed_writes(path, kind):
                writer.write(part)

        yield write
        with _failed_writes(path, kind):
            for one in reversed(opened):
                one.close()
            beside.replace(target)
    finally:
        for one in reversed(opened):
            with suppress(*FAILURES):
                one.close()
        beside.unlink(missing_ok=True)


@contextmanager
def _failed_writes(path: str, kind: Format) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        if isinstance(error, UnigeoError):
            raise
        raise StoreError(f"cannot write the table {path} as {kind}: {error}") from error


def _csv_to_pipe() -> Write:
    header = True

    def write(part: Any) -> None:
        nonlocal header
        sys.stdout.write(without_geometry(part).to_csv(index=False, header=header))
        sys.stdout.flush()
        header = False

    return write


class _CsvParts:
    """Lines below the header of the first part."""

    def __init__(self, file: Any) -> None:
        self.file, self.header = file, True

    def write(self, part: Any) -> None:
        without_geometry(part).to_csv(self.file, index=False, header=self.header)
        self.header = False

    def close(self) -> None:
        """Nothing is held back."""


class _ParquetParts:
    """Row groups; the types of the first part are the file's."""

    def __init__(self, file: Any) -> None:
        need_pyarrow()
        self.file = file
        self.writer: Any = None

    def write(self, part: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = _arrow_of(part)
        if self.writer is None:
            schema = pa.schema([_typed(field) for field in table.schema], table.schema.metadata)
            words = [f.name for f in schema if not pa.types.is_floating(f.type)]
            self.writer = pq.ParquetWriter(self.file, schema, use_dictionary=words)
        self.writer.write_table(table.cast(self.writer.schema))

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def _typed(field: Any) -> Any:
    """A column that is empty in the first part may hold words later."""
    import pyarrow as pa

    return field.with_type(pa.string()) if pa.types.is_null(field.type) else field


def _arrow_of(table: Any) -> Any:
    """A table as Arrow; geometry as GeoParquet has it, without the bounds of this part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if geometry_of(table) is None:
        return pa.Table.from_pandas(table, preserve_index=False)
    file = BytesIO()
    table.to_parquet(file, index=False, compression=None)
    arrow = pq.read_table(file)
    geo = json.loads(arrow.schema.metadata[b"geo"])
    for column in geo["columns"].values():
        column.pop("bbox", None)
    return arrow.replace_schema_metadata(
        {**arrow.schema.metadata, b"geo": json.dumps(geo).encode()}
    )
