"""Tables of Parquet, GeoParquet, Arrow and Feather: their own columns stay Arrow all the way."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.schemas.tables.arrow_values import json_values_of, texts_of
from unigeo.schemas.tables.dialects import Dialect
from unigeo.schemas.tables.geometry_columns import (
    geometries,
    geometry_names,
    in_degrees,
    wkt_columns,
)
from unigeo.schemas.tables.rows import Rows, column_pair, point_in_json
from unigeo.schemas.tables.text_records import delimited
from unigeo.schemas.tables.text_values import numbers_in

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class ArrowRows(Rows):
    """Some rows of an Arrow table; see `Rows`."""

    table: "pa.Table"
    """Of the schema of the whole table."""
    first: int
    columns: tuple[str, str] | None
    """Names of the coordinate columns, if they are named; else a geometry goes before them."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def points(self) -> Any:
        """The geometry, or the two columns; text in these is read as in a text table.

        Raises:
            PointsError: if there are no such columns, or a text is no number.
        """
        import pyarrow as pa

        if self._geometry is not None:
            return geometries(self.table, self._geometry)
        names = self.table.schema.names
        pair = column_pair(names, self.columns)
        return pa.table([self._numbers(k) for k in pair], [names[k] for k in pair])

    @property
    def _geometry(self) -> str | None:
        names = geometry_names(self.table.schema)
        return names[0] if names and self.columns is None else None

    def _numbers(self, number: int) -> Any:
        import pyarrow as pa

        column, name = self.table.column(number), self.table.schema.names[number]
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        if not any(is_text(kind) for is_text in texts):
            return column.cast(kind)
        described = f"the field {name!r} of row {{:,}}"
        numbers = numbers_in(texts_of(column), lambda row: described.format(self.first + row))
        return pa.array(numbers, from_pandas=True)

    def take(self, keep: Bool[np.ndarray, " row"]) -> "ArrowRows":
        """Leave rows out."""
        import pyarrow as pa

        columns = [_kept(column, keep) for column in self.table.columns]
        return replace(self, table=pa.Table.from_arrays(columns, schema=self.table.schema))

    def csv_header(self, dialect: Dialect) -> str:
        """The names of what `csv_rows` gives."""
        names = [name for name, _ in _text_columns(self.table.slice(0, 0), self._geometry)]
        return delimited([names], dialect)[0]

    def csv_rows(self, dialect: Dialect) -> list[str]:
        """Values as `texts_of` writes them, and the geometry as `lon` and `lat` in WGS 84.

        If there are such columns, and of other geometry columns, it is WKT.
        """
        columns = [texts for _, texts in _text_columns(self.table, self._geometry)]
        return delimited(zip(*columns, strict=True), dialect)

    def arrow(self) -> "pa.Table":
        """The table itself."""
        return self.table

    def features(self, lonlat: Float[np.ndarray, "row 2"]) -> Iterator[tuple[str, str]]:
        """Geometry and properties in JSON; coordinates that the geometry says are left out.

        Other geometry columns are WKT, with the CRS in a property of its own.
        """
        places, located = lonlat.tolist(), []
        if self._geometry is None:
            pair = column_pair(self.table.schema.names, self.columns)
            located = [self.table.schema.names[k] for k in pair]
            shapes = list(map(point_in_json, places))
        else:
            shapes = [
                "null" if shape is None or shape.is_empty else json.dumps(shape.__geo_interface__)
                for shape in in_degrees(geometries(self.table, self._geometry))
            ]
        own = _json_columns(self.table, self._geometry)
        for number, (shape, place) in enumerate(zip(shapes, places, strict=True)):
            values = {name: column[number] for name, column in own}
            if located and [values[name] for name in located] == place:
                values = {name: one for name, one in values.items() if name not in located}
            yield f'"geometry": {shape}', json.dumps(values, ensure_ascii=False)


def _kept(column: Any, keep: Bool[np.ndarray, " row"]) -> Any:
    """Some rows of a column."""
    import pyarrow as pa

    try:
        return column.filter(pa.array(keep))
    except pa.ArrowNotImplementedError:  # of views, such as polars' text
        kept = zip(column.to_pylist(), keep.tolist(), strict=True)
        return pa.chunked_array([pa.array([one for one, has in kept if has], column.type)])


def _text_columns(table: "pa.Table", geometry: str | None) -> list[tuple[str, list[str]]]:
    """Names and texts of all columns, those of the geometry last."""
    found: list[tuple[str, list[str]]] = []
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if name not in geometry_names(table.schema):
            found.append((name, texts_of(column)))
        elif name != geometry:
            wkt = wkt_columns(geometries(table, name), name)
            found += [(key, [text or "" for text in texts]) for key, texts in wkt.items()]
    if geometry is None:
        return found
    shapes = in_degrees(geometries(table, geometry))
    if {"lon", "lat"} & set(table.schema.names):
        return [*found, (geometry, ["" if shape is None else shape.wkt for shape in shapes])]
    empty = shapes.isna() | shapes.is_empty
    for name, numbers in (("lon", shapes.x), ("lat", shapes.y)):
        pairs = zip(numbers.tolist(), empty, strict=True)
        found.append((name, ["" if nowhere else repr(one) for one, nowhere in pairs]))
    return found


def _json_columns(table: "pa.Table", geometry: str | None) -> list[tuple[str, list[Any]]]:
    found: list[tuple[str, list[Any]]] = []
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if name not in geometry_names(table.schema):
            found.append((name, json_values_of(column)))
        elif name != geometry:
            found += wkt_columns(geometries(table, name), name).items()
    return found
