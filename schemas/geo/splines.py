"""Weights of a Catmull-Rom spline, with which both sides interpolate between cell centres."""

import numpy as np
from jaxtyping import Float


def catmull_rom(share: Float[np.ndarray, "*point"]) -> Float[np.ndarray, "*point 4"]:
    """Return the weights of the four values round a position.

    Args:
        share: position between the second value and the third, 0 to 1.

    Source: Keys (1981), "Cubic convolution interpolation for digital image processing", a = -1/2.

    >>> catmull_rom(np.array(0.5)).tolist()
    [-0.0625, 0.5625, 0.5625, -0.0625]
    """
    t, square, cube = share, share**2, share**3
    return np.stack(
        [
            (-cube + 2 * square - t) / 2,
            (3 * cube - 5 * square + 2) / 2,
            (-3 * cube + 4 * square + t) / 2,
            (cube - square) / 2,
        ],
        axis=-1,
    )
