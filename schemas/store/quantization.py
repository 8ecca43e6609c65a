"""Quantization of unit vectors to int8, without a stored scale.

A vector v is stored as q = round(127 v / max|v|) and read back as q / |q|. Dividing by the largest
component uses all 255 levels for every vector, and normalizing undoes the division, so that a cell
needs no other number. Components are -127 to 127, and -128 means "no data".
"""

import numpy as np
from jaxtyping import Float, Int8

FILL = -128
"""Value of every band of a cell without a vector; no vector contains it."""
LEVELS = 127
"""Largest stored magnitude."""


def quantize(vectors: Float[np.ndarray, "*cell band"]) -> Int8[np.ndarray, "*cell band"]:
    """Quantize the directions of vectors.

    Args:
        vectors: of any length except zero; a NaN in any band means no data.

    Returns:
        -127 to 127, and -128 in every band where there is no data.

    Raises:
        ValueError: if a vector is zero or infinite, and so has no direction.

    >>> quantize(np.array([[0.6, -0.8], [np.nan, 0.0]]))
    array([[  95, -127],
           [-128, -128]], dtype=int8)
    """
    largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=0.0)
    missing = np.isnan(largest)  # the maximum of a vector with any NaN
    bad = ~missing & ((largest == 0) | np.isinf(largest))
    if bad.any():
        first = np.flatnonzero(bad)[0]
        raise ValueError(f"vector {first} is zero or infinite, without direction; NaN is no data")
    scaled = np.rint(vectors * (LEVELS / np.where(missing, 1.0, largest)))
    return np.where(missing, FILL, scaled).astype(np.int8)


def dequantize(stored: Int8[np.ndarray, "*cell band"]) -> Float[np.ndarray, "*cell band"]:
    """Return unit vectors, float32; NaN in every band where there is no data.

    A sum of squares of up to 1,040 bands is below 2^24, hence exact in float32 in any order, so a
    cell's vector has the same bits whatever other cells it is read with.
    """
    vectors = stored.astype(np.float32)
    # Exactly representable sums: see above. einsum needs no array of the squares.
    squares = np.einsum("...b,...b->...", vectors, vectors)
    with np.errstate(invalid="ignore"):
        vectors /= np.sqrt(squares)[..., None]
    vectors[stored[..., 0] == FILL] = np.nan  # all bands have the fill value, or none has
    return vectors
