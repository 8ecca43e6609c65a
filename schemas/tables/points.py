"""Points in the forms that users have, read as longitude and latitude.

Accepted are a numpy array or list of (lon, lat); a DataFrame, polars frame, Arrow table or mapping
with columns named for longitude and latitude; a GeoDataFrame or GeoSeries of points; GeoJSON (a
mapping, its text, or a path to a file); an xarray Dataset or DataArray with such coordinates. The
CRS is that of the object if it has one, else the one that the caller names, else WGS 84.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from unigeo.schemas.errors import PointsError
from unigeo.schemas.geo.crs import is_degrees, is_same_crs, known_crs
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS
from unigeo.schemas.geo.projection import equal_earth_m
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.tables.coordinate_columns import (
    CoordinateColumns,
    find_columns,
    format_names,
    has_columns,
    is_longitude,
)
from unigeo.schemas.tables.geojson import GEOJSON_TYPES, read_geojson_points
from unigeo.schemas.tables.numeric_values import MISSING, as_numbers
from unigeo.schemas.tables.object_types import geometry_of, kind_of
from unigeo.schemas.tables.position_texts import (
    parse_positions,
    position_column,
    remedy_without_positions,
)

_FORMS = (
    "give (longitude, latitude) rows, a table with such columns, a GeoDataFrame, GeoJSON or an "
    "xarray object"
)
_MAX_SHOWN = 80
"""Largest number of characters of a user's text that a message repeats."""

__all__ = ["Points", "check_lonlat", "find_columns", "read_points"]

MissingPositions = Literal["raise", "keep"]


@dataclass(frozen=True)
class Points:
    """Points at which a field is read."""

    lonlat: Float[np.ndarray, "point 2"]
    """WGS 84 degrees, longitude first, float64; both NaN where a point has no position."""
    index: Any = None
    """Labels of the rows (a pandas Index), if the points came with some."""
    xy: Float[np.ndarray, "point 2"] | None = None
    """Coordinates as they were given, if their `crs` is not that of `lonlat`."""
    crs: Any = None
    """CRS of `xy`, in a form that PROJ reads."""

    def __len__(self) -> int:
        return len(self.lonlat)

    def take(self, rows: Any) -> "Points":
        """Select points by a slice, indices or a mask."""
        return replace(
            self,
            lonlat=self.lonlat[rows],
            index=None if self.index is None else self.index[rows],
            xy=None if self.xy is None else self.xy[rows],
        )

    @property
    def has_position(self) -> Bool[np.ndarray, " point"]:
        """Whether each point has a position."""
        return ~np.isnan(self.lonlat[:, 0])

    def metres(self, crs: str) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
        """Return eastings and northings in a CRS of the Equal Earth family; NaN without a position.

        Coordinates that were given in this CRS are returned unchanged: converted to degrees and
        back, a point on the edge of two cells could end up in the other one.
        """
        if self.xy is not None and is_same_crs(self.crs, crs):
            return self.xy[:, 0], self.xy[:, 1]
        return equal_earth_m(self.lonlat, CENTRAL_MERIDIANS[crs])


def read_points(
    points: Any,
    crs: Any = None,
    columns: CoordinateColumns | None = None,
    *,
    missing: MissingPositions = "raise",
) -> Points:
    """Read points in any accepted form.

    Args:
        points: see the module's docstring.
        crs: CRS of the coordinates, where the object has none (default WGS 84).
        columns: names of the easting (longitude) and northing (latitude) columns, if not usual.
        missing: treatment of rows without a position, which have a coordinate that is NaN, null or
            masked, or a geometry that is missing or empty: `raise` refuses them, `keep` gives them
            the longitude and latitude NaN.

    Raises:
        PointsError: naming the first bad row, for missing, infinite or swapped coordinates; for an
            unknown form, CRS or column.

    >>> read_points([(-71.06, 42.36), (-118.24, 34.05)]).lonlat
    array([[ -71.06,   42.36],
           [-118.24,   34.05]])
    """
    if missing not in ("raise", "keep"):
        raise ValueError(f"missing must be 'raise' or 'keep', not {missing!r}")
    read = points if isinstance(points, Points) else _read(points, crs, columns)
    if missing == "raise":
        refuse_missing_positions(read.lonlat)
    return read


def _read(points: Any, crs: Any, columns: CoordinateColumns | None) -> Points:
    if isinstance(points, str | Path):
        points = _read_text(points, columns)
    elif isinstance(points, Iterator):
        points = list(points)
    xy, own_crs, index = _extract_numbers(points, columns)
    if own_crs is not None and crs is not None and not is_same_crs(own_crs, crs):
        raise PointsError(
            f"the points carry the CRS {own_crs!s:.60}, and {crs!s:.60} was named; leave out one "
            "of them"
        )
    crs = crs if own_crs is None else own_crs
    xy = np.ascontiguousarray(xy, np.float64)
    if not np.isfinite(xy).all():
        xy = _blank_half_positions(xy)
    if crs is None or is_degrees(crs):
        _check_degrees(xy)
        return Points(xy, index)
    lonlat = _to_lonlat(xy, crs)
    _check_degrees(lonlat)
    return Points(lonlat, index, xy, crs)


