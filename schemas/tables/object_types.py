"""Recognition of tables and arrays of other libraries, without importing the libraries.

Only the type is looked at: attributes prove nothing, as columns of any name are attributes too.
"""

from typing import Any, Literal

Kind = Literal[
    "geodataframe",
    "geoseries",
    "geometries",
    "pandas",
    "series",
    "arrow",
    "polars",
    "lazy",
    "xarray",
]

_KINDS: dict[tuple[str, str], Kind] = {
    ("geopandas", "GeoDataFrame"): "geodataframe",
    ("geopandas", "GeoSeries"): "geoseries",
    ("geopandas", "GeometryArray"): "geometries",
    ("pandas", "DataFrame"): "pandas",
    ("pandas", "Series"): "series",
    ("pyarrow", "Table"): "arrow",
    ("pyarrow", "RecordBatch"): "arrow",
    ("polars", "DataFrame"): "polars",
    ("polars", "LazyFrame"): "lazy",
    ("xarray", "Dataset"): "xarray",
    ("xarray", "DataArray"): "xarray",
}
"""Kinds by library and name of the class; a subclass is of the kind of its nearest parent."""


def kind_of(value: Any) -> Kind | None:
    """Return the kind of a table or array; None for any other object.

    >>> kind_of([1.0, 2.0]) is None
    True
    """
    for parent in type(value).__mro__:
        kind = _KINDS.get((parent.__module__.partition(".")[0], parent.__name__))
        if kind is not None:
            return kind
    return None


def geometry_of(value: Any) -> Any:
    """Return the geometries of a GeoDataFrame or GeoSeries as a GeoSeries.

    Returns:
        None for any other object, and for a GeoDataFrame without an active geometry.
    """
    kind = kind_of(value)
    if kind == "geoseries":
        return value
    if kind == "geodataframe" and value.active_geometry_name is not None:
        return value.geometry
    return None
