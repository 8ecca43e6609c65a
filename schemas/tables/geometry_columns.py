"""Geometry columns of GeoParquet, and of Arrow tables with the same metadata."""

import json
from io import BytesIO
from typing import Any

from unigeo.schemas.errors import MissingExtraError


def geometry_names(schema: Any) -> list[str]:
    """Names of the geometry columns of an Arrow schema, the primary one first.

    Source: GeoParquet 1.1, "File metadata" and "Column metadata".
    """
    geo = _metadata(schema)
    names = [name for name in geo["columns"] if name in schema.names]
    return sorted(names, key=lambda name: name != geo["primary_column"])


def _metadata(schema: Any) -> dict[str, Any]:
    geo: dict[str, Any] = json.loads((schema.metadata or {}).get(b"geo", b"{}"))
    return {"primary_column": None, "columns": {}} | geo


def geometries(table: Any, name: str) -> Any:
    """One geometry column of an Arrow table as a GeoSeries, by way of a small file in memory.

    Raises:
        MissingExtraError: if geopandas is not installed.
    """
    import pyarrow.parquet as pq

    geo = _metadata(table.schema)
    alone = geo | {"primary_column": name, "columns": {name: geo["columns"][name]}}
    column = table.select([name]).replace_schema_metadata({b"geo": json.dumps(alone).encode()})
    file = BytesIO()
    pq.write_table(column, file, compression="none")
    return need_geopandas("GeoParquet").read_parquet(file)[name]


def frame_of(table: Any) -> Any:
    """An Arrow table in pandas; a GeoDataFrame if it has geometry columns."""
    frame, names = table.to_pandas(), geometry_names(table.schema)
    if not names:
        return frame
    shapes = {name: geometries(table, name).set_axis(frame.index) for name in names}
    return need_geopandas("geometry").GeoDataFrame(frame.assign(**shapes), geometry=names[0])


def in_degrees(shapes: Any) -> Any:
    """Geometries in WGS 84 longitude and latitude; those without a CRS are so already."""
    return shapes if shapes.crs is None else shapes.to_crs("OGC:CRS84")


def crs_name(crs: Any) -> str | None:
    """How a CRS is named in a table: by its authority's code, else in full as WKT."""
    if crs is None:
        return None
    authority = crs.to_authority()
    return ":".join(authority) if authority else str(crs.to_wkt())


def wkt_columns(shapes: Any, name: str) -> dict[str, list[str | None]]:
    """A geometry beside the first as two columns: WKT, and `<name>_crs`, the CRS it is in."""
    texts = [None if shape is None else shape.wkt for shape in shapes]
    return {name: texts, f"{name}_crs": [crs_name(shapes.crs)] * len(texts)}


def need_geopandas(what: str) -> Any:
    """Import geopandas, or say what needs it."""
    try:
        import geopandas
    except ImportError as error:
        raise MissingExtraError(f"{what} needs geopandas: pip install 'unigeo[geo]'") from error
    return geopandas
