"""Tables larger than memory, read some rows at a time.

CSV and Parquet, GeoParquet too, are read so; GeoJSON and Arrow are held whole.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import Any

from unigeo.schemas.errors import MissingExtraError, PointsError, StoreError, UnigeoError
from unigeo.schemas.tables import (
    FAILURES,
    PIPE,
    Format,
    format_of,
    need_pyarrow,
    read_table,
)

SPOOLED_BYTES = 2**26
"""Of a pipe, kept in memory; more goes to a temporary file."""


@dataclass(frozen=True, eq=False)
class TableParts:
    """A table, read in parts as often as it is asked for."""

    rows: int
    """In all."""
    parts: Callable[[], Iterator[Any]]

    def __iter__(self) -> Iterator[Any]:
        return self.parts()

    def __len__(self) -> int:
        return self.rows


def parts_of(table: Any, rows: int) -> TableParts:
    """Cut a table that is in memory."""
    count = len(table)
    starts = range(0, max(count, 1), rows)
    return TableParts(count, lambda: (table.iloc[first : first + rows] for first in starts))


@contextmanager
def read_parts(path: str, format: str | None, rows: int) -> Iterator[TableParts]:  # noqa: A002
    """Open a table to be read at most `rows` rows at a time.

    A column has one type in all parts, the one that the whole table would have.

    Args:
        path: as in `read_table`; what comes through a pipe is kept for as long as it is read.
        format: as in `read_table`.
        rows: of a part.

    Raises:
        PointsError: if the table cannot be read, at once or while its parts are.
    """
    with ExitStack() as stack:
        try:
            kind = format_of(path, format, "read")
        except StoreError as error:
            raise PointsError(str(error)) from error
        if kind in ("geojson", "arrow"):
            yield parts_of(read_table(path, format), rows)
            return
        source: Any = path if path != PIPE else stack.enter_context(_spooled_input())
        opened = _csv_parts if kind == "csv" else _parquet_parts
        with _named_failures(path, kind):
            table = opened(source, rows)

        def parts() -> Iterator[Any]:
            each = table.parts()
            while True:
                with _named_failures(path, kind):
                    part = next(each, None)
                if part is None:
                    return
                yield part

        yield TableParts(table.rows, parts)


@contextmanager
def _spooled_input() -> Iterator[Any]:
    """Standard input as a file that can be read again."""
    with SpooledTemporaryFile(SPOOLED_BYTES) as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
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


def _csv_parts(source: Any, rows: int) -> TableParts:
    """Read once for the number of rows and the columns' types, then again for each use."""
    import pandas as pd

    def chunks(**options: Any) -> Iterator[Any]:
        if hasattr(source, "seek"):
            source.seek(0)
        with pd.read_csv(source, chunksize=rows, low_memory=False, **options) as reader:
            yield from reader

    kinds: dict[Any, Any] = {}
    count, only = 0, None
    for number, chunk in enumerate(chunks()):
        count += len(chunk)
        only = chunk if number == 0 else None
        for name, kind in chunk.dtypes.items():
            kinds[name] = _common(kinds.get(name, kind), kind)
    if only is not None:
        return TableParts(count, lambda: iter([only]))
    return TableParts(count, lambda: chunks(dtype=kinds))


def _common(one: Any, other: Any) -> Any:
    """The type of a column whose parts look like two."""
    import numpy as np

    if one == other:
        return one
    numbers = all(getattr(kind, "kind", "O") in "iuf" for kind in (one, other))
    return np.result_type(one, other) if numbers else str


def _parquet_parts(source: Any, rows: int) -> TableParts:
    need_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(source) as file:
        count, is_geo = file.metadata.num_rows, b"geo" in (file.schema_arrow.metadata or {})

    def parts() -> Iterator[Any]:
        # Buffered ahead, the whole file would come into memory.
        with pq.ParquetFile(source, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=rows):
                table = pa.Table.from_batches([batch], file.schema_arrow)
                yield _with_geometry(table) if is_geo else table.to_pandas()

    def all_or_one() -> Iterator[Any]:
        return parts() if count else iter([read_table(source, "parquet")])

    return TableParts(count, all_or_one)


def _with_geometry(table: Any) -> Any:
    """A part of a GeoParquet file as a GeoDataFrame, by way of a small file in memory."""
    try:
        import geopandas
    except ImportError as error:
        raise MissingExtraError("GeoParquet needs geopandas: pip install 'unigeo[geo]'") from error
    import pyarrow.parquet as pq

    file = BytesIO()
    pq.write_table(table, file, compression="none")
    return geopandas.read_parquet(file)
