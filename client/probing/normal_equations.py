"""Ridge regression on one training set, solved for one penalty at a time.

`Primal` solves the normal equations of the bands, from sums over rows that folds share; `Dual`
solves those of the rows, where they are much fewer than the bands. Both give the same solution.
A Cholesky factor takes a small part of the time of the eigenvectors, which would serve all
penalties at once: so a few penalties cost less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from unigeo.client.probing.leverage import Spread
from unigeo.client.probing.linear_algebra import cholesky, solve, whiten

_CONSTANT = 1e-10  # a band whose variance is this small beside its mean square is rounding alone
_STRIP = 64  # rows of a matrix that are changed at once
_MOST_BANDS_PER_ROW = 1.4  # above it the rows' equations take less time, spreads included


@dataclass(frozen=True, repr=False)
class Solution:
    """Weights of one training set at one penalty."""

    weights: Float[np.ndarray, "band target"]
    intercepts: Float[np.ndarray, " target"]

    def __repr__(self) -> str:
        bands, targets = self.weights.shape
        return f"Solution({bands} bands, {targets} targets)"

    def predict(
        self, features: Float[np.ndarray, "point band"]
    ) -> Float[np.ndarray, "point target"]:
        """Predict every target."""
        return np.asarray(features @ self.weights + self.intercepts)

    @classmethod
    def together(cls, solutions: Sequence["Solution"]) -> "Solution":
        """Several side by side, as if they were of so many targets."""
        if len(solutions) == 1:
            return solutions[0]
        return cls(
            np.concatenate([each.weights for each in solutions], axis=1),
            np.concatenate([each.intercepts for each in solutions]),
        )

    def only(self, columns: np.ndarray) -> "Solution":
        """The same for some of the targets."""
        return Solution(self.weights[:, columns], self.intercepts[columns])


@dataclass(repr=False)
class Moments:
    """Sums over rows: all that ridge needs to know of them when bands are fewer than rows."""

    count: int
    features: Float[np.ndarray, " band"]
    targets: Float[np.ndarray, " target"]
    squares: Float[np.ndarray, " target"]
    """Sums of the targets' squares."""
    gram: Float[np.ndarray, "band band"]
    cross: Float[np.ndarray, "band target"]

    def __repr__(self) -> str:
        return f"Moments({self.count:,} rows, {len(self.features)} bands)"

    @classmethod
    def zero(cls, bands: int, targets: int) -> "Moments":
        """Sums of no rows."""
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
        cls, features: Float[np.ndarray, "point band"], targets: Float[np.ndarray, "point target"]
    ) -> "Moments":
        """Sum over the rows given."""
        found = cls.zero(features.shape[1], targets.shape[1])
        found.add(features, targets)
        return found

    @classmethod
    def total(cls, parts: Sequence["Moments"]) -> "Moments":
        """Sum over the rows of all parts."""
        first, *others = parts
        names = ("features", "targets", "squares", "gram", "cross")
        if not others:
            return cls(first.count, *(getattr(first, name).copy() for name in names))
        found = [getattr(first, name) + getattr(others[0], name) for name in names]
        for part in others[1:]:
            for sums, name in zip(found, names, strict=True):
                sums += getattr(part, name)
        return cls(sum(part.count for part in parts), *found)

    def add(
        self, features: Float[np.ndarray, "point band"], targets: Float[np.ndarray, "point target"]
    ) -> None:
        """Add rows."""
        self.count += len(features)
        self.features += features.sum(axis=0)
        self.targets += targets.sum(axis=0)
        self.squares += (targets**2).sum(axis=0)
        gram, cross = features.T @ features, features.T @ targets
        if self.count == len(features):  # the first rows: large sums are not written twice
            self.gram, self.cross = gram, cross
        else:
            self.gram += gram
            self.cross += cross

    def errors(self, solution: Solution) -> Float[np.ndarray, " column"]:
        """Sum of the squared errors of a solution, or of several together, on these rows."""
        weights, shift = solution.weights, solution.intercepts
        times = len(shift) // len(self.targets)
        squares, targets = np.tile(self.squares, times), np.tile(self.targets, times)
        of_targets = squares - 2 * shift * targets + self.count * shift**2
        along = self.gram @ weights - 2 * np.tile(self.cross, times)
        along += 2 * shift * self.features[:, None]
        return np.asarray(of_targets + (weights * along).sum(axis=0))


