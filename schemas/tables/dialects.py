"""Dialects of text tables: encoding, separator and line ends, detected in the first bytes."""

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from unigeo.schemas.errors import PointsError
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns, find_columns
from unigeo.schemas.tables.position_texts import position_column

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
HEAD_BYTES = 2**20
"""Number of bytes at the start of a table in which its dialect is detected."""
_HEAD_ROWS = 200
_BLANKS = " \t\x1a"
"""White space, and the character that DOS writes at the end of a file."""
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16's mark, with which it begins
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
FALLBACK_ENCODINGS = ("cp1252", "latin-1")
"""Encodings tried for a table that is not UTF-8; the last one decodes every byte."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The way a text table is written."""

    separator: str = ","
    """Character between fields; quoted fields may contain it."""
    encoding: str = "utf-8"
    """Name of a Python codec that writes no byte-order mark."""
    mark: bytes = b""
    """Byte-order mark before the text."""
    line_end: str = "\n"
    """Line end of a row, that of Windows or of Unix; line ends inside fields stay as they are."""
    decimal: str = "."
    """Decimal point or comma of the coordinates and of new columns."""

    def __str__(self) -> str:
        return f"{SEPARATORS[self.separator]}-separated {self.encoding.upper()}"


def find_dialect(head: bytes, whole: bool, columns: CoordinateColumns | None = None) -> Dialect:
    """Detect encoding and separator; line end and decimal need the rest of the table.

    The best separator is one with which there are columns of coordinates; then one with which all
    rows have as many fields as the header; then the one that gives most fields.

    Args:
        head: first bytes of the table.
        whole: whether the table ends there.
        columns: names of the coordinate columns, if not usual.
    """
    mark, encoding = _find_encoding(head)
    lines = io.StringIO(head[len(mark) :].decode(encoding, "replace"), newline="").readlines()
    if not whole and len(lines) > 1:
        del lines[-1]  # the head may end within it
    ratings = {one: _rate_separator(lines, one, whole, columns) for one in SEPARATORS}
    best = max(ratings, key=lambda one: ratings[one])
    return Dialect(separator=best, encoding=encoding, mark=mark)


def is_blank(fields: Sequence[str]) -> bool:
    """Return whether a line is blank, so that it is not a row of the table."""
    return len(fields) == 0 or (len(fields) == 1 and not fields[0].strip(_BLANKS))


def _find_encoding(head: bytes) -> tuple[bytes, str]:
    """Return the byte-order mark, and the encoding that follows from it or from zero bytes."""
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return mark, encoding
    # UTF-16 without a mark: in a header of Latin letters every other byte is zero.
    if len(head) >= 4 and head[0] and head[1:4:2] == b"\0\0" and head[2]:
        return b"", "utf-16-le"
    if len(head) >= 4 and head[1] and head[0:4:2] == b"\0\0" and head[3]:
        return b"", "utf-16-be"
    return b"", "utf-8"


def _rate_separator(
    lines: Sequence[str], separator: str, whole: bool, columns: CoordinateColumns | None
) -> tuple[bool, bool, int]:
    """Rate how well a separator fits the first lines of a table; the largest rating is best."""
    rows: list[list[str]] = []
    fits = True
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for row in reader:
            if not is_blank(row):
                rows.append(row)
            if len(rows) > _HEAD_ROWS:
                break
    except csv.Error:  # no fault where the head ends within a quoted field
        fits = not whole and reader.line_num == len(lines)
    if not rows:
        return False, False, 0
    width = len(rows[0])
    fits &= all(len(row) == width or not any(row[width:]) for row in rows)
    try:
        find_columns(rows[0], columns)
    except PointsError:
        try:
            has_text = position_column(rows[0], columns) is not None
        except PointsError:
            has_text = False
        return has_text and width > 1, width > 1 and fits, width
    return True, fits, width