def check_lonlat(lonlat: Float[np.ndarray, "point 2"]) -> None:
    """Refuse coordinates that are missing, infinite or out of range.

    Raises:
        PointsError: naming the first bad row.
    """
    if not np.isfinite(lonlat).all():
        refuse_missing_positions(_blank_half_positions(lonlat))
    _check_degrees(lonlat)


def refuse_missing_positions(lonlat: Float[np.ndarray, "point 2"]) -> None:
    """Refuse points without a position.

    Raises:
        PointsError: naming the first such row.
    """
    lost = np.isnan(lonlat[:, 0])
    if lost.any():
        raise PointsError(
            f"{lost.sum():,} of {len(lonlat):,} points have no position (NaN, null, masked or "
            f"empty), the first in row {int(np.flatnonzero(lost)[0])}. Drop these rows first."
        )


def _blank_half_positions(xy: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 2"]:
    """Make both coordinates NaN where one is, and refuse infinite ones."""
    infinite = np.isinf(xy).any(axis=1)
    if infinite.any():
        row = int(np.flatnonzero(infinite)[0])
        raise PointsError(
            f"{infinite.sum():,} of {len(xy):,} points have a coordinate that is infinite, the "
            f"first in row {row}: {xy[row].tolist()}. Drop these rows first."
        )
    return np.where(np.isnan(xy).any(axis=1)[:, None], np.nan, xy)


def _check_degrees(lonlat: Float[np.ndarray, "point 2"]) -> None:
    """Refuse longitudes and latitudes beyond their range; NaN is neither."""
    beyond = np.abs(lonlat[:, 1]) > 90
    if beyond.any():
        row = int(np.flatnonzero(beyond)[0])
        swapped = np.nanmax(np.abs(lonlat[:, 0])) <= 90
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


def _extract_numbers(points: Any, columns: CoordinateColumns | None) -> tuple[Any, Any, Any]:
    """Return two columns of numbers, the CRS that the object has, and its row labels."""
    kind, geometry = kind_of(points), geometry_of(points)
    if kind == "geometries":
        return _from_geometries(points), points.crs, None
    if geometry is not None:
        return _from_geometries(geometry.array), geometry.crs, points.index
    if kind == "xarray":
        from unigeo.schemas.tables.xarray_points import read_xarray_points

        names = find_columns([*points.coords, *getattr(points, "data_vars", ())], columns)
        return *read_xarray_points(points, names, is_longitude(names[0])), None
    if kind == "lazy":
        raise PointsError("a LazyFrame has no rows yet: collect() it first")
    if kind == "arrow":
        return _from_columns(points, points.column_names, columns), None, None
    if kind == "series":  # one row of a table, or two numbers
        points = dict(points) if has_columns(list(points.index), columns) else points.array
    if isinstance(points, Mapping):
        if points.get("type") in GEOJSON_TYPES:
            return *read_geojson_points(points), None
        return _from_columns(points, list(points), columns), None, None
    if hasattr(points, "columns") and hasattr(points, "__getitem__"):  # any library's data frame
        labels = points.index if kind == "pandas" else None
        return _from_columns(points, list(points.columns), columns), None, labels
    if hasattr(type(points), "__geo_interface__"):  # shapely
        return *read_geojson_points(points.__geo_interface__), None
    return _from_pairs(points), None, None


def _from_columns(
    table: Any, names: Sequence[Any], columns: CoordinateColumns | None
) -> Float[np.ndarray, "point 2"]:
    """Read the two columns of a table; a mapping may hold two numbers."""
    try:
        pair = find_columns(names, columns)
    except PointsError as error:
        return _from_text_column(table, names, columns, error)
    x, y = (
        np.atleast_1d(as_numbers(table[name], f"the {what} column {name!r}"))
        for what, name in zip(("longitude", "latitude"), pair, strict=True)
    )
    if x.ndim != 1 or x.shape != y.shape:
        raise PointsError(
            f"the columns {pair[0]!r} and {pair[1]!r} must be alike and of one dimension; their "
            f"shapes are {x.shape} and {y.shape}"
        )
    return np.stack([x, y], axis=-1)


def _from_text_column(
    table: Any, names: Sequence[Any], columns: CoordinateColumns | None, error: PointsError
) -> Float[np.ndarray, "point 2"]:
    """Read the column of positions as text of a table without coordinate columns."""
    name = position_column(names, columns)
    if name is None:
        raise PointsError(f"{error}{remedy_without_positions(names)}") from error
    values = table[name]
    values = values.to_pylist() if hasattr(values, "to_pylist") else np.asarray(values).tolist()
    values = values if isinstance(values, list) else [values]
    return parse_positions(values, name, lambda row: f"row {row} of the column {name!r}")


def _from_geometries(geometries: Any) -> Float[np.ndarray, "point 2"]:
    """Read the points of a geopandas array; NaN where a geometry is missing or empty."""
    kinds = geometries.geom_type
    shapes = {kind for kind in kinds if isinstance(kind, str)}
    if shapes - {"Point"}:
        row = next(k for k, kind in enumerate(kinds) if kind in shapes - {"Point"})
        raise PointsError(
            f"the geometries must all be points, found {format_names(sorted(shapes))}, the first "
            f"other in row {row}; take .representative_point() of other shapes, or their zonal "
            "means"
        )
    present = ~(geometries.isna() | geometries.is_empty)
    xy = np.full((len(geometries), 2), np.nan)
    points = geometries if present.all() else geometries[present]
    xy[present] = np.stack([points.x, points.y], axis=-1)
    return xy


def _from_pairs(points: Any) -> Float[np.ndarray, "point 2"]:
    try:
        pairs = as_numbers(_unmask(points), "the points")
    except PointsError as error:
        raise PointsError(
            f"cannot read points from a {type(points).__name__}: {_FORMS} ({error})"
        ) from error
    if pairs.ndim == 0:
        raise PointsError(f"cannot read points from a {type(points).__name__}: {_FORMS}")
    if pairs.shape == (2,):
        pairs = pairs[None]
    if pairs.size == 0:
        pairs = pairs.reshape(0, 2)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        if pairs.shape[-2:-1] == (2,):
            raise PointsError(
                f"two rows of {pairs.shape[-1]} numbers are no points, each of which is a row "
                "(longitude, latitude): give {'lon': ..., 'lat': ...}, or numpy.column_stack of "
                "both"
            )
        raise PointsError(f"points must have the shape (n, 2), longitude first, not {pairs.shape}")
    return pairs


def _unmask(points: Any) -> Any:
    """Replace missing rows and masked numbers in a list by values that numpy reads as NaN."""
    if not isinstance(points, list | tuple):
        return points
    has_rows = any(isinstance(row, list | tuple | np.ndarray) and np.ndim(row) for row in points)
    all_missing = isinstance(points, list) and all(type(row).__name__ in MISSING for row in points)
    if len(points) == 2 and not has_rows and not all_missing:
        points = [points]  # one point; [None, None] in contrast is two points without a position
    # A list of plain tuples is converted by numpy at once, without a loop over the rows.
    if all(isinstance(row, tuple) and not any(map(_is_masked, row)) for row in points):
        return points
    return [_unmask_row(row) for row in points]


def _is_masked(value: Any) -> bool:
    return value is np.ma.masked


def _unmask_row(row: Any) -> Any:
    if type(row).__name__ in MISSING:
        return (np.nan, np.nan)
    if isinstance(row, np.ma.MaskedArray) and row.ndim:
        return row.tolist()  # None where it is masked
    if isinstance(row, list | tuple):
        return [None if _is_masked(value) else value for value in row]
    return row


def _read_text(given: str | Path, columns: CoordinateColumns | None) -> Any:
    """Read GeoJSON from its text or from a file, or a table from any other file."""
    from unigeo.schemas.tables.table_files import is_table_name, read_table

    text = str(given)
    if isinstance(given, str) and text.lstrip().startswith("{"):
        what, content = "the text", text.encode()
    elif is_table_name(text):
        return read_table(text, columns=columns)
    else:
        what = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
        try:
            content = Path(given).read_bytes()
        except (OSError, ValueError) as error:
            raise PointsError(
                f"cannot read points from {what}: {error!s:.200}. Text names a file; a place is "
                "(longitude, latitude)"
            ) from error
    try:
        document = load_json(content)
    except ValueError as error:
        raise PointsError(f"cannot read GeoJSON points from {what}: {error}") from error
    if not isinstance(document, Mapping):
        raise PointsError(f"{what} is no GeoJSON: it holds a {type(document).__name__}")
    return document


def _to_lonlat(xy: Float[np.ndarray, "point 2"], crs: Any) -> Float[np.ndarray, "point 2"]:
    from pyproj import Transformer

    lon, lat = Transformer.from_crs(known_crs(crs), "OGC:CRS84", always_xy=True).transform(*xy.T)
    lonlat = np.stack([lon, lat], axis=-1)
    given = ~np.isnan(xy[:, 0])
    lonlat[~given] = np.nan
    # A row whose coordinates PROJ cannot convert is reported by these, not by its degrees.
    lost = given & ~np.isfinite(lonlat).all(axis=1)
    if lost.any():
        row = int(np.flatnonzero(lost)[0])
        raise PointsError(
            f"{lost.sum()} of {len(xy)} points have no place on the globe in "
            f"{known_crs(crs).name}, the first in row {row}: {xy[row].tolist()}. Name the CRS that "
            "their numbers are in"
        )
    return lonlat
