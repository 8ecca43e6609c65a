"""Places that fill a square evenly, the same ones at each call."""

import numpy as np
from jaxtyping import Float

_STEPS = np.array([0.7548776662466927, 0.5698402909980532])
"""Powers of the inverse of the root of x^3 = x + 1 (Roberts 2018)."""


def r2_sequence(count: int) -> Float[np.ndarray, "place 2"]:
    """The first places of the R2 sequence, in the unit square.

    >>> r2_sequence(2).round(3).tolist()
    [[0.755, 0.57], [0.51, 0.14]]
    """
    places: np.ndarray = (np.arange(1, count + 1)[:, None] * _STEPS) % 1.0
    return places
