"""Records of a text table: each as it is written, and parsed into fields beside it."""

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
"""Characters of a field; a quote that is not closed makes one field of the rest of the table."""
_BLOCK = 4096
"""Lines parsed at once."""
_GZIP = b"\x1f\x8b"


class Record(NamedTuple):
    """One row, or the header."""

    line: int
    """Of the file, in which it begins, counted from 1."""
    text: str
    """As it is written, without its line end."""
    fields: list[str]
    line_end: str
    """Empty where the file ends without one."""


def records(source: Any, dialect: Dialect) -> Iterator[Record]:
    """Read a table's records from the first, the header, to the last; blank lines are left out.

    Args:
        source: path, or a binary file that can be read again; gzip is unpacked.
        dialect: how it is written; its line end is not needed.

    Raises:
        ValueError: naming the line that cannot be parsed or decoded.
    """
    with opened(source) as file:
        file.read(len(dialect.mark))
        lines = io.TextIOWrapper(file, encoding=dialect.encoding, newline="")
        try:
            yield from parsed(lines, dialect.separator)
        finally:
            lines.detach()


def parsed(lines: Iterable[str], separator: str) -> Iterator[Record]:
    """Parse lines, which keep their ends; a record is one or more of them.

    Raises:
        ValueError: naming the line that cannot be parsed.
    """
    rest, number = iter(lines), 1
    while block := list(islice(rest, _BLOCK)):
        rows = _one_to_a_line(block, separator)
        if rows is None:
            count = yield from _several_to_a_record(block, rest, separator, number)
        else:
            count = len(block)
            for line, (text, fields) in enumerate(zip(block, rows, strict=True), number):
                if not is_blank(fields):
                    written = text.rstrip("\r\n")
                    yield Record(line, written, fields, text[len(written) :])
        number += count


def _one_to_a_line(block: list[str], separator: str) -> list[list[str]] | None:
    """Parse lines at once; None if a record may go on in the next line, or cannot be parsed."""
    try:
        rows = list(csv.reader(block, delimiter=separator, strict=True))
    except csv.Error:
        return None
    return rows if len(rows) == len(block) else None


def _several_to_a_record(
    block: list[str], rest: Iterator[str], separator: str, number: int
) -> Generator[Record, None, int]:
    """Parse the lines of a block one by one, and those after it that its last record needs.

    Returns:
        How many lines these were.
    """
    pulled: list[str] = []

    def watched() -> Iterator[str]:
        for line in chain(block, rest):
            pulled.append(line)
            yield line

    reader = csv.reader(watched(), delimiter=separator, strict=True)
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


def fitted(record: Record, names: Sequence[str], needed: int, dialect: Dialect) -> Record:
    """Give a record one field for each name, as spreadsheets do.

    Separators behind the last named field are left out. A record that ends early is completed with
    empty fields.

    Args:
        record: of the table.
        names: of the columns.
        needed: fields that must be there; the coordinates are among them.
        dialect: how the table is written.

    Raises:
        ValueError: if a field has no name or a needed one is not there, naming the line.
    """
    width, count = len(names), len(record.fields)
    if count == width:
        return record
    if count > width and not any(record.fields[width:]):
        fields = record.fields[:width]
        return Record(record.line, delimited([fields], dialect)[0], fields, record.line_end)
    if needed <= count < width and record.line_end:
        lacking = width - count
        text = record.text + dialect.separator * lacking
        return Record(record.line, text, record.fields + [""] * lacking, record.line_end)
    raise ValueError(
        f"line {record.line:,} has {count} fields and the header {width}, separated by "
        f"{SEPARATORS[dialect.separator]}s{'' if record.line_end else '; is the file cut short?'}"
    )


def delimited(rows: Iterable[Sequence[str]], dialect: Dialect) -> list[str]:
    """Write fields as records, without line ends; quoted only where they must be.

    >>> delimited([["a", 'b "c", d']], Dialect())
    ['a,"b ""c"", d"']
    """
    written = _Texts()
    # Fields that hold a character of the line end are quoted.
    csv.writer(written, delimiter=dialect.separator, lineterminator="\r\n").writerows(rows)
    return written


class _Texts(list[str]):
    """A file to `csv.writer`, which writes each row at once."""

    def write(self, text: str) -> None:
        self.append(text.removesuffix("\r\n"))


@contextmanager
def opened(source: Any) -> Iterator[Any]:
    """Open a path, or a binary file from its beginning; gzip is unpacked."""
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
