"""Warns once of points without a vector, with the likely cause if most have none."""

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
"""CRSs in metres that are tried besides the field's own: of the contiguous United States, of web
maps, and of other fields."""
_MOST_TRIED = 1000
"""Points whose status is read for each possible cause."""
COLUMNS_HINT = "; of a table, name both with columns=(longitude, latitude)"
"""Part of a remedy that holds for points, and not for polygons."""
_OWN_FILES = (str(Path(__file__).parents[1]),)
"""Prefix of this package's files: a warning shows the first line outside of them, the user's."""


def warn_of_missing(
    points: Points, codes: UInt8[np.ndarray, " point"], modality: Modality, first: int = 0
) -> bool:
    """Warn of points without a position, and of points most of which lie off the field.

    Args:
        points: all points of the request.
        codes: their status in the modality.
        modality: the modality that was read.
        first: number of the first row, if the points are a batch of a larger table.

    Returns:
        Whether it warned.

    Warns:
        PointsWarning: one, with what to do.
    """
    counts = np.bincount(codes, minlength=256)
    without_position = int(counts[NO_POSITION])
    with_position = len(codes) - without_position
    outside, water = int(counts[Status.OUTSIDE_REGION]), int(counts[Status.WATER])
    sentences, why = [], None
    if 2 * (outside + water) > with_position:
        why = likely_cause(points.take(codes != NO_POSITION), modality)
        if why is None and 2 * outside > with_position:
            why = describe_extents(points.take(codes != NO_POSITION), modality.grid)
    if why is not None or 2 * (outside + without_position) > len(codes):
        lacking = len(codes) - int(counts[Status.VALID])
        reasons = count_reasons(codes)
        sentences.append(f"{lacking:,} of {len(codes):,} points have no vector ({reasons}).")
    if why is not None:
        sentences.append(why)
    if without_position:
        row = first + int(np.argmax(codes == NO_POSITION))
        sentences.append(
            f"{without_position:,} of {len(codes):,} points have no position (NaN, null, masked or "
            f"empty), the first in row {row}."
        )
    if sentences:
        warning = PointsWarning(" ".join(sentences), why)
        warnings.warn(warning, skip_file_prefixes=_OWN_FILES, stacklevel=2)
    return bool(sentences)


def likely_cause(points: Points, modality: Modality) -> str | None:
    """Return the likeliest cause that points lie off the field; None if none explains most."""
    all_tried = len(points) <= _MOST_TRIED
    if not all_tried:
        points = points.take(np.linspace(0, len(points) - 1, _MOST_TRIED).astype(np.int64))
    try:
        off = points.take(~_are_on_land(points, modality))
        most, likeliest = len(off) // 2, None  # a cause must explain more than half
        for cause, lonlat in _possible_causes(off, modality.grid):
            count = int(_are_on_land(Points(lonlat), modality).sum())
            if count > most:
                most, likeliest = count, cause
    except StoreError:  # the user did not request these cells: a warning must not fail for them
        return None
    if likeliest is None:
        return None
    tried = f"{len(points):,}" if all_tried else f"{len(points):,} tried"
    on_field = len(points) - len(off) + most
    return f"{likeliest.text}, {on_field:,} of {tried} would lie on the field. {likeliest.remedy}."


def describe_extents(points: Points, grid: Grid) -> str:
    """Describe where the points lie, and where the field does."""
    west, south, east, north = grid_bounds(grid)
    (low_lon, low_lat), (high_lon, high_lat) = points.lonlat.min(axis=0), points.lonlat.max(axis=0)
    return (
        f"They lie between longitudes {low_lon:.6g} and {high_lon:.6g} and latitudes {low_lat:.6g} "
        f"and {high_lat:.6g}; the field lies between longitudes {west:.6g} and {east:.6g} and "
        f"latitudes {south:.6g} and {north:.6g}."
    )


@dataclass(frozen=True)
class _Cause:
    """A mistake in the coordinates that would move points off the field."""

    text: str
    """What looks wrong, and how it was tried to mend it; the number of points follows."""
    remedy: str
    """Sentence without its full stop that says what to do."""


def _possible_causes(
    points: Points, grid: Grid
) -> Iterator[tuple[_Cause, Float[np.ndarray, "point 2"]]]:
    """Yield possible causes, the simplest first, and where the points lie if each is mended."""
    crs = points.crs if points.xy is not None else _DEGREES
    xy = points.xy if points.xy is not None else points.lonlat
    points_crs = known_crs(crs)
    if not points_crs.is_projected:
        for cause, swap, signs in _MISTAKES:
            yield cause, _to_degrees((xy[:, ::-1] if swap else xy) * signs, crs)
        return
    yield (
        _Cause("Easting and northing look swapped: exchanged", "Easting comes first"),
        _to_degrees(xy[:, ::-1], crs),
    )
    for other in dict.fromkeys((_DEGREES, grid.crs, *_LIKELY_CRSS)):
        is_degrees = other == _DEGREES
        name = "WGS 84 longitude and latitude" if is_degrees else other
        remedy = "Leave out crs=" if is_degrees else f"Name it with crs={other!r}"
        text = f"Their numbers look like {name}, not like {points_crs.name}: so read"
        yield _Cause(text, f"{remedy}, or mend the CRS of the table"), _to_degrees(xy, other)


_DEGREES = "OGC:CRS84"
_SWAPPED = "Longitude and latitude look swapped"
_ORDER = f"Longitude comes first{COLUMNS_HINT}"
_LOST = "look as if they had lost their minus sign"
_WEST = "Longitudes west of Greenwich are negative"
_SOUTH = "Latitudes south of the equator are negative"
_MISTAKES = (
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
"""Mistakes in longitude and latitude: the cause, whether to exchange the two, and the signs."""


def _to_degrees(xy: Float[np.ndarray, "point 2"], crs: Any) -> Float[np.ndarray, "point 2"]:
    """Convert to longitude and latitude; NaN where there are no such coordinates."""
    from pyproj import Transformer

    transformer = Transformer.from_crs(known_crs(crs), _DEGREES, always_xy=True)
    lonlat = np.stack(transformer.transform(*xy.T), axis=-1)
    exists = np.isfinite(lonlat) & (np.abs(lonlat) <= (360, 90))
    return np.where(exists.all(axis=1)[:, None], lonlat, np.nan)


def _are_on_land(points: Points, modality: Modality) -> Bool[np.ndarray, " point"]:
    """Return which points lie on the field's land."""
    codes = read_status(modality, points)
    return ~np.isin(codes, (Status.OUTSIDE_REGION, Status.WATER, NO_POSITION))
