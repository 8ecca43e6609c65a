"""Text tables, CSV above all: rows are kept as they are written, and parsed beside that."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.schemas.errors import PointsError
from unigeo.schemas.tables.dialects import FALLBACKS, HEAD_BYTES, Dialect, find_dialect
from unigeo.schemas.tables.rows import Rows, column_pair, point_in_json
from unigeo.schemas.tables.text_records import delimited, fitted, opened, records
from unigeo.schemas.tables.text_values import Kind, kind_of_all, numbers_in

if TYPE_CHECKING:
    import pyarrow as pa

_MAKE: dict[Any, Callable[[str], Any]] = {
    "int": lambda text: int(text) if text else None,
    "float": lambda text: float(text) if text else None,
}
PART_CHARACTERS = 2**23
"""A part of a table ends when its rows hold so many."""
KEPT_CHARACTERS = 2**24
"""A table of no more is held whole, and read once."""


@dataclass(frozen=True, eq=False)
class TextRows(Rows):
    """Some rows of a text table; see `Rows`."""

    table: "TextTable"
    first: int
    lines: list[int]
    """Line of the file that each row begins in, counted from 1."""
    texts: list[str]
    """Each row as it is written, without its line end."""
    fields: list[list[str]]
    """The same, parsed: one per column."""

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def columns(self) -> list[tuple[str, ...]]:
        """The fields by column."""
        if not self.fields:
            return [()] * len(self.table.names)
        return list(zip(*self.fields, strict=True))

    def points(self) -> Float[np.ndarray, "row 2"]:
        """Read the coordinates; NaN where there are none.

        Raises:
            PointsError: if there are no such columns, or a field is no number.
        """
        return self._points

    @cached_property
    def _points(self) -> Float[np.ndarray, "row 2"]:
        return np.stack([self._numbers(column) for column in self.table.coordinates], axis=-1)

    def _numbers(self, column: int) -> Float[np.ndarray, " row"]:
        def described(row: int) -> str:
            return (
                f"the field {self.table.names[column]!r} of row {self.first + row:,} "
                f"(line {self.lines[row]:,})"
            )

        return numbers_in(self.columns[column], described, self.table.commas)

    def take(self, keep: Bool[np.ndarray, " row"]) -> "TextRows":
        """Leave rows out."""
        rows = np.flatnonzero(keep).tolist()
        return replace(
            self,
            lines=[self.lines[row] for row in rows],
            texts=[self.texts[row] for row in rows],
            fields=[self.fields[row] for row in rows],
        )

    def csv_header(self, dialect: Dialect) -> str:
        """The names as one record, as it is written if the separator stays."""
        if dialect.separator == self.table.dialect.separator:
            return self.table.header
        return delimited([self.table.names], dialect)[0]

    def csv_rows(self, dialect: Dialect) -> list[str]:
        """The rows as records, as they are written if the separator stays."""
        if dialect.separator == self.table.dialect.separator:
            return self.texts
        return delimited(self.fields, dialect)

    def arrow(self) -> "pa.Table":
        """The rows in Arrow, in types from which every text of the table comes back."""
        import pyarrow as pa

        types = {"int": pa.int64(), "float": pa.float64()}
        arrays = [
            pa.array(list(map(_MAKE[kind], texts)), types[kind])
            if kind in ("int", "float")
            else pa.array(texts, pa.string())
            for texts, kind in zip(self.columns, self.table.kinds, strict=True)
        ]
        return pa.Table.from_arrays(arrays, names=list(self.table.names))

    def features(self, lonlat: Float[np.ndarray, "row 2"]) -> Iterator[tuple[str, str]]:
        """Geometry and properties in JSON; coordinates that the geometry says are left out."""
        said = (self.points() == lonlat).all(axis=1).tolist()
        pairs = []
        for name, texts, kind in zip(self.table.names, self.columns, self.table.kinds, strict=True):
            key = encode_basestring(name) + ": "
            is_number = kind in ("int", "float")
            values = texts if is_number else map(encode_basestring, texts)
            pairs.append([key + (value or "null") for value in values])
        others = [k for k in range(len(pairs)) if k not in self.table.coordinates]
        rows = zip(*pairs, strict=True)
        for place, is_said, row in zip(lonlat.tolist(), said, rows, strict=True):
            properties = ", ".join([row[k] for k in others] if is_said else row)
            yield f'"geometry": {point_in_json(place)}', f"{{{properties}}}"


@dataclass(eq=False)
class TextTable:
    """A text table that was read through once; its parts are read as often as they are wanted."""

    source: Any
    """Path, or a binary file that can be read again."""
    dialect: Dialect
    names: tuple[str, ...]
    header: str
    """The names as they are written, without the line end."""
    columns: tuple[str, str] | None
    """Names of the coordinate columns, if not usual."""
    part_rows: int
    """Rows of a part, at most."""
    rows: int = 0
    kept: list[TextRows] = field(default_factory=list)
    """All rows, if they are few; they are not read again."""

    def parts(self) -> Iterator[TextRows]:
        """Some rows at a time; one part at least."""
        return iter(self.kept) if self.kept else self.read()

    def read(self) -> Iterator[TextRows]:
        """Read the file; some rows at a time."""
        width, first, characters = len(self.names), 0, 0
        lines: list[int] = []
        texts: list[str] = []
        fields: list[list[str]] = []
        for record in islice(records(self.source, self.dialect), 1, None):
            if len(texts) == self.part_rows or characters > PART_CHARACTERS:
                yield TextRows(self, first, lines, texts, fields)
                first, characters = first + len(texts), 0
                lines, texts, fields = [], [], []
            line, text, own, _ = record
            if len(own) != width:
                line, text, own, _ = fitted(record, self.names, self._needed, self.dialect)
            lines.append(line)
            texts.append(text)
            fields.append(own)
            characters += len(text)
        if texts or not first:
            yield TextRows(self, first, lines, texts, fields)

    @cached_property
    def coordinates(self) -> tuple[int, int]:
        """The columns of longitude and latitude.

        Raises:
            PointsError: if there is none, or several of one name.
        """
        try:
            return column_pair(self.names, self.columns)
        except PointsError as error:
            raise PointsError(
                f"{error}. The table was read as {self.dialect}, columns: {len(self.names)}"
            ) from error

    @cached_property
    def _needed(self) -> int:
        """Fields that a row must have: all, if the coordinates are not known."""
        with suppress(PointsError):
            return max(self.coordinates) + 1
        return len(self.names)

    @property
    def commas(self) -> bool:
        """Whether commas may be decimal points: where they do not separate fields."""
        return self.dialect.separator != ","

    @cached_property
    def kinds(self) -> list[Kind | None]:
        """The type of each column, decided over all rows; None is text too."""
        found: list[Kind | None] = [None] * len(self.names)
        for part in self.parts():
            found = list(map(kind_of_all, part.columns, found))
        return found


def open_text(
    source: Any,
    part_rows: int,
    columns: tuple[str, str] | None = None,
    *,
    placed: bool = False,
) -> TextTable:
    """Read a table through once, for its dialect and its number of rows.

    Args:
        source: path, or a binary file that can be read again; gzip is unpacked.
        part_rows: of a part, at most.
        columns: names of the coordinate columns, if not usual.
        placed: read the coordinates too, so that what is wrong with them is said before any work.

    Raises:
        ValueError: if it is empty, or a row does not fit the header.
        PointsError: if it should be placed and has no coordinates, or one that is no number.
    """
    with opened(source) as file:
        head = file.read(HEAD_BYTES)
    dialect = find_dialect(head, len(head) < HEAD_BYTES, columns)
    sure = dialect.mark or dialect.encoding != "utf-8"
    for encoding in (dialect.encoding, *(() if sure else FALLBACKS)):
        trial = replace(dialect, encoding=encoding)
        try:
            return _read_through(source, trial, part_rows, columns, placed)
        except UnicodeDecodeError:
            if sure:
                raise
    raise AssertionError("the last encoding has every byte")


def _read_through(
    source: Any,
    dialect: Dialect,
    part_rows: int,
    columns: tuple[str, str] | None,
    placed: bool,
) -> TextTable:
    header = next(records(source, dialect), None)
    if header is None:
        raise ValueError("it is empty")
    dialect = replace(dialect, line_end="\r\n" if header.line_end == "\r\n" else "\n")
    table = TextTable(source, dialect, tuple(header.fields), header.text, columns, part_rows)
    located: tuple[int, ...] = ()
    with suppress(PointsError):
        located = table.coordinates if table.commas else ()
    kept: list[TextRows] = []
    characters, commas = 0, False
    for part in table.read():
        if placed:
            part.points()
        commas |= any("," in text for column in located for text in part.columns[column])
        table.rows += len(part)
        characters += sum(map(len, part.texts))
        if characters <= KEPT_CHARACTERS:
            kept.append(part)
        else:
            kept.clear()
    table.dialect = replace(dialect, decimal="," if commas else ".")
    table.kept = kept
    return table
