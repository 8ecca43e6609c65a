"""The coordinate encoder's plane: spherical Equal Earth of geodetic latitude.

It is not EPSG:8857, which first maps latitude to the sphere of equal area and differs by up to
16.6 km; the frequencies of the public encoder are tuned to this one. The encoder takes degrees, so
that a grid's metres cannot be mistaken for the plane's.
"""

import numpy as np
from jaxtyping import Float, Float64

from unigeo.schemas.geo.equal_earth_polynomial import SINE_RATIO, height_and_slope
from unigeo.schemas.geo.great_circle import unit_vectors

UNIT_M = 17_243_960.0
"""Metres in one unit of the plane; sigma cycles per unit have a wavelength of this over sigma."""
UNITS_PER_RADIUS = 66.50336 / 180
"""Units of the plane in one Earth radius, as in the public encoder (GeoCLIP).

Source: GeoCLIP, `location_encoder.py`.
"""
RADIUS_M = UNIT_M * UNITS_PER_RADIUS
"""Radius of the sphere, 6,371,007 m: that of a sphere of the Earth's area."""


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
    """Map degrees to a sphere of the plane's scale, without a seam at the antimeridian or poles.

    >>> (sphere(np.array([180.0, 0.0])) / UNITS_PER_RADIUS).round(6).tolist()
    [-1.0, 0.0, 0.0]
    """
    return unit_vectors(lonlat.astype(np.float64)) * UNITS_PER_RADIUS
