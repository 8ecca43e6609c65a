"""Ridge regression on frozen vectors, its penalty chosen inside the training folds.

One model of all rows but folds f and k serves twice: its errors on k help to choose the penalty
for f, and its errors on f the penalty for k. So the folds that validate a penalty are cut like the
folds that score the probe (whole blocks stay whole, where leave-one-out would be optimistic), and
five folds have 15 training sets for all targets: ten that omit a pair, five that omit one fold. The
sums over a training set are those of its folds, added: the rows are read once for the sums, and
once more to be predicted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.feature_rows import FeatureRows
from unigeo.client.probing.folded_rows import Advance, FoldedRows
from unigeo.client.probing.leverage import TrainingSpread, difficulty
from unigeo.client.probing.penalty_choice import choose_penalties
from unigeo.client.probing.unseen_folds import UnseenFold, predict_unseen
from unigeo.schemas.errors import ProbeError

PENALTIES = tuple(float(10.0 ** (half / 2)) for half in range(-12, 7))
"""Penalties from 1e-6 to 1e3, two per decade."""


@dataclass(frozen=True, kw_only=True, repr=False)
class FittedRidge:
    """A linear map from vectors to targets."""

    centre: Float[np.ndarray, " band"]
    """Vector that is subtracted from the vectors first."""
    weights: Float[np.ndarray, "band target"]
    intercepts: Float[np.ndarray, " target"]
    penalties: Float[np.ndarray, " target"]
    """Chosen penalty of each target."""
    spreads: tuple[tuple[Int[np.ndarray, " _"], TrainingSpread], ...]
    """Numbers of the targets that share their rows and penalty, and the spread of these rows."""
    nonconformity: Float[np.ndarray, "point target"]
    """Absolute error / difficulty of each training row, by a model without the row's fold; NaN
    where the target is missing."""

    def __repr__(self) -> str:
        bands, targets = self.weights.shape
        low, high = self.penalties.min(), self.penalties.max()
        chosen = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        return f"FittedRidge({bands} bands, {targets} targets, penalty {chosen})"

    def predict(
        self, features: Float[np.ndarray, "point band"]
    ) -> Float[np.ndarray, "point target"]:
        """Predict every target; a row with NaN gives NaN."""
        return np.asarray((features - self.centre) @ self.weights + self.intercepts)

    def only(self, target: int) -> "FittedRidge":
        """Return the map to one target, by its number."""
        spread = next(spread for columns, spread in self.spreads if target in columns)
        return FittedRidge(
            centre=self.centre,
            weights=self.weights[:, [target]],
            intercepts=self.intercepts[[target]],
            penalties=self.penalties[[target]],
            spreads=((np.array([0]), spread),),
            nonconformity=self.nonconformity[:, [target]],
        )

    def difficulty(
        self, features: Float[np.ndarray, "point band"]
    ) -> Float[np.ndarray, "point target"]:
        """Return the factor of the usual error to expect, 1 or more; see `leverage`."""
        difficulties = np.empty((len(features), len(self.penalties)))
        for columns, spread in self.spreads:
            difficulties[:, columns] = difficulty(spread.leverage(features))[:, None]
        return difficulties


@dataclass(frozen=True, kw_only=True, repr=False)
class HeldOut:
    """Predictions of rows by models that never saw their fold."""

    predictions: Float[np.ndarray, "point target"]
    """NaN where the target is missing."""
    penalties: Float[np.ndarray, "fold target"]
    """Penalties that were chosen without each fold."""
    leave_two_out: Float[np.ndarray, "fold point target"]
    """Predictions of every point outside a fold, by a model that saw neither that fold nor the
    point's own, at the penalty chosen without that fold; NaN inside the fold."""
    difficulty: Float[np.ndarray, "point target"]
    """Factor of the usual error that is to be expected of `predictions`; see `leverage`."""
    difficulty_without_two: Float[np.ndarray, "fold point target"]
    """The same factor for `leave_two_out`."""

    def __repr__(self) -> str:
        points, targets = self.predictions.shape
        return f"HeldOut({points:,} points, {targets} targets, {len(self.penalties)} folds)"


