"""Ridge regression on one training set, solved for every penalty at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.leverage import Spread

_CONSTANT = 1e-10  # a band whose variance is this small beside its mean square is rounding alone


@dataclass(frozen=True, repr=False)
class Path:
    """Solutions of one training set for every penalty."""

    weights: Float[np.ndarray, "penalty band target"]
    intercepts: Float[np.ndarray, "penalty target"]
    spread: Spread
    """Of the training set."""

    def __repr__(self) -> str:
        penalties, bands, targets = self.weights.shape
        return f"Path({penalties} penalties, {bands} bands, {targets} targets)"

    def at(
        self, best: Int[np.ndarray, " target"]
    ) -> tuple[Float[np.ndarray, "band target"], Float[np.ndarray, " target"]]:
        """Weights and intercepts at one penalty (its number) per target."""
        targets = np.arange(len(best))
        return self.weights[best, :, targets].T, self.intercepts[best, targets]


@dataclass(frozen=True, repr=False)
class Moments:
    """Sums over rows: all that ridge needs to know of them when bands are fewer than rows."""

    count: int
    features: Float[np.ndarray, " band"]
    targets: Float[np.ndarray, " target"]
    gram: Float[np.ndarray, "band band"]
    cross: Float[np.ndarray, "band target"]

    def __repr__(self) -> str:
        return f"Moments({self.count:,} rows, {len(self.features)} bands)"

    @classmethod
    def of(
        cls, features: Float[np.ndarray, "point band"], targets: Float[np.ndarray, "point target"]
    ) -> "Moments":
        """Sum over the rows given."""
        return cls(
            len(features),
            features.sum(axis=0),
            targets.sum(axis=0),
            features.T @ features,
            features.T @ targets,
        )

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count,
            self.features + other.features,
            self.targets + other.targets,
            self.gram + other.gram,
            self.cross + other.cross,
        )


def primal_path(moments: Moments, penalties: Sequence[float]) -> Path:
    """Solve for every penalty from the eigenvectors of the bands' correlation matrix."""
    mean, target_mean = moments.features / moments.count, moments.targets / moments.count
    square = moments.gram / moments.count
    inverse = inverse_deviation(np.diag(square) - mean**2, np.diag(square))
    correlation = (square - np.outer(mean, mean)) * np.outer(inverse, inverse)
    cross = (moments.cross / moments.count - np.outer(mean, target_mean)) * inverse[:, None]
    values, vectors = np.linalg.eigh(correlation)
    shrunk = (vectors.T @ cross)[None] / _ridged(values, penalties)
    weights = inverse[:, None] * (vectors @ shrunk)
    spread = Spread(mean, inverse, vectors, values, moments.count)
    return Path(weights, target_mean - mean @ weights, spread)


def dual_path(
    features: Float[np.ndarray, "point band"],
    targets: Float[np.ndarray, "point target"],
    penalties: Sequence[float],
) -> Path:
    """The same from the eigenvectors of the rows' inner products: cheaper when rows are fewer."""
    mean, target_mean = features.mean(axis=0), targets.mean(axis=0)
    inverse = inverse_deviation(features.var(axis=0), (features**2).mean(axis=0))
    standard = (features - mean) * inverse
    values, vectors = np.linalg.eigh(standard @ standard.T / len(standard))
    shrunk = (vectors.T @ (targets - target_mean))[None] / _ridged(values, penalties)
    weights = inverse[:, None] * (standard.T @ (vectors @ shrunk)) / len(standard)
    real = values > _CONSTANT * values.max(initial=1e-300)
    directions = standard.T @ vectors[:, real] / np.sqrt(len(standard) * values[real])
    spread = Spread(mean, inverse, directions, values[real], len(standard))
    return Path(weights, target_mean - mean @ weights, spread)


def inverse_deviation(
    variance: Float[np.ndarray, " band"], square: Float[np.ndarray, " band"]
) -> Float[np.ndarray, " band"]:
    """1 / standard deviation; 0 for a band that is constant, which then has no weight."""
    varies: Bool[np.ndarray, " band"] = variance > _CONSTANT * square
    return np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0)


def _ridged(
    values: Float[np.ndarray, " value"], penalties: Sequence[float]
) -> Float[np.ndarray, "penalty value 1"]:
    """Eigenvalue + penalty, for each pair of them."""
    shifted: Float[np.ndarray, "penalty value 1"] = (
        np.maximum(values, 0)[None, :, None] + np.asarray(penalties)[:, None, None]
    )
    return shifted
