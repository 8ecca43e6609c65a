"""Distances on the Earth as a sphere: great circles, unit vectors and the length of a degree.

Geodesics on the ellipsoid, where metres decide, are computed with `pyproj.Geod`.
"""

import math

import numpy as np
from jaxtyping import Float

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the Earth.

Source: Moritz (2000), "Geodetic Reference System 1980", R1 = (2a + b) / 3.
"""
METRES_PER_DEGREE = EARTH_RADIUS_M * math.pi / 180
"""Length of a degree of a great circle, 111,195 m."""
LEAST_METRES_PER_DEGREE = 110_000.0
"""Lower bound on a degree of latitude, and on one of longitude at the equator, for margins.

The shortest degree of WGS 84 is that of latitude at the equator, 110,574 m.
"""
MOST_METRES_PER_DEGREE = 111_700.0
"""Upper bound on a degree of latitude, and on one of longitude over the cosine of its latitude.

Both are longest at the poles of WGS 84, 111,694 m.
"""
_LEAST_COSINE = 0.01
"""Keeps a margin of longitude finite at the poles."""


def great_circle_m(
    first: Float[np.ndarray, "*#point 2"], second: Float[np.ndarray, "*#point 2"]
) -> Float[np.ndarray, "*#point"]:
    """Compute the distance between points along a great circle, in metres.

    The haversine subtracts coordinates, so it is accurate to less than a metre between near points,
    where the arccosine of a scalar product is not.

    Args:
        first: points, WGS 84 degrees, longitude first.
        second: the point that each is measured to; either argument may be a single point.

    >>> great_circle_m(np.array([0.0, 0.0]), np.array([180.0, 0.0])).round().tolist()
    20015114.0
    """
    lon, lat = np.moveaxis(np.radians(first), -1, 0)
    other_lon, other_lat = np.moveaxis(np.radians(second), -1, 0)
    across = np.cos(lat) * np.cos(other_lat) * np.sin((lon - other_lon) / 2) ** 2
    haversine = np.sin((lat - other_lat) / 2) ** 2 + across
    # The rounding of antipodes can exceed 1, where the arcsine is NaN.
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(haversine, 0, 1))))


def destinations(
    lonlat: Float[np.ndarray, "point 2"],
    distance_m: float | Float[np.ndarray, " point"],
    bearing: Float[np.ndarray, " point"],
) -> Float[np.ndarray, "point 2"]:
    """Compute the points at a distance and bearing along great circles.

    Args:
        lonlat: starting points, WGS 84 degrees, longitude first.
        distance_m: distance to each point; where it is 0, the starting point is returned exactly.
        bearing: direction in radians, clockwise from north.

    >>> destinations(np.array([[10.0, 0.0]]), 111_195.0, np.array([0.0])).round(3).tolist()
    [[10.0, 1.0]]
    """
    lon, lat = np.radians(lonlat).T
    angle = np.asarray(distance_m) / EARTH_RADIUS_M
    sine = np.sin(lat) * np.cos(angle) + np.cos(lat) * np.sin(angle) * np.cos(bearing)
    east = np.sin(bearing) * np.sin(angle) * np.cos(lat)
    turn = np.arctan2(east, np.cos(angle) - np.sin(lat) * sine)
    end = np.degrees(np.stack([lon + turn, np.arcsin(np.clip(sine, -1, 1))], axis=1))
    end[:, 0] = (end[:, 0] + 180) % 360 - 180
    return np.where(angle.reshape(-1, 1) == 0, lonlat, end)


def unit_vectors(lonlat: Float[np.ndarray, "*point 2"]) -> Float[np.ndarray, "*point 3"]:
    """Map points to the unit sphere, which has no seam at the antimeridian or the poles.

    Args:
        lonlat: degrees, longitude first.

    >>> unit_vectors(np.array([90.0, 0.0])).round(6).tolist()
    [0.0, 1.0, 0.0]
    """
    lon, lat = np.moveaxis(np.radians(lonlat), -1, 0)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def degree_margins(
    distance_m: float, lat: float | Float[np.ndarray, "*point"]
) -> tuple[float | Float[np.ndarray, "*point"], float]:
    """Return degrees of longitude and of latitude that a distance in any direction stays within.

    Args:
        distance_m: at most a few hundred kilometres.
        lat: latitude in degrees, the one nearest to a pole.

    >>> wide, high = degree_margins(1100.0, 60.0)
    >>> round(float(wide), 6), round(high, 6)
    (0.02, 0.01)
    """
    high = distance_m / LEAST_METRES_PER_DEGREE
    wide = high / np.maximum(np.cos(np.radians(np.abs(lat))), _LEAST_COSINE)
    return wide, high
