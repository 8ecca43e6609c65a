"""Unit vectors as int8: a direction needs no stored scale.

A vector v is stored as q = round(127 v / max|v|) and read back as q / |q|. Dividing by the largest
component uses all 255 levels for every vector; normalizing again undoes the division, so a cell is
self-contained and -127..127 suffice. -128 is left to mean "no data".
"""

import numpy as np
from jaxtyping import Float, Int8

FILL = -128
"""Stored in every band of a cell without a vector; never occurs in a vector."""
LEVELS = 127
"""Largest stored magnitude."""


def quantize(vectors: Float[np.ndarray, "*cell band"]) -> Int8[np.ndarray, "*cell band"]:
    """Store directions as int8.

    Args:
        vectors: any length but zero; NaN anywhere in a vector means no data.

    Returns:
        -127 to 127, and -128 in every band where there is no data.

    Raises:
        ValueError: if a vector is zero or infinite, since it has no direction.

    >>> quantize(np.array([[0.6, -0.8], [np.nan, 0.0]]))
    array([[  95, -127],
           [-128, -128]], dtype=int8)
    """
    largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=0.0)
    if not np.all(np.isnan(largest) | ((largest > 0) & np.isfinite(largest))):
        first = np.flatnonzero(~((largest > 0) & np.isfinite(largest)))[0]
        raise ValueError(f"vector {first} is zero or infinite, without direction; NaN is no data")
    missing = np.isnan(largest)
    scaled = np.rint(vectors * (LEVELS / np.where(missing, 1.0, largest)))
    return np.where(missing, FILL, scaled).astype(np.int8)


def dequantize(stored: Int8[np.ndarray, "*cell band"]) -> Float[np.ndarray, "*cell band"]:
    """Read unit vectors back, float32; NaN in every band where there is no data.

    The sum of squares is below 2^24 up to 1,040 bands, hence exact in float32 in any order: the
    same cell gives the same bits whatever it was read with.
    """
    vectors = stored.astype(np.float32)
    squares = np.einsum("...b,...b->...", vectors, vectors)
    with np.errstate(invalid="ignore"):
        vectors /= np.sqrt(squares)[..., None]
    vectors[stored[..., 0] == FILL] = np.nan
    return vectors
