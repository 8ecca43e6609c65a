"""Points in every form users have them, read as longitude and latitude.

Accepted: a numpy array or list of (lon, lat); a DataFrame, polars frame or Arrow table with columns
named for longitude and latitude; a GeoDataFrame or GeoSeries of points; GeoJSON (a mapping, or a
path to a file); an xarray Dataset or DataArray with such coordinates. The CRS is taken from the
object if it carries one, else it is WGS 84 longitude and latitude, unless named.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import PointsError

LON_NAMES = ("lon", "longitude", "lng", "long", "x")
LAT_NAMES = ("lat", "latitude", "y")


@dataclass(frozen=True)
class Points:
    """Places to read a field at."""

    lonlat: Float[np.ndarray, "point 2"]
    """WGS 84 degrees, longitude first, float64."""
    index: Any = None
    """The rows' labels (a pandas Index) if the points came with some."""


def read_points(
    points: Any, crs: str | None = None, columns: tuple[Any, Any] | None = None
) -> Points:
    """Read points in any accepted form.

    Args:
        points: see the module's docstring.
        crs: the CRS of the numbers, where the object does not say it (default WGS 84).
        columns: names of the easting (longitude) and northing (latitude) columns, if not usual.

    Raises:
        PointsError: naming the first bad row, for NaN, infinite or swapped coordinates; for an
            unknown form, CRS or column.

    >>> read_points([(-71.06, 42.36), (-118.24, 34.05)]).lonlat
    array([[ -71.06,   42.36],
           [-118.24,   34.05]])
    """
    if isinstance(points, Points):
        return points
    if isinstance(points, str | Path):
        points = _read_geojson_file(Path(points))
    xy, own_crs, index = _numbers(points, columns)
    if own_crs is not None and crs is not None and not _same_crs(own_crs, crs):
        raise PointsError(
            f"the points carry the CRS {own_crs!s:.60}, and {crs} was named; leave out one of them"
        )
    lonlat = _to_lonlat(xy, own_crs if own_crs is not None else crs)
    check_lonlat(lonlat)
    return Points(lonlat, index)


def check_lonlat(lonlat: Float[np.ndarray, "point 2"]) -> None:
    """Refuse coordinates that are not places.

    Raises:
        PointsError: naming the first bad row.
    """
    finite = np.isfinite(lonlat).all(axis=1)
    if not finite.all():
        row = int(np.flatnonzero(~finite)[0])
        raise PointsError(
            f"{(~finite).sum()} of {len(lonlat)} points have a coordinate that is NaN or infinite, "
            f"the first in row {row}: {lonlat[row].tolist()}. Drop these rows first."
        )
    beyond = np.abs(lonlat[:, 1]) > 90
    if beyond.any():
        row = int(np.flatnonzero(beyond)[0])
        swapped = np.abs(lonlat[:, 0]).max() <= 90
        advice = (
            "Longitude and latitude look swapped: longitude comes first."
            if swapped
            else "Name the CRS of the points if they are not in degrees."
        )
        raise PointsError(
            f"{beyond.sum()} of {len(lonlat)} points have a latitude beyond 90 degrees, the first "
            f"in row {row}: longitude {lonlat[row, 0]:g}, latitude {lonlat[row, 1]:g}. {advice}"
        )
    beyond = np.abs(lonlat[:, 0]) > 360
    if beyond.any():
        row = int(np.flatnonzero(beyond)[0])
        raise PointsError(
            f"{beyond.sum()} of {len(lonlat)} points have a longitude beyond 360 degrees, the "
            f"first in row {row}: {lonlat[row, 0]:g}. Name the CRS of the points if not "
            "degrees."
        )


