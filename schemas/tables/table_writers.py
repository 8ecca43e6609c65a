"""Writers of each format, which take a table part by part: a user's own rows and new columns."""

import io
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from unigeo.schemas.errors import PointsError, StoreError
from unigeo.schemas.tables.dialects import Dialect
from unigeo.schemas.tables.geometry_columns import from_pandas, to_degrees, wkt_columns
from unigeo.schemas.tables.object_types import geometry_of
from unigeo.schemas.tables.points import find_columns, read_points
from unigeo.schemas.tables.rows import Rows, geojson_point
from unigeo.schemas.tables.table_files import Format
from unigeo.schemas.tables.text_records import format_records, parse_lines
from unigeo.schemas.tables.vector_files import DRIVERS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from unigeo.schemas.tables.part_readers import TableParts


@runtime_checkable
class WritePart(Protocol):
    """A function that writes the next part of a table."""

    def __call__(
        self, new: "pd.DataFrame", own: Rows | None = None, lonlat: np.ndarray | None = None
    ) -> None:
        """Write rows.

        Args:
            new: new columns, a DataFrame or a GeoDataFrame; its index is not written.
            own: rows of the user's table, written to the left of the new columns.
            lonlat: positions of the rows for GeoJSON, in WGS 84 degrees, NaN where missing. Without
                them, positions are columns of `new`.
        """


class TextWriter:
    """Writer of text: a header before the first part, and lines."""

    def __init__(self, file: Any, dialect: Dialect, source: "TableParts | None") -> None:
        self.file, self.dialect, self.has_header = file, dialect, False

    def write(self, new: Any, own: Rows | None, lonlat: np.ndarray | None) -> None:
        """Write rows; see `WritePart`."""
        dialect, frame = self.dialect, flatten_geometry(new)
        lines = _format_rows(frame, dialect)
        header = format_records([list(map(str, frame.columns))], dialect)[0]
        if own is not None:
            separator = dialect.separator
            pairs = zip(own.csv_rows(dialect), lines, strict=True)
            lines = [f"{left}{separator}{right}" for left, right in pairs]
            header = f"{own.csv_header(dialect)}{separator}{header}"
        if not self.has_header:
            self.file.write(dialect.mark)
            lines = [header, *lines]
        self.has_header = True
        text = "".join(f"{line}{dialect.line_end}" for line in lines)
        self.file.write(text.encode(dialect.encoding))

    def close(self) -> None:
        """Do nothing: all parts are written."""


def _format_rows(frame: Any, dialect: Dialect) -> Sequence[str]:
    """Format the rows of a DataFrame as records."""
    text = frame.to_csv(
        sep=dialect.separator,
        decimal=dialect.decimal,
        lineterminator="\r\n",
        index=False,
        header=False,
    )
    if text.count("\r\n") == len(frame):
        return text.split("\r\n")[:-1]  # type: ignore[no-any-return]
    # Some fields contain line ends, so records must be parsed.
    lines = io.StringIO(text, newline="")
    return [record.text for record in parse_lines(lines, dialect.separator)]


