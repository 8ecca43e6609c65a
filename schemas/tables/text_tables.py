"""Text tables, such as CSV: rows keep their text as it is written, and are parsed as well."""

import re
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
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns
from unigeo.schemas.tables.dialects import FALLBACK_ENCODINGS, HEAD_BYTES, Dialect, find_dialect
from unigeo.schemas.tables.position_texts import parse_positions
from unigeo.schemas.tables.rows import Rows, geojson_point, position_columns
from unigeo.schemas.tables.text_records import fit_record, format_records, open_binary, read_records
from unigeo.schemas.tables.text_values import Kind, column_kind, parse_numbers

if TYPE_CHECKING:
    import pyarrow as pa

_PARSERS: dict[Any, Callable[[str], Any]] = {
    "int": lambda text: int(text) if text else None,
    "float": lambda text: float(text) if text else None,
}
_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*", re.ASCII)
"""Pattern of a number with a decimal comma."""
PART_CHARACTERS = 2**23
"""Number of characters after which a part of a table ends."""
KEPT_CHARACTERS = 2**24
"""Number of characters up to which a table is held in memory, and so read once."""


@dataclass(frozen=True, eq=False)
class TextRows(Rows):
    """Consecutive rows of a text table; see `Rows`."""

    table: "TextTable"
    first: int
    lines: list[int]
    """Number of the line in which each row begins, counted from 1."""
    texts: list[str]
    """Text of each row as it is written, without its line end."""
    fields: list[list[str]]
    """Parsed fields of each row, one per column."""

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def columns(self) -> list[tuple[str, ...]]:
        """The fields by column."""
        if not self.fields:
            return [()] * len(self.table.names)
        return list(zip(*self.fields, strict=True))

    def points(self) -> Float[np.ndarray, "row 2"]:
        """Return the coordinates; NaN where missing.

        Raises:
            PointsError: if there are no such columns, or a field is not a number.
        """
        return self._points

    @cached_property
    def _points(self) -> Float[np.ndarray, "row 2"]:
        coordinates = self.table.coordinates
        if len(coordinates) == 1:
            (column,) = coordinates
            name = self.table.names[column]
            return parse_positions(self.columns[column], name, self._described(column))
        return np.stack([self._numbers(column) for column in coordinates], axis=-1)

    def _numbers(self, column: int) -> Float[np.ndarray, " row"]:
        return parse_numbers(self.columns[column], self._described(column), self.table.commas)

    def _described(self, column: int) -> Callable[[int], str]:
        return lambda row: (
            f"the field {self.table.names[column]!r} of row {self.first + row:,} "
            f"(line {self.lines[row]:,})"
        )

    def take(self, keep: Bool[np.ndarray, " row"]) -> "TextRows":
        """Select rows by a mask."""
        rows = np.flatnonzero(keep).tolist()
        return replace(
            self,
            lines=[self.lines[row] for row in rows],
            texts=[self.texts[row] for row in rows],
            fields=[self.fields[row] for row in rows],
        )

    def csv_header(self, dialect: Dialect) -> str:
        """Return the header: as it is written, if the separator is the same."""
        if dialect.separator == self.table.dialect.separator:
            return self.table.header
        return format_records([self.table.names], dialect)[0]

    def csv_rows(self, dialect: Dialect) -> list[str]:
        """Return the rows as records: as they are written, if the separator is the same."""
        if dialect.separator == self.table.dialect.separator:
            return self.texts
        return format_records(self.fields, dialect)

    def arrow(self) -> "pa.Table":
        """Return the rows in Arrow, in types that keep every text of the table."""
        import pyarrow as pa

        types = {"int": pa.int64(), "float": pa.float64()}
        arrays = [
            pa.array(list(map(_PARSERS[kind], texts)), types[kind])
            if kind in ("int", "float")
            else pa.array(texts, pa.string())
            for texts, kind in zip(self.columns, self.table.kinds, strict=True)
        ]
        return pa.Table.from_arrays(arrays, names=list(self.table.names))

    def features(self, lonlat: Float[np.ndarray, "row 2"]) -> Iterator[tuple[str, str]]:
        """Yield geometry and properties in JSON; coordinates equal to the geometry are left out."""
        redundant = (self.points() == lonlat).all(axis=1).tolist()
        pairs = self._json_columns()
        coordinates = self.table.coordinates if len(self.table.coordinates) > 1 else ()
        others = [k for k in range(len(pairs)) if k not in coordinates]
        rows = zip(*pairs, strict=True)
        for point, is_redundant, row in zip(lonlat.tolist(), redundant, rows, strict=True):
            properties = ", ".join([row[k] for k in others] if is_redundant else row)
            yield f'"geometry": {geojson_point(point)}', f"{{{properties}}}"

    def records(self) -> Iterator[str]:
        """Yield each row as a JSON object."""
        for row in zip(*self._json_columns(), strict=True):
            yield f"{{{', '.join(row)}}}"

    def column_texts(self, name: str) -> tuple[str, ...]:
        """Return the fields of a column as they are written."""
        return self.columns[self.table.names.index(name)]

    def _json_columns(self) -> list[list[str]]:
        """Return the members of JSON objects, name and value, by column."""
        pairs = []
        for name, texts, kind in zip(self.table.names, self.columns, self.table.kinds, strict=True):
            key = encode_basestring(name) + ": "
            is_number = kind in ("int", "float")
            values = texts if is_number else map(encode_basestring, texts)
            # The text of a number is its JSON: `column_kind` lets no other text pass as a number.
            pairs.append([key + (value or "null") for value in values])
        return pairs


