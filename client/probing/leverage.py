"""How far a vector lies from the training vectors, as a ridge sees it.

The leverage of a vector x is x' (G + penalty)^-1 x / n, G the correlation matrix of n training
rows: near 0 amid them, large in directions in which they hardly vary. The error of a prediction is
sqrt(1 + leverage) times that of the target itself, where the model is right.

On 14 real targets (25 km vectors of three modalities, blocked folds, two seeds) intervals scaled by
this root held 90.1 % on average (89.1 to 90.6) of the stated 90 %, and plain ones 90.5 (89.4 to
91.3) while being 1.5 % wider; so the scaled ones are used.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.linear_algebra import whiten


@dataclass(frozen=True, repr=False)
class Spread:
    """The spread of training vectors under one penalty."""

    mean: Float[np.ndarray, " band"]
    """Mean of the training vectors."""
    inverse: Float[np.ndarray, " band"]
    """1 / standard deviation of each band, 0 for a constant one."""
    penalty: float
    count: int
    """Number of training vectors."""
    factor: Float[np.ndarray, "band band"] | None
    """Lower Cholesky factor of G + penalty, float32; None where bands are more than vectors."""
    seen: Float[np.ndarray, "band row"] | None = None
    """In the place of `factor`: with z a standardized vector, |z|^2 - |z seen|^2 is
    penalty z' (G + penalty)^-1 z."""

    def __repr__(self) -> str:
        return f"Spread({self.count:,} vectors of {len(self.mean)} bands)"

    def leverage(self, vectors: Float[np.ndarray, "point band"]) -> Float[np.ndarray, " point"]:
        """Compute the leverage of each vector: within about 0.1 %, as the factor is float32."""
        standard = (vectors - self.mean) * self.inverse
        if self.seen is not None:
            left = (standard**2).sum(axis=1) - ((standard @ self.seen) ** 2).sum(axis=1)
            return np.asarray(np.maximum(left, 0) / (self.penalty * self.count))
        assert self.factor is not None
        white = whiten(self.factor, standard)
        return np.asarray(np.einsum("pb,pb->p", white, white), np.float64) / self.count

    def seen_from(
        self, centre: Float[np.ndarray, " band"], scale: Float[np.ndarray, " band"]
    ) -> "Spread":
        """The same for vectors before (vector - centre) / scale was taken."""
        return Spread(
            centre + scale * self.mean,
            self.inverse / scale,
            self.penalty,
            self.count,
            self.factor,
            self.seen,
        )


def difficulty(leverage: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """How many times the usual error is to be expected."""
    return np.asarray(np.sqrt(1 + leverage))
