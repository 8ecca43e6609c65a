"""Whose table or array an object is: told by its type, and without importing any library for it.

Attributes tell nothing: a table's columns are attributes too, whatever they are named.
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
"""By the library and the name of a class; a subclass is what the nearest of its parents is."""


def kind_of(value: Any) -> Kind | None:
    """Tell the kind of a table or array, None of anything else.

    >>> kind_of([1.0, 2.0]) is None
    True
    """
    for parent in type(value).__mro__:
        kind = _KINDS.get((parent.__module__.partition(".")[0], parent.__name__))
        if kind is not None:
            return kind
    return None


def geometry_of(value: Any) -> Any:
    """The geometries of a GeoDataFrame or GeoSeries, a GeoSeries.

    Returns:
        None of anything else, and of a GeoDataFrame none of whose columns is the active geometry.
    """
    kind = kind_of(value)
    if kind == "geoseries":
        return value
    if kind == "geodataframe" and value.active_geometry_name is not None:
        return value.geometry
    return None
