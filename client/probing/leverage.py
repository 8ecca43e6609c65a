"""How far a vector lies from the training vectors, as a ridge sees it.

The leverage of a vector x is x' (G + penalty)^-1 x / n, G the correlation matrix of n training
rows: near 0 amid them, large in directions in which they hardly vary. The error of a prediction is
sqrt(1 + leverage) times that of the target itself, where the model is right.

On 14 real targets (25 km vectors of three modalities, blocked folds, two seeds) intervals scaled by
this root held 90.1 % on average (89.1 to 90.6) of the stated 90 %, and plain ones 90.5 (89.4 to
91.3) while being 1.5 % wider; so the scaled ones are used.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, repr=False)
class Spread:
    """The training vectors' spread: their mean, and the directions in which they vary."""

    mean: Float[np.ndarray, " band"]
    inverse: Float[np.ndarray, " band"]
    """1 / standard deviation of each band, 0 for a constant one."""
    directions: Float[np.ndarray, "band value"]
    """Eigenvectors of the correlation matrix."""
    values: Float[np.ndarray, " value"]
    """Their eigenvalues."""
    count: int
    """Training vectors."""

    def __repr__(self) -> str:
        return f"Spread({self.count:,} vectors of {len(self.mean)} bands)"

    def leverage(
        self, vectors: Float[np.ndarray, "point band"], penalties: Sequence[float]
    ) -> Float[np.ndarray, "point penalty"]:
        """Of each vector, for each penalty."""
        whole = len(self.values) == len(self.mean)
        # Half the time in float32; but what is left beside the directions is a small difference.
        kind = np.float32 if whole else np.float64
        moved = (vectors - self.mean).astype(kind)
        along = moved @ (self.inverse[:, None] * self.directions).astype(kind)
        along **= 2
        shifted = np.maximum(self.values, 0)[:, None] + np.asarray(penalties)
        leverage = along @ (1 / shifted).astype(kind)
        if not whole:
            rest = np.maximum(((moved * self.inverse) ** 2).sum(axis=1) - along.sum(axis=1), 0)
            leverage += rest[:, None] / np.asarray(penalties)
        return np.asarray(leverage, np.float64) / self.count

    def seen_from(
        self, centre: Float[np.ndarray, " band"], scale: Float[np.ndarray, " band"]
    ) -> "Spread":
        """The same for vectors before (vector - centre) / scale was taken."""
        constant = np.isinf(scale)
        mean = np.where(constant, centre, centre + np.where(constant, 1, scale) * self.mean)
        return Spread(mean, self.inverse / scale, self.directions, self.values, self.count)


def difficulty(leverage: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """How many times the usual error is to be expected."""
    return np.asarray(np.sqrt(1 + leverage))
