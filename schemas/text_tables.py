"""Text tables, CSV above all: rows are kept as they are written, and parsed beside that."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.schemas.dialects import FALLBACKS, HEAD_BYTES, Dialect, find_dialect
from unigeo.schemas.errors import PointsError
from unigeo.schemas.rows import Rows, column_pair, point_in_json
from unigeo.schemas.text_records import delimited, fitted, opened, records
from unigeo.schemas.text_values import Kind, kind_of_all, number_in, numbers_in

if TYPE_CHECKING:
    import pyarrow as pa

PART_CHARACTERS = 2**24
"""A part of a table ends when its rows hold so many."""


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

    def column(self, number: int) -> list[str]:
        """The fields of one column."""
        return [row[number] for row in self.fields]

    def points(self) -> Float[np.ndarray, "row 2"]:
        """Read the coordinates; NaN where there are none.

        Raises:
            PointsError: if there are no such columns, or a field is no number.
        """
        return np.stack([self._numbers(column) for column in self.table.coordinates], axis=-1)

    def _numbers(self, column: int) -> Float[np.ndarray, " row"]:
        def described(row: int) -> str:
            return (
                f"the field {self.table.names[column]!r} of row {self.first + row:,} "
                f"(line {self.lines[row]:,})"
            )

        return numbers_in(self.column(column), described, self.table.commas)

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

        arrays = []
        for number, kind in enumerate(self.table.kinds):
            texts = self.column(number)
            if kind == "int":
                values: Any = pa.array([int(text) if text else None for text in texts], pa.int64())
            elif kind == "float":
                values = pa.array([float(text) if text else None for text in texts], pa.float64())
            else:
                values = pa.array(texts, pa.string())
            arrays.append(values)
        return pa.Table.from_arrays(arrays, names=list(self.table.names))

    def features(self, lonlat: Float[np.ndarray, "row 2"]) -> Iterator[tuple[str, str]]:
        """Geometry and properties in JSON; coordinates that the geometry says are left out."""
        keys = [json.dumps(name, ensure_ascii=False) for name in self.table.names]
        kinds, located = self.table.kinds, self.table.coordinates
        for fields, place in zip(self.fields, lonlat.tolist(), strict=True):
            said = [number_in(fields[column], self.table.commas) for column in located] == place
            pairs = (
                f"{keys[number]}: {_json_of(text, kinds[number])}"
                for number, text in enumerate(fields)
                if not (said and number in located)
            )
            yield f'"geometry": {point_in_json(place)}', f"{{{', '.join(pairs)}}}"


def _json_of(text: str, kind: Kind | None) -> str:
    if kind in ("int", "float"):
        return text or "null"
    return json.dumps(text, ensure_ascii=False)


@dataclass(frozen=True, eq=False)
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
    """The rows, where they are one part; empty where they are several."""

    def parts(self) -> Iterator[TextRows]:
        """Some rows at a time; one part at least."""
        return iter(self.kept) if self.kept else self.read()

    def read(self) -> Iterator[TextRows]:
        """Read the file; some rows at a time."""
        part, characters = TextRows(self, 0, [], [], []), 0
        read = records(self.source, self.dialect)
        next(read)
        for record in read:
            if len(part) == self.part_rows or characters > PART_CHARACTERS:
                yield part
                part, characters = TextRows(self, part.first + len(part), [], [], []), 0
            if len(record.fields) != len(self.names):
                record = fitted(record, self.names, self._needed, self.dialect)
            part.lines.append(record.line)
            part.texts.append(record.text)
            part.fields.append(record.fields)
            characters += len(record.text)
        if len(part) or not part.first:
            yield part

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
                f"{error}. The table was read as {self.dialect} with {len(self.names)} columns"
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
            found = [kind_of_all(part.column(number), kind) for number, kind in enumerate(found)]
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
    dialect = replace(dialect, line_end=header.line_end or "\n")
    table = TextTable(source, dialect, tuple(header.fields), header.text, columns, part_rows)
    located: tuple[int, ...] = ()
    with suppress(PointsError):
        located = table.coordinates if table.commas else ()
    rows, commas = 0, False
    for part in table.read():
        rows += len(part)
        if placed:
            part.points()
        commas |= any("," in text for column in located for text in part.column(column))
    found = replace(table, dialect=replace(dialect, decimal="," if commas else "."), rows=rows)
    if len(part) == rows:
        found.kept.append(replace(part, table=found))
    return found
