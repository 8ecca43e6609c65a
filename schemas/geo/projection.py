"""The Equal Earth projection of WGS 84 in numpy.

PROJ is the reference: the forward projection agrees within 1e-7 m, and the longitudes of a lattice
are bitwise equal. Reading a field by longitude and latitude thus needs no call of PROJ, which would
take about as long as gathering the vectors.
"""

import math

import numpy as np
from jaxtyping import Float

from unigeo.schemas.geo.equal_earth_polynomial import SINE_RATIO, height_and_slope

_SEMI_MAJOR_M = 6_378_137.0
"""Semi-major axis of WGS 84."""
_FLATTENING = 1 / 298.257223563
_ECCENTRICITY2 = _FLATTENING * (2 - _FLATTENING)
_ECCENTRICITY = math.sqrt(_ECCENTRICITY2)
_POLE_NORTHING = 1.3173627591574
"""Northing of the pole on the unit sphere."""
_RADIANS_PER_DEGREE = 0.017453292519943296


def _authalic_q(sine: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """Evaluate Snyder's q at the sine of a latitude.

    It is the area between the equator and the latitude, in units of pi times the squared semi-major
    axis.

    Source: Snyder (1987), "Map projections: a working manual", equation 3-12.
    """
    scaled = _ECCENTRICITY * sine
    return (1 - _ECCENTRICITY2) * (
        sine / (1 - scaled * scaled) + np.arctanh(scaled) / _ECCENTRICITY
    )


_Q_POLE = float(_authalic_q(np.ones(1))[0])
# PROJ evaluates the same expression with `math.atanh`, which can differ in the last bit.
_Q_POLE_PROJ = (1 - _ECCENTRICITY2) * (
    1 / (1 - _ECCENTRICITY2) + math.atanh(_ECCENTRICITY) / _ECCENTRICITY
)
_AUTHALIC_RADIUS_M = _SEMI_MAJOR_M * math.sqrt(_Q_POLE / 2)
"""Radius of the sphere of the ellipsoid's area, 6,371,007 m."""


def equal_earth_m(
    lonlat: Float[np.ndarray, "point 2"], central_meridian: float
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Project WGS 84 degrees, longitude first, to metres.

    Args:
        lonlat: degrees; longitudes may be any number of turns off. NaN gives NaN.
        central_meridian: longitude of the map's middle, degrees.

    Returns:
        Eastings and northings. A longitude half a turn from the middle keeps its side: on a map
        centred on 0, 180 lies on the eastern edge and -180 on the western one.

    Source: Šavrič, Patterson & Jenny (2018), "The Equal Earth map projection", equations 9 and 10.

    >>> [round(float(metres[0]), 3) for metres in equal_earth_m(np.array([[10.0, 50.0]]), 0.0)]
    [791039.373, 5985837.899]
    """
    lon = lonlat[:, 0] - central_meridian
    beyond = np.abs(lon) > 180
    if beyond.any():
        lon = np.where(beyond, (lon + 180) % 360 - 180, lon)
    sine = SINE_RATIO * np.clip(_authalic_q(np.sin(np.deg2rad(lonlat[:, 1]))) / _Q_POLE, -1, 1)
    theta = np.arcsin(sine)
    height, slope = height_and_slope(theta)
    # sqrt(1 - sine^2) is the cosine of theta, at a fraction of its cost.
    across = np.deg2rad(lon) * np.sqrt(1 - sine * sine) / (SINE_RATIO * slope)
    return _AUTHALIC_RADIUS_M * across, _AUTHALIC_RADIUS_M * height


def lattice_longitudes(
    x: Float[np.ndarray, " col"], y: Float[np.ndarray, " row"], central_meridian: float
) -> Float[np.ndarray, "row col"]:
    """Return the longitude of every easting at every northing, degrees; NaN off the globe.

    The parametric latitude depends on the northing alone, so it is computed once per row. Every
    operation is that of PROJ 9, in its order, so that cell centres are bitwise equal to PROJ's.

    Source: PROJ, `eqearth_e_inverse`; Šavrič, Patterson & Jenny (2018), equations 9 and 10.
    """
    radius = math.sqrt(0.5 * _Q_POLE_PROJ)
    across, height = x * (1 / _SEMI_MAJOR_M) / radius, y * (1 / _SEMI_MAJOR_M) / radius
    # `math`, not numpy, whose vectorized functions may round differently from the C library's.
    on_globe = np.clip(height, -_POLE_NORTHING, _POLE_NORTHING)
    theta = np.array([_parametric_latitude(one) for one in on_globe.tolist()])
    _, slope = height_and_slope(theta)
    cosine = np.array([math.cos(one) for one in theta.tolist()])
    lon: np.ndarray = (SINE_RATIO * across)[None, :] * slope[:, None] / cosine[:, None]
    off = (np.abs(lon) > math.pi + 1e-12) | (np.abs(height) > _POLE_NORTHING + 1e-10)[:, None]
    lon += math.radians(central_meridian)
    beyond = np.abs(lon) > math.pi + 1e-12
    if beyond.any():
        turned = lon[beyond] + math.pi
        lon[beyond] = turned - 2 * math.pi * np.floor(turned / (2 * math.pi)) - math.pi
    lon /= _RADIANS_PER_DEGREE
    lon[off] = np.nan
    return lon


def _parametric_latitude(height: float) -> float:
    """Return the parametric latitude of a northing on the unit sphere, by Newton's method."""
    theta = height
    for _ in range(12):
        value, slope = height_and_slope(theta)
        step = (value - height) / slope
        theta -= step
        if abs(step) < 1e-11:
            break
    return theta
