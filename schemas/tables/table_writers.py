"""Tables of each format as they are written part by part: a user's own rows, and new columns."""

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from unigeo.schemas.errors import PointsError, StoreError
from unigeo.schemas.tables.dialects import Dialect
from unigeo.schemas.tables.geometry_columns import in_degrees, wkt_columns
from unigeo.schemas.tables.points import find_columns, read_points
from unigeo.schemas.tables.rows import Rows, point_in_json
from unigeo.schemas.tables.table_files import Format, geometry_of
from unigeo.schemas.tables.text_records import delimited, parsed

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@runtime_checkable
class WritePart(Protocol):
    """Takes the next part of a table."""

    def __call__(
        self, new: "pd.DataFrame", own: Rows | None = None, lonlat: np.ndarray | None = None
    ) -> None:
        """Write rows.

        Args:
            new: a DataFrame or a GeoDataFrame; its index is not written.
            own: rows of the source, written to the left of it.
            lonlat: of the rows, WGS 84 degrees, NaN where there is no position; GeoJSON takes the
                places from it. Without it they are columns of `new`.
        """


class TextWriter:
    """Lines below the header of the first part."""

    def __init__(self, file: Any, dialect: Dialect, members: dict[str, Any]) -> None:
        self.file, self.dialect, self.begun = file, dialect, False

    def write(self, new: Any, own: Rows | None, lonlat: np.ndarray | None) -> None:
        """Write rows, as `WritePart` says."""
        dialect, frame = self.dialect, plain_columns(new)
        lines = _lines(frame, dialect)
        header = delimited([list(map(str, frame.columns))], dialect)[0]
        if own is not None:
            between = dialect.separator
            pairs = zip(own.csv_rows(dialect), lines, strict=True)
            lines = [f"{left}{between}{right}" for left, right in pairs]
            header = f"{own.csv_header(dialect)}{between}{header}"
        if not self.begun:
            self.file.write(dialect.mark)
            lines = [header, *lines]
        self.begun = True
        text = "".join(f"{line}{dialect.line_end}" for line in lines)
        self.file.write(text.encode(dialect.encoding))

    def close(self) -> None:
        """Nothing is held back."""


def _lines(frame: Any, dialect: Dialect) -> Sequence[str]:
    """The rows of a DataFrame as records."""
    text = frame.to_csv(
        sep=dialect.separator,
        decimal=dialect.decimal,
        lineterminator="\r\n",
        index=False,
        header=False,
    )
    if text.count("\r\n") == len(frame):
        return text.split("\r\n")[:-1]  # type: ignore[no-any-return]
    lines = io.StringIO(text, newline="")  # fields hold line ends
    return [record.text for record in parsed(lines, dialect.separator)]


