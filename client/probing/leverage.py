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
class TrainingSpread:
    """The spread of training vectors under one penalty, from which leverages are computed.

    It holds either `factor` or `whitened`, whichever is the smaller matrix.
    """

    mean: Float[np.ndarray, " band"]
    """Mean of the training vectors."""
    band_scale: Float[np.ndarray, " band"]
    """Strength / standard deviation of each band, 0 for a constant one."""
    penalty: float
    count: float
    """Number of training vectors, or the sum of their weights."""
    factor: Float[np.ndarray, "band band"] | None
    """Lower Cholesky factor of G + penalty, float32; None where bands are more than vectors."""
    whitened: Float[np.ndarray, "band row"] | None = None
    """The standardized training vectors Z as Z' L^-T / sqrt(n), L the lower Cholesky factor of
    Z Z' / n + penalty; None where `factor` is given."""

    def __repr__(self) -> str:
        return f"TrainingSpread({self.count:,.0f} vectors of {len(self.mean)} bands)"

    def leverage(self, vectors: Float[np.ndarray, "point band"]) -> Float[np.ndarray, " point"]:
        """Compute the leverage of each vector: within about 0.1 %, as the factor is float32."""
        standard = (vectors - self.mean) * self.band_scale
        if self.whitened is not None:
            # Woodbury's identity: penalty z' (G + penalty)^-1 z = |z|^2 - |z whitened|^2.
            rest = (standard**2).sum(axis=1) - ((standard @ self.whitened) ** 2).sum(axis=1)
            return np.asarray(np.maximum(rest, 0) / (self.penalty * self.count))
        assert self.factor is not None
        # z' (L L')^-1 z = |L^-1 z|^2
        white = whiten(self.factor, standard)
        return np.asarray(np.einsum("pb,pb->p", white, white), np.float64) / self.count

    def unscaled(
        self, origin: Float[np.ndarray, " band"], scale: Float[np.ndarray, " band"]
    ) -> "TrainingSpread":
        """Return the spread of vectors v, where this one is of (v - origin) / scale."""
        return TrainingSpread(
            origin + scale * self.mean,
            self.band_scale / scale,
            self.penalty,
            self.count,
            self.factor,
            self.whitened,
        )


def difficulty(leverage: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Return the factor of the usual error that is to be expected, 1 or more."""
    return np.asarray(np.sqrt(1 + leverage))
