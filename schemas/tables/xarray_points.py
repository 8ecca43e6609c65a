"""Points of an xarray object, whose coordinates are aligned by their dimensions."""

from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import PointsError
from unigeo.schemas.geo.crs import known_crs
from unigeo.schemas.tables.numeric_values import as_numbers


def read_xarray_points(
    data: Any, names: tuple[Any, Any], in_degrees: bool
) -> tuple[Float[np.ndarray, "point 2"], str | None]:
    """Read points from two coordinates, broadcast against each other.

    Args:
        data: a Dataset or DataArray.
        names: names of the coordinates, or variables, of longitude or easting and of latitude or
            northing.
        in_degrees: whether the names mean degrees.

    Returns:
        The points, in the order of the broadcast array, and the CRS of the object's grid mapping.

    Raises:
        PointsError: if each has a dimension that the other lacks, so that they span a grid.
    """
    import xarray as xr

    x, y = (data[name].reset_coords(drop=True) for name in names)
    if not (set(x.dims) <= set(y.dims) or set(y.dims) <= set(x.dims)):
        along = (", ".join(map(str, one.dims)) for one in (x, y))
        dims = tuple(map(str, dict.fromkeys((*y.dims, *x.dims))))
        raise PointsError(
            f"{names[0]!r} runs along {next(along)} and {names[1]!r} along {next(along)}: a grid "
            f"of coordinates must be stacked into points first, with .stack(point={dims})"
        )
    columns = [as_numbers(one.values, repr(one.name)).ravel() for one in xr.broadcast(x, y)]
    in_degrees = in_degrees or str(x.attrs.get("units", "")).startswith("degree")
    return np.stack(columns, axis=-1), crs_of_xarray(data, in_degrees)


def crs_of_xarray(data: Any, in_degrees: bool) -> str | None:
    """Return the CRS of the coordinates by the CF conventions, as WKT.

    A dataset may have longitude and latitude beside x and y; a CRS in metres is then that of x and
    y, and is not returned.
    """
    variables = (data, *getattr(data, "data_vars", {}).values())
    named = [of.get("grid_mapping") for one in variables for of in (one.attrs, one.encoding)]
    for name in (*named, "spatial_ref", "crs"):
        if not isinstance(name, str) or name not in {*data.coords, *getattr(data, "data_vars", ())}:
            continue
        attributes = data[name].attrs
        wkt = attributes.get("crs_wkt") or attributes.get("spatial_ref")
        if isinstance(wkt, str) and not (in_degrees and known_crs(wkt).is_projected):
            return wkt
    return None
