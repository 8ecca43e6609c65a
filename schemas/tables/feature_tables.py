"""Features of GeoJSON as rows: written unchanged to GeoJSON, as columns to other formats."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.schemas.errors import PointsError
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.tables.arrow_values import dump_json, format_json_text, to_arrow_array
from unigeo.schemas.tables.dialects import Dialect
from unigeo.schemas.tables.geojson import GEOJSON_TYPES
from unigeo.schemas.tables.points import read_points
from unigeo.schemas.tables.rows import Rows
from unigeo.schemas.tables.text_records import format_records

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """A GeoJSON document of points, held in memory."""

    members: dict[str, Any]
    """Members of the document other than its type and features."""
    features: list[dict[str, Any]]
    crs: Any = None
    """CRS of the coordinates that the user named, for a document that names none."""
    has_geometry: ClassVar[bool] = True
    """Whether positions are the rows' geometry, and not columns of theirs."""

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, first: int, count: int) -> "GeoJsonRows":
        """Return `count` features from `first` on, or those that there are."""
        return GeoJsonRows(self, first, np.arange(first, min(first + count, len(self))))

    def document(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a document of features, with the members of this one."""
        return {"type": "FeatureCollection"} | self.members | {"features": features}

    @cached_property
    def lonlat(self) -> Float[np.ndarray, "row 2"]:
        """Positions of the features in WGS 84 degrees, NaN where missing."""
        return read_points(self.document(self.features), self.crs, missing="keep").lonlat

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns: ids of the features, their properties, and their positions.

        Positions are `lon` and `lat`; if there are such properties, WKT in `geometry`. An
        underscore is added to names that properties have too.
        """
        return (*self._ids, *self._properties, *self._position_columns)

    @cached_property
    def _properties(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for one in self.features for name in _properties(one)))

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        return (self._free("id"),) if any("id" in one for one in self.features) else ()

    @cached_property
    def _position_columns(self) -> tuple[str, ...]:
        taken = {"lon", "lat"} & set(self._properties)
        return (self._free("geometry"),) if taken else ("lon", "lat")

    def _free(self, name: str) -> str:
        return self._free(name + "_") if name in self._properties else name

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """Values by name of the column; None where missing."""
        properties = list(map(_properties, self.features))
        points = [None if np.isnan(point).any() else point.tolist() for point in self.lonlat]
        columns = {name: [one.get("id") for one in self.features] for name in self._ids}
        columns |= {name: [one.get(name) for one in properties] for name in self._properties}
        if len(self._position_columns) == 1:
            (name,) = self._position_columns
            return columns | {name: [point and _format_wkt(point) for point in points]}
        for axis, name in enumerate(self._position_columns):
            columns[name] = [point and point[axis] for point in points]
        return columns

    @cached_property
    def arrow(self) -> "pa.Table":
        """All columns in Arrow; a column of several types is JSON text."""
        import pyarrow as pa

        numbers = self._position_columns if len(self._position_columns) == 2 else ()
        arrays = [
            pa.array(values, pa.float64()) if name in numbers else to_arrow_array(values)
            for name, values in self.columns.items()
        ]
        return pa.table(arrays, list(self.names))


@dataclass(frozen=True, eq=False)
class GeoJsonRows(Rows):
    """Some features of a document; see `Rows`."""

    table: FeatureTable
    first: int
    numbers: Int[np.ndarray, " row"]
    """Indices of the features in the table."""

    def __len__(self) -> int:
        return len(self.numbers)

    def points(self) -> Any:
        """Return the features as a document."""
        return self.table.document([self.table.features[number] for number in self.numbers])

    def take(self, keep: Bool[np.ndarray, " row"]) -> "GeoJsonRows":
        """Select features by a mask."""
        return replace(self, numbers=self.numbers[keep])

    def csv_header(self, dialect: Dialect) -> str:
        """Return the names of all columns."""
        return format_records([list(self.table.columns)], dialect)[0]

    def csv_rows(self, dialect: Dialect) -> list[str]:
        """Return text as it is and other values in JSON; empty where null."""
        columns = list(self.table.columns.values())
        rows = ([format_json_text(column[number]) for column in columns] for number in self.numbers)
        return format_records(rows, dialect)

    def arrow(self) -> "pa.Table":
        """Return the columns in Arrow."""
        import pyarrow as pa

        return self.table.arrow.take(pa.array(self.numbers))

    def features(self, lonlat: Float[np.ndarray, "row 2"]) -> Iterator[tuple[str, str]]:
        """Yield each feature unchanged."""
        del lonlat  # the feature has its own geometry
        for number in self.numbers:
            feature = self.table.features[number]
            members = {
                name: value for name, value in feature.items() if name not in ("type", "properties")
            }
            yield dump_json(members)[1:-1], dump_json(_properties(feature))

    def records(self) -> Iterator[str]:
        """Yield each row as a JSON object."""
        columns = self.table.columns
        for number in self.numbers:
            yield dump_json({name: values[number] for name, values in columns.items()})

    def column_texts(self, name: str) -> list[str]:
        """Return text as it is and other values in JSON; empty where null."""
        column = self.table.columns[name]
        return [format_json_text(column[number]) for number in self.numbers]


def parse_features(content: bytes, crs: Any = None) -> FeatureTable:
    """Parse a GeoJSON document; a bare geometry becomes one feature.

    Args:
        content: JSON.
        crs: as in `read_points`.

    Raises:
        ValueError: if it is not JSON.
        PointsError: if it is not GeoJSON.
    """
    document = load_json(content)
    kind = document.get("type") if isinstance(document, dict) else None
    if kind not in GEOJSON_TYPES:
        raise PointsError(f"not valid GeoJSON: its type is none of {', '.join(GEOJSON_TYPES)}")
    if kind == "FeatureCollection":
        features = document.get("features")
        members = {k: v for k, v in document.items() if k not in ("type", "features")}
    else:
        feature = document if kind == "Feature" else {"geometry": document, "properties": {}}
        features = [feature]
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


def _format_wkt(point: list[float]) -> str:
    return f"POINT ({point[0]!r} {point[1]!r})"