def find_columns(names: Sequence[Any], columns: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """The columns of longitude and latitude among `names`, whatever their case.

    Raises:
        PointsError: if there is none, or more than one.
    """
    if columns is not None:
        for name in columns:
            if name not in names:
                raise PointsError(f"there is no column {name!r} among {_listed(names)}")
        return columns
    found = []
    for what, usual in (("longitude", LON_NAMES), ("latitude", LAT_NAMES)):
        matches = [name for name in names if _word(name) in usual]
        if not matches:
            raise PointsError(
                f"no {what} column among {_listed(names)}; usual names are {', '.join(usual)}, or "
                "name both with columns=(longitude, latitude)"
            )
        # `lon` and `x` may stand side by side: the more telling name comes first in `usual`.
        found.append(min(matches, key=lambda name: usual.index(_word(name))))
    return found[0], found[1]


def _word(name: Any) -> str:
    """A column's name as it is compared; of several levels, the only one that is not empty."""
    levels = [level for level in name if level != ""] if isinstance(name, tuple) else [name]
    return str(levels[0] if len(levels) == 1 else name).strip().lower()


def _numbers(points: Any, columns: tuple[Any, Any] | None) -> tuple[Any, Any, Any]:
    """Two columns of numbers, the CRS the object carries, and its row labels."""
    if isinstance(points, Mapping) and "type" in points:
        return _geojson_points(points), None, None
    geometry = getattr(points, "geometry", None) if hasattr(points, "crs") else None
    if geometry is not None:
        kinds = set(geometry.geom_type)
        if kinds - {"Point"}:
            raise PointsError(
                f"the geometries must all be points, found {_listed(sorted(kinds, key=str))}; take "
                " .representative_point() of other shapes, or their zonal means"
            )
        return np.stack([geometry.x, geometry.y], -1), points.crs, points.index
    if hasattr(points, "coords") and hasattr(points, "dims"):  # xarray
        names = list(points.coords) + list(getattr(points, "data_vars", ()))
        x, y = find_columns(names, columns)
        return _stacked(points[x].values, points[y].values), None, None
    if type(points).__name__ == "LazyFrame":
        raise PointsError("a LazyFrame has no rows yet: collect() it first")
    if hasattr(points, "columns") and hasattr(points, "__getitem__"):  # pandas, polars
        x, y = find_columns(list(_column_names(points)), columns)
        return _stacked(points[x], points[y]), None, getattr(points, "index", None)
    if hasattr(points, "column_names"):  # Arrow
        x, y = find_columns(points.column_names, columns)
        return _stacked(points[x], points[y]), None, None
    return _pairs(points), None, None


def _column_names(table: Any) -> Sequence[Any]:
    names: Sequence[Any] = getattr(table, "column_names", None) or list(table.columns)
    return names


def _stacked(x: Any, y: Any) -> Float[np.ndarray, "point 2"]:
    try:
        columns = [np.asarray(column, np.float64).ravel() for column in (x, y)]
    except (TypeError, ValueError) as error:
        raise PointsError(f"the coordinate columns must hold numbers: {error}") from error
    if len(columns[0]) != len(columns[1]):
        raise PointsError(
            f"{len(columns[0])} longitudes and {len(columns[1])} latitudes: a grid of coordinates "
            "must be stacked into points first"
        )
    return np.stack(columns, axis=-1)


def _pairs(points: Any) -> Float[np.ndarray, "point 2"]:
    try:
        pairs = np.asarray(points, np.float64)
    except (TypeError, ValueError) as error:
        raise PointsError(
            f"cannot read points from a {type(points).__name__}: give (longitude, latitude) rows, "
            "a table with such columns, a GeoDataFrame, GeoJSON or an xarray object"
        ) from error
    if pairs.shape == (2,):
        pairs = pairs[None]
    if pairs.size == 0:
        pairs = pairs.reshape(0, 2)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise PointsError(f"points must have the shape (n, 2), longitude first, not {pairs.shape}")
    return pairs


def _read_geojson_file(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PointsError(f"cannot read GeoJSON points from {path}: {error}") from error


def _geojson_points(document: Any) -> Float[np.ndarray, "point 2"]:
    kind = document.get("type") if isinstance(document, Mapping) else None
    try:
        if kind == "FeatureCollection":
            parts = [_geojson_points(feature) for feature in document["features"]]
            return np.concatenate(parts) if parts else np.empty((0, 2))
        if kind == "Feature":
            return _geojson_points(document["geometry"])
        if kind == "Point":
            return _pairs([document["coordinates"][:2]])
        if kind == "MultiPoint":
            return _pairs([vertex[:2] for vertex in document["coordinates"]])
    except (KeyError, TypeError) as error:
        raise PointsError(f"not valid GeoJSON: {error!r} in a {kind}") from error
    raise PointsError(f"GeoJSON points must be Point or MultiPoint, found {kind!r}")


def _to_lonlat(xy: Float[np.ndarray, "point 2"], crs: Any) -> Float[np.ndarray, "point 2"]:
    xy = np.ascontiguousarray(xy, np.float64)
    if crs is None or _same_crs(crs, "OGC:CRS84") or _same_crs(crs, "EPSG:4326"):
        return xy
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(_crs(crs), "OGC:CRS84", always_xy=True).transform(*xy.T)
    lonlat = np.stack([lon, lat], axis=-1)
    # A row that was finite and has no place on the globe is reported by its own numbers.
    lost = np.isfinite(xy).all(axis=1) & ~np.isfinite(lonlat).all(axis=1)
    if lost.any():
        row = int(np.flatnonzero(lost)[0])
        raise PointsError(
            f"{lost.sum()} of {len(xy)} points have no place on the globe in {crs!s:.60}, the "
            f"first in row {row}: {xy[row].tolist()}"
        )
    return lonlat


def _crs(crs: Any) -> Any:
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        return CRS.from_user_input(crs)
    except CRSError as error:
        raise PointsError(f"{crs!r} is not a CRS that PROJ knows: {error}") from error


def _same_crs(one: Any, other: Any) -> bool:
    if isinstance(one, str) and one == other:
        return True
    return bool(_crs(one).equals(_crs(other), ignore_axis_order=True))


def _listed(names: Sequence[Any], most: int = 20) -> str:
    shown = ", ".join(map(str, names[:most]))
    return shown + (f", ... ({len(names)} in all)" if len(names) > most else "")
