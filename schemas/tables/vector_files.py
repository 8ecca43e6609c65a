"""Files of geographic features, such as GeoPackage and shapefiles, as Arrow tables."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.polygon_files import read_feature_file

if TYPE_CHECKING:
    import pyarrow as pa

GEOMETRY = "geometry"
"""Name of a new geometry column."""
DRIVERS = {"gpkg": "GPKG", "fgb": "FlatGeobuf"}
"""GDAL's names of the formats that are written."""


def read_features(source: Any) -> "pa.Table":
    """Read the first layer of a file, the geometry as in GeoParquet.

    Raises:
        MissingExtraError: if geopandas is not installed.
        ValueError: if it is read from a pipe.
        RegionError: if it cannot be read.
    """
    from unigeo.schemas.tables.geometry_columns import from_pandas

    return from_pandas(read_feature_file(Path(check_named(source))))


def check_named(source: Any) -> str:
    """Return the name of a file.

    Raises:
        ValueError: if the source is a pipe.
    """
    if not isinstance(source, str):
        raise ValueError("such files are read by their name, not from a pipe")
    return source


def feature_file(table: "pa.Table", lonlat: Any, kind: str) -> bytes:
    """Write a table as a file of features.

    Args:
        table: a table; its geometry as in GeoParquet, if it has one.
        lonlat: positions in WGS 84 degrees of a table without one.
        kind: key of `DRIVERS`.

    Raises:
        MissingExtraError: if geopandas is not installed.
        StoreError: if the table has neither a geometry nor positions.
    """
    import pyarrow as pa

    from unigeo.schemas.tables.geometry_columns import (
        geometry_names,
        import_geopandas,
        read_geometries,
    )

    geopandas = import_geopandas("GeoPackage and FlatGeobuf")
    import pyogrio
    import shapely

    names = geometry_names(table.schema)
    if not names and lonlat is None:
        raise StoreError(f"{DRIVERS[kind]} needs places, and this table has no coordinates")
    if names:
        shapes = read_geometries(table, names[0])
        crs = shapes.crs.to_wkt() if shapes.crs is not None else None
        plain = table.drop_columns([names[0]])
        name = names[0]
    else:
        shapes, plain, name = geopandas.points_from_xy(*lonlat.T), table, GEOMETRY
        while name in table.schema.names:
            name += "_"
        crs = "EPSG:4326"
    shapes = [None if one is None or one.is_empty else one for one in shapes]
    kinds = sorted({one.geom_type for one in shapes if one is not None})
    plain = pa.table([_storable(column) for column in plain.columns], plain.schema.names)
    wkb = pa.array([None if one is None else shapely.to_wkb(one) for one in shapes], pa.binary())
    marked = pa.field(name, pa.binary(), metadata={b"ARROW:extension:name": b"geoarrow.wkb"})
    file = io.BytesIO()
    options = {"SPATIAL_INDEX": "NO"} if kind == "fgb" else {}  # its index would reorder the rows
    pyogrio.write_arrow(
        plain.append_column(marked, wkb),
        file,
        layer="table",
        driver=DRIVERS[kind],
        geometry_name=name,
        geometry_type=kinds[0] if len(kinds) == 1 else "Unknown",
        crs=crs,
        **options,
    )
    return file.getvalue()


def _storable(column: Any) -> Any:
    """Convert a column to a type that GDAL stores; lists, structs and maps become JSON text."""
    import pyarrow as pa

    from unigeo.schemas.tables.arrow_values import format_json_values

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if kind in (pa.string_view(), pa.large_string()):
        return column.cast(pa.string())
    if pa.types.is_nested(kind):
        values = format_json_values(column)
        return pa.array([None if one is None else json.dumps(one) for one in values], pa.string())
    return column
