"""Features of GeoJSON as rows: into GeoJSON they go whole, into other formats as columns."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.schemas.errors import PointsError
from unigeo.schemas.tables.dialects import Dialect
from unigeo.schemas.tables.geojson import TYPES
from unigeo.schemas.tables.points import read_points
from unigeo.schemas.tables.rows import Rows
from unigeo.schemas.tables.text_records import delimited

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """A GeoJSON document of points, held whole."""

    members: dict[str, Any]
    """Of the document, but for its type and features."""
    features: list[dict[str, Any]]
    crs: Any = None
    """Of the coordinates, if it is named and the document does not say it."""

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, first: int, count: int) -> "GeoJsonRows":
        """Some of the features."""
        return GeoJsonRows(self, first, np.arange(first, min(first + count, len(self))))

    def document(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Some of the features as a document of their own."""
        return {"type": "FeatureCollection"} | self.members | {"features": features}

    @cached_property
    def lonlat(self) -> Float[np.ndarray, "row 2"]:
        """The features' places in WGS 84 degrees, NaN where one has none."""
        return read_points(self.document(self.features), self.crs, missing="keep").lonlat

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns: the features' ids, their properties, and their places.

        Places are `lon` and `lat`; where there are such properties, WKT in `geometry`. Names that
        properties have too get an underscore.
        """
        return (*self._ids, *self._properties, *self._places)

    @cached_property
    def _properties(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for one in self.features for name in _properties(one)))

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        return (self._free("id"),) if any("id" in one for one in self.features) else ()

    @cached_property
    def _places(self) -> tuple[str, ...]:
        taken = {"lon", "lat"} & set(self._properties)
        return (self._free("geometry"),) if taken else ("lon", "lat")

    def _free(self, name: str) -> str:
        return self._free(name + "_") if name in self._properties else name

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """Values by name; None where there is none."""
        properties = list(map(_properties, self.features))
        places = [None if np.isnan(one).any() else one.tolist() for one in self.lonlat]
        found = {name: [one.get("id") for one in self.features] for name in self._ids}
        found |= {name: [one.get(name) for one in properties] for name in self._properties}
        if len(self._places) == 1:
            return found | {self._places[0]: [one and _wkt(one) for one in places]}
        return found | {
            name: [one and one[axis] for one in places] for axis, name in enumerate(self._places)
        }

    @cached_property
    def arrow(self) -> "pa.Table":
        """All columns in Arrow; one of several types is JSON text."""
        import pyarrow as pa

        numbers = self._places if len(self._places) == 2 else ()
        arrays = [
            pa.array(values, pa.float64()) if name in numbers else _array_of(values)
            for name, values in self.columns.items()
        ]
        return pa.table(arrays, list(self.names))


@dataclass(frozen=True, eq=False)
class GeoJsonRows(Rows):
    """Some features; see `Rows`."""

    table: FeatureTable
    first: int
    numbers: Int[np.ndarray, " row"]
    """Of the features in the table."""

    def __len__(self) -> int:
        return len(self.numbers)

    def points(self) -> Any:
        """The features as a document of their own."""
        return self.table.document([self.table.features[number] for number in self.numbers])

    def take(self, keep: Bool[np.ndarray, " row"]) -> "GeoJsonRows":
        """Leave features out."""
        return replace(self, numbers=self.numbers[keep])

    def csv_header(self, dialect: Dialect) -> str:
        """The names of all columns."""
        return delimited([list(self.table.columns)], dialect)[0]

    def csv_rows(self, dialect: Dialect) -> list[str]:
        """Text as it is, and other values as JSON has them; empty where they are null."""
        columns = list(self.table.columns.values())
        rows = ([_text(column[number]) for column in columns] for number in self.numbers)
        return delimited(rows, dialect)

    def arrow(self) -> "pa.Table":
        """The columns in Arrow."""
        import pyarrow as pa

        return self.table.arrow.take(pa.array(self.numbers))

    def features(self, lonlat: Float[np.ndarray, "row 2"]) -> Iterator[tuple[str, str]]:
        """Each feature as it came."""
        del lonlat  # the geometry stays as it is
        for number in self.numbers:
            feature = self.table.features[number]
            members = {
                name: value for name, value in feature.items() if name not in ("type", "properties")
            }
            yield _dumped(members)[1:-1], _dumped(_properties(feature))


def feature_table(content: bytes, crs: Any = None) -> FeatureTable:
    """Read a document.

    Args:
        content: JSON.
        crs: as in `read_points`.

    Raises:
        ValueError: if it is no JSON.
        PointsError: if it is no GeoJSON of features.
    """
    document = json.loads(content)
    kind = document.get("type") if isinstance(document, dict) else None
    if kind not in TYPES:
        raise PointsError(f"not valid GeoJSON: its type is none of {', '.join(TYPES)}")
    if kind == "FeatureCollection":
        features = document.get("features")
        members = {k: v for k, v in document.items() if k not in ("type", "features")}
    else:
        whole = document if kind == "Feature" else {"geometry": document, "properties": {}}
        features = [whole]
        members = {"crs": document["crs"]} if "crs" in document else {}
    if not isinstance(features, list) or not all(map(_is_feature, features)):
        raise PointsError("not valid GeoJSON: the features must be objects with properties")
    return FeatureTable(members, features, crs)


def _is_feature(feature: Any) -> bool:
    if not isinstance(feature, dict):
        return False
    properties = feature.get("properties")
    return properties is None or isinstance(properties, dict)


def _properties(feature: Mapping[str, Any]) -> dict[str, Any]:
    return feature.get("properties") or {}


def _wkt(place: list[float]) -> str:
    return f"POINT ({place[0]!r} {place[1]!r})"


def _array_of(values: list[Any]) -> Any:
    """An Arrow array from which every value comes back; else of the values in JSON."""
    import pyarrow as pa

    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pa.nulls(len(values), pa.string())
    try:
        if bool in kinds and len(kinds) > 1:
            raise pa.ArrowInvalid("truth values are no numbers")
        array = pa.array(values)
        if array.to_pylist() == values:
            return array
    except (pa.ArrowException, OverflowError):
        pass
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _dumped(value)


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
