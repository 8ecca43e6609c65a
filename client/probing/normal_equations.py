"""Ridge regression on one training set, solved for one penalty at a time.

`PrimalEquations` solves the normal equations of the bands, from sums over rows that folds share;
`DualEquations` solves those of the rows, where they are much fewer than the bands. Both give the
same solution. A Cholesky factor takes a small part of the time of the eigenvectors, which would
serve all penalties at once: so a few penalties cost less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.band_scaling import EACH_BAND, BandScaling
from unigeo.client.probing.leverage import TrainingSpread
from unigeo.client.probing.linear_algebra import cholesky, solve, whiten

_STRIP = 64
"""Rows of a matrix that are changed at once."""
_MAX_BANDS_PER_ROW = 1.4
"""Bands per row, above which the rows' equations take less time, spreads included."""


@dataclass(frozen=True, repr=False)
class RidgeSolution:
    """Weights of one training set at one penalty."""

    weights: Float[np.ndarray, "band target"]
    intercepts: Float[np.ndarray, " target"]

    def __repr__(self) -> str:
        bands, targets = self.weights.shape
        return f"RidgeSolution({bands} bands, {targets} targets)"

    def predict(
        self, features: Float[np.ndarray, "point band"]
    ) -> Float[np.ndarray, "point target"]:
        """Predict every target."""
        return np.asarray(features @ self.weights + self.intercepts)

    @classmethod
    def concatenate(cls, solutions: Sequence["RidgeSolution"]) -> "RidgeSolution":
        """Put solutions side by side, as if each were of targets of its own."""
        if len(solutions) == 1:
            return solutions[0]
        return cls(
            np.concatenate([each.weights for each in solutions], axis=1),
            np.concatenate([each.intercepts for each in solutions]),
        )

    def select(self, targets: np.ndarray) -> "RidgeSolution":
        """Return the solution of some targets, by their numbers."""
        return RidgeSolution(self.weights[:, targets], self.intercepts[targets])


@dataclass(repr=False)
class Moments:
    """Sums over rows: all that ridge needs to know of them when bands are fewer than rows."""

    count: float
    """Number of rows, or the sum of their weights; each sum below is weighted, too."""
    features: Float[np.ndarray, " band"]
    """Sum of the features."""
    targets: Float[np.ndarray, " target"]
    """Sum of the targets."""
    squares: Float[np.ndarray, " target"]
    """Sum of the targets' squares."""
    gram: Float[np.ndarray, "band band"]
    """Sum of the products of the features with each other, X' X."""
    cross: Float[np.ndarray, "band target"]
    """Sum of the products of features and targets, X' Y."""

    def __repr__(self) -> str:
        return f"Moments({self.count:,} rows, {len(self.features)} bands)"

    @classmethod
    def zeros(cls, bands: int, targets: int) -> "Moments":
        """Return the sums over no rows."""
        return cls(
            0,
            np.zeros(bands),
            np.zeros(targets),
            np.zeros(targets),
            np.zeros((bands, bands)),
            np.zeros((bands, targets)),
        )

    @classmethod
    def of(
        cls,
        features: Float[np.ndarray, "point band"],
        targets: Float[np.ndarray, "point target"],
        weights: Float[np.ndarray, " point"] | None = None,
    ) -> "Moments":
        """Sum over rows."""
        moments = cls.zeros(features.shape[1], targets.shape[1])
        moments.add(features, targets, weights)
        return moments

    @classmethod
    def total(cls, parts: Sequence["Moments"]) -> "Moments":
        """Sum over the rows of all parts, into new arrays."""
        first, *others = parts
        names = ("features", "targets", "squares", "gram", "cross")
        if not others:
            return cls(first.count, *(getattr(first, name).copy() for name in names))
        # The sum of two is a new array, to which the others are added in place: no sum is copied.
        totals = [getattr(first, name) + getattr(others[0], name) for name in names]
        for part in others[1:]:
            for total, name in zip(totals, names, strict=True):
                total += getattr(part, name)
        return cls(sum(part.count for part in parts), *totals)

    def add(
        self,
        features: Float[np.ndarray, "point band"],
        targets: Float[np.ndarray, "point target"],
        weights: Float[np.ndarray, " point"] | None = None,
    ) -> None:
        """Add rows, each as often as its weight says."""
        first = self.count == 0
        weighted = features if weights is None else weights[:, None] * features
        weighted_targets = targets if weights is None else weights[:, None] * targets
        self.count += len(features) if weights is None else float(weights.sum())
        self.features += weighted.sum(axis=0)
        self.targets += weighted_targets.sum(axis=0)
        self.squares += (weighted_targets * targets).sum(axis=0)
        gram, cross = weighted.T @ features, weighted.T @ targets
        if first:  # large sums are not written twice
            self.gram, self.cross = gram, cross
        else:
            self.gram += gram
            self.cross += cross

    def errors(self, solution: RidgeSolution) -> Float[np.ndarray, " column"]:
        """Sum the squared errors of a solution on these rows, without reading them again.

        With weights w and intercept b the sum of (y - x w - b)^2 is that of (y - b)^2 plus
        w' (X' X w - 2 X' y + 2 b X' 1).

        Args:
            solution: of the targets, or several solutions of them concatenated.
        """
        weights, shift = solution.weights, solution.intercepts
        repeats = len(shift) // len(self.targets)
        squares, targets = np.tile(self.squares, repeats), np.tile(self.targets, repeats)
        constant = squares - 2 * shift * targets + self.count * shift**2
        inner = self.gram @ weights - 2 * np.tile(self.cross, repeats)
        inner += 2 * shift * self.features[:, None]
        return np.asarray(constant + (weights * inner).sum(axis=0))


