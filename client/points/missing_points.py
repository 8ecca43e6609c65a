"""Points without a vector: said once, with the likely cause where most of them have none."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from unigeo.client.reading.point_status import NO_POSITION, count_reasons
from unigeo.client.reading.sampling import Modality, read_status
from unigeo.schemas.errors import PointsWarning, StoreError
from unigeo.schemas.geo.bounds import grid_bounds
from unigeo.schemas.geo.crs import known_crs
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, Grid
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

_LIKELY_CRSS = ("EPSG:5070", "EPSG:3857", *CENTRAL_MERIDIANS)
"""CRSs in metres that are tried beside the field's own: of the contiguous United States, of web
maps, of other fields."""
_MOST_TRIED = 1000
"""Points whose status is read for each likely cause."""
COLUMNS = "; of a table, name both with columns=(longitude, latitude)"
"""What can be done about swapped points, and not about polygons."""
_HERE = (str(Path(__file__).parents[1]),)


def warn_of_missing(
    points: Points, codes: UInt8[np.ndarray, " point"], modality: Modality, first: int = 0
) -> bool:
    """Warn of points without a position, and where most points lie off the field.

    Args:
        points: all that were asked for.
        codes: their status in the modality.
        modality: whose vectors were asked for.
        first: number of the first row, where the points are a batch of more.

    Returns:
        Whether there was anything to warn of.

    Warns:
        PointsWarning: one, with what is to be done.
    """
    counts = np.bincount(codes, minlength=256)
    unplaced = int(counts[NO_POSITION])
    placed = len(codes) - unplaced
    outside, water = int(counts[Status.OUTSIDE_REGION]), int(counts[Status.WATER])
    told, why = [], None
    if 2 * (outside + water) > placed:
        why = likely_cause(points.take(codes != NO_POSITION), modality)
        if why is None and 2 * outside > placed:
            why = whereabouts(points.take(codes != NO_POSITION), modality.grid)
    if why is not None or 2 * (outside + unplaced) > len(codes):
        lost = len(codes) - int(counts[Status.VALID])
        told.append(f"{lost:,} of {len(codes):,} points have no vector ({count_reasons(codes)}).")
    if why is not None:
        told.append(why)
    if unplaced:
        row = first + int(np.argmax(codes == NO_POSITION))
        told.append(
            f"{unplaced:,} of {len(codes):,} points have no position (NaN, null, masked or empty), "
            f"the first in row {row}."
        )
    if told:
        # The line that is shown is the user's: the first one outside of this package.
        said = PointsWarning(" ".join(told), why)
        warnings.warn(said, skip_file_prefixes=_HERE, stacklevel=2)
    return bool(told)


def likely_cause(points: Points, modality: Modality) -> str | None:
    """The likeliest cause that most points lie off the field, None if none would explain it."""
    whole = len(points) <= _MOST_TRIED
    if not whole:
        points = points.take(np.linspace(0, len(points) - 1, _MOST_TRIED).astype(np.int64))
    try:
        off = points.take(~_are_on(points, modality))
        most, found = len(off) // 2, None
        for trial, lonlat in _trials(off, modality.grid):
            count = int(_are_on(Points(lonlat), modality).sum())
            if count > most:
                most, found = count, trial
    except StoreError:  # these cells were not asked for
        return None
    if found is None:
        return None
    tried = f"{len(points):,}" if whole else f"{len(points):,} tried"
    on_field = len(points) - len(off) + most
    return f"{found.cause}, {on_field:,} of {tried} would lie on the field. {found.remedy}."


def whereabouts(points: Points, grid: Grid) -> str:
    """Where the points lie, and where the field does."""
    west, south, east, north = grid_bounds(grid)
    (low_lon, low_lat), (high_lon, high_lat) = points.lonlat.min(axis=0), points.lonlat.max(axis=0)
    return (
        f"They lie between longitudes {low_lon:.6g} and {high_lon:.6g} and latitudes {low_lat:.6g} "
        f"and {high_lat:.6g}; the field lies between longitudes {west:.6g} and {east:.6g} and "
        f"latitudes {south:.6g} and {north:.6g}."
    )


@dataclass(frozen=True)
class _Cause:
    """Something that may have gone wrong."""

    cause: str
    remedy: str


def _trials(points: Points, grid: Grid) -> Iterator[tuple[_Cause, Float[np.ndarray, "point 2"]]]:
    """What may have gone wrong, the simplest first, and where the points lie if it has."""
    crs = points.crs if points.xy is not None else _DEGREES
    xy = points.xy if points.xy is not None else points.lonlat
    own = known_crs(crs)
    if not own.is_projected:
        for trial, swap, signs in _SLIPS:
            yield trial, _degrees((xy[:, ::-1] if swap else xy) * signs, crs)
        return
    yield (
        _Cause("Easting and northing look swapped: exchanged", "Easting comes first"),
        _degrees(xy[:, ::-1], crs),
    )
    for other in dict.fromkeys((_DEGREES, grid.crs, *_LIKELY_CRSS)):
        is_degrees = other == _DEGREES
        name = "WGS 84 longitude and latitude" if is_degrees else other
        remedy = "Leave out crs=" if is_degrees else f"Name it with crs={other!r}"
        cause = f"Their numbers look like {name}, not like {own.name}: so read"
        yield _Cause(cause, f"{remedy}, or mend the CRS of the table"), _degrees(xy, other)


_DEGREES = "OGC:CRS84"
_SWAPPED = "Longitude and latitude look swapped"
_ORDER = f"Longitude comes first{COLUMNS}"
_LOST = "look as if they had lost their minus sign"
_WEST = "Longitudes west of Greenwich are negative"
_SOUTH = "Latitudes south of the equator are negative"
_SLIPS = (
    (_Cause(f"{_SWAPPED}: exchanged", _ORDER), True, (1, 1)),
    (_Cause(f"The longitudes {_LOST}: with it", _WEST), False, (-1, 1)),
    (_Cause(f"The latitudes {_LOST}: with it", _SOUTH), False, (1, -1)),
    (_Cause(f"Both coordinates {_LOST}: with it", f"{_WEST}. {_SOUTH}"), False, (-1, -1)),
    (
        _Cause(f"{_SWAPPED}, and the longitudes {_LOST}: mended", f"{_ORDER}. {_WEST}"),
        True,
        (-1, 1),
    ),
)
"""Of longitude and latitude: what slipped, whether to exchange them, and the signs to give."""


def _degrees(xy: Float[np.ndarray, "point 2"], crs: Any) -> Float[np.ndarray, "point 2"]:
    """Longitude and latitude; NaN where there is no such place."""
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(known_crs(crs), _DEGREES, always_xy=True)
    lonlat = np.stack(to_degrees.transform(*xy.T), axis=-1)
    there = np.isfinite(lonlat) & (np.abs(lonlat) <= (360, 90))
    return np.where(there.all(axis=1)[:, None], lonlat, np.nan)


def _are_on(points: Points, modality: Modality) -> Bool[np.ndarray, " point"]:
    """Which points lie on the field's land."""
    codes = read_status(modality, points)
    return ~np.isin(codes, (Status.OUTSIDE_REGION, Status.WATER, NO_POSITION))
