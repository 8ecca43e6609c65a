"""Tables read some rows at a time, so that they may be larger than memory.

This holds for text, Parquet and GeoParquet; tables of other formats are held in memory.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import PointsError, RegionError, StoreError, UnigeoError
from unigeo.schemas.tables.dialects import FALLBACK_ENCODINGS, Dialect
from unigeo.schemas.tables.rows import Rows
from unigeo.schemas.tables.table_files import (
    FAILURES,
    PIPE,
    Format,
    check_pyarrow,
    format_of,
    read_arrow_file,
)

if TYPE_CHECKING:
    from unigeo.schemas.tables.feature_tables import FeatureTable
    from unigeo.schemas.tables.stata_files import StataLabels

Columns = tuple[str, str] | None
"""Names of the coordinate columns, if not usual."""
SPOOLED_BYTES = 2**26
"""Bytes of a pipe that are held in memory; more are written to a temporary file."""


@dataclass(frozen=True, eq=False)
class TableParts:
    """A table that is read in parts, any number of times."""

    names: tuple[str, ...]
    """Names of the columns."""
    rows: int
    """Number of rows of the whole table."""
    parts: Callable[[], Iterator[Rows]]
    """Function that reads the parts, of which there is at least one, possibly empty."""
    dialect: Dialect = field(default_factory=Dialect)
    """Dialect of a text table; for other tables that in which they are written as text."""
    members: dict[str, Any] = field(default_factory=dict)
    """Members of a GeoJSON document other than its type and features."""
    note: str = ""
    """Remark for the user on how the table was read."""
    labels: "StataLabels | None" = None
    """StataLabels of Stata's variables and values."""

    def __iter__(self) -> Iterator[Rows]:
        return self.parts()

    def __len__(self) -> int:
        return self.rows


@contextmanager
def read_parts(
    path: str,
    format: str | None,  # noqa: A002
    rows: int,
    columns: Columns = None,
    crs: Any = None,
    *,
    positions: bool = True,
) -> Iterator[TableParts]:
    """Open a table to be read at most `rows` rows at a time.

    Args:
        path: as in `read_table`; the content of a pipe is kept until the table is closed.
        format: as in `read_table`.
        rows: largest number of rows of a part.
        columns: names of the coordinate columns, if not usual.
        crs: CRS of the coordinates, where the table names none.
        positions: whether the rows of a text table need coordinates.

    Raises:
        PointsError: if the table cannot be read, when it is opened or when a part is read.
    """
    try:
        kind = format_of(path, format, "read")
    except StoreError as error:
        raise PointsError(str(error)) from error
    with ExitStack() as stack:
        source: Any = path
        if path == PIPE or Path(path).is_fifo():
            source = stack.enter_context(_spool(path))
        with _name_failures(path, kind):
            if kind == "csv":
                table = _text_parts(source, rows, columns, positions)
            else:
                table = _OPENERS[kind](source, rows, columns, crs)

        def parts() -> Iterator[Rows]:
            iterator = table.parts()
            while True:
                # Around `next` alone: errors of the caller, who handles the part, are not renamed.
                with _name_failures(path, kind):
                    part = next(iterator, None)
                if part is None:
                    return
                yield part

        yield replace(table, parts=parts)


@contextmanager
def _spool(path: str) -> Iterator[Any]:
    """Copy the content of a pipe to a file that can be read several times."""
    with ExitStack() as stack:
        pipe = sys.stdin.buffer if path == PIPE else stack.enter_context(Path(path).open("rb"))
        file = stack.enter_context(SpooledTemporaryFile(SPOOLED_BYTES))
        shutil.copyfileobj(pipe, file)
        file.seek(0)
        yield file


@contextmanager
def _name_failures(path: str, kind: Format) -> Iterator[None]:
    """Raise the errors of libraries as a PointsError that names the table."""
    try:
        yield
    except FAILURES as error:
        if isinstance(error, UnigeoError):
            raise
        where = "standard input" if path == PIPE else path
        raise PointsError(f"cannot read the table {where} as {kind}: {error}") from error