@dataclass(frozen=True, kw_only=True)
class RidgeProbe:
    """Minimises mean squared error + penalty x squared length of the weights.

    The weights are those of features standardized on the training rows; the intercept is free.
    (scikit-learn's `alpha` is this penalty times the number of training rows.)
    """

    penalties: tuple[float, ...] = field(default=PENALTIES)
    """Positive penalties to choose from, for each target by itself."""

    def __post_init__(self) -> None:
        if not self.penalties or min(self.penalties) <= 0:
            raise ProbeError(f"ridge penalties must be positive numbers, not {self.penalties}")
        object.__setattr__(self, "penalties", tuple(sorted(self.penalties)))

    def held_out(
        self,
        features: FeatureRows,
        targets: Float[np.ndarray, "point target"],
        folds: Int[np.ndarray, " point"],
        *,
        strength: Float[np.ndarray, " band"] | float = 1.0,
        advance: Advance = lambda operations: None,
    ) -> HeldOut:
        """Predict every row by a model fitted, and its penalty chosen, on the other folds.

        Args:
            features: point by band, without NaN.
            targets: NaN where missing; each target uses the rows it has.
            folds: fold number of each row; at least three different ones.
            strength: factor of each standardized band, whose penalty is divided by its square.
            advance: called with newly done floating-point operations.

        Raises:
            ProbeError: if a target is missing from a whole fold.
        """
        count = int(folds.max()) + 1  # results are indexed by fold number, which may have gaps
        penalties = np.full((count, targets.shape[1]), np.nan)
        predictions, difficulties = np.full((2, *targets.shape), np.nan)
        leave_two_out, difficulties_two = np.full((2, count, *targets.shape), np.nan)
        for rows, columns in complete_targets(targets):
            data = FoldedRows(features, targets, folds, rows, columns, strength, advance)
            if data.count < 3:
                raise ProbeError(
                    f"{data.count} folds leave none to choose the penalty in: at least 3 are needed"
                )
            pairs = list(combinations(range(data.count), 2))
            with data.workers() as run:
                best = choose_penalties(data, pairs, self.penalties, run)
                # A model without a pair predicts both of its folds, each at the penalty that was
                # chosen without the other; so intervals of the other are calibrated unseen.
                unseen = [
                    UnseenFold(fold, tuple(data.all_but(*pair)), best[without], without)
                    for pair in pairs
                    for fold, without in (pair[::-1], pair)
                ]
                unseen += [
                    UnseenFold(fold, tuple(data.all_but(fold)), best[fold], None)
                    for fold in range(data.count)
                ]
                for each, some, guess, hard in predict_unseen(data, unseen, self.penalties, run):
                    if each.without is None:
                        cells = np.ix_(some, columns)
                        predictions[cells], difficulties[cells] = guess, hard
                    else:
                        cells = np.ix_([data.labels[each.without]], some, columns)
                        leave_two_out[cells], difficulties_two[cells] = guess, hard
            penalties[np.ix_(data.labels, columns)] = np.take(self.penalties, best)
        return HeldOut(
            predictions=predictions,
            penalties=penalties,
            leave_two_out=leave_two_out,
            difficulty=difficulties,
            difficulty_without_two=difficulties_two,
        )

    def fit(
        self,
        features: FeatureRows,
        targets: Float[np.ndarray, "point target"],
        folds: Int[np.ndarray, " point"],
        *,
        strength: Float[np.ndarray, " band"] | float = 1.0,
        advance: Advance = lambda operations: None,
    ) -> FittedRidge:
        """Fit all rows, the penalty chosen by predicting each fold from the others.

        Args and errors as in `held_out`; two folds are enough.
        """
        weights = np.empty((features.shape[1], targets.shape[1]))
        intercepts, penalties = np.empty(targets.shape[1]), np.empty(targets.shape[1])
        nonconformity = np.full(targets.shape, np.nan)
        centre: Float[np.ndarray, " band"] | None = None
        spreads = []
        for rows, columns in complete_targets(targets):
            data = FoldedRows(features, targets, folds, rows, columns, strength, advance)
            centre = data.origin if centre is None else centre
            every = tuple(range(data.count))
            with data.workers() as run:
                singles = [(fold,) for fold in every]
                best = choose_penalties(data, singles, self.penalties, run)[0]
                unseen = [UnseenFold(fold, tuple(data.all_but(fold)), best, None) for fold in every]
                for _, some, guess, hard in predict_unseen(data, unseen, self.penalties, run):
                    cells = np.ix_(some, columns)
                    nonconformity[cells] = np.abs(targets[cells] - guess) / hard
                equations = data.equations(every)
                for number in np.unique(best):
                    solution, spread = equations.solve_with_spread(self.penalties[number])
                    alike = np.flatnonzero(best == number)
                    # Back from deviations from this group's origin to those from the common centre.
                    slope = solution.weights[:, alike] / data.scale[:, None]
                    weights[:, columns[alike]] = slope
                    shift = (centre - data.origin) @ slope + data.target_origin[alike]
                    intercepts[columns[alike]] = solution.intercepts[alike] + shift
                    spreads.append((columns[alike], spread.unscaled(data.origin, data.scale)))
            penalties[columns] = np.take(self.penalties, best)
        assert centre is not None
        return FittedRidge(
            centre=centre,
            weights=weights,
            intercepts=intercepts,
            penalties=penalties,
            spreads=tuple(spreads),
            nonconformity=nonconformity,
        )


def complete_targets(
    targets: Float[np.ndarray, "point target"],
) -> Iterator[tuple[Int[np.ndarray, " row"], Int[np.ndarray, " column"]]]:
    """Group the targets that are known in the same rows, which one factorization serves.

    Yields:
        Row numbers and target numbers of each group.
    """
    present = np.isfinite(targets)
    # Equal columns of the mask are targets that are known in the same rows.
    patterns, group = np.unique(present, axis=1, return_inverse=True)
    for number in range(patterns.shape[1]):
        yield np.flatnonzero(patterns[:, number]), np.flatnonzero(group.reshape(-1) == number)
