"""Records of a text table: their text as it is written, and the fields parsed from it."""

import csv
import gzip
import io
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from unigeo.schemas.tables.dialects import SEPARATORS, Dialect, is_blank

LONGEST_FIELD = 2**27
"""Largest number of characters of a field; an unclosed quote makes the rest of a table a field."""
_BLOCK = 4096
"""Number of lines that are parsed at once."""
_GZIP = b"\x1f\x8b"


class Record(NamedTuple):
    """A row or the header of a table."""

    line: int
    """Number of the line in which the record begins, counted from 1."""
    text: str
    """Text as it is written, without its line end."""
    fields: list[str]
    line_end: str
    """Line end; empty if the file ends without one."""


def read_records(source: Any, dialect: Dialect) -> Iterator[Record]:
    """Read the records of a table, the header first; blank lines are skipped.

    Args:
        source: path, or a seekable binary file; gzip is decompressed.
        dialect: the table's dialect, of which the line end is not used.

    Raises:
        ValueError: naming the line that cannot be parsed or decoded.
    """
    with open_binary(source) as file:
        file.read(len(dialect.mark))
        lines = io.TextIOWrapper(file, encoding=dialect.encoding, newline="")
        try:
            yield from parse_lines(lines, dialect.separator)
        finally:
            lines.detach()  # else the wrapper would close the file


def parse_lines(lines: Iterable[str], separator: str) -> Iterator[Record]:
    """Parse lines with their line ends into records of one or more lines.

    Raises:
        ValueError: naming the line that cannot be parsed.
    """
    rest, number = iter(lines), 1
    while block := list(islice(rest, _BLOCK)):
        rows = _parse_simple_lines(block, separator)
        if rows is None:
            count = yield from _parse_long_records(block, rest, separator, number)
        else:
            count = len(block)
            for line, (text, fields) in enumerate(zip(block, rows, strict=True), number):
                if not is_blank(fields):
                    written = text.rstrip("\r\n")
                    yield Record(line, written, fields, text[len(written) :])
        number += count


def _parse_simple_lines(block: list[str], separator: str) -> list[list[str]] | None:
    """Parse lines at once; None if a record spans several lines, or one cannot be parsed."""
    try:
        rows = list(csv.reader(block, delimiter=separator, strict=True))
    except csv.Error:
        return None
    return rows if len(rows) == len(block) else None


def _parse_long_records(
    block: list[str], rest: Iterator[str], separator: str, number: int
) -> Generator[Record, None, int]:
    """Parse the records of a block one by one, with the lines after it that the last one needs.

    Returns:
        The number of lines that were read.
    """
    pulled: list[str] = []

    # `csv` discards the text of a record, so it is collected while the reader takes its lines.
    def collected() -> Iterator[str]:
        for line in chain(block, rest):
            pulled.append(line)
            yield line

    reader = csv.reader(collected(), delimiter=separator, strict=True)
    while reader.line_num < len(block):
        line = number + reader.line_num
        try:
            fields = next(reader)
        except csv.Error as error:
            raise ValueError(
                f"line {line:,}: {error}. A quoted field ends with a quote, and a quote in it is "
                "written twice"
            ) from error
        text = "".join(pulled)
        pulled.clear()
        if not is_blank(fields):
            written = text.rstrip("\r\n")
            yield Record(line, written, fields, text[len(written) :])
    return reader.line_num


def fit_record(record: Record, names: Sequence[str], needed: int, dialect: Dialect) -> Record:
    """Fit a record to the header, as spreadsheets do.

    Empty fields beyond the last named one are dropped; a record that is too short is completed with
    empty fields.

    Args:
        record: record of the table.
        names: names of the columns.
        needed: number of fields that must be present, among them the coordinates.
        dialect: dialect of the table.

    Raises:
        ValueError: naming the line, if a field has no name or a needed one is missing.
    """
    width, count = len(names), len(record.fields)
    if count == width:
        return record
    if count > width and not any(record.fields[width:]):
        fields = record.fields[:width]
        return Record(record.line, format_records([fields], dialect)[0], fields, record.line_end)
    # A short last record without a line end is a truncated file.
    if needed <= count < width and record.line_end:
        lacking = width - count
        text = record.text + dialect.separator * lacking
        return Record(record.line, text, record.fields + [""] * lacking, record.line_end)
    raise ValueError(
        f"line {record.line:,} has {count} fields and the header {width}, separated by "
        f"{SEPARATORS[dialect.separator]}s{'' if record.line_end else '; is the file cut short?'}"
    )


def format_records(rows: Iterable[Sequence[str]], dialect: Dialect) -> list[str]:
    """Format rows of fields as records without line ends; fields are quoted only if necessary.

    >>> format_records([["a", 'b "c", d']], Dialect())
    ['a,"b ""c"", d"']
    """
    lines = _RecordList()
    # The writer quotes fields that contain a character of its line terminator.
    csv.writer(lines, delimiter=dialect.separator, lineterminator="\r\n").writerows(rows)
    return lines


class _RecordList(list[str]):
    """A list that serves `csv.writer`, which writes each row by one call, as a file."""

    def write(self, text: str) -> None:
        self.append(text.removesuffix("\r\n"))


@contextmanager
def open_binary(source: Any) -> Iterator[Any]:
    """Open a path, or rewind a binary file; gzip is decompressed."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    with ExitStack() as stack:
        if isinstance(source, str):
            file: Any = stack.enter_context(Path(source).open("rb"))
        else:
            file = source
            file.seek(0)
        packed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        yield stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb")) if packed else file