def _text_parts(source: Any, rows: int, columns: Columns, positions: bool) -> TableParts:
    from unigeo.schemas.tables.text_tables import open_text

    table = open_text(source, rows, columns, check_positions=positions)
    notes = []
    if table.dialect.encoding in FALLBACK_ENCODINGS:
        notes.append(f"the table is not UTF-8; it is read as {table.dialect.encoding}")
    if table.dialect.decimal == ",":
        notes.append("its numbers have decimal commas, and so have the new columns in text")
    note = "; ".join(notes)
    return TableParts(table.names, table.rows, table.parts, table.dialect, note=note)


def _parquet_parts(source: Any, rows: int, columns: Columns, crs: Any) -> TableParts:
    check_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    from unigeo.schemas.tables.arrow_tables import ArrowRows

    with pq.ParquetFile(source) as file:
        count, schema = file.metadata.num_rows, file.schema_arrow

    def parts() -> Iterator[Rows]:
        first = 0
        # With pre_buffer, the whole file would be held in memory.
        with pq.ParquetFile(source, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield ArrowRows(pa.Table.from_batches([batch], schema), first, columns)
                first += batch.num_rows
        if not first:
            yield ArrowRows(schema.empty_table(), 0, columns)

    return TableParts(tuple(schema.names), count, parts)


def _arrow_parts(source: Any, rows: int, columns: Columns, crs: Any) -> TableParts:
    return _split_arrow(read_arrow_file(source), rows, columns)


def _vector_parts(source: Any, rows: int, columns: Columns, crs: Any) -> TableParts:
    from unigeo.schemas.tables.vector_files import read_features

    try:
        return _split_arrow(read_features(source), rows, columns)
    except RegionError as error:
        raise ValueError(str(error)) from error


def _workbook_parts(source: Any, rows: int, columns: Columns, crs: Any) -> TableParts:
    from unigeo.schemas.tables.spreadsheets import read_workbook

    check_pyarrow()
    table, note = read_workbook(source)
    return replace(_split_arrow(table, rows, columns), note=note)


def _stata_parts(source: Any, rows: int, columns: Columns, crs: Any) -> TableParts:
    from unigeo.schemas.tables.stata_files import read_stata

    check_pyarrow()
    table, labels = read_stata(source)
    return replace(_split_arrow(table, rows, columns), labels=labels)


def _split_arrow(table: Any, rows: int, columns: Columns) -> TableParts:
    """Split an Arrow table that is in memory into parts."""
    from unigeo.schemas.tables.arrow_tables import ArrowRows

    starts = range(0, max(table.num_rows, 1), rows)
    return TableParts(
        tuple(table.schema.names),
        table.num_rows,
        lambda: (ArrowRows(table.slice(first, rows), first, columns) for first in starts),
    )


def _geojson_parts(source: Any, rows: int, columns: Columns, crs: Any) -> TableParts:
    from unigeo.schemas.tables.record_tables import parse_document

    return split_table(parse_document(_content(source), columns, crs), rows)


def _record_parts(source: Any, rows: int, columns: Columns, crs: Any) -> TableParts:
    from unigeo.schemas.tables.record_tables import parse_records

    return split_table(parse_records(_content(source), columns, crs), rows)


def _content(source: Any) -> bytes:
    content: bytes = Path(source).read_bytes() if isinstance(source, str) else source.read()
    return content


def split_table(table: "FeatureTable", rows: int) -> TableParts:
    """Split a table that is in memory into parts."""
    starts = range(0, max(len(table), 1), rows)
    return TableParts(
        table.names,
        len(table),
        lambda: (table.rows(first, rows) for first in starts),
        members=table.members,
    )


_OPENERS: dict[Format, Callable[[Any, int, Columns, Any], TableParts]] = {
    "geojson": _geojson_parts,
    "parquet": _parquet_parts,
    "jsonl": _record_parts,
    "arrow": _arrow_parts,
    "xlsx": _workbook_parts,
    "stata": _stata_parts,
    "gpkg": _vector_parts,
    "fgb": _vector_parts,
    "vector": _vector_parts,
}
