"""Ridge regression on frozen vectors, its penalty chosen inside the training folds.

One model of all rows but folds f and k serves twice: its errors on k help to choose the penalty
for f, and its errors on f the penalty for k. So the folds that judge the penalty are cut like the
folds that judge the probe (whole blocks stay whole, where leave-one-out would be optimistic), and
five folds have 15 training sets for all targets. Their sums are those of the folds, added: the rows
are read once for the sums, and once more to be predicted.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.feature_rows import FeatureRows, row_blocks
from unigeo.client.probing.leverage import Spread, difficulty
from unigeo.client.probing.normal_equations import Dual, Moments, Primal, Solution, by_bands
from unigeo.client.probing.penalties import next_penalties
from unigeo.client.threads import Run, workers
from unigeo.schemas.errors import ProbeError

PENALTIES = tuple(float(10.0 ** (half / 2)) for half in range(-12, 7))
"""From 1e-6 to 1e3, two per decade."""

_SPREAD_BYTES = 3 * 2**26
"""Of the factors that are held while the rows are read."""
_ORIGIN_ROWS = 512
"""Rows that the origin and the scale of sums are taken from."""
_ROUNDING = 1e-12
"""A deviation this small beside the value is that of a constant."""
_PENALTIES_TRIED = 6
"""Of the 19 in most cases, for estimates."""

Push = Callable[[float], None]
"""Told the floating-point operations that are done."""


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
    """Targets by number, and the spread of the rows that they were fitted on at their penalty."""
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
            found[:, columns] = difficulty(spread.leverage(features))[:, None]
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
        object.__setattr__(self, "penalties", tuple(sorted(self.penalties)))

    def held_out(
        self,
        features: FeatureRows,
        targets: Float[np.ndarray, "point target"],
        folds: Int[np.ndarray, " point"],
        *,
        strength: Float[np.ndarray, " band"] | float = 1.0,
        push: Push = lambda operations: None,
    ) -> HeldOut:
        """Predict every row by a model fitted, and its penalty chosen, on the other folds.

        Args:
            features: point by band, without NaN.
            targets: NaN where missing; each target uses the rows it has.
            folds: fold number of each row; at least three different ones.
            strength: of each band: its penalty is divided by the square.
            push: told the operations that are done.

        Raises:
            ProbeError: if a target is missing from a whole fold.
        """
        count = int(folds.max()) + 1
        penalties = np.full((count, targets.shape[1]), np.nan)
        predictions, difficulties = np.full((2, *targets.shape), np.nan)
        without_two, difficulties_two = np.full((2, count, *targets.shape), np.nan)
        for rows, columns in complete_targets(targets):
            data = _Folded(features, targets, folds, rows, columns, strength, push)
            if data.count < 3:
                raise ProbeError(
                    f"{data.count} folds leave none to choose the penalty in: at least 3 are needed"
                )
            pairs = list(combinations(range(data.count), 2))
            with data.workers() as run:
                best = data.choose(pairs, self.penalties, run)
                views = [
                    _View(tuple(data.all_but(one, other)), seen, best[out], out)
                    for one, other in pairs
                    for seen, out in ((other, one), (one, other))
                ]
                views += [
                    _View(tuple(data.all_but(fold)), fold, best[fold], None)
                    for fold in range(data.count)
                ]
                for view, at, guess, hard in data.look(views, self.penalties, run):
                    if view.without is None:
                        cells = np.ix_(at, columns)
                        predictions[cells], difficulties[cells] = guess, hard
                    else:
                        three = np.ix_([data.labels[view.without]], at, columns)
                        without_two[three], difficulties_two[three] = guess, hard
            penalties[np.ix_(data.labels, columns)] = np.take(self.penalties, best)
        return HeldOut(
            predictions=predictions,
            penalties=penalties,
            without_two=without_two,
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
        push: Push = lambda operations: None,
    ) -> FittedRidge:
        """Fit all rows, the penalty chosen by predicting each fold from the others.

        Args and errors as in `held_out`; two folds are enough.
        """
        weights = np.empty((features.shape[1], targets.shape[1]))
        intercepts, penalties = np.empty(targets.shape[1]), np.empty(targets.shape[1])
        strangeness = np.full(targets.shape, np.nan)
        centre: Float[np.ndarray, " band"] | None = None
        spreads = []
        for rows, columns in complete_targets(targets):
            data = _Folded(features, targets, folds, rows, columns, strength, push)
            centre = data.origin if centre is None else centre
            everything = tuple(range(data.count))
            with data.workers() as run:
                best = data.choose([(fold,) for fold in everything], self.penalties, run)[0]
                views = [_View(tuple(data.all_but(fold)), fold, best, None) for fold in everything]
                for _, at, guess, hard in data.look(views, self.penalties, run):
                    cells = np.ix_(at, columns)
                    strangeness[cells] = np.abs(targets[cells] - guess) / hard
                training = data.training(everything)
                for number in np.unique(best):
                    solution, spread = training.solve_with_spread(self.penalties[number])
                    at = np.flatnonzero(best == number)
                    slope = solution.weights[:, at] / data.scale[:, None]
                    weights[:, columns[at]] = slope
                    shift = (centre - data.origin) @ slope + data.target_origin[at]
                    intercepts[columns[at]] = solution.intercepts[at] + shift
                    spreads.append((columns[at], spread.seen_from(data.origin, data.scale)))
            penalties[columns] = np.take(self.penalties, best)
        assert centre is not None
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


@dataclass(frozen=True)
class _View:
    """A model that looks at a fold it has not seen."""

    train: tuple[int, ...]
    """Folds that the model is fitted on."""
    fold: int
    """Which it predicts."""
    best: Int[np.ndarray, " column"]
    """Penalty of each target, by its number."""
    without: int | None
    """The fold that the penalty was chosen without, where that is not `fold`."""


_Block = dict[int, tuple[np.ndarray, np.ndarray]]
"""Row numbers and features of each fold that has rows in a block."""
_Fitted = dict[tuple[int, ...], dict[int, tuple[Solution, Spread]]]
"""Solutions of each training set, by the number of the penalty."""
_Seen = tuple[_View, np.ndarray, np.ndarray, np.ndarray]
"""A view; rows; their predictions and difficulties, row by column."""


class _Folded:
    """The rows of some targets, cut into folds, seen from one origin in one scale.

    Origin and scale only keep sums exact (each training set is standardized by itself). Rows become
    float64 a block at a time.
    """

    def __init__(
        self,
        features: FeatureRows,
        targets: Float[np.ndarray, "point target"],
        folds: Int[np.ndarray, " point"],
        rows: Int[np.ndarray, " row"],
        columns: Int[np.ndarray, " column"],
        strength: Float[np.ndarray, " band"] | float,
        push: Push,
    ) -> None:
        self.labels = np.unique(folds)
        self.count = len(self.labels)
        self.folds = np.searchsorted(self.labels, folds)
        self.sizes = np.bincount(self.folds[rows], minlength=self.count)
        if self.count < 2 or self.sizes.min() == 0:
            raise ProbeError(
                f"each of at least 2 folds must hold rows with a target, but target number "
                f"{columns[0]} has {self.sizes.tolist()} rows in the folds"
            )
        self.features, self.rows, self.columns = features, rows, columns
        self.targets = targets
        self.bands = features.shape[1]
        self.strength, self.push = strength, push
        self.origin, self.scale = self._origin_and_scale()
        self.target_origin = targets[np.ix_(rows, columns)].mean(axis=0)
        self._moments: list[Moments] | None = None
        self._kept: dict[tuple[tuple[int, ...], int], tuple[Solution, Spread]] = {}

    def workers(self) -> AbstractContextManager[Run]:
        """Threads for the factorizations of this data."""
        work = ridge_operations(len(self.rows), self.bands, self.count)
        size = min(self.bands, len(self.rows))
        return workers(work, 3 * 8 * size**2)

    def all_but(self, *folds: int) -> list[int]:
        """The other folds."""
        return [fold for fold in range(self.count) if fold not in folds]

    def blocks(
        self, folds: Sequence[int]
    ) -> Iterator[dict[int, tuple[Int[np.ndarray, " row"], Float[np.ndarray, "row band"]]]]:
        """Rows of some folds, in order: for each fold of a block, their numbers and features."""
        wanted = self.rows[np.isin(self.folds[self.rows], folds)]
        for block in row_blocks(wanted, self.bands):
            values = self.features[block] - self.origin
            for band in self.constant:
                values[np.abs(values[:, band]) <= _ROUNDING * np.abs(self.origin[band]), band] = 0
            values /= self.scale
            own = self.folds[block]
            present = np.unique(own).tolist()
            if len(present) == 1:
                yield {present[0]: (block, values)}
            else:
                yield {fold: (block[own == fold], values[own == fold]) for fold in present}

    def truth(self, rows: Int[np.ndarray, " row"]) -> Float[np.ndarray, "row column"]:
        """Targets of some rows, from their own origin."""
        return self.targets[np.ix_(rows, self.columns)] - self.target_origin

    def moments(self, run: Run) -> list[Moments]:
        """Sums over the rows of each fold."""
        if self._moments is None:
            sums = [Moments.zero(self.bands, len(self.columns)) for _ in range(self.count)]
            for block in self.blocks(range(self.count)):

                def add(fold: int, block: _Block = block) -> None:
                    rows, values = block[fold]
                    sums[fold].add(values, self.truth(rows))

                list(run(add, block))
                self.push(sum(len(rows) for rows, _ in block.values()) * float(self.bands) ** 2)
            self._moments = sums
        return self._moments

    def training(self, train: Sequence[int]) -> Primal | Dual:
        """The equations of some folds."""
        if self._moments is not None and self._has_bands(train):
            return Primal(Moments.total([self._moments[fold] for fold in train]), self.strength)
        parts = [part for block in self.blocks(train) for part in block.values()]
        rows, values = (np.concatenate(side) for side in zip(*parts, strict=True))
        return Dual(values, self.truth(rows), self.strength)

    def choose(
        self, lefts: Sequence[tuple[int, ...]], penalties: Sequence[float], run: Run
    ) -> Int[np.ndarray, "fold column"]:
        """Choose each target's penalty by the errors on folds that were left out.

        Args:
            lefts: folds that each training set leaves out: two each, or one.
            penalties: to choose from, sorted.
            run: does the work.

        Returns:
            For each fold the number of the penalty that does best on the others, of models that
            have not seen it either; the same for all folds where each set leaves out one.
        """
        if any(self._has_bands(self.all_but(*left)) for left in lefts):
            self.moments(run)
        errors = np.full((len(lefts), 2, len(penalties), len(self.columns)), np.nan)
        tried = np.zeros(len(penalties), bool)
        # The first set alone tells where to look; all of them decide.
        while numbers := next_penalties(np.nansum(errors[0], axis=0).T, tried):
            self._judge(lefts, errors, {0: numbers}, penalties, run)
            tried[numbers] = True
        near = np.where(tried[:, None], np.nansum(errors[0], axis=0), np.inf).argmin(axis=0)
        folds = self.count if len(lefts[0]) == 2 else 1
        tried = np.zeros((folds, len(penalties)), bool)
        keep = set(near.tolist())
        wanted = [sorted({n + side for n in keep for side in (-1, 0, 1)})] * folds
        wanted = [[n for n in numbers if 0 <= n < len(penalties)] for numbers in wanted]
        while True:
            for fold, numbers in enumerate(wanted):
                tried[fold, numbers] = True
            of_sets = {
                number: sorted({n for fold in (left if folds > 1 else (0,)) for n in wanted[fold]})
                for number, left in enumerate(lefts)
            }
            self._judge(lefts, errors, of_sets, penalties, run, keep)
            cases = self._cases(lefts, errors, tried)
            wanted = [next_penalties(each, known) for each, known in zip(cases, tried, strict=True)]
            if not any(wanted):
                return np.broadcast_to(cases.argmin(axis=2), (self.count, len(self.columns)))

    def _judge(
        self,
        lefts: Sequence[tuple[int, ...]],
        errors: Float[np.ndarray, "left side penalty column"],
        wanted: Mapping[int, Sequence[int]],
        penalties: Sequence[float],
        run: Run,
        keep: Collection[int] = (),
    ) -> None:
        """Fill in the errors of training sets at some penalties each, where they are not known.

        The models at the penalties to `keep` are kept for `look`, if they fit into memory.
        """
        if len(lefts) * len(keep) * 4 * self.bands**2 > _SPREAD_BYTES:
            keep = ()

        def judge(task: tuple[int, list[int]]) -> None:
            number, new = task
            left = lefts[number]
            train = self.all_but(*left)
            training = self.training(train)
            solutions = []
            for n in new:
                if n in keep:
                    solution, spread = training.solve_with_spread(penalties[n])
                    self._kept[tuple(train), n] = solution, spread
                else:
                    solution = training.solve(penalties[n])
                solutions.append(solution)
            for side, fold in enumerate(left):
                errors[number, side, new] = self._errors(fold, solutions)

        tasks = [
            (number, [n for n in numbers if np.isnan(errors[number, 0, n]).any()])
            for number, numbers in wanted.items()
        ]
        if len(tasks) == 1:  # its penalties side by side
            tasks = [(number, [n]) for number, new in tasks for n in new]
        tasks = [task for task in tasks if task[1]]
        for (number, new), _ in zip(tasks, run(judge, tasks), strict=True):
            self.push(len(new) * self._factor_work(lefts[number]))

    def _cases(
        self,
        lefts: Sequence[tuple[int, ...]],
        errors: Float[np.ndarray, "left side penalty column"],
        tried: Bool[np.ndarray, "case penalty"],
    ) -> Float[np.ndarray, "case column penalty"]:
        """Errors of each fold and target; infinite where not tried.

        A fold's are those on the other fold that a set leaves out with it. Where sets leave out one
        fold each, there is one case: the errors on all folds.
        """
        sums = np.zeros((len(tried), len(self.columns), tried.shape[1]))
        for number, left in enumerate(lefts):
            for side in range(len(left)):
                sums[left[1 - side] if len(left) == 2 else 0] += errors[number, side].T
        return np.where(tried[:, None, :], sums, np.inf)

    def look(self, views: Sequence[_View], penalties: Sequence[float], run: Run) -> Iterator[_Seen]:
        """Predict folds by models that have not seen them.

        As many models are held as fit into memory, and the rows are read once for them.
        """
        by_model: dict[tuple[int, ...], list[_View]] = {}
        for view in views:
            by_model.setdefault(view.train, []).append(view)
        for models in self._portions(by_model):

            def fit(train: tuple[int, ...]) -> dict[int, tuple[Solution, Spread]]:
                numbers = np.unique([view.best for view in by_model[train]]).tolist()
                found = {n: self._kept.pop((train, n)) for n in numbers if (train, n) in self._kept}
                if len(found) < len(numbers):
                    training = self.training(train)
                    for n in numbers:
                        found[n] = found.get(n) or training.solve_with_spread(penalties[n])
                return found

            fitted = dict(zip(models, run(fit, models), strict=True))
            for train in models:
                self.push(len(fitted[train]) * self._factor_work(self.all_but(*train)))
            seen_by = [view for train in models for view in by_model[train]]
            for block in self.blocks(sorted({view.fold for view in seen_by})):

                def see(view: _View, block: _Block = block, fitted: _Fitted = fitted) -> _Seen:
                    rows, values = block[view.fold]
                    return view, rows, *self._see(values, fitted[view.train], view.best)

                yield from run(see, [view for view in seen_by if view.fold in block])

    def _see(
        self,
        values: Float[np.ndarray, "row band"],
        fitted: dict[int, tuple[Solution, Spread]],
        best: Int[np.ndarray, " column"],
    ) -> tuple[Float[np.ndarray, "row column"], Float[np.ndarray, "row column"]]:
        """Predictions, each target by its own penalty, and their difficulty."""
        guess, hard = np.empty((2, len(values), len(best)))
        for number in np.unique(best).tolist():
            solution, spread = fitted[number]
            at = np.flatnonzero(best == number)
            guess[:, at] = solution.only(at).predict(values) + self.target_origin[at]
            hard[:, at] = difficulty(spread.leverage(values))[:, None]
            self.push(len(values) * float(self.bands) ** 2 / 2)
        return guess, hard

    def _errors(
        self, fold: int, solutions: Sequence[Solution]
    ) -> Float[np.ndarray, "solution column"]:
        """Sums of squared errors on a fold."""
        together = Solution.together(solutions)
        if self._moments is not None:
            found = self._moments[fold].errors(together)
        else:
            found = np.zeros(len(together.intercepts))
            for block in self.blocks([fold]):
                rows, values = block[fold]
                truth = np.tile(self.truth(rows), len(solutions))
                found += ((together.predict(values) - truth) ** 2).sum(axis=0)
        return found.reshape(len(solutions), -1)

    def _portions(
        self, by_model: Mapping[tuple[int, ...], Sequence[_View]]
    ) -> Iterator[list[tuple[int, ...]]]:
        """Models whose factors fit into memory together."""
        portion: list[tuple[int, ...]] = []
        held = 0
        for train, views in by_model.items():
            factors = len(np.unique([view.best for view in views]))
            primal = self._has_bands(train)
            size = 4 * self.bands**2 if primal else 8 * self.bands * int(self.sizes[[*train]].sum())
            if portion and held + factors * size > _SPREAD_BYTES:
                yield portion
                portion, held = [], 0
            portion.append(train)
            held += factors * size
        yield portion

    def _has_bands(self, train: Sequence[int]) -> bool:
        """Whether the equations of a training set are those of the bands."""
        return by_bands(int(self.sizes[list(train)].sum()), self.bands)

    def _factor_work(self, left: Sequence[int]) -> float:
        """Operations of one Cholesky factor of the set that leaves some folds out."""
        rows = int(self.sizes[self.all_but(*left)].sum())
        return float(min(self.bands, rows)) ** 3 / 3

    def _origin_and_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of some of the rows; of a constant band its value and 1.

        The deviation of a constant can be of the size of rounding: such a band is marked, and what
        differs from its origin no more than that is set to 0 where rows are read.
        """
        step = max(1, len(self.rows) // _ORIGIN_ROWS)
        some = np.asarray(self.features[self.rows[::step]], np.float64)
        moved = some - some[0]  # exactly 0 in a constant band, as its mean then is
        mean = moved.mean(axis=0)
        deviation = (moved - mean).std(axis=0)
        origin = some[0] + mean
        self.constant = np.flatnonzero(deviation <= _ROUNDING * np.abs(origin))
        deviation[self.constant] = 1.0
        return origin, deviation


def ridge_operations(rows: int, bands: int, folds: int) -> float:
    """About how many floating-point operations `RidgeProbe.held_out` takes."""
    sets = folds * (folds - 1) / 2
    size = min(bands, (folds - 1) * rows // folds)
    factors = (_PENALTIES_TRIED + 2) * sets + 1.5 * folds
    return rows * bands * min(bands, rows) + factors * size**3 / 3 + folds * rows * bands**2 / 2
