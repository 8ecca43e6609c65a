"""Geometry columns of GeoParquet, and of Arrow tables with the same metadata."""

import json
from io import BytesIO
from typing import Any

from unigeo.schemas.errors import MissingExtraError
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.tables.object_types import geometry_of


def geometry_names(schema: Any) -> list[str]:
    """Return the names of the geometry columns of an Arrow schema, the primary one first.

    Source: GeoParquet 1.1, "File metadata" and "Column metadata".
    """
    geo = _metadata(schema)
    names = [name for name in geo["columns"] if name in schema.names]
    return sorted(names, key=lambda name: name != geo["primary_column"])


def _metadata(schema: Any) -> dict[str, Any]:
    geo: dict[str, Any] = load_json((schema.metadata or {}).get(b"geo", b"{}"))
    return {"primary_column": None, "columns": {}} | geo


def read_geometries(table: Any, name: str) -> Any:
    """Read one geometry column of an Arrow table as a GeoSeries.

    geopandas reads it from a GeoParquet file in memory, so it is decoded as any file's column is.

    Raises:
        MissingExtraError: if geopandas is not installed.
    """
    import pyarrow.parquet as pq

    geo = _metadata(table.schema)
    alone = geo | {"primary_column": name, "columns": {name: geo["columns"][name]}}
    column = table.select([name]).replace_schema_metadata({b"geo": json.dumps(alone).encode()})
    file = BytesIO()
    pq.write_table(column, file, compression="none")
    return import_geopandas("GeoParquet").read_parquet(file)[name]


def to_pandas(table: Any) -> Any:
    """Convert an Arrow table to pandas; to a GeoDataFrame if it has geometry columns."""
    frame, names = table.to_pandas(), geometry_names(table.schema)
    if not names:
        return frame
    shapes = {name: read_geometries(table, name).set_axis(frame.index) for name in names}
    return import_geopandas("geometry").GeoDataFrame(frame.assign(**shapes), geometry=names[0])


def from_pandas(table: Any) -> Any:
    """Convert a DataFrame to Arrow; geometry is encoded as in GeoParquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if geometry_of(table) is None:
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        # Nulls alone become text: Arrow's type of nulls would not fit the values of later parts.
        typed = [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in arrow.schema]
        return arrow.cast(pa.schema(typed, arrow.schema.metadata))
    file = BytesIO()
    table.to_parquet(file, index=False, compression=None)
    arrow = pq.read_table(file)
    geo = load_json(arrow.schema.metadata[b"geo"])
    for column in geo["columns"].values():
        column.pop("bbox", None)  # it holds for this part alone
    return arrow.replace_schema_metadata(
        {**arrow.schema.metadata, b"geo": json.dumps(geo).encode()}
    )


def to_degrees(shapes: Any) -> Any:
    """Convert geometries to WGS 84 degrees; those without a CRS are in degrees already."""
    return shapes if shapes.crs is None else shapes.to_crs("OGC:CRS84")


def crs_name(crs: Any) -> str | None:
    """Return the name of a CRS for a table: its authority's code, else its WKT."""
    if crs is None:
        return None
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.to_wkt())


def wkt_columns(shapes: Any, name: str) -> dict[str, list[str | None]]:
    """Write a further geometry column as two columns: WKT, and its CRS as `<name>_crs`."""
    texts = [None if shape is None else shape.wkt for shape in shapes]
    return {name: texts, f"{name}_crs": [crs_name(shapes.crs)] * len(texts)}


def import_geopandas(what: str) -> Any:
    """Import geopandas; the error of a missing package names `what` needs it."""
    try:
        import geopandas
    except ImportError as error:
        raise MissingExtraError(f"{what} needs geopandas: pip install 'unigeo[geo]'") from error
    return geopandas