class Primal:
    """The normal equations of the bands."""

    def __init__(
        self, moments: Moments, strength: Float[np.ndarray, " band"] | float = 1.0
    ) -> None:
        """Standardize the bands.

        Args:
            moments: of the training rows. The sums of `gram` and `cross` are changed.
            strength: factor of each standardized band, whose penalty is divided by its square.
        """
        count = self.count = moments.count
        self.mean, self.target_mean = moments.features / count, moments.targets / count
        correlation, cross = moments.gram, moments.cross
        correlation /= count
        square = correlation.diagonal().copy()
        self.inverse = strength * inverse_deviation(square - self.mean**2, square)
        for start in range(0, len(square), _STRIP):  # a product of all would be another matrix
            strip = correlation[start : start + _STRIP]
            strip -= self.mean[start : start + _STRIP, None] * self.mean
            strip *= self.inverse[start : start + _STRIP, None] * self.inverse
        cross /= count
        cross -= np.outer(self.mean, self.target_mean)
        self.correlation, self.cross = correlation, cross * self.inverse[:, None]
        self._scratch = np.empty_like(correlation)

    def solve(self, penalty: float) -> Solution:
        """Weights at a penalty."""
        return self._solution(cholesky(self.correlation, penalty, self._scratch))

    def solve_with_spread(self, penalty: float) -> tuple[Solution, Spread]:
        """Weights at a penalty, and the leverage that it gives."""
        factor = cholesky(self.correlation, penalty, self._scratch)
        low = factor.T.astype(np.float32).T  # in the order of LAPACK, as the factor is
        return self._solution(factor), Spread(self.mean, self.inverse, penalty, self.count, low)

    def _solution(self, factor: Float[np.ndarray, "band band"]) -> Solution:
        weights = self.inverse[:, None] * solve(factor, self.cross)
        return Solution(weights, self.target_mean - self.mean @ weights)


class Dual:
    """The normal equations of the rows."""

    def __init__(
        self,
        features: Float[np.ndarray, "point band"],
        targets: Float[np.ndarray, "point target"],
        strength: Float[np.ndarray, " band"] | float = 1.0,
    ) -> None:
        """Standardize the bands; `strength` as in `Primal`."""
        self.count = len(features)
        self.mean, self.target_mean = features.mean(axis=0), targets.mean(axis=0)
        deviation = inverse_deviation(features.var(axis=0), (features**2).mean(axis=0))
        self.inverse = strength * deviation
        self.standard = (features - self.mean) * self.inverse
        self.kernel = self.standard @ self.standard.T / self.count
        self.truth = targets - self.target_mean

    def solve(self, penalty: float) -> Solution:
        """Weights at a penalty."""
        return self._solution(cholesky(self.kernel, penalty))

    def solve_with_spread(self, penalty: float) -> tuple[Solution, Spread]:
        """Weights at a penalty, and the leverage that it gives."""
        factor = cholesky(self.kernel, penalty)
        seen = whiten(factor, self.standard.T) / np.sqrt(self.count)
        spread = Spread(self.mean, self.inverse, penalty, self.count, None, seen)
        return self._solution(factor), spread

    def _solution(self, factor: Float[np.ndarray, "row row"]) -> Solution:
        along = self.standard.T @ solve(factor, self.truth) / self.count
        weights = self.inverse[:, None] * along
        return Solution(weights, self.target_mean - self.mean @ weights)


def by_bands(rows: int, bands: int) -> bool:
    """Whether `Primal` takes less time than `Dual`."""
    return bands <= _MOST_BANDS_PER_ROW * rows


def inverse_deviation(
    variance: Float[np.ndarray, " band"], square: Float[np.ndarray, " band"]
) -> Float[np.ndarray, " band"]:
    """1 / standard deviation; 0 for a band that is constant, which then has no weight."""
    varies: Bool[np.ndarray, " band"] = variance > _CONSTANT * square
    return np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0)
