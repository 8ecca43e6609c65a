"""The polynomial of the Equal Earth projection, for floats, numpy arrays and torch tensors.

Its users differ in how they find the parametric latitude and in the sphere's radius.
"""

import math
from typing import Any

SINE_RATIO = math.sqrt(3) / 2
"""Sine of the parametric latitude over the sine of the (authalic or geodetic) latitude."""
_A1, _A2, _A3, _A4 = 1.340264, -0.081106, 0.000893, 0.003796


def height_and_slope(theta: Any) -> tuple[Any, Any]:
    """Evaluate the polynomial and its derivative.

    Args:
        theta: parametric latitude, radians; a float, an array or a tensor.

    Returns:
        Northing on the unit sphere, and its derivative.

    Source: Šavrič, Patterson & Jenny (2018), "The Equal Earth map projection", equation 9.

    >>> height_and_slope(0.0)
    (0.0, 1.340264)
    """
    square = theta * theta
    sixth = square * square * square
    height = theta * (_A1 + _A2 * square + sixth * (_A3 + _A4 * square))
    slope = _A1 + 3 * _A2 * square + sixth * (7 * _A3 + 9 * _A4 * square)
    return height, slope
