"""The interface of some rows of a user's table, which keep the form in which they were read.

`text_tables`, `arrow_tables` and `feature_tables` implement it; none changes what the user wrote.
"""

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.schemas.errors import PointsError
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns, find_columns
from unigeo.schemas.tables.dialects import Dialect
from unigeo.schemas.tables.position_texts import position_column, remedy_without_positions

if TYPE_CHECKING:
    import pyarrow as pa


class Rows(ABC):
    """Consecutive rows of a table."""

    first: int
    """Index of the first row in the table."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def points(self) -> Any:
        """Return the rows' positions as `read_points` takes them; NaN or empty where missing."""

    @abstractmethod
    def take(self, keep: Bool[np.ndarray, " row"]) -> "Rows":
        """Select rows by a mask."""

    @abstractmethod
    def csv_header(self, dialect: Dialect) -> str:
        """Return the names of the columns as one record, without line end."""

    @abstractmethod
    def csv_rows(self, dialect: Dialect) -> Sequence[str]:
        """Return one record for each row, without line ends."""

    @abstractmethod
    def arrow(self) -> "pa.Table":
        """Return the rows in Arrow, of the same types in every part of the table."""

    @abstractmethod
    def features(self, lonlat: Float[np.ndarray, "row 2"]) -> Iterator[tuple[str, str]]:
        """Yield the JSON of each row's GeoJSON feature: members before its properties, and these.

        Args:
            lonlat: positions of the rows in WGS 84 degrees, NaN where missing.
        """

    @abstractmethod
    def records(self) -> Iterator[str]:
        """Yield each row as a JSON object of its columns, null where a value is missing."""

    @abstractmethod
    def column_texts(self, name: str) -> Sequence[str]:
        """Return the values of a column as text, empty where one is missing."""


def position_columns(
    names: Sequence[str], columns: CoordinateColumns | None = None
) -> tuple[int, ...]:
    """Return the indices of the columns of longitude and latitude, or of the one of text.

    Args:
        names: names of all columns.
        columns: names of the two, or of the one, if not usual.

    Raises:
        PointsError: if there is none, or several of one name.
    """
    try:
        lon, lat = find_columns(names, columns)
    except PointsError as error:
        name = position_column(names, columns)
        if name is None:
            raise PointsError(f"{error}{remedy_without_positions(names)}") from error
        return (names.index(name),)
    return names.index(lon), names.index(lat)


def first_duplicate(names: Sequence[str]) -> str | None:
    """Return the first name that several columns have; None if there is none.

    >>> first_duplicate(["a", "b", "a"])
    'a'
    """
    return next((name for name, count in Counter(names).items() if count > 1), None)


def geojson_point(lonlat: Sequence[float]) -> str:
    """Write a point as a GeoJSON geometry; null if it is NaN.

    >>> geojson_point([-105.0, 39.5])
    '{"type": "Point", "coordinates": [-105.0, 39.5]}'
    """
    if any(map(math.isnan, lonlat)):
        return "null"
    return json.dumps({"type": "Point", "coordinates": list(lonlat)})
