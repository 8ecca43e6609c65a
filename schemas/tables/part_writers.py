"""Tables larger than memory, written part by part: whole in the end, or not at all.

Text, Parquet, GeoParquet and GeoJSON are written so; Arrow is held whole.
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
from unigeo.schemas.tables.rows import Rows, repeated
from unigeo.schemas.tables.table_files import (
    FAILURES,
    PIPE,
    Format,
    check_writable,
    format_of,
    need_pyarrow,
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
    """Open a table to be written part by part; what is yielded takes the parts.

    A file is written beside its place and renamed when all is well. On a pipe, text goes out as it
    comes, and other formats when they are whole.

    Args:
        path: as in `write_table`; text that ends in `.tsv` is separated by tabs.
        format: as in `write_table`.
        source: the table whose rows are written: text is written as it was, GeoJSON keeps the
            members of its document.

    Raises:
        StoreError: as `write_table`, or if the format cannot hold the source's names; nothing is
            left behind then.
        BrokenPipeError: if nobody reads standard output any more.
    """
    check_writable(path, format)
    path = PIPE if path is None else path
    kind = format_of(path, format, "write")
    twice = None if source is None or kind == "csv" else repeated(source.names)
    if twice is not None:
        raise StoreError(
            f"cannot write {path} as {kind}: several columns are named {twice!r}; rename them, or "
            "write CSV"
        )
    if kind in ("parquet", "arrow"):
        need_pyarrow()
    dialect = Dialect() if source is None else source.dialect
    if path.lower().endswith(".tsv"):
        dialect = replace(dialect, separator="\t")
    with ExitStack() as stack:
        with _failed_writes(path, kind):
            file = stack.enter_context(_whole(path, kind))
            writer = WRITERS[kind](file, dialect, {} if source is None else source.members)

        def write(
            new: "pd.DataFrame", own: Rows | None = None, lonlat: np.ndarray | None = None
        ) -> None:
            with _failed_writes(path, kind):
                writer.write(new, own, lonlat)
                if path == PIPE and kind == "csv":
                    file.flush()

        try:
            yield write
        except BaseException:
            with suppress(*FAILURES):
                writer.close()
            raise
        with _failed_writes(path, kind):
            writer.close()
            stack.close()


@contextmanager
def _whole(path: str, kind: Format) -> Iterator[Any]:
    """A file that is put in its place, or sent through the pipe, if it is closed without error."""
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
            # The same table gives the same bytes, as neither name nor time is in them.
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                yield packed
        else:
            yield file


@contextmanager
def _failed_writes(path: str, kind: Format) -> Iterator[None]:
    try:
        yield
    except FAILURES as error:
        if isinstance(error, UnigeoError | BrokenPipeError):
            raise
        raise StoreError(f"cannot write the table {path} as {kind}: {error}") from error
