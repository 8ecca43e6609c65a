"""Tables larger than memory, read some rows at a time.

Text and Parquet, GeoParquet too, are read so; GeoJSON and Arrow are held whole.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import PointsError, StoreError, UnigeoError
from unigeo.schemas.tables.dialects import FALLBACKS, Dialect
from unigeo.schemas.tables.rows import Rows
from unigeo.schemas.tables.table_files import (
    FAILURES,
    PIPE,
    Format,
    format_of,
    need_pyarrow,
    read_arrow_file,
)

if TYPE_CHECKING:
    from unigeo.schemas.tables.feature_tables import FeatureTable

Columns = tuple[str, str] | None
"""Names of the coordinate columns, if not usual."""
SPOOLED_BYTES = 2**26
"""Of a pipe, kept in memory; more goes to a temporary file."""


@dataclass(frozen=True, eq=False)
class TableParts:
    """A table, read in parts as often as it is asked for."""

    names: tuple[str, ...]
    """Of its columns."""
    rows: int
    """In all."""
    parts: Callable[[], Iterator[Rows]]
    """At least one, which may be empty."""
    dialect: Dialect = field(default_factory=Dialect)
    """How it is written, if it is text; else how text is written of it."""
    members: dict[str, Any] = field(default_factory=dict)
    """Of a GeoJSON document, but for its type and features."""
    note: str = ""
    """What the user should know of how it was read."""

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
) -> Iterator[TableParts]:
    """Open a table to be read at most `rows` rows at a time.

    Args:
        path: as in `read_table`; what comes through a pipe is kept for as long as it is read.
        format: as in `read_table`.
        rows: of a part.
        columns: names of the coordinate columns, if not usual.
        crs: of the coordinates, where the table does not say it.

    Raises:
        PointsError: if the table cannot be read, at once or while its parts are.
    """
    try:
        kind = format_of(path, format, "read")
    except StoreError as error:
        raise PointsError(str(error)) from error
    with ExitStack() as stack:
        source: Any = path
        if path == PIPE or Path(path).is_fifo():
            source = stack.enter_context(_spooled(path))
        with _named_failures(path, kind):
            table = _OPENERS[kind](source, rows, columns, crs)

        def parts() -> Iterator[Rows]:
            each = table.parts()
            while True:
                with _named_failures(path, kind):
                    part = next(each, None)
                if part is None:
                    return
                yield part

        yield replace(table, parts=parts)


@contextmanager
def _spooled(path: str) -> Iterator[Any]:
    """What comes through a pipe as a file that can be read again."""
    with ExitStack() as stack:
        pipe = sys.stdin.buffer if path == PIPE else stack.enter_context(Path(path).open("rb"))
        file = stack.enter_context(SpooledTemporaryFile(SPOOLED_BYTES))
        shutil.copyfileobj(pipe, file)
        file.seek(0)
        yield file


@contextmanager
def _named_failures(path: str, kind: Format) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        if isinstance(error, UnigeoError):
            raise
        where = "standard input" if path == PIPE else path
        raise PointsError(f"cannot read the table {where} as {kind}: {error}") from error


def _text_parts(source: Any, rows: int, columns: Columns, crs: Any) -> TableParts:
    from unigeo.schemas.tables.text_tables import open_text

    table = open_text(source, rows, columns, placed=True)
    note = ""
    if table.dialect.encoding in FALLBACKS:
        note = f"the table is not UTF-8; it is read as {table.dialect.encoding}"
    return TableParts(table.names, table.rows, table.parts, table.dialect, note=note)


def _parquet_parts(source: Any, rows: int, columns: Columns, crs: Any) -> TableParts:
    need_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    from unigeo.schemas.tables.arrow_tables import ArrowRows

    with pq.ParquetFile(source) as file:
        count, schema = file.metadata.num_rows, file.schema_arrow

    def parts() -> Iterator[Rows]:
        first = 0
        # Buffered ahead, the whole file would come into memory.
        with pq.ParquetFile(source, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield ArrowRows(pa.Table.from_batches([batch], schema), first, columns)
                first += batch.num_rows
        if not first:
            yield ArrowRows(schema.empty_table(), 0, columns)

    return TableParts(tuple(schema.names), count, parts)


def _arrow_parts(source: Any, rows: int, columns: Columns, crs: Any) -> TableParts:
    from unigeo.schemas.tables.arrow_tables import ArrowRows

    table = read_arrow_file(source)
    starts = range(0, max(table.num_rows, 1), rows)
    return TableParts(
        tuple(table.schema.names),
        table.num_rows,
        lambda: (ArrowRows(table.slice(first, rows), first, columns) for first in starts),
    )


def _geojson_parts(source: Any, rows: int, columns: Columns, crs: Any) -> TableParts:
    from unigeo.schemas.tables.feature_tables import feature_table

    content = Path(source).read_bytes() if isinstance(source, str) else source.read()
    return parts_of(feature_table(content, crs), rows)


def parts_of(table: "FeatureTable", rows: int) -> TableParts:
    """Cut a table that is in memory."""
    starts = range(0, max(len(table), 1), rows)
    return TableParts(
        table.names,
        len(table),
        lambda: (table.rows(first, rows) for first in starts),
        members=table.members,
    )


_OPENERS: dict[Format, Callable[[Any, int, Columns, Any], TableParts]] = {
    "csv": _text_parts,
    "geojson": _geojson_parts,
    "parquet": _parquet_parts,
    "arrow": _arrow_parts,
}
