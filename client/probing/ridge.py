"""Ridge regression on frozen vectors, its penalty chosen inside the training folds.

One model of all rows but folds f and k serves twice: its errors on k help to choose the penalty
for f, and its errors on f the penalty for k. So the folds that validate a penalty are cut like the
folds that score the probe (whole blocks stay whole, where leave-one-out would be optimistic), and
five folds have 15 training sets for all targets: ten that omit a pair, five that omit one fold. The
sums over a training set are those of its folds, added: the rows are read once for the sums, and
once more to be predicted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.band_scaling import EACH_BAND, BandScaling
from unigeo.client.probing.feature_rows import FeatureRows
from unigeo.client.probing.folded_rows import Advance, FoldedRows
from unigeo.client.probing.leverage import TrainingSpread, difficulty
from unigeo.client.probing.penalty_choice import choose_penalties
from unigeo.client.probing.training_predictions import (
    SeenFold,
    TrainingPredictions,
    leave_out,
    leverage_left_out,
    seen_folds,
)
from unigeo.client.probing.unseen_folds import FoldToPredict, UnseenFold, predict_unseen
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
    trained: TrainingPredictions | None = None
    """Predictions of the training rows, each left out; None unless they were asked for."""
    difficulty_unseen: Float[np.ndarray, "point target"] | None = None
    """Factor of the usual error of `trained.unseen`; None as that is."""

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
    leave_one_out: Float[np.ndarray, "fold fold point target"] | None = None
    """Predictions of every training point, itself left out, at the penalty chosen without the first
    fold, by the model without both folds, or without one if they are the same; None unless asked
    for."""

    def training(self, fold: int) -> TrainingPredictions:
        """Return the predictions of the training points of the models without a fold."""
        assert self.leave_one_out is not None, "they were not asked for"
        return TrainingPredictions(
            left_out=self.leave_one_out[fold, fold],
            unseen=self.leave_two_out[fold],
            left_out_without=self.leave_one_out[fold],
        )

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
        scaling: BandScaling = EACH_BAND,
        advance: Advance = lambda operations: None,
        leave_one_out: bool = False,
        weights: Float[np.ndarray, " point"] | None = None,
    ) -> HeldOut:
        """Predict every row by a model fitted, and its penalty chosen, on the other folds.

        Args:
            features: point by band, without NaN.
            targets: NaN where missing; each target uses the rows it has.
            folds: fold number of each row; at least three different ones.
            scaling: scale of each band.
            advance: called with newly done floating-point operations.
            leave_one_out: also predict the training points of every model, each left out; not with
                weights.
            weights: positive weight of each row in the mean squared error, and in the mean and
                deviation that bands are standardized by; 1 by default.

        Raises:
            ProbeError: if a target is missing from a whole fold.
        """
        assert not (leave_one_out and weights is not None), "leverages of weighted rows differ"
        count = int(folds.max()) + 1  # results are indexed by fold number, which may have gaps
        penalties = np.full((count, targets.shape[1]), np.nan)
        predictions, difficulties = np.full((2, *targets.shape), np.nan)
        leave_two_out, difficulties_two = np.full((2, count, *targets.shape), np.nan)
        left_out = None
        if leave_one_out:
            left_out = np.full((count, count, *targets.shape), np.nan, np.float32)
            seen_difficulties = np.full((count, *targets.shape), np.nan, np.float32)
        for rows, columns in complete_targets(targets):
            data = FoldedRows(features, targets, folds, rows, columns, scaling, advance, weights)
            if data.count < 3:
                raise ProbeError(
                    f"{data.count} folds leave none to choose the penalty in: at least 3 are needed"
                )
            pairs = list(combinations(range(data.count), 2))
            with data.workers() as run:
                best = choose_penalties(data, pairs, self.penalties, run)
                # A model without a pair predicts both of its folds, each at the penalty that was
                # chosen without the other; so intervals of the other are calibrated unseen.
                wanted: list[FoldToPredict] = [
                    UnseenFold(fold, tuple(data.all_but(*pair)), best[without], without)
                    for pair in pairs
                    for fold, without in (pair[::-1], pair)
                ]
                wanted += [
                    UnseenFold(fold, tuple(data.all_but(fold)), best[fold], None)
                    for fold in range(data.count)
                ]
                if left_out is not None:
                    wanted += _training_folds(data, pairs, best, left_out, seen_difficulties)
                for each, some, guess, hard in predict_unseen(data, wanted, self.penalties, run):
                    if isinstance(each, SeenFold):
                        _write_seen(data, each, some, guess, hard)
                    elif each.without is None:
                        cells = np.ix_(some, columns)
                        predictions[cells], difficulties[cells] = guess, hard
                    else:
                        cells = np.ix_([data.labels[each.without]], some, columns)
                        leave_two_out[cells], difficulties_two[cells] = guess, hard
            penalties[np.ix_(data.labels, columns)] = np.take(self.penalties, best)
            if left_out is not None:
                for fold, label in enumerate(data.labels):
                    size = int(data.sizes.sum() - data.sizes[fold])
                    sizes = (size - data.sizes).tolist()
                    sizes[fold] = size  # the model without this fold alone
                    models = [
                        (left_out[label, other], count)
                        for other, count in zip(data.labels, sizes, strict=True)
                    ]
                    _leave_out_rows(data, seen_difficulties[label], size, models)
        return HeldOut(
            predictions=predictions,
            penalties=penalties,
            leave_two_out=leave_two_out,
            difficulty=difficulties,
            difficulty_without_two=difficulties_two,
            leave_one_out=left_out,
        )

    def fit(
        self,
        features: FeatureRows,
        targets: Float[np.ndarray, "point target"],
        folds: Int[np.ndarray, " point"],
        *,
        scaling: BandScaling = EACH_BAND,
        advance: Advance = lambda operations: None,
        leave_one_out: bool = False,
        weights: Float[np.ndarray, " point"] | None = None,
    ) -> FittedRidge:
        """Fit all rows, the penalty chosen by predicting each fold from the others.

        Args and errors as in `held_out`; two folds are enough.
        """
        assert not (leave_one_out and weights is not None), "leverages of weighted rows differ"
        slopes = np.empty((features.shape[1], targets.shape[1]))
        intercepts, penalties = np.empty(targets.shape[1]), np.empty(targets.shape[1])
        predictions, difficulties = np.full((2, *targets.shape), np.nan)
        trained = None
        if leave_one_out:
            left_out = np.full((2 + int(folds.max()), *targets.shape), np.nan, np.float32)
            seen_difficulties = np.full(targets.shape, np.nan, np.float32)
            # The last array is of the model of all folds, the others of those without one.
            trained = TrainingPredictions(left_out[-1], predictions, left_out[:-1])
        centre: Float[np.ndarray, " band"] | None = None
        spreads = []
        for rows, columns in complete_targets(targets):
            data = FoldedRows(features, targets, folds, rows, columns, scaling, advance, weights)
            centre = data.origin if centre is None else centre
            every = tuple(range(data.count))
            with data.workers() as run:
                singles = [(fold,) for fold in every]
                best = choose_penalties(data, singles, self.penalties, run)[0]
                wanted: list[FoldToPredict] = [
                    UnseenFold(fold, tuple(data.all_but(fold)), best, None) for fold in every
                ]
                if trained is not None:
                    for fold in every:
                        output = trained.left_out_without[data.labels[fold]]
                        wanted += seen_folds(data.all_but(fold), best, output)
                    wanted += seen_folds(
                        every, best, trained.left_out, difficulties=seen_difficulties
                    )
                for each, some, guess, hard in predict_unseen(data, wanted, self.penalties, run):
                    if isinstance(each, SeenFold):
                        _write_seen(data, each, some, guess, hard)
                        continue
                    cells = np.ix_(some, columns)
                    predictions[cells], difficulties[cells] = guess, hard
                if trained is not None:
                    size = int(data.sizes.sum())
                    models = [
                        (trained.left_out_without[label], size - own)
                        for label, own in zip(data.labels, data.sizes.tolist(), strict=True)
                    ]
                    models.append((trained.left_out, size))
                    _leave_out_rows(data, seen_difficulties, size, models)
                equations = data.equations(every)
                for number in np.unique(best):
                    solution, spread = equations.solve_with_spread(self.penalties[number])
                    alike = np.flatnonzero(best == number)
                    # Back from deviations from this group's origin to those from the common centre.
                    slope = solution.weights[:, alike] / data.scale[:, None]
                    slopes[:, columns[alike]] = slope
                    shift = (centre - data.origin) @ slope + data.target_origin[alike]
                    intercepts[columns[alike]] = solution.intercepts[alike] + shift
                    spreads.append((columns[alike], spread.unscaled(data.origin, data.scale)))
            penalties[columns] = np.take(self.penalties, best)
        assert centre is not None
        return FittedRidge(
            centre=centre,
            weights=slopes,
            intercepts=intercepts,
            penalties=penalties,
            spreads=tuple(spreads),
            nonconformity=np.abs(targets - predictions) / difficulties,
            trained=trained,
            difficulty_unseen=None if trained is None else difficulties,
        )


def _training_folds(
    data: FoldedRows,
    pairs: Sequence[tuple[int, int]],
    best: Int[np.ndarray, "fold column"],
    outputs: Float[np.ndarray, "fold fold point target"],
    difficulties: Float[np.ndarray, "fold point target"],
) -> list[SeenFold]:
    """List the folds of every training set, to be predicted by its own models.

    Args:
        data: rows, in folds.
        pairs: folds that training sets omit.
        best: number of each target's penalty, chosen without each fold.
        outputs: arrays of `HeldOut.leave_one_out`.
        difficulties: arrays for the difficulties for the models without one fold.
    """
    found = []
    for one, other in pairs:
        train = data.all_but(one, other)
        of_one = outputs[data.labels[one], data.labels[other]]
        of_other = outputs[data.labels[other], data.labels[one]]
        if np.array_equal(best[one], best[other]):  # one prediction serves the choices for both
            found += seen_folds(train, best[one], of_one, of_other)
        else:
            found += seen_folds(train, best[one], of_one)
            found += seen_folds(train, best[other], of_other)
    for fold, label in enumerate(data.labels):
        train, own = data.all_but(fold), outputs[label, label]
        found += seen_folds(train, best[fold], own, difficulties=difficulties[label])
    return found


def _write_seen(
    data: FoldedRows,
    seen: SeenFold,
    rows: Int[np.ndarray, " row"],
    fitted: Float[np.ndarray, "row column"],
    difficulties: Float[np.ndarray, "row column"],
) -> None:
    """Write the predictions of training rows into the arrays that want them."""
    cells = np.ix_(rows, data.columns)
    for output in seen.outputs:
        output[cells] = fitted
    if seen.difficulties is not None:
        seen.difficulties[cells] = difficulties


def _leave_out_rows(
    data: FoldedRows,
    difficulties: Float[np.ndarray, "point target"],
    size: int,
    models: Sequence[tuple[Float[np.ndarray, "point target"], int]],
) -> None:
    """Turn predictions of training rows, in place, to those by fits that leave each row out.

    Args:
        data: rows, in folds.
        difficulties: difficulties of the rows for one training set.
        size: number of rows of that set.
        models: predictions by its model, and by those of parts of it; each with the number of rows
            that the model is fitted on.
    """
    cells = np.ix_(data.rows, data.columns)
    leverage = leverage_left_out(difficulties[cells].astype(np.float64), size)
    for predictions, count in models:
        left_out = leave_out(data.targets[cells], predictions[cells], leverage * size / count)
        predictions[cells] = left_out


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