class ParquetWriter:
    """Row groups of one schema."""

    def __init__(self, file: Any, dialect: Dialect, members: dict[str, Any]) -> None:
        self.file = file
        self.writer: Any = None

    def write(self, new: Any, own: Rows | None, lonlat: np.ndarray | None) -> None:
        """Write rows, as `WritePart` says."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = _for_parquet(arrow_of(new, own))
        if self.writer is None:
            words = [f.name for f in table.schema if not pa.types.is_floating(f.type)]
            self.writer = pq.ParquetWriter(
                self.file,
                table.schema,
                use_dictionary=words,
                use_compliant_nested_type=False,  # which would rename the items of lists
            )
        self.writer.write_table(_of_schema(table, self.writer.schema))

    def close(self) -> None:
        """Write the footer."""
        if self.writer is not None:
            self.writer.close()


class ArrowWriter:
    """An Arrow file; held whole, as a dictionary has one set of values in all of it."""

    def __init__(self, file: Any, dialect: Dialect, members: dict[str, Any]) -> None:
        self.file = file
        self.parts: list[pa.Table] = []

    def write(self, new: Any, own: Rows | None, lonlat: np.ndarray | None) -> None:
        """Write rows, as `WritePart` says."""
        table = arrow_of(new, own)
        self.parts.append(_of_schema(table, self.parts[0].schema) if self.parts else table)

    def close(self) -> None:
        """Write the whole table."""
        import pyarrow as pa

        if not self.parts:
            return
        whole = pa.concat_tables(self.parts).unify_dictionaries()
        with pa.ipc.new_file(self.file, whole.schema) as writer:
            writer.write_table(whole)


class GeoJsonWriter:
    """One feature to a line; new places are in WGS 84, as RFC 7946 has it."""

    def __init__(self, file: Any, dialect: Dialect, members: dict[str, Any]) -> None:
        self.file, self.count = file, 0
        head = json.dumps({"type": "FeatureCollection"} | members, ensure_ascii=False)
        self.file.write(f'{head[:-1]}, "features": [\n'.encode())

    def write(self, new: Any, own: Rows | None, lonlat: np.ndarray | None) -> None:
        """Write rows, as `WritePart` says."""
        features, frame = _features(new, own, lonlat)
        text = frame.to_json(orient="records", lines=True, date_format="iso", double_precision=15)
        rows, lines = text.splitlines() if len(frame) else [], []
        for (members, properties), row in zip(features, rows, strict=True):
            both = f"{properties[:-1]}, {row[1:]}" if len(properties) > len("{}") else row
            lines.append(f'{{"type": "Feature", {members}, "properties": {both}}}')
        text = ",\n".join(lines)
        self.file.write((",\n" if self.count and lines else "").encode() + text.encode())
        self.count += len(lines)

    def close(self) -> None:
        """Close the document."""
        self.file.write(b"\n]}\n")


def _features(new: Any, own: Rows | None, lonlat: np.ndarray | None) -> tuple[Any, Any]:
    """Members and own properties of each feature in JSON, and the columns that go beside these."""
    if own is not None and lonlat is not None:
        return own.features(lonlat), new
    if geometry_of(new) is not None:
        shapes = [
            None if shape is None else shape.__geo_interface__ for shape in in_degrees(new.geometry)
        ]
        places, frame = map(json.dumps, shapes), _without_shapes(new, new.geometry.name)
    else:
        try:
            found = read_points(new).lonlat if lonlat is None else lonlat
            located = find_columns(list(new.columns))
        except PointsError as error:
            raise StoreError(f"GeoJSON needs places in degrees: {error}") from error
        places, frame = map(point_in_json, found.tolist()), new.drop(columns=list(located))
    return [(f'"geometry": {place}', "{}") for place in places], frame


def plain_columns(table: Any) -> Any:
    """A table with its geometries as columns of numbers, or of WKT; see `tables.write_table`."""
    if geometry_of(table) is None:
        return table
    shapes, name = in_degrees(table.geometry), table.geometry.name
    plain = _without_shapes(table, name)
    if set(shapes.geom_type) <= {"Point"} and not {"lon", "lat"} & set(table.columns):
        return plain.assign(lon=shapes.x, lat=shapes.y)
    return plain.assign(**{name: [None if shape is None else shape.wkt for shape in shapes]})


def _without_shapes(table: Any, name: str) -> Any:
    """The columns of a GeoDataFrame without its geometry, and with others as WKT."""
    import pandas as pd

    columns: dict[Any, Any] = {}
    for other in table.columns.drop(name):
        is_shape = str(table[other].dtype) == "geometry"
        columns |= wkt_columns(table[other], other) if is_shape else {other: table[other]}
    return pd.DataFrame(columns, index=table.index)


def arrow_of(new: Any, own: Rows | None) -> "pa.Table":
    """Rows in Arrow: the user's own as they are, the new columns beside them."""
    import pyarrow as pa

    made = _arrow_of_pandas(new)
    if own is None:
        return made
    table = own.arrow()
    fields = [*table.schema, *made.schema]
    return pa.Table.from_arrays(
        [*table.columns, *made.columns], schema=pa.schema(fields, table.schema.metadata)
    )


def _of_schema(table: "pa.Table", schema: Any) -> "pa.Table":
    """A part in the types of the first."""
    return table if table.schema.types == schema.types else table.cast(schema)


def _for_parquet(table: "pa.Table") -> "pa.Table":
    """Categories as Parquet writes them: it has none that are views, as polars makes them."""
    import pyarrow as pa

    for number, field in enumerate(table.schema):
        words = field.type.value_type if pa.types.is_dictionary(field.type) else None
        if words not in (pa.string_view(), pa.binary_view()):
            continue
        plain = pa.string() if words == pa.string_view() else pa.binary()
        chunks = [
            pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(plain))
            for chunk in table.column(number).chunks
        ]
        kind = pa.dictionary(field.type.index_type, plain, field.type.ordered)
        column = pa.chunked_array(chunks, kind)
        table = table.set_column(number, field.with_type(kind), column)
    return table


def _arrow_of_pandas(table: Any) -> "pa.Table":
    """Text where a column is empty; geometry as GeoParquet has it, without the bounds of a part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if geometry_of(table) is None:
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        typed = [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in arrow.schema]
        return arrow.cast(pa.schema(typed, arrow.schema.metadata))
    file = io.BytesIO()
    table.to_parquet(file, index=False, compression=None)
    arrow = pq.read_table(file)
    geo = json.loads(arrow.schema.metadata[b"geo"])
    for column in geo["columns"].values():
        column.pop("bbox", None)
    return arrow.replace_schema_metadata(
        {**arrow.schema.metadata, b"geo": json.dumps(geo).encode()}
    )


WRITERS: dict[Format, Any] = {
    "csv": TextWriter,
    "parquet": ParquetWriter,
    "geojson": GeoJsonWriter,
    "arrow": ArrowWriter,
}
