"""Rows of Parquet, GeoParquet, Arrow and Feather, whose columns stay in Arrow."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.schemas.tables.arrow_values import dump_json, format_json_values, format_texts
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns
from unigeo.schemas.tables.dialects import Dialect
from unigeo.schemas.tables.geometry_columns import (
    geometry_names,
    read_geometries,
    to_degrees,
    wkt_columns,
)
from unigeo.schemas.tables.position_texts import parse_positions
from unigeo.schemas.tables.rows import Rows, geojson_point, position_columns
from unigeo.schemas.tables.text_records import format_records
from unigeo.schemas.tables.text_values import parse_numbers

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class ArrowRows(Rows):
    """Consecutive rows of an Arrow table; see `Rows`."""

    table: "pa.Table"
    """The rows, with the schema of the whole table."""
    first: int
    columns: CoordinateColumns | None
    """Names of the coordinate columns if the user gave them; then a geometry is not used."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def points(self) -> Any:
        """Return the geometry, or the two columns; text in these is read as in a text table.

        Raises:
            PointsError: if there are no such columns, or a text is not a number.
        """
        import pyarrow as pa

        if self._geometry is not None:
            return read_geometries(self.table, self._geometry)
        names = self.table.schema.names
        pair = position_columns(names, self.columns)
        if len(pair) == 1:
            name = names[pair[0]]
            texts = format_texts(self.table.column(name))
            described = f"the field {name!r} of row {{:,}}"
            return parse_positions(texts, name, lambda row: described.format(self.first + row))
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
        numbers = parse_numbers(
            format_texts(column), lambda row: described.format(self.first + row)
        )
        return pa.array(numbers, from_pandas=True)

    def take(self, keep: Bool[np.ndarray, " row"]) -> "ArrowRows":
        """Select rows by a mask."""
        import pyarrow as pa

        columns = [_filter(column, keep) for column in self.table.columns]
        return replace(self, table=pa.Table.from_arrays(columns, schema=self.table.schema))

    def csv_header(self, dialect: Dialect) -> str:
        """Return the names of the fields of `csv_rows`."""
        names = [name for name, _ in _text_columns(self.table.slice(0, 0), self._geometry)]
        return format_records([names], dialect)[0]

    def csv_rows(self, dialect: Dialect) -> list[str]:
        """Return values as `format_texts` writes them, and the geometry as `lon` and `lat`.

        These are WGS 84 degrees. If there are such columns already, the geometry is WKT, as further
        geometry columns are.
        """
        columns = [texts for _, texts in _text_columns(self.table, self._geometry)]
        return format_records(zip(*columns, strict=True), dialect)

    def arrow(self) -> "pa.Table":
        """Return the table itself."""
        return self.table

    def features(self, lonlat: Float[np.ndarray, "row 2"]) -> Iterator[tuple[str, str]]:
        """Yield geometry and properties in JSON; coordinates equal to the geometry are left out.

        Further geometry columns are WKT, with the CRS in a property of its own.
        """
        points, coordinates = lonlat.tolist(), []
        if self._geometry is None:
            pair = position_columns(self.table.schema.names, self.columns)
            coordinates = [self.table.schema.names[k] for k in pair] if len(pair) > 1 else []
            shapes = list(map(geojson_point, points))
        else:
            shapes = [
                "null" if shape is None or shape.is_empty else json.dumps(shape.__geo_interface__)
                for shape in to_degrees(read_geometries(self.table, self._geometry))
            ]
        columns = _json_columns(self.table, self._geometry)
        for row, (shape, point) in enumerate(zip(shapes, points, strict=True)):
            values = {name: column[row] for name, column in columns}
            if coordinates and [values[name] for name in coordinates] == point:
                values = {name: one for name, one in values.items() if name not in coordinates}
            yield f'"geometry": {shape}', json.dumps(values, ensure_ascii=False)

    def records(self) -> Iterator[str]:
        """Yield each row as a JSON object; the geometry is columns as in `csv_rows`."""
        columns = dict(_json_columns(self.table, self._geometry))
        if self._geometry is not None:
            for name, texts in _geometry_columns(self.table, self._geometry):
                is_number = name != self._geometry
                columns[name] = [
                    None if not text else float(text) if is_number else text for text in texts
                ]
        for row in zip(*columns.values(), strict=True):
            yield dump_json(dict(zip(columns, row, strict=True)))

    def column_texts(self, name: str) -> list[str]:
        """Return the values of a column as in `csv_rows`."""
        return format_texts(self.table.column(name))


def _filter(column: Any, keep: Bool[np.ndarray, " row"]) -> Any:
    """Select rows of a column."""
    import pyarrow as pa

    try:
        return column.filter(pa.array(keep))
    except pa.ArrowNotImplementedError:  # for string views, which polars writes
        values = zip(column.to_pylist(), keep.tolist(), strict=True)
        return pa.chunked_array([pa.array([one for one, kept in values if kept], column.type)])


def _text_columns(table: "pa.Table", geometry: str | None) -> list[tuple[str, list[str]]]:
    """Return names and texts of all columns, those of the geometry last."""
    columns: list[tuple[str, list[str]]] = []
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if name not in geometry_names(table.schema):
            columns.append((name, format_texts(column)))
        elif name != geometry:
            wkt = wkt_columns(read_geometries(table, name), name)
            columns += [(key, [text or "" for text in texts]) for key, texts in wkt.items()]
    return columns if geometry is None else [*columns, *_geometry_columns(table, geometry)]


def without_geometry(table: "pa.Table") -> "pa.Table":
    """Replace the geometry by columns `lon` and `lat`, or WKT, as `csv_rows` writes it."""
    import pyarrow as pa

    names = geometry_names(table.schema)
    if not names:
        return table
    columns = {name: table.column(name) for name in table.schema.names if name not in names}
    for other in names[1:]:
        columns |= wkt_columns(read_geometries(table, other), other)
    for name, texts in _geometry_columns(table, names[0]):
        is_number = name != names[0]
        values = [float(text) if is_number and text else text or None for text in texts]
        columns[name] = pa.array(values, pa.float64() if is_number else pa.string())
    return pa.table(columns)


def _geometry_columns(table: "pa.Table", geometry: str) -> list[tuple[str, list[str]]]:
    """Return the geometry in WGS 84 as texts of `lon` and `lat`, or as WKT under its name."""
    shapes = to_degrees(read_geometries(table, geometry))
    if {"lon", "lat"} & set(table.schema.names):
        return [(geometry, ["" if shape is None else shape.wkt for shape in shapes])]
    empty = shapes.isna() | shapes.is_empty
    columns = []
    for name, numbers in (("lon", shapes.x), ("lat", shapes.y)):
        pairs = zip(numbers.tolist(), empty, strict=True)
        columns.append((name, ["" if is_empty else repr(one) for one, is_empty in pairs]))
    return columns


def _json_columns(table: "pa.Table", geometry: str | None) -> list[tuple[str, list[Any]]]:
    """Return names and JSON values of all columns but the geometry."""
    columns: list[tuple[str, list[Any]]] = []
    for name, column in zip(table.schema.names, table.columns, strict=True):
        if name not in geometry_names(table.schema):
            columns.append((name, format_json_values(column)))
        elif name != geometry:
            columns += wkt_columns(read_geometries(table, name), name).items()
    return columns
