"""How a text table is written: its encoding, separator and line ends, found in its first bytes."""

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from unigeo.schemas.errors import PointsError
from unigeo.schemas.tables.points import find_columns

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
HEAD_BYTES = 2**20
"""Of a table, looked at for its separator."""
_HEAD_ROWS = 200
_NO_TEXT = " \t\x1a"
"""White space, and the mark that DOS puts at the end of a file."""
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",  # begins as UTF-16's does
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
FALLBACKS = ("cp1252", "latin-1")
"""Of a table that is not UTF-8; the second knows every byte."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a text table is written."""

    separator: str = ","
    """Of fields; quoted ones may hold it."""
    encoding: str = "utf-8"
    """Name of a Python codec that writes no mark."""
    mark: bytes = b""
    """Byte-order mark before the text."""
    line_end: str = "\n"
    """Of a row: that of Windows or of Unix. Fields keep their own."""
    decimal: str = "."
    """Point or comma of the coordinates, and of the new columns."""

    def __str__(self) -> str:
        return f"{SEPARATORS[self.separator]}-separated {self.encoding.upper()}"


def find_dialect(head: bytes, whole: bool, columns: tuple[str, str] | None = None) -> Dialect:
    """Find encoding and separator; line end and decimal are for who reads on.

    The separator is the one under which there are columns of coordinates, all rows have as many
    fields as the header, and these are most, in this order.

    Args:
        head: the first bytes of the table.
        whole: whether it ends there.
        columns: names of the coordinate columns, if not usual.
    """
    mark, encoding = _encoding_of(head)
    lines = io.StringIO(head[len(mark) :].decode(encoding, "replace"), newline="").readlines()
    if not whole and len(lines) > 1:
        del lines[-1]
    suited = {one: _suitability(lines, one, whole, columns) for one in SEPARATORS}
    return Dialect(separator=max(suited, key=lambda one: suited[one]), encoding=encoding, mark=mark)


def is_blank(fields: Sequence[str]) -> bool:
    """Whether a line says nothing: it is no row of a table."""
    return len(fields) == 0 or (len(fields) == 1 and not fields[0].strip(_NO_TEXT))


def _encoding_of(head: bytes) -> tuple[bytes, str]:
    """The byte-order mark, and the encoding that it or a Latin header in UTF-16 says."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return mark, encoding
    if len(head) >= 4 and head[0] and head[1:4:2] == b"\0\0" and head[2]:
        return b"", "utf-16-le"
    if len(head) >= 4 and head[1] and head[0:4:2] == b"\0\0" and head[3]:
        return b"", "utf-16-be"
    return b"", "utf-8"


def _suitability(
    lines: Sequence[str], separator: str, whole: bool, columns: tuple[str, str] | None
) -> tuple[bool, bool, int]:
    """How well a separator fits the first lines of a table; more is better."""
    rows: list[list[str]] = []
    fits = True
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for row in reader:
            if not is_blank(row):
                rows.append(row)
            if len(rows) > _HEAD_ROWS:
                break
    except csv.Error:  # at the end of a head that is cut, a quoted field may be open
        fits = not whole and reader.line_num == len(lines)
    if not rows:
        return False, False, 0
    width = len(rows[0])
    fits &= all(len(row) == width or not any(row[width:]) for row in rows)
    try:
        find_columns(rows[0], columns)
    except PointsError:
        return False, width > 1 and fits, width
    return True, fits, width