@dataclass(eq=False)
class TextTable:
    """A text table whose dialect and size are known; its parts are read any number of times."""

    source: Any
    """Path, or a seekable binary file."""
    dialect: Dialect
    names: tuple[str, ...]
    header: str
    """Header as it is written, without its line end."""
    columns: CoordinateColumns | None
    """Names of the coordinate columns, if not usual."""
    part_rows: int
    """Largest number of rows of a part."""
    rows: int = 0
    kept: list[TextRows] = field(default_factory=list)
    """All parts of a small table, which is not read again; empty for a large one."""

    def parts(self) -> Iterator[TextRows]:
        """Return the parts of the table, of which there is at least one."""
        return iter(self.kept) if self.kept else self.read()

    def read(self) -> Iterator[TextRows]:
        """Read the file part by part."""
        width, first, characters = len(self.names), 0, 0
        lines: list[int] = []
        texts: list[str] = []
        fields: list[list[str]] = []
        for record in islice(read_records(self.source, self.dialect), 1, None):
            if len(texts) == self.part_rows or characters > PART_CHARACTERS:
                yield TextRows(self, first, lines, texts, fields)
                first, characters = first + len(texts), 0
                lines, texts, fields = [], [], []
            if len(record.fields) != width:
                record = fit_record(record, self.names, self._needed, self.dialect)
            lines.append(record.line)
            texts.append(record.text)
            fields.append(record.fields)
            characters += len(record.text)
        if texts or not first:
            yield TextRows(self, first, lines, texts, fields)

    @cached_property
    def coordinates(self) -> tuple[int, ...]:
        """Indices of the columns of longitude and latitude, or of the one of positions as text.

        Raises:
            PointsError: if there is none, or several of one name.
        """
        try:
            return position_columns(self.names, self.columns)
        except PointsError as error:
            raise PointsError(
                f"{error}. The table was read as {self.dialect}, columns: {len(self.names)}"
            ) from error

    @cached_property
    def _needed(self) -> int:
        """Number of fields that a row must have: all, if there are no coordinate columns."""
        with suppress(PointsError):
            return max(self.coordinates) + 1
        return len(self.names)

    @property
    def commas(self) -> bool:
        """Whether commas may be decimal points, as they do not separate fields."""
        return self.dialect.separator != ","

    @cached_property
    def kinds(self) -> list[Kind | None]:
        """Type of each column, decided over all rows; None, of an empty column, counts as text."""
        kinds: list[Kind | None] = [None] * len(self.names)
        for part in self.parts():
            kinds = list(map(column_kind, part.columns, kinds))
        return kinds


def open_text(
    source: Any,
    part_rows: int,
    columns: CoordinateColumns | None = None,
    *,
    check_positions: bool = False,
) -> TextTable:
    """Open a text table; it is read once for its dialect and its number of rows.

    Args:
        source: path, or a seekable binary file; gzip is decompressed.
        part_rows: largest number of rows of a part.
        columns: names of the coordinate columns, if not usual.
        check_positions: read the coordinates too, so that wrong ones are reported before any work.

    Raises:
        ValueError: if it is empty, or a row does not fit the header.
        PointsError: with `check_positions`, if there are no coordinates, or one is not a number.
    """
    with open_binary(source) as file:
        head = file.read(HEAD_BYTES)
    dialect = find_dialect(head, len(head) < HEAD_BYTES, columns)
    certain = dialect.mark or dialect.encoding != "utf-8"
    for encoding in (dialect.encoding, *(() if certain else FALLBACK_ENCODINGS)):
        trial = replace(dialect, encoding=encoding)
        try:
            return _read_through(source, trial, part_rows, columns, check_positions)
        except UnicodeDecodeError:  # raised anywhere in the file, so all of it is read again
            if certain:
                raise
    raise AssertionError("the last encoding decodes every byte")


def _read_through(
    source: Any,
    dialect: Dialect,
    part_rows: int,
    columns: CoordinateColumns | None,
    check_positions: bool,
) -> TextTable:
    header = next(read_records(source, dialect), None)
    if header is None:
        raise ValueError("it is empty")
    dialect = replace(dialect, line_end="\r\n" if header.line_end == "\r\n" else "\n")
    table = TextTable(source, dialect, tuple(header.fields), header.text, columns, part_rows)
    coordinates: tuple[int, ...] = ()
    with suppress(PointsError):
        coordinates = table.coordinates if table.commas else ()
    kept: list[TextRows] = []
    characters, commas = 0, False
    for part in table.read():
        if check_positions:
            part.points()
        if coordinates:
            commas |= any("," in text for column in coordinates for text in part.columns[column])
        elif table.commas:
            commas |= any(_COMMA.fullmatch(text) for row in part.fields for text in row)
        table.rows += len(part)
        characters += sum(map(len, part.texts))
        if characters <= KEPT_CHARACTERS:
            kept.append(part)
        else:
            kept.clear()
    table.dialect = replace(dialect, decimal="," if commas else ".")
    table.kept = kept
    return table
