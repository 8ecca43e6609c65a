"""The coordinate encoder's own plane: spherical Equal Earth of geodetic latitude.

It is not EPSG:8857, which first maps latitude to the sphere of equal area and lies up to 16.6 km
away; the frequencies of the public encoder are tuned to this one. The encoder is fed degrees, so
that no grid's metres can be mistaken for it.
"""

import numpy as np
from jaxtyping import Float, Float64

from unigeo.schemas.geo.equal_earth_polynomial import SINE_RATIO, height_and_slope
from unigeo.schemas.geo.great_circle import unit_vectors

UNIT_M = 17_243_960.0
"""Metres in one unit of the plane; a frequency of sigma cycles per unit has this over sigma as its
wavelength."""
UNITS_PER_RADIUS = 66.50336 / 180
"""Units in one Earth radius, from the public encoder (GeoCLIP, `location_encoder.py`)."""
RADIUS_M = UNIT_M * UNITS_PER_RADIUS
"""The sphere's radius, 6,371,007 m: that of a sphere of the Earth's area."""


def equal_earth(lonlat: Float[np.ndarray, "*point 2"]) -> Float64[np.ndarray, "*point 2"]:
    """Project degrees, longitude first, to units of the plane: x eastward, y northward.

    Source: Šavrič, Patterson & Jenny (2018), "The Equal Earth map projection", equation 9.

    >>> equal_earth(np.array([0.0, 90.0])).round(6).tolist()
    [0.0, 0.486717]
    """
    lon, lat = np.moveaxis(np.deg2rad(lonlat.astype(np.float64)), -1, 0)
    theta = np.arcsin(SINE_RATIO * np.sin(lat))
    height, slope = height_and_slope(theta)
    easting = lon * np.cos(theta) / (SINE_RATIO * slope)
    return np.stack([easting, height], axis=-1) * UNITS_PER_RADIUS


def sphere(lonlat: Float[np.ndarray, "*point 2"]) -> Float64[np.ndarray, "*point 3"]:
    """Place degrees on a sphere of the plane's scale: no seam at the dateline or the poles.

    >>> (sphere(np.array([180.0, 0.0])) / UNITS_PER_RADIUS).round(6).tolist()
    [-1.0, 0.0, 0.0]
    """
    return unit_vectors(lonlat.astype(np.float64)) * UNITS_PER_RADIUS
