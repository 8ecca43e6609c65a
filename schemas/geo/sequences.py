"""Quasi-random points that fill a square evenly, the same ones at each call."""

import numpy as np
from jaxtyping import Float

_STEPS = np.array([0.7548776662466927, 0.5698402909980532])
"""Inverse of the real root of x^3 = x + 1, and its square.

Source: Roberts (2018), "The unreasonable effectiveness of quasirandom sequences".
"""


def r2_sequence(count: int) -> Float[np.ndarray, "point 2"]:
    """Return the first points of the R2 sequence, in the unit square.

    >>> r2_sequence(2).round(3).tolist()
    [[0.755, 0.57], [0.51, 0.14]]
    """
    points: np.ndarray = (np.arange(1, count + 1)[:, None] * _STEPS) % 1.0
    return points
