"""Where the rows and columns of a NetCDF or Zarr array lie, by the conventions of CF and Zarr."""

from typing import Any

import numpy as np
import pyproj
import xarray as xr
from affine import Affine
from jaxtyping import Float

from unigeo.producer.observations.raster_files.band_facts import Stated
from unigeo.producer.observations.raster_files.gdal_files import chosen_crs
from unigeo.schemas.errors import ObservationsError

TOLERANCE_PX = 0.1
"""Largest distance of a coordinate from a regular grid, in pixels."""
_ROWS = ("y", "lat", "latitude", "northing")
_COLS = ("x", "lon", "longitude", "easting")
_DEGREES = ("degree", "degrees", "degrees_north", "degree_north", "degrees_n", "degrees_east",
            "degree_east", "degrees_e")  # fmt: skip
_METRES = {"": 1.0, "m": 1.0, "metre": 1.0, "meter": 1.0, "metres": 1.0, "meters": 1.0, "km": 1e3}


def spatial_dimensions(dataset: xr.Dataset, variable: str) -> tuple[str, str] | None:
    """Return the dimensions of rows and columns of a variable; None where it has none."""
    dims = [str(name) for name in dataset.variables[variable].dims]
    rows = [name for name in dims if _axis(dataset, name) == "Y"]
    cols = [name for name in dims if _axis(dataset, name) == "X"]
    return (rows[0], cols[0]) if len(rows) == len(cols) == 1 else None


def _axis(dataset: xr.Dataset, dimension: str) -> str:
    """Return X or Y for a spatial dimension; empty for others."""
    attributes = dataset[dimension].attrs if dimension in dataset.variables else {}
    standard, units = (str(attributes.get(key, "")).lower() for key in ("standard_name", "units"))
    name = dimension.lower()
    for axis, names, ending in (("Y", _ROWS, "north"), ("X", _COLS, "east")):
        degrees = "latitude" if axis == "Y" else "longitude"
        if (
            attributes.get("axis") == axis
            or standard in (degrees, f"projection_{axis.lower()}_coordinate")
            or (units.startswith("degree") and units.endswith(ending))
            or name in names
        ):
            return axis
    return ""


def crs_of(
    dataset: xr.Dataset,
    array: xr.DataArray,
    spatial: tuple[str, str],
    stated: Stated,
    label: str,
) -> pyproj.CRS:
    """Return the CRS of an array, by its grid mapping, by `proj:`, or of degrees by its axes.

    Raises:
        ObservationsError: there is none, or the description contradicts it.
    """
    declared = None
    names = _grid_mappings(dataset, array)
    try:
        if names:
            declared = pyproj.CRS.from_cf(dict(dataset[names[0]].attrs))
        else:
            declared = _crs_by_proj(array.attrs) or _crs_by_proj(dataset.attrs)
    except (pyproj.exceptions.CRSError, KeyError, TypeError, ValueError) as error:
        raise ObservationsError(
            f"{label} declares a CRS that cannot be read ({type(error).__name__}). Write it as "
            "`crs_wkt` of its grid mapping."
        ) from error
    if declared is None and all(_in_degrees(dataset, name) for name in spatial):
        declared = pyproj.CRS.from_epsg(4326)
    return chosen_crs(declared, stated, label)


def _crs_by_proj(attributes: dict[Any, Any]) -> pyproj.CRS | None:
    for key in ("proj:code", "proj:wkt2", "proj:projjson", "proj:epsg"):
        if attributes.get(key):
            return pyproj.CRS.from_user_input(attributes[key])
    return None


def _in_degrees(dataset: xr.Dataset, dimension: str) -> bool:
    attributes = dataset[dimension].attrs if dimension in dataset.variables else {}
    units = str(attributes.get("units", "")).lower()
    geographic = attributes.get("standard_name") in ("latitude", "longitude")
    named = dimension.lower() in ("lat", "latitude", "lon", "longitude")
    return units in _DEGREES or (not units and (geographic or named))


def affine_of(
    dataset: xr.Dataset, array: xr.DataArray, spatial: tuple[str, str], label: str
) -> tuple[float, ...]:
    """Return the coefficients that turn column and row into easting and northing.

    Raises:
        ObservationsError: the coordinates are missing, or not those of a regular grid.
    """
    stated = _stated_affine(dataset, array)
    axes = []
    for dimension, size in zip(spatial, (array.sizes[name] for name in spatial), strict=True):
        if dimension not in dataset.variables or size < 2:
            if stated is None:
                raise ObservationsError(
                    f"{label} has no coordinates along {dimension!r}, or only one. Write them, or "
                    "`GeoTransform` of its grid mapping."
                )
            return tuple(stated)[:6]
        axes.append(_regular_axis(dataset, dimension, label))
    (top, down), (left, right) = axes
    exact = Affine(right, 0, left - right / 2, 0, down, top - down / 2)
    if stated is not None:
        # A part that was cut out keeps the transform of the whole, so that must fit.
        last = (array.sizes[spatial[1]], array.sizes[spatial[0]])
        shift = [np.subtract(~exact @ (stated @ at), at) for at in ((0, 0), last)]
        if np.abs(shift).max() < TOLERANCE_PX:
            return tuple(stated)[:6]
    return tuple(exact)[:6]


def _stated_affine(dataset: xr.Dataset, array: xr.DataArray) -> Affine | None:
    """Return the transform that an attribute states; None without one."""
    for name in _grid_mappings(dataset, array):
        if "GeoTransform" in dataset[name].attrs:
            words = str(dataset[name].attrs["GeoTransform"]).replace(",", " ").split()
            return _usable(Affine.from_gdal(*map(float, words)) if len(words) == 6 else None)
    for attributes in (array.attrs, dataset.attrs):
        numbers = np.atleast_1d(attributes.get("spatial:transform", []))
        if len(numbers) >= 6:
            return _usable(Affine(*map(float, numbers[:6])))
    return None


def _usable(affine: Affine | None) -> Affine | None:
    """Return a transform that has an inverse, else None."""
    if affine is None or not np.isfinite(tuple(affine)).all() or affine.is_degenerate:
        return None
    return affine


def _grid_mappings(dataset: xr.Dataset, array: xr.DataArray) -> list[str]:
    """Return the variables that may hold the georeference of an array, the named one first."""
    named = str(array.attrs.get("grid_mapping", "")).split(" ", 1)[0].rstrip(":")
    return [name for name in (named, "spatial_ref", "crs") if name in dataset.variables]


def _regular_axis(dataset: xr.Dataset, dimension: str, label: str) -> tuple[float, float]:
    """Return the first coordinate of a dimension and the distance to the next, in CRS units."""
    coordinate = dataset[dimension]
    values: Float[np.ndarray, " position"] = np.asarray(coordinate.values, float)
    step = (values[-1] - values[0]) / (len(values) - 1)
    regular = values[0] + step * np.arange(len(values))
    if step == 0 or not (np.abs(values - regular) <= TOLERANCE_PX * abs(step)).all():
        raise ObservationsError(
            f"{label}: the coordinates along {dimension!r} are not evenly spaced. Warp it to a "
            "regular grid first."
        )
    units = str(coordinate.attrs.get("units", "")).lower()
    if units.startswith("degree"):
        return float(values[0]), float(step)
    if units not in _METRES:
        raise ObservationsError(
            f"{label}: the coordinates along {dimension!r} are in {units!r}; metres, kilometres "
            "and degrees are read. Convert them."
        )
    return float(values[0]) * _METRES[units], float(step) * _METRES[units]