class ParquetWriter:
    """Writer of Parquet: row groups of the schema of the first part."""

    def __init__(self, file: Any, dialect: Dialect, source: "TableParts | None") -> None:
        self.file = file
        self.writer: Any = None

    def write(self, new: Any, own: Rows | None, lonlat: np.ndarray | None) -> None:
        """Write rows; see `WritePart`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = _without_views(to_arrow(new, own))
        if self.writer is None:
            # Dictionaries shrink text and integers; vectors of floats seldom repeat a value.
            columns = [f.name for f in table.schema if not pa.types.is_floating(f.type)]
            self.writer = pq.ParquetWriter(
                self.file,
                table.schema,
                use_dictionary=columns,
                use_compliant_nested_type=False,  # True would rename the items of lists
            )
        self.writer.write_table(_cast_to(table, self.writer.schema))

    def close(self) -> None:
        """Write the footer."""
        if self.writer is not None:
            self.writer.close()


class ArrowWriter:
    """Writer of Arrow files, held in memory: a file has one dictionary per column."""

    def __init__(self, file: Any, dialect: Dialect, source: "TableParts | None") -> None:
        self.file = file
        self.parts: list[pa.Table] = []

    def write(self, new: Any, own: Rows | None, lonlat: np.ndarray | None) -> None:
        """Write rows; see `WritePart`."""
        table = to_arrow(new, own)
        self.parts.append(_cast_to(table, self.parts[0].schema) if self.parts else table)

    def close(self) -> None:
        """Write the whole table."""
        import pyarrow as pa

        if not self.parts:
            return
        table = pa.concat_tables(self.parts).unify_dictionaries()
        with pa.ipc.new_file(self.file, table.schema) as writer:
            writer.write_table(table)


class WholeWriter(ArrowWriter):
    """Writer of files that are made at once, from all parts: Excel, Stata, GeoPackage."""

    kind: Format

    def __init__(self, file: Any, dialect: Dialect, source: "TableParts | None") -> None:
        super().__init__(file, dialect, source)
        self.source, self.lonlat = source, []  # type: ignore[var-annotated]

    def write(self, new: Any, own: Rows | None, lonlat: np.ndarray | None) -> None:
        """Write rows; see `WritePart`."""
        if self.kind in DRIVERS and lonlat is None and geometry_of(new) is None:
            with suppress(PointsError):
                lonlat = read_points(new, missing="keep").lonlat
        self.lonlat += [] if lonlat is None else [lonlat]
        super().write(new, own, lonlat)

    def close(self) -> None:
        """Write the whole table."""
        import pyarrow as pa

        if not self.parts:
            return
        table = pa.concat_tables(self.parts).unify_dictionaries()
        self.file.write(self.content(table))

    def content(self, table: "pa.Table") -> bytes:
        """Return the bytes of the file."""
        raise NotImplementedError


class WorkbookWriter(WholeWriter):
    """Writer of Excel workbooks."""

    kind = "xlsx"

    def content(self, table: "pa.Table") -> bytes:
        """Return the bytes of the file."""
        from unigeo.schemas.tables.arrow_tables import without_geometry
        from unigeo.schemas.tables.spreadsheets import workbook

        return workbook(without_geometry(table))


class StataWriter(WholeWriter):
    """Writer of Stata's data files."""

    kind = "stata"

    def content(self, table: "pa.Table") -> bytes:
        """Return the bytes of the file."""
        from unigeo.schemas.tables.arrow_tables import without_geometry
        from unigeo.schemas.tables.stata_files import StataLabels, stata_file

        labels = None if self.source is None else self.source.labels
        return stata_file(without_geometry(table), labels or StataLabels())


class GeoPackageWriter(WholeWriter):
    """Writer of GeoPackage."""

    kind: Format = "gpkg"

    def content(self, table: "pa.Table") -> bytes:
        """Return the bytes of the file."""
        from unigeo.schemas.tables.vector_files import feature_file

        lonlat = np.concatenate(self.lonlat) if self.lonlat else None
        return feature_file(table, lonlat, self.kind)


class FlatGeobufWriter(GeoPackageWriter):
    """Writer of FlatGeobuf."""

    kind: Format = "fgb"


class JsonLinesWriter:
    """Writer of JSON lines: one object for each row."""

    def __init__(self, file: Any, dialect: Dialect, source: "TableParts | None") -> None:
        self.file = file

    def write(self, new: Any, own: Rows | None, lonlat: np.ndarray | None) -> None:
        """Write rows; see `WritePart`."""
        frame = flatten_geometry(new)
        text = frame.to_json(orient="records", lines=True, date_format="iso", double_precision=15)
        lines = text.splitlines() if len(frame) else []
        if own is not None:
            pairs = zip(own.records(), lines, strict=True)
            lines = [_merge_objects(left, right) for left, right in pairs]
        self.file.write("".join(f"{line}\n" for line in lines).encode())

    def close(self) -> None:
        """Do nothing: all parts are written."""


def _merge_objects(left: str, right: str) -> str:
    """Join the text of two JSON objects."""
    return f"{left[:-1]}, {right[1:]}" if len(left) > len("{}") else right


