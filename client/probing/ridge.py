"""Ridge regression on frozen vectors, its penalty chosen inside the training folds.

One model of all rows but folds f and k serves twice: its errors on k help to choose the penalty
for f, and its errors on f the penalty for k. So the folds that judge the penalty are cut like the
folds that judge the probe (whole blocks stay whole, where leave-one-out would be optimistic), and
five folds cost 15 eigendecompositions for all penalties and all targets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.leverage import Spread, difficulty
from unigeo.client.probing.ridge_path import Moments, Path, dual_path, primal_path
from unigeo.schemas.errors import ProbeError

PENALTIES = tuple(float(10.0 ** (half / 2)) for half in range(-12, 7))
"""From 1e-6 to 1e3, two per decade."""

_KEPT_NUMBERS = 2**25  # 256 MB


@dataclass(frozen=True, kw_only=True, repr=False)
class FittedRidge:
    """A linear map from vectors to targets."""

    centre: Float[np.ndarray, " band"]
    """Taken off the vectors first."""
    weights: Float[np.ndarray, "band target"]
    intercepts: Float[np.ndarray, " target"]
    penalties: Float[np.ndarray, " target"]
    """The chosen ones."""
    spreads: tuple[tuple[Int[np.ndarray, " _"], Spread], ...]
    """Targets by number, and the spread of the rows that they were fitted on."""
    strangeness: Float[np.ndarray, "point target"]
    """Of each training row: the absolute error of a model without its fold / difficulty; NaN where
    the target is missing."""

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
        """The same for one target."""
        spread = next(spread for columns, spread in self.spreads if target in columns)
        return FittedRidge(
            centre=self.centre,
            weights=self.weights[:, [target]],
            intercepts=self.intercepts[[target]],
            penalties=self.penalties[[target]],
            spreads=((np.array([0]), spread),),
            strangeness=self.strangeness[:, [target]],
        )

    def difficulty(
        self, features: Float[np.ndarray, "point band"]
    ) -> Float[np.ndarray, "point target"]:
        """How many times the usual error is to be expected, 1 or more; see `leverage`."""
        found = np.empty((len(features), len(self.penalties)))
        for columns, spread in self.spreads:
            found[:, columns] = difficulty(
                spread.leverage(features, self.penalties[columns].tolist())
            )
        return found


@dataclass(frozen=True, kw_only=True, repr=False)
class HeldOut:
    """Predictions of rows by models that never saw their fold."""

    predictions: Float[np.ndarray, "point target"]
    """NaN where the target is missing."""
    penalties: Float[np.ndarray, "fold target"]
    """The ones chosen without that fold."""
    without_two: Float[np.ndarray, "fold point target"]
    """Predictions of every point outside a fold, by a model that saw neither that fold nor the
    point's own, at the penalty chosen without that fold; NaN inside the fold."""
    difficulty: Float[np.ndarray, "point target"]
    """Of `predictions`: how many times the usual error is to be expected; see `leverage`."""
    difficulty_without_two: Float[np.ndarray, "fold point target"]

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
    """To choose from, for each target by itself; positive."""

    def __post_init__(self) -> None:
        if not self.penalties or min(self.penalties) <= 0:
            raise ProbeError(f"ridge penalties must be positive numbers, not {self.penalties}")

    def held_out(
        self,
        features: Float[np.ndarray, "point band"],
        targets: Float[np.ndarray, "point target"],
        folds: Int[np.ndarray, " point"],
    ) -> HeldOut:
        """Predict every row by a model fitted, and its penalty chosen, on the other folds.

        Args:
            features: without NaN.
            targets: NaN where missing; each target uses the rows it has.
            folds: fold number of each row; at least three different ones.

        Raises:
            ProbeError: if a target is missing from a whole fold.
        """
        count = int(folds.max()) + 1
        penalties = np.full((count, targets.shape[1]), np.nan)
        predictions, difficulties = np.full((2, *targets.shape), np.nan)
        without_two, difficulties_two = np.full((2, count, *targets.shape), np.nan)
        for rows, columns in complete_targets(targets):
            data = _Folded(features, targets, folds, rows, columns)
            pairs = data.without_two(self.penalties)
            errors = data.errors_without_two(pairs)
            for fold in range(data.count):
                best = errors[fold].sum(axis=0).argmin(axis=0)
                for other in data.all_but(fold):
                    cells = np.ix_([data.labels[fold]], data.rows[other], columns)
                    two = pairs[min(fold, other), max(fold, other)]
                    without_two[cells], difficulties_two[cells] = two.predict(data, other, best)
                one = data.solve([fold], self.penalties)
                cells = np.ix_(data.rows[fold], columns)
                predictions[cells], difficulties[cells] = one.predict(data, fold, best)
                penalties[data.labels[fold], columns] = np.take(self.penalties, best)
        return HeldOut(
            predictions=predictions,
            penalties=penalties,
            without_two=without_two,
            difficulty=difficulties,
            difficulty_without_two=difficulties_two,
        )

    def fit(
        self,
        features: Float[np.ndarray, "point band"],
        targets: Float[np.ndarray, "point target"],
        folds: Int[np.ndarray, " point"],
    ) -> FittedRidge:
        """Fit all rows, the penalty chosen by predicting each fold from the others.

        Args and errors as in `held_out`; two folds are enough.
        """
        weights = np.empty((features.shape[1], targets.shape[1]))
        intercepts, penalties = np.empty(targets.shape[1]), np.empty(targets.shape[1])
        strangeness = np.full(targets.shape, np.nan)
        centre = np.mean(features, axis=0, dtype=np.float64)
        spreads = []
        for rows, columns in complete_targets(targets):
            data = _Folded(features, targets, folds, rows, columns)
            models = [data.solve([fold], self.penalties) for fold in range(data.count)]
            errors = [data.errors(model.path, fold) for fold, model in enumerate(models)]
            best = np.sum(errors, axis=0).argmin(axis=0)
            for fold, model in enumerate(models):
                predictions, difficulties = model.predict(data, fold, best)
                cells = np.ix_(data.rows[fold], columns)
                strangeness[cells] = np.abs(targets[cells] - predictions) / difficulties
            path = data.path(range(data.count), self.penalties)
            slope, offset = path.at(best)
            weights[:, columns] = slope / data.scale[:, None]
            intercepts[columns] = offset + (centre - data.centre) @ weights[:, columns]
            penalties[columns] = np.take(self.penalties, best)
            spreads.append((columns, path.spread.seen_from(data.centre, data.scale)))
        return FittedRidge(
            centre=centre,
            weights=weights,
            intercepts=intercepts,
            penalties=penalties,
            spreads=tuple(spreads),
            strangeness=strangeness,
        )


