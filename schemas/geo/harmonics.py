"""Real spherical harmonics: smooth functions on the sphere, without a seam or poles.

There are L squared below degree L. Longitude and latitude are taken as angles on a sphere. All but
`spherical_harmonics` use operators alone, so that numpy and torch share them.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64


def spherical_harmonics(
    lonlat: Float[np.ndarray, "point 2"], degree: int
) -> Float64[np.ndarray, "point harmonic"]:
    """Evaluate every real harmonic below a degree, orthonormal over the sphere.

    The functions of cos(m longitude) come first, by degree and then by order m from 0, followed by
    those of sin(m longitude), from order 1.

    >>> spherical_harmonics(np.array([[12.0, 90.0]]), 2).round(4).tolist()
    [[0.2821, 0.4886, 0.0, 0.0]]
    """
    lon, lat = np.deg2rad(lonlat.astype(np.float64)).T
    orders = np.arange(degree)
    sectoral = sectoral_factors(degree) * np.cos(lat)[:, None] ** orders
    rows = legendre_rows(
        np.sin(lat)[:, None], sectoral, *recurrence_factors(degree), np.eye(degree)
    )
    legendre = np.stack(rows, axis=1)  # point degree order
    angles = lon[:, None] * orders
    even, odd = order_masks(degree)
    cosines = (legendre * np.cos(angles)[:, None])[:, even]
    sines = (legendre * np.sin(angles)[:, None])[:, odd]
    return np.concatenate([cosines, sines], axis=1)


def legendre_rows(sine: Any, sectoral: Any, up: Any, back: Any, diagonal: Any) -> list[Any]:
    """Evaluate the normalized associated Legendre functions of sin(latitude), degree by degree.

    The recurrence raises the degree at a fixed order, which is stable in double precision for
    degrees of some hundreds. All orders of a degree are one array, zero above the degree.

    Args:
        sine: sine of the latitude, (point, 1).
        sectoral: the functions whose order is their degree, (point, order).
        up: factor of the degree below, (degree, order).
        back: factor of the degree two below, (degree, order).
        diagonal: the identity, (degree, order).

    Returns:
        An array (point, order) for each degree.

    Source: Holmes & Featherstone (2002), "A unified approach to the Clenshaw summation and the
    recursive computation of very high degree and order normalised associated Legendre functions",
    equations 11 to 13.
    """
    rows = [sectoral * diagonal[0]]
    for degree in range(1, len(diagonal)):
        row = up[degree] * sine * rows[-1] + sectoral * diagonal[degree]
        rows.append(row - back[degree] * rows[-2] if degree > 1 else row)
    return rows


def recurrence_factors(
    degree: int,
) -> tuple[Float64[np.ndarray, "degree degree"], Float64[np.ndarray, "degree degree"]]:
    """Return the recurrence's factors of one and of two degrees below.

    They are zero where the order is not below the degree.
    """
    n, m = np.mgrid[:degree, :degree].astype(np.float64)
    below = m < n
    with np.errstate(divide="ignore", invalid="ignore"):  # orders that are set to 0 below
        span = n**2 - m**2
        up = np.sqrt((4 * n**2 - 1) / span)
        back = np.sqrt((2 * n + 1) * ((n - 1) ** 2 - m**2) / ((2 * n - 3) * span))
    return np.where(below, up, 0), np.where(m < n - 1, back, 0)


def sectoral_factors(degree: int) -> Float64[np.ndarray, " order"]:
    """Return the factor of cos(latitude)^m for each order m, which normalizes the harmonics.

    The square of each harmonic integrates to one over the sphere, hence the root of two from order
    1 on, whose cosines and sines have a mean square of one half.
    """
    orders = np.arange(1, degree)
    factors = np.cumprod(np.concatenate([[1.0], np.sqrt((2 * orders + 1) / (2 * orders))]))
    factors[1:] *= math.sqrt(2)
    scaled: Float64[np.ndarray, " order"] = factors / math.sqrt(4 * math.pi)
    return scaled


def order_masks(
    degree: int,
) -> tuple[Bool[np.ndarray, "degree degree"], Bool[np.ndarray, "degree degree"]]:
    """Return masks of the (degree, order) that have a cosine, and a sine, which order 0 lacks."""
    orders = np.arange(degree)
    even = orders[None] <= orders[:, None]
    return even, even & (orders[None] > 0)
