"""Positions as text in one column: "39.5, -105.2", "39.5° N 105.2° W" or "POINT (-105.2 39.5)"."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import PointsError
from unigeo.schemas.tables.coordinate_columns import (
    CoordinateColumns,
    format_names,
    named_column,
)
from unigeo.schemas.tables.numeric_values import MISSING
from unigeo.schemas.tables.text_values import MISSING_TEXTS, parse_number

LATITUDE_FIRST = (
    "latlon", "latlng", "latlong", "latitudelongitude", "coordinates", "coordinate", "coords",
    "gps", "gpscoordinates", "position", "location", "geolocation", "geopoint", "geopoint2d",
)  # fmt: skip
LONGITUDE_FIRST = ("lonlat", "lnglat", "longlat", "longitudelatitude", "xy")
WELL_KNOWN_TEXT = ("wkt", "geometry", "geom", "thegeom", "wktgeom", "geometrywkt", "point", "shape")
"""Names of such columns, letters and digits alone; those of a pair come before those of WKT."""
_ADDRESSES = ("address", "addr", "street", "fulladdress", "streetaddress", "mailingaddress")
_KEYS = ("fips", "geoid", "countyfips", "statefips", "fipscode", "h3", "h3index", "geohash")
_WKT = re.compile(
    r"(?:SRID=(?P<srid>\d+);)?\s*POINT\s*(?:Z|M|ZM)?\s*\(\s*(?P<x>\S+)\s+(?P<y>[^\s)]+)[^)]*\)",
    re.ASCII | re.IGNORECASE,
)
_EMPTY = re.compile(r"(?:SRID=\d+;)?\s*POINT\s*(?:Z|M|ZM)?\s*EMPTY", re.ASCII | re.IGNORECASE)
_DEGREES = re.compile(
    r"""(?P<number>[+\-−]?[\d.,]+)\s*
    (?:[°º]\s*(?:(?P<minutes>[\d.,]+)\s*['′’]\s*(?:(?P<seconds>[\d.,]+)\s*(?:"|″|”|'')\s*)?)?)?
    (?P<side>[NSEW]?)""",
    re.IGNORECASE | re.VERBOSE,
)
_SIGNS = {"N": (1, 1), "S": (1, -1), "E": (0, 1), "W": (0, -1)}
"""Axis, 0 for longitude, and sign of a hemisphere."""
_WGS_84 = "4326"
_POLE = 90.0


def position_column(names: Sequence[Any], columns: CoordinateColumns | None = None) -> Any:
    """Return the name of the column of positions as text; None if there is none, or several.

    Args:
        names: names of all columns.
        columns: the one to take, if its name is unusual; with a pair there is none.

    Raises:
        PointsError: if there is no one column of that name.

    >>> position_column(["id", "Lat, Lon"]), position_column(["lon", "value"])
    ('Lat, Lon', None)
    """
    for name in named_column(columns):
        if list(names).count(name) != 1:
            raise PointsError(f"there is no one column {name!r} among {format_names(names)}")
        return name
    if columns is not None:
        return None
    for group in (LATITUDE_FIRST + LONGITUDE_FIRST, WELL_KNOWN_TEXT):
        found = [name for name in names if _letters(name) in group]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def remedy_without_positions(names: Sequence[Any]) -> str:
    """Return a sentence on what to do with a table that has addresses or keys; or nothing."""
    for name in names:
        if _letters(name) in _KEYS:
            return f". The column {name!r} can be joined by its keys: join(table, by={name!r})"
    for name in names:
        if _letters(name) in _ADDRESSES:
            return (
                f". Addresses, as in {name!r}, become coordinates by a geocoder, such as that of "
                "the US Census Bureau (geocoding.geo.census.gov), which takes tables"
            )
    return ""


def parse_positions(
    values: Sequence[Any], name: Any, described: Callable[[int], str]
) -> Float[np.ndarray, "row 2"]:
    """Parse a column of positions.

    Args:
        values: text, or geometries whose text is WKT; empty, None or NaN where missing.
        name: name of the column, which says whether longitude or latitude is first.
        described: returns the name of a row's field for messages.

    Returns:
        Longitude and latitude, or the easting and northing of WKT; NaN where missing.

    Raises:
        PointsError: for the first value that is no position.
    """
    longitude_first = _letters(name) in LONGITUDE_FIRST
    xy = np.full((len(values), 2), np.nan)
    for row, value in enumerate(values):
        is_nan = isinstance(value, float) and math.isnan(value)
        if is_nan or type(value).__name__ in MISSING:
            continue
        text = str(value).strip()
        if text.casefold() in MISSING_TEXTS or _EMPTY.fullmatch(text):
            continue
        try:
            xy[row] = _parse_position(text, longitude_first)
        except ValueError as error:
            raise PointsError(f"{described(row)} is {text!r:.60}: {error}") from error
    return xy


def _parse_position(text: str, longitude_first: bool) -> tuple[float, float]:
    """Return the coordinates that a text says, longitude or easting first."""
    point = _WKT.fullmatch(text)
    if point is not None:
        if point["srid"] not in (None, _WGS_84):
            raise ValueError(f"it is in EPSG:{point['srid']}; write WGS 84, or use geopandas")
        return parse_number(point["x"]), parse_number(point["y"])
    parts = _split(text.strip("()[] "))
    matches = [_DEGREES.fullmatch(part.strip()) for part in parts]
    if len(parts) != 2 or None in matches:
        raise ValueError(
            "positions are written as 39.5, -105.2 or POINT (-105.2 39.5); addresses become "
            "coordinates by a geocoder, such as geocoding.geo.census.gov"
        )
    numbers = [_degrees(match) for match in matches if match]
    sides = [match["side"].upper() for match in matches if match]
    if any(sides):
        axes = [_SIGNS[side][0] for side in sides if side]
        if sorted(axes) != [0, 1]:
            raise ValueError("one of N and S goes with one of E and W")
        signed = {_SIGNS[s][0]: _SIGNS[s][1] * n for s, n in zip(sides, numbers, strict=True)}
        return signed[0], signed[1]
    lon, lat = numbers if longitude_first else numbers[::-1]
    if abs(lat) > _POLE:
        order = "lon, lat" if not longitude_first else "lat, lon"
        raise ValueError(
            f"its latitude, {lat:g}, is beyond 90 degrees; rename the column to {order!r} if the "
            "other number is the latitude"
        )
    return lon, lat


def _degrees(match: re.Match[str]) -> float:
    """Return degrees with the fraction that minutes and seconds say.

    Raises:
        ValueError: if a part is no number, or there are 60 minutes or seconds or more.
    """
    degrees = parse_number(match["number"], commas=True)
    fraction = 0.0
    for name, parts in (("minutes", 60), ("seconds", 3600)):
        if match[name] is not None:
            part = parse_number(match[name], commas=True)
            if part >= 60:
                raise ValueError(f"it has {part:g} {name}: there are 60 in the next larger unit")
            fraction += part / parts
    return math.copysign(abs(degrees) + fraction, degrees) if fraction else degrees


def _split(text: str) -> list[str]:
    """Split two numbers; a comma is a decimal point where something else stands between them."""
    for separator in ";|/":
        if separator in text:
            return text.split(separator)
    if text.count(",") == 1 or ", " in text:
        return text.split(", ") if ", " in text else text.split(",")
    halves = re.split(r"(?<=[NSEW])\s+", text, maxsplit=1, flags=re.IGNORECASE)
    return halves if len(halves) > 1 else re.split(r"\s+(?=[+\-−\d])", text, maxsplit=1)


def _letters(name: Any) -> str:
    return "".join(filter(str.isalnum, str(name).casefold()))