def complete_targets(
    targets: Float[np.ndarray, "point target"],
) -> Iterator[tuple[Int[np.ndarray, " row"], Int[np.ndarray, " column"]]]:
    """Targets that are present in the same rows, together: (rows, columns) of each such group."""
    present = np.isfinite(targets)
    patterns, group = np.unique(present, axis=1, return_inverse=True)
    for number in range(patterns.shape[1]):
        yield np.flatnonzero(patterns[:, number]), np.flatnonzero(group.reshape(-1) == number)


class _Folded:
    """The rows of some targets, cut into folds, seen from one origin in one scale.

    Origin and scale only keep sums exact (each training set is standardized by itself). The rows of
    a fold become float64 when they are used, and stay so if all of them are few; else memory holds
    one fold more than the caller's array.
    """

    def __init__(
        self,
        features: Float[np.ndarray, "point band"],
        targets: Float[np.ndarray, "point target"],
        folds: Int[np.ndarray, " point"],
        rows: Int[np.ndarray, " row"],
        columns: Int[np.ndarray, " column"],
    ) -> None:
        self.labels = np.unique(folds)
        self.count = len(self.labels)
        self.rows = [rows[folds[rows] == label] for label in self.labels]
        if self.count < 2 or min(map(len, self.rows)) == 0:
            raise ProbeError(
                f"each of at least 2 folds must hold rows with a target, but target number "
                f"{columns[0]} has {[len(part) for part in self.rows]} rows in the folds"
            )
        self._features, self._targets, self._columns = features, targets, columns
        self.centre = np.mean(features, axis=0, dtype=np.float64)
        sizes = [len(part) for part in self.rows]
        variances = [((features[part] - self.centre) ** 2).mean(axis=0) for part in self.rows]
        deviation = np.sqrt(np.average(variances, axis=0, weights=sizes))
        # A deviation of the size of rounding is that of a constant: the band is set to 0.
        self.scale = np.where(deviation > 1e-12 * np.abs(self.centre), deviation, np.inf)
        self._primal = features.shape[1] <= len(rows)
        self._kept: dict[int, Float[np.ndarray, "_ band"]] = {}
        self._keeps = len(rows) * features.shape[1] <= _KEPT_NUMBERS
        self._moments = [Moments.of(*self.fold(f)) for f in range(self.count) if self._primal]

    def fold(
        self, fold: int
    ) -> tuple[Float[np.ndarray, "row band"], Float[np.ndarray, "row column"]]:
        """Features and targets of one fold, float64."""
        rows = self.rows[fold]
        values = self._kept.get(fold)
        if values is None:
            values = (self._features[rows] - self.centre) / self.scale
            if self._keeps:
                self._kept[fold] = values
        return values, self._targets[np.ix_(rows, self._columns)]

    def all_but(self, *folds: int) -> list[int]:
        """The other folds."""
        return [fold for fold in range(self.count) if fold not in folds]

    def path(self, train: Sequence[int], penalties: Sequence[float]) -> Path:
        """Solve on the given folds, by bands or by rows, whichever are fewer."""
        if self._primal and self._features.shape[1] <= sum(len(self.rows[fold]) for fold in train):
            moments = self._moments[train[0]]
            for fold in train[1:]:
                moments = moments + self._moments[fold]
            return primal_path(moments, penalties)
        parts = [self.fold(fold) for fold in train]
        features, targets = (np.concatenate(side) for side in zip(*parts, strict=True))
        return dual_path(features, targets, penalties)

    def errors(self, path: Path, fold: int) -> Float[np.ndarray, "penalty column"]:
        """Sum of squared errors on a fold, for every penalty."""
        values, truth = self.fold(fold)
        flat = values @ np.moveaxis(path.weights, 0, 1).reshape(values.shape[1], -1)
        predictions = flat.reshape(len(values), *path.intercepts.shape) + path.intercepts
        return np.asarray(((predictions - truth[:, None, :]) ** 2).sum(axis=0))

    def solve(self, without: Sequence[int], penalties: Sequence[float]) -> "_Model":
        """Solve on all folds but the given ones, and look at these."""
        path = self.path(self.all_but(*without), penalties)
        leverage = {
            fold: path.spread.leverage(self.fold(fold)[0], penalties).astype(np.float32)
            for fold in without
        }
        return _Model(path, leverage)

    def without_two(self, penalties: Sequence[float]) -> dict[tuple[int, int], "_Model"]:
        """The model of all folds but two, for each pair of them, the lower number first."""
        if self.count < 3:
            raise ProbeError(
                f"{self.count} folds leave none to choose the penalty in: at least 3 are needed"
            )
        pairs = combinations(range(self.count), 2)
        return {pair: self.solve(pair, penalties).without_spread() for pair in pairs}

    def errors_without_two(
        self, models: dict[tuple[int, int], "_Model"]
    ) -> Float[np.ndarray, "fold fold penalty column"]:
        """Errors [f, k] on fold k of the model of all folds but f and k; 0 where f = k."""
        penalties = len(next(iter(models.values())).path.weights)
        found = np.zeros((self.count, self.count, penalties, len(self._columns)))
        for (one, other), model in models.items():
            found[one, other] = self.errors(model.path, other)
            found[other, one] = self.errors(model.path, one)
        return found


@dataclass(frozen=True)
class _Model:
    """Solutions for every penalty, and the leverage of the folds that they have not seen."""

    path: Path
    leverage: dict[int, Float[np.ndarray, "_ penalty"]]

    def predict(
        self, data: _Folded, fold: int, best: Int[np.ndarray, " column"]
    ) -> tuple[Float[np.ndarray, "row column"], Float[np.ndarray, "row column"]]:
        """Predictions of an unseen fold, each target by its own penalty, and their difficulty."""
        weights, intercepts = self.path.at(best)
        values, _ = data.fold(fold)
        return values @ weights + intercepts, difficulty(
            self.leverage[fold][:, best].astype(np.float64)
        )

    def without_spread(self) -> "_Model":
        """The same in less memory: of the training set nothing is kept but the solutions."""
        empty = np.empty((len(self.path.spread.mean), 0))
        return replace(
            self,
            path=replace(
                self.path, spread=replace(self.path.spread, directions=empty, values=np.empty(0))
            ),
        )
