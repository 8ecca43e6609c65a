"""Principal directions of a modality's vectors: three as colours of the preview, 64 to search by.

They are fitted to a sample spread evenly over the field, in integers: sums of integers below 2^53
are exact in float64 in any order, so they do not depend on the number of threads or on the order in
which BLAS adds.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int8, Int16, UInt8

from unigeo.schemas.store.preview import colour
from unigeo.schemas.store.quantization import FILL, quantize

SAMPLED_SHARDS = 64
"""Largest number of shards in the sample."""
SAMPLED_CELLS = 1024
"""Largest number of cells sampled from one shard; the sample takes 50 MB at 768 bands."""
PERCENTILES = (1, 99)
"""Percentiles of the scores that become the darkest and the brightest value."""

_UNIT = 2**15
"""Scale of integer unit vectors: they are rounded to multiples of 2^-15."""
_AXIS = 2**14
"""Scale of integer axes: they are rounded to multiples of 2^-14."""
_ROWS = 16
"""Number of rows of a shard processed at once: 25 MB of float64 at 256 cells and 768 bands."""


@dataclass(frozen=True, eq=False)
class Colours:
    """Map from a modality's vectors to colours."""

    axes: Int16[np.ndarray, "3 band"]
    """Directions of red, green and blue, in units of 2^-14."""
    stretch: Float[np.ndarray, "3 2"]
    """Scores, along axes of unit length, of the darkest and the brightest."""

    def digest(self) -> str:
        """Return a SHA-256 of the axes and their stretch."""
        return hashlib.sha256(self.axes.tobytes() + self.stretch.tobytes()).hexdigest()

    def paint(self, stored: Int8[np.ndarray, "row col band"]) -> UInt8[np.ndarray, "3 row col"]:
        """Colour cells; a cell without a vector is 0."""
        rgb = np.zeros((3, *stored.shape[:2]), np.uint8)
        for first in range(0, len(stored), _ROWS):
            part = stored[first : first + _ROWS]
            valid = part[..., 0] != FILL
            if valid.any():
                painted = colour(_scores(part[valid], self.axes), self.stretch)
                rgb[:, first : first + _ROWS][:, valid] = painted.T
        return rgb


def spread(count: int, most: int) -> np.ndarray:
    """Return at most `most` indices, spread evenly over a sequence of `count` members."""
    taken = min(count, most)
    return (np.arange(taken) * count) // max(taken, 1)


def fit_axes(stored: Int8[np.ndarray, "cell band"], count: int) -> Int16[np.ndarray, "axis band"]:
    """Fit the principal directions of a sample.

    Args:
        stored: quantized vectors, none of them missing; may be empty.
        count: number of directions; those beyond the number of bands are 0, and all of no vector.

    Returns:
        Directions in units of 2^-14, the one of the largest variance first.
    """
    bands = stored.shape[1]
    axes = np.zeros((count, bands), np.int16)
    if not len(stored):
        return axes
    gram, total = np.zeros((bands, bands)), np.zeros(bands)
    # A product of two units is at most 2^30 and a sample has 2^16 cells: sums stay below 2^53.
    for first in range(0, len(stored), 4096):
        units = _whole_units(stored[first : first + 4096])
        gram += units.T @ units
        total += units.sum(axis=0)
    _, vectors = np.linalg.eigh(gram - np.outer(total, total) / len(stored))
    main = vectors[:, ::-1][:, :count].T  # eigh sorts the eigenvalues from smallest to largest
    main = main * np.where(main.sum(axis=1) < 0, -1, 1)[:, None]  # its sign is free: fix it
    # Rounding to integers absorbs differences in the last bits between LAPACK builds.
    axes[: len(main)] = np.rint(main * _AXIS)
    return axes


def fit_colours(
    stored: Int8[np.ndarray, "cell band"], axes: Int16[np.ndarray, "3 band"]
) -> Colours:
    """Fit the range of a sample's scores along its principal directions.

    Args:
        stored: quantized vectors, none of them missing; may be empty.
        axes: of `fit_axes`.
    """
    if not len(stored):
        return Colours(axes, np.zeros((3, 2)))
    parts = range(0, len(stored), 4096)
    scores = np.concatenate([_scores(stored[first : first + 4096], axes) for first in parts])
    low, high = np.percentile(scores, PERCENTILES, axis=0)
    return Colours(axes, np.stack([low, high], axis=1))


def project(
    stored: Int8[np.ndarray, "cell band"], axes: Int16[np.ndarray, "axis band"]
) -> Int8[np.ndarray, "cell axis"]:
    """Quantize the products of unit vectors and axes, which are missing where all of them are 0."""
    products = _scores(stored, axes)
    products[~products.any(axis=1)] = np.nan
    return quantize(products)


def unit_axes(axes: Int16[np.ndarray, "axis band"]) -> Float[np.ndarray, "axis band"]:
    """Return axes as they are stored, of unit length; exact in float32."""
    return (axes / np.float32(_AXIS)).astype(np.float32)


def _whole_units(stored: Int8[np.ndarray, "cell band"]) -> Float[np.ndarray, "cell band"]:
    """Return unit vectors times 2^15, rounded to integers."""
    wide = stored.astype(np.float64)
    return np.asarray(np.rint(wide * (_UNIT / np.sqrt((wide * wide).sum(axis=1, keepdims=True)))))


def _scores(
    stored: Int8[np.ndarray, "cell band"], axes: Int16[np.ndarray, "axis band"]
) -> Float[np.ndarray, "cell axis"]:
    """Return products of unit vectors and axes; products of integers are exact, hence repeatable.

    They are exact even in float32, up to 1,024 bands: an axis is split into 2^7 times a high
    integer plus a low one, and sums of their products with int8 stay below 2^24.
    """
    exact: Any = np.float32 if stored.shape[1] <= 1024 else np.float64
    wide = stored.astype(exact)
    squares = np.einsum("cb,cb->c", wide, wide).astype(np.float64)
    high = (axes + 64) >> 7  # + 64 rounds to nearest, so that |low| is at most 64
    low = axes - (high << 7)
    high_products, low_products = (wide @ part.T.astype(exact) for part in (high, low))
    products = high_products.astype(np.float64) * 128 + low_products
    return np.asarray(products / (np.sqrt(squares)[:, None] * _AXIS))
