"""Some rows of a user's table, in the form they were read in, for tables larger than memory.

Every kind of table has its own; none changes what the user wrote. `text_tables`, `arrow_tables` and
`feature_tables` are the kinds.
"""

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.schemas.tables.dialects import Dialect
from unigeo.schemas.tables.points import find_columns

if TYPE_CHECKING:
    import pyarrow as pa


class Rows(ABC):
    """Some rows of a table."""

    first: int
    """Number of the first row, counted from 0."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def points(self) -> Any:
        """The rows' places, as `read_points` takes them; NaN or empty where there is none."""

    @abstractmethod
    def take(self, keep: Bool[np.ndarray, " row"]) -> "Rows":
        """Leave rows out."""

    @abstractmethod
    def csv_header(self, dialect: Dialect) -> str:
        """The names of the columns as one record, without line end."""

    @abstractmethod
    def csv_rows(self, dialect: Dialect) -> Sequence[str]:
        """One record for each row, without line ends."""

    @abstractmethod
    def arrow(self) -> "pa.Table":
        """The rows in Arrow, of the same types in every part of the table."""

    @abstractmethod
    def features(self, lonlat: Float[np.ndarray, "row 2"]) -> Iterator[tuple[str, str]]:
        """For each row the members of a GeoJSON feature before its properties, and these, as JSON.

        Args:
            lonlat: the rows' places in WGS 84 degrees, NaN where there is none.
        """


def column_pair(names: Sequence[str], columns: tuple[str, str] | None = None) -> tuple[int, int]:
    """Find where the columns of longitude and latitude stand.

    Args:
        names: of all columns.
        columns: names of the two, if not usual.

    Raises:
        PointsError: if there is none, or several of one name.
    """
    lon, lat = find_columns(names, columns)
    return names.index(lon), names.index(lat)


def repeated(names: Sequence[str]) -> str | None:
    """The first name that several columns have.

    >>> repeated(["a", "b", "a"])
    'a'
    """
    return next((name for name, count in Counter(names).items() if count > 1), None)


def point_in_json(place: Sequence[float]) -> str:
    """A place as a GeoJSON geometry; null where it is NaN.

    >>> point_in_json([-105.0, 39.5])
    '{"type": "Point", "coordinates": [-105.0, 39.5]}'
    """
    if any(map(math.isnan, place)):
        return "null"
    return json.dumps({"type": "Point", "coordinates": list(place)})
