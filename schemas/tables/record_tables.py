"""JSON objects as rows: JSON lines, or a list of objects; written unchanged to JSON lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import PointsError
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.tables.arrow_values import dump_json
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns
from unigeo.schemas.tables.feature_tables import FeatureTable, GeoJsonRows, parse_features
from unigeo.schemas.tables.position_texts import parse_positions
from unigeo.schemas.tables.rows import geojson_point, position_columns
from unigeo.schemas.tables.text_values import parse_numbers


@dataclass(frozen=True, eq=False)
class RecordTable(FeatureTable):
    """Objects, held in memory as the properties of features without a geometry."""

    coordinates: CoordinateColumns | None = None
    """Names of the coordinate columns, if not usual."""
    has_geometry: ClassVar[bool] = False

    def rows(self, first: int, count: int) -> "RecordRows":
        """Return `count` rows from `first` on, or those that there are."""
        return RecordRows(self, first, np.arange(first, min(first + count, len(self))))

    @property
    def _position_columns(self) -> tuple[str, ...]:
        return ()

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """Values by name of the column; None where missing."""
        rows = [feature["properties"] for feature in self.features]
        return {name: [row.get(name) for row in rows] for name in self.names}

    @cached_property
    def pair(self) -> tuple[str, ...]:
        """Names of the coordinate columns, or of the one of positions as text.

        Raises:
            PointsError: if there are none.
        """
        return tuple(self.names[k] for k in position_columns(self.names, self.coordinates))

    @cached_property
    def xy(self) -> Float[np.ndarray, "row 2"]:
        """Coordinates of all rows in the CRS that they have; NaN where missing."""
        if len(self.pair) == 1:
            (name,) = self.pair
            described = f"the field {name!r} of row {{:,}}"
            return parse_positions(self.columns[name], name, described.format)

        def numbers(name: str) -> np.ndarray:
            values = self.columns[name]
            if any(isinstance(one, bool | list | dict) for one in values):
                raise PointsError(f"the column {name!r} must hold numbers")
            texts = ["" if one is None else str(one) for one in values]
            return parse_numbers(texts, lambda row: f"the field {name!r} of row {row:,}")

        return np.stack([numbers(name) for name in self.pair], axis=-1)


@dataclass(frozen=True, eq=False)
class RecordRows(GeoJsonRows):
    """Some objects; see `Rows`."""

    table: RecordTable

    def points(self) -> Any:
        """Return the coordinates."""
        return self.table.xy[self.numbers]

    def features(self, lonlat: Float[np.ndarray, "row 2"]) -> Iterator[tuple[str, str]]:
        """Yield geometry and properties; coordinates equal to the geometry are left out."""
        for number, point in zip(self.numbers, lonlat.tolist(), strict=True):
            own = self.table.features[number]["properties"]
            if [own.get(name) for name in self.table.pair] == point:
                own = {name: value for name, value in own.items() if name not in self.table.pair}
            yield f'"geometry": {geojson_point(point)}', dump_json(own)


def parse_document(
    content: bytes, columns: CoordinateColumns | None = None, crs: Any = None
) -> FeatureTable:
    """Parse GeoJSON, or a list of objects, which are rows; arguments as in `parse_records`.

    Raises:
        ValueError: if it is not JSON.
        PointsError: if it is neither.
    """
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
        return record_table(load_json(content), columns, crs)
    return parse_features(content, crs)


def parse_records(
    content: bytes, columns: CoordinateColumns | None = None, crs: Any = None
) -> FeatureTable:
    """Parse JSON lines; lines of GeoJSON features are a table of these.

    Args:
        content: one JSON object in a line.
        columns: names of the coordinate columns, if not usual.
        crs: as in `read_points`.

    Raises:
        ValueError: naming the first line that is no object.
    """
    rows = []
    for number, line in enumerate(content.decode("utf-8-sig").split("\n"), 1):
        text = line.strip(" \t\r\x1e")  # RFC 8142 begins each text by a record separator
        if not text:
            continue
        try:
            row = load_json(text)
        except ValueError as error:
            raise ValueError(f"line {number:,}: {error}; is the file cut short?") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number:,} holds no object but a {type(row).__name__}")
        rows.append(row)
    if rows and all(row.get("type") == "Feature" and "geometry" in row for row in rows):
        document = {"type": "FeatureCollection", "features": rows}
        return parse_features(dump_json(document).encode(), crs)
    return record_table(rows, columns, crs)


def record_table(
    rows: list[Any], columns: CoordinateColumns | None = None, crs: Any = None
) -> RecordTable:
    """Make a table of objects.

    Raises:
        ValueError: if there are none, or one is no object.
    """
    if not rows:
        raise ValueError("it is empty")
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a list of rows holds objects, one for each row")
    return RecordTable({}, [{"properties": row} for row in rows], crs, columns)
