"""Three main directions of a modality's vectors, as red, green and blue, the same everywhere.

They are fitted to a sample spread evenly over the field, in whole numbers: sums of whole numbers
below 2^53 are exact in float64 in any order, so the colours do not depend on how many threads added
them up.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int8, Int16, UInt8

from unigeo.schemas.store.preview import colour
from unigeo.schemas.store.quantization import FILL

SAMPLED_SHARDS = 64
SAMPLED_CELLS = 1024
"""Of one shard. The sample of 768 bands then takes 50 MB."""
PERCENTILES = (1, 99)

_UNIT = 2**15
"""Unit vectors are rounded to multiples of its inverse."""
_AXIS = 2**14
_ROWS = 16
"""Rows of a shard at work at once: 25 MB of float64 at 256 cells and 768 bands."""


@dataclass(frozen=True, eq=False)
class Colours:
    """How a modality's vectors are coloured."""

    axes: Int16[np.ndarray, "3 band"]
    """Directions of red, green and blue, in units of 2^-14."""
    stretch: Float[np.ndarray, "3 2"]
    """Scores, along axes of unit length, of the darkest and the brightest."""

    @property
    def unit_axes(self) -> Float[np.ndarray, "3 band"]:
        """The directions as they are stored; exact in float32."""
        return (self.axes / np.float32(_AXIS)).astype(np.float32)

    def digest(self) -> str:
        """What tells two of them apart."""
        return hashlib.sha256(self.axes.tobytes() + self.stretch.tobytes()).hexdigest()

    def paint(self, stored: Int8[np.ndarray, "row col band"]) -> UInt8[np.ndarray, "3 row col"]:
        """Colour cells; 0 where there is no vector."""
        rgb = np.zeros((3, *stored.shape[:2]), np.uint8)
        for first in range(0, len(stored), _ROWS):
            part = stored[first : first + _ROWS]
            valid = part[..., 0] != FILL
            if valid.any():
                painted = colour(_scores(part[valid], self.axes), self.stretch)
                rgb[:, first : first + _ROWS][:, valid] = painted.T
        return rgb


def spread(count: int, most: int) -> np.ndarray:
    """Numbers of at most so many members, evenly spread over a sequence."""
    taken = min(count, most)
    return (np.arange(taken) * count) // max(taken, 1)


def fit_colours(stored: Int8[np.ndarray, "cell band"]) -> Colours:
    """Find the main directions of a sample and the range of its scores along them.

    Args:
        stored: quantized vectors, none of them missing; may be empty.
    """
    bands = stored.shape[1]
    axes = np.zeros((3, bands), np.int16)
    if not len(stored):
        return Colours(axes, np.zeros((3, 2)))
    gram, total = np.zeros((bands, bands)), np.zeros(bands)
    for first in range(0, len(stored), 4096):
        units = _whole_units(stored[first : first + 4096])
        gram += units.T @ units
        total += units.sum(axis=0)
    _, found = np.linalg.eigh(gram - np.outer(total, total) / len(stored))
    main = found[:, ::-1][:, :3].T
    main = main * np.where(main.sum(axis=1) < 0, -1, 1)[:, None]  # its sign is free: fix it
    axes[: len(main)] = np.rint(main * _AXIS)
    parts = range(0, len(stored), 4096)
    scores = np.concatenate([_scores(stored[first : first + 4096], axes) for first in parts])
    low, high = np.percentile(scores, PERCENTILES, axis=0)
    return Colours(axes, np.stack([low, high], axis=1))


def _whole_units(stored: Int8[np.ndarray, "cell band"]) -> Float[np.ndarray, "cell band"]:
    """Unit vectors times 2^15, rounded to whole numbers."""
    wide = stored.astype(np.float64)
    return np.asarray(np.rint(wide * (_UNIT / np.sqrt((wide * wide).sum(axis=1, keepdims=True)))))


def _scores(
    stored: Int8[np.ndarray, "cell band"], axes: Int16[np.ndarray, "3 band"]
) -> Float[np.ndarray, "cell 3"]:
    """Products of unit vectors and axes; those of whole numbers are exact, hence repeatable.

    In float32 too, up to 1,024 bands: an axis is 2^7 times one whole number and another below it,
    and sums of products of such with int8 stay below 2^24.
    """
    exact: Any = np.float32 if stored.shape[1] <= 1024 else np.float64
    wide = stored.astype(exact)
    squares = np.einsum("cb,cb->c", wide, wide).astype(np.float64)
    high = (axes + 64) >> 7
    low = axes - (high << 7)
    tops, rests = (wide @ part.T.astype(exact) for part in (high, low))
    products = tops.astype(np.float64) * 128 + rests
    return np.asarray(products / (np.sqrt(squares)[:, None] * _AXIS))
