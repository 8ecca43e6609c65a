"""Tables written part by part, so that they may be larger than memory; complete or absent.

This holds for text, JSON lines, Parquet, GeoParquet and GeoJSON; other formats are held in memory.
"""

import gzip
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.schemas.errors import StoreError, UnigeoError
from unigeo.schemas.io.atomic_files import file_beside
from unigeo.schemas.tables.dialects import Dialect
from unigeo.schemas.tables.part_readers import SPOOLED_BYTES, TableParts
from unigeo.schemas.tables.rows import Rows, first_duplicate
from unigeo.schemas.tables.table_files import (
    FAILURES,
    PIPE,
    TABBED,
    Format,
    check_pyarrow,
    check_writable,
    format_of,
)
from unigeo.schemas.tables.table_writers import WRITERS, WritePart

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def write_parts(
    path: str | None,
    format: str | None = None,  # noqa: A002
    source: TableParts | None = None,
) -> Iterator[WritePart]:
    """Open a table to be written part by part, and yield the function that writes a part.

    A file appears under its name when it is complete. To a pipe, text is written at once, and other
    formats when they are complete.

    Args:
        path: as in `write_table`; text whose name ends in `.tsv` or `.tab` is separated by tabs.
        format: as in `write_table`.
        source: the table whose rows are written: text keeps its form, GeoJSON the members of its
            document.

    Raises:
        StoreError: as `write_table`, or if the format cannot hold the source's names; nothing is
            left behind then.
        BrokenPipeError: if the reader of standard output has ended.
    """
    check_writable(path, format)
    path = PIPE if path is None else path
    kind = format_of(path, format, "write")
    # Only CSV can hold several columns of one name.
    duplicate = None if source is None or kind == "csv" else first_duplicate(source.names)
    if duplicate is not None:
        raise StoreError(
            f"cannot write {path} as {kind}: several columns are named {duplicate!r}; rename them, "
            "or write CSV"
        )
    if kind not in ("csv", "geojson", "jsonl"):
        check_pyarrow()
    dialect = Dialect() if source is None else source.dialect
    if path.lower().endswith(TABBED):
        dialect = replace(dialect, separator="\t")
    with ExitStack() as stack:
        with _name_failures(path, kind):
            file = stack.enter_context(_open_output(path, kind))
            writer = WRITERS[kind](file, dialect, source)

        def write(
            new: "pd.DataFrame", own: Rows | None = None, lonlat: np.ndarray | None = None
        ) -> None:
            with _name_failures(path, kind):
                writer.write(new, own, lonlat)
                if path == PIPE and kind == "csv":
                    file.flush()

        try:
            yield write
        except BaseException:
            with suppress(*FAILURES):
                writer.close()
            raise
        with _name_failures(path, kind):
            writer.close()
            stack.close()


@contextmanager
def _open_output(path: str, kind: Format) -> Iterator[Any]:
    """Yield a file that is renamed to its path, or sent through the pipe, if no error occurs."""
    if path == PIPE:
        sys.stdout.flush()
        if kind == "csv":
            yield sys.stdout.buffer
            return
        with SpooledTemporaryFile(SPOOLED_BYTES) as spooled:
            yield spooled
            spooled.seek(0)
            shutil.copyfileobj(spooled, sys.stdout.buffer)
            sys.stdout.flush()
        return
    target = Path(path).resolve()
    with file_beside(target) as part, part.open("wb") as file:
        if target.name.lower().endswith(".gz"):
            # Without name and time in the header, the same table gives the same bytes.
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                yield packed
        else:
            yield file


@contextmanager
def _name_failures(path: str, kind: Format) -> Iterator[None]:
    """Raise the errors of libraries as a StoreError that names the table."""
    try:
        yield
    except FAILURES as error:
        if isinstance(error, UnigeoError | BrokenPipeError):
            raise
        raise StoreError(f"cannot write the table {path} as {kind}: {error}") from error
