"""The Equal Earth projection of WGS 84 in numpy.

PROJ is the reference: forward it agrees within 1e-7 m, and the longitudes of a lattice are its own
to the last bit. Reading a field at longitudes and latitudes then needs no PROJ, whose own
projection takes about as long as gathering the vectors.
"""

import math

import numpy as np
from jaxtyping import Float

from unigeo.schemas.geo.equal_earth_polynomial import SINE_RATIO, height_and_slope

_SEMI_MAJOR_M = 6_378_137.0
_FLATTENING = 1 / 298.257223563
_ECCENTRICITY2 = _FLATTENING * (2 - _FLATTENING)
_ECCENTRICITY = math.sqrt(_ECCENTRICITY2)
_POLE_NORTHING = 1.3173627591574
"""Northing of the pole on the unit sphere."""
_RADIANS_PER_DEGREE = 0.017453292519943296


def _authalic_q(sine: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """Snyder's q: twice the area between the equator and a latitude, by the sine of the latitude.

    Source: Snyder (1987), "Map projections: a working manual", equation 3-12.
    """
    scaled = _ECCENTRICITY * sine
    return (1 - _ECCENTRICITY2) * (
        sine / (1 - scaled * scaled) + np.arctanh(scaled) / _ECCENTRICITY
    )


_Q_POLE = float(_authalic_q(np.ones(1))[0])
_Q_POLE_PROJ = (1 - _ECCENTRICITY2) * (
    1 / (1 - _ECCENTRICITY2) + math.atanh(_ECCENTRICITY) / _ECCENTRICITY
)
_AUTHALIC_RADIUS_M = _SEMI_MAJOR_M * math.sqrt(_Q_POLE / 2)


def equal_earth_m(
    lonlat: Float[np.ndarray, "point 2"], central_meridian: float
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Project WGS 84 degrees, longitude first, to metres.

    Args:
        lonlat: degrees; longitudes of any turn. NaN gives NaN.
        central_meridian: longitude of the map's middle, degrees.

    Returns:
        Eastings and northings. A longitude half a turn from the middle lies on the edge it comes
        from: 180 on the eastern, -180 on the western one of a map centred on 0.

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
    across = np.deg2rad(lon) * np.sqrt(1 - sine * sine) / (SINE_RATIO * slope)
    return _AUTHALIC_RADIUS_M * across, _AUTHALIC_RADIUS_M * height


def lattice_longitudes(
    x: Float[np.ndarray, " col"], y: Float[np.ndarray, " row"], central_meridian: float
) -> Float[np.ndarray, "row col"]:
    """Longitude of every crossing of eastings and northings, degrees; NaN off the globe.

    The parametric latitude depends on the northing alone, so it is found once per row. Every step
    is that of PROJ 9, in its order, so that a cell's centre is the same number by both.

    Source: PROJ, `eqearth_e_inverse`; Šavrič, Patterson & Jenny (2018), equations 9 and 10.
    """
    radius = math.sqrt(0.5 * _Q_POLE_PROJ)
    across, height = x * (1 / _SEMI_MAJOR_M) / radius, y * (1 / _SEMI_MAJOR_M) / radius
    theta = np.array(
        [
            _parametric_latitude(min(max(one, -_POLE_NORTHING), _POLE_NORTHING))
            for one in height.tolist()
        ]
    )
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
    """Invert equation 10 by Newton's method."""
    theta = height
    for _ in range(12):
        value, slope = height_and_slope(theta)
        step = (value - height) / slope
        theta -= step
        if abs(step) < 1e-11:
            break
    return theta