class GeoJsonWriter:
    """Writer of GeoJSON: one feature per line, positions in WGS 84.

    Source: RFC 7946, "The GeoJSON Format", section 4.
    """

    def __init__(self, file: Any, dialect: Dialect, source: "TableParts | None") -> None:
        self.file, self.count = file, 0
        members = {"type": "FeatureCollection"} | ({} if source is None else source.members)
        head = json.dumps(members, ensure_ascii=False)
        self.file.write(f'{head[:-1]}, "features": [\n'.encode())

    def write(self, new: Any, own: Rows | None, lonlat: np.ndarray | None) -> None:
        """Write rows; see `WritePart`."""
        features, frame = _features(new, own, lonlat)
        text = frame.to_json(orient="records", lines=True, date_format="iso", double_precision=15)
        rows, lines = text.splitlines() if len(frame) else [], []
        for (members, properties), row in zip(features, rows, strict=True):
            both = _merge_objects(properties, row)
            lines.append(f'{{"type": "Feature", {members}, "properties": {both}}}')
        text = ",\n".join(lines)
        self.file.write((",\n" if self.count and lines else "").encode() + text.encode())
        self.count += len(lines)

    def close(self) -> None:
        """Close the document."""
        self.file.write(b"\n]}\n")


def _features(new: Any, own: Rows | None, lonlat: np.ndarray | None) -> tuple[Any, Any]:
    """Return members and properties of each feature in JSON, and the columns to add to these."""
    if own is not None and lonlat is not None:
        return own.features(lonlat), new
    if geometry_of(new) is not None:
        shapes = [
            None if shape is None else shape.__geo_interface__ for shape in to_degrees(new.geometry)
        ]
        geometries, frame = map(json.dumps, shapes), _replace_geometries(new, new.geometry.name)
    else:
        try:
            points = read_points(new).lonlat if lonlat is None else lonlat
            coordinates = find_columns(list(new.columns))
        except PointsError as error:
            raise StoreError(f"GeoJSON needs places in degrees: {error}") from error
        geometries, frame = map(geojson_point, points.tolist()), new.drop(columns=list(coordinates))
    return [(f'"geometry": {geometry}', "{}") for geometry in geometries], frame


def flatten_geometry(table: Any) -> Any:
    """Replace geometries by columns of numbers or of WKT; see `write_table`."""
    if geometry_of(table) is None:
        return table
    shapes, name = to_degrees(table.geometry), table.geometry.name
    plain = _replace_geometries(table, name)
    if set(shapes.geom_type) <= {"Point"} and not {"lon", "lat"} & set(table.columns):
        return plain.assign(lon=shapes.x, lat=shapes.y)
    return plain.assign(**{name: [None if shape is None else shape.wkt for shape in shapes]})


def _replace_geometries(table: Any, name: str) -> Any:
    """Drop the geometry `name` of a GeoDataFrame, and write further geometries as WKT."""
    import pandas as pd

    columns: dict[Any, Any] = {}
    for other in table.columns.drop(name):
        is_shape = str(table[other].dtype) == "geometry"
        columns |= wkt_columns(table[other], other) if is_shape else {other: table[other]}
    return pd.DataFrame(columns, index=table.index)


def to_arrow(new: Any, own: Rows | None) -> "pa.Table":
    """Convert to Arrow: the user's own columns unchanged, then the new columns."""
    import pyarrow as pa

    right = from_pandas(new)
    if own is None:
        return right
    left = own.arrow()
    fields = [*left.schema, *right.schema]
    return pa.Table.from_arrays(
        [*left.columns, *right.columns], schema=pa.schema(fields, left.schema.metadata)
    )


def _cast_to(table: "pa.Table", schema: Any) -> "pa.Table":
    """Convert a part to the types of the first part."""
    return table if table.schema.types == schema.types else table.cast(schema)


def _without_views(table: "pa.Table") -> "pa.Table":
    """Convert categories of string views, which polars makes and Parquet does not write."""
    import pyarrow as pa

    for number, field in enumerate(table.schema):
        values = field.type.value_type if pa.types.is_dictionary(field.type) else None
        if values not in (pa.string_view(), pa.binary_view()):
            continue
        plain = pa.string() if values == pa.string_view() else pa.binary()
        chunks = [
            pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(plain))
            for chunk in table.column(number).chunks
        ]
        kind = pa.dictionary(field.type.index_type, plain, field.type.ordered)
        column = pa.chunked_array(chunks, kind)
        table = table.set_column(number, field.with_type(kind), column)
    return table


WRITERS: dict[Format, Any] = {
    "csv": TextWriter,
    "parquet": ParquetWriter,
    "geojson": GeoJsonWriter,
    "jsonl": JsonLinesWriter,
    "arrow": ArrowWriter,
    "xlsx": WorkbookWriter,
    "stata": StataWriter,
    "gpkg": GeoPackageWriter,
    "fgb": FlatGeobufWriter,
}