class PrimalEquations:
    """The normal equations of the bands."""

    def __init__(self, moments: Moments, scaling: BandScaling = EACH_BAND) -> None:
        """Scale the bands.

        Args:
            moments: sums over the training rows, whose `gram` and `cross` are overwritten.
            scaling: scale of each band.
        """
        count = self.count = moments.count
        self.mean, self.target_mean = moments.features / count, moments.targets / count
        correlation, cross = moments.gram, moments.cross
        correlation /= count
        square = correlation.diagonal().copy()
        self.band_scale = scaling.factors(square - self.mean**2, square)
        # Covariance, then correlation, strip by strip: an outer product would be another matrix.
        for start in range(0, len(square), _STRIP):
            strip = correlation[start : start + _STRIP]
            strip -= self.mean[start : start + _STRIP, None] * self.mean
            strip *= self.band_scale[start : start + _STRIP, None] * self.band_scale
        cross /= count
        cross -= np.outer(self.mean, self.target_mean)
        self.correlation, self.cross = correlation, cross * self.band_scale[:, None]
        self._scratch = np.empty_like(correlation)

    def solve(self, penalty: float) -> RidgeSolution:
        """Solve for the weights at a penalty."""
        return self._solution(cholesky(self.correlation, penalty, self._scratch))

    def solve_with_spread(self, penalty: float) -> tuple[RidgeSolution, TrainingSpread]:
        """Solve for the weights at a penalty, and keep the factor that leverages need."""
        factor = cholesky(self.correlation, penalty, self._scratch)
        # The factor lies in the scratch memory, which the next penalty overwrites. The copy is
        # transposed twice so that it is in column order, as LAPACK reads it.
        single = factor.T.astype(np.float32).T
        spread = TrainingSpread(self.mean, self.band_scale, penalty, self.count, single)
        return self._solution(factor), spread

    def _solution(self, factor: Float[np.ndarray, "band band"]) -> RidgeSolution:
        weights = self.band_scale[:, None] * solve(factor, self.cross)
        return RidgeSolution(weights, self.target_mean - self.mean @ weights)


class DualEquations:
    """The normal equations of the rows."""

    def __init__(
        self,
        features: Float[np.ndarray, "point band"],
        targets: Float[np.ndarray, "point target"],
        scaling: BandScaling = EACH_BAND,
        weights: Float[np.ndarray, " point"] | None = None,
    ) -> None:
        """Scale the bands.

        Args:
            features: vectors of the training rows.
            targets: their targets.
            scaling: as in `PrimalEquations`.
            weights: positive weight of each row; 1 by default.
        """
        each = np.ones(len(features)) if weights is None else weights
        self.count = float(each.sum())
        self.mean, self.target_mean = each @ features / self.count, each @ targets / self.count
        centred = features - self.mean
        variance, square = (each @ values**2 / self.count for values in (centred, features))
        self.band_scale = scaling.factors(variance, square)
        # A row times the root of its weight: products of such rows are the weighted sums.
        root = np.sqrt(each)[:, None]
        self.standard = root * centred * self.band_scale
        self.kernel = self.standard @ self.standard.T / self.count
        self.centred_targets = root * (targets - self.target_mean)

    def solve(self, penalty: float) -> RidgeSolution:
        """Solve for the weights at a penalty."""
        return self._solution(cholesky(self.kernel, penalty))

    def solve_with_spread(self, penalty: float) -> tuple[RidgeSolution, TrainingSpread]:
        """Solve for the weights at a penalty, and keep the factor that leverages need."""
        factor = cholesky(self.kernel, penalty)
        whitened = whiten(factor, self.standard.T) / np.sqrt(self.count)
        spread = TrainingSpread(self.mean, self.band_scale, penalty, self.count, None, whitened)
        return self._solution(factor), spread

    def _solution(self, factor: Float[np.ndarray, "row row"]) -> RidgeSolution:
        # (Z' Z / n + penalty)^-1 Z' y / n = Z' (Z Z' / n + penalty)^-1 y / n
        standard_weights = self.standard.T @ solve(factor, self.centred_targets) / self.count
        weights = self.band_scale[:, None] * standard_weights
        return RidgeSolution(weights, self.target_mean - self.mean @ weights)


def prefers_primal(rows: int, bands: int) -> bool:
    """Return whether `PrimalEquations` take less time than `DualEquations`."""
    return bands <= _MAX_BANDS_PER_ROW * rows
