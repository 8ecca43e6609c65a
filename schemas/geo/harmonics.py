"""Real spherical harmonics: waves on the whole sphere, without seam or pole.

Their number below degree L is L squared. Longitude and latitude are taken as angles on a sphere.
The functions here are arrays' arithmetic alone, so that numpy and torch share them.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64


def spherical_harmonics(
    lonlat: Float[np.ndarray, "point 2"], degree: int
) -> Float64[np.ndarray, "point harmonic"]:
    """Evaluate every real harmonic below a degree, orthonormal over the sphere.

    First the waves cos(m longitude), by degree and then by order m from 0; then the sines, from 1.

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
    """Find the normalized associated Legendre functions of sin(latitude), one degree at a time.

    The recurrence rises in degree with the order held, which is stable in double precision for
    degrees of some hundreds; every order of a degree is one array, zero where it exceeds the
    degree.

    Args:
        sine: of the latitude, (point, 1).
        sectoral: the functions whose order is their degree, (point, order).
        up: factor of the degree below, (degree, order).
        back: factor of the degree two below, (degree, order).
        diagonal: the identity, (degree, order).

    Returns:
        For each degree an array (point, order).

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
    """Factors of one and of two degrees below, zero where the order is not below the degree."""
    n, m = np.mgrid[:degree, :degree].astype(np.float64)
    below = m < n
    with np.errstate(divide="ignore", invalid="ignore"):
        span = n**2 - m**2
        up = np.sqrt((4 * n**2 - 1) / span)
        back = np.sqrt((2 * n + 1) * ((n - 1) ** 2 - m**2) / ((2 * n - 3) * span))
    return np.where(below, up, 0), np.where(m < n - 1, back, 0)


def sectoral_factors(degree: int) -> Float64[np.ndarray, " order"]:
    """What cos(latitude) to the m-th power is multiplied with, for each order m.

    It makes the squares of all harmonics integrate to one, hence the root of two from order 1 on.
    """
    orders = np.arange(1, degree)
    factors = np.cumprod(np.concatenate([[1.0], np.sqrt((2 * orders + 1) / (2 * orders))]))
    factors[1:] *= math.sqrt(2)
    scaled: Float64[np.ndarray, " order"] = factors / math.sqrt(4 * math.pi)
    return scaled


def order_masks(
    degree: int,
) -> tuple[Bool[np.ndarray, "degree degree"], Bool[np.ndarray, "degree degree"]]:
    """Which (degree, order) have a cosine, and which a sine: the order 0 has none."""
    orders = np.arange(degree)
    even = orders[None] <= orders[:, None]
    return even, even & (orders[None] > 0)
