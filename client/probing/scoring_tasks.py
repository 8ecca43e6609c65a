"""The tasks of a probe: each fits one method under one split, and scores its held-out points."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.conformal import measured_coverage
from unigeo.client.probing.controls import with_controls
from unigeo.client.probing.feature_rows import select_rows
from unigeo.client.probing.folds import Split
from unigeo.client.probing.metrics import (
    Weights,
    accuracy,
    average_precision,
    balanced_accuracy,
    log_loss,
    r2_score,
)
from unigeo.client.probing.models import (
    Advance,
    ClassMethod,
    NumberMethod,
    RidgeMethod,
    Sets,
    class_methods,
    number_methods,
)
from unigeo.client.probing.probe_data import ProbeData
from unigeo.client.probing.ridge import HeldOut
from unigeo.client.probing.spatial_option import Spatial
from unigeo.client.probing.spatial_scoring import PositionMethod
from unigeo.client.probing.target_bounds import UNBOUNDED, Bounds
from unigeo.client.progress import TaskProgress
from unigeo.client.threads import one_thread

Row = dict[str, Any]
"""Columns of a table's row by name."""


@dataclass(frozen=True, eq=False)
class MethodScores:
    """Scores of one set of features, or one baseline, for one target under one split."""

    target: str
    features: str
    """Name of the set of features or the baseline."""
    split: str
    scores: Row
    """Scores of all held-out predictions together."""
    by_fold: list[Row]
    """Score of each fold by itself."""
    predicted: Float[np.ndarray, " point"]
    """Predictions at the points that have the target; for classes 1 where right, else 0."""


@dataclass(frozen=True, eq=False)
class NumberTask:
    """A method that predicts all targets of numbers under one split.

    One task predicts all of them, since one factorization serves them all.
    """

    method: NumberMethod | PositionMethod
    split: Split
    targets: Mapping[str, Float[np.ndarray, " point"]]
    """Values of each target at all points; NaN where missing."""
    level: float
    """Share of the points that intervals should hold."""
    weights: Weights = None
    bounds: Mapping[str, Bounds] = field(default_factory=dict)
    """Bounds that the predictions of some targets keep."""

    @property
    def seconds(self) -> float:
        """Estimated time."""
        folds = self.split.folds
        return self.method.seconds(len(folds), int(folds.max()) + 1, len(self.targets))

    def run(self, advance: Advance) -> Iterator[MethodScores]:
        """Predict and score every target."""
        truth = np.stack(list(self.targets.values()), axis=1)
        for features, guess in self.method.held_out(truth, self.split.folds, advance).items():
            for column, (target, values) in enumerate(self.targets.items()):
                scores, by_fold, predicted = self._scores(target, values, guess, column)
                yield MethodScores(target, features, self.split.name, scores, by_fold, predicted)

    def _scores(
        self,
        target: str,
        truth: Float[np.ndarray, " point"],
        guess: HeldOut | Float[np.ndarray, "point target"],
        column: int,
    ) -> tuple[Row, list[Row], Float[np.ndarray, " _"]]:
        """Score one target, in all folds together and by fold.

        Returns:
            Both scores, and the predictions at the points that have the target.
        """
        has, bounds = np.isfinite(truth), self.bounds.get(target, UNBOUNDED)
        weights = None if self.weights is None else self.weights[has]
        held = guess.predictions if isinstance(guess, HeldOut) else guess
        known, folds = truth[has], self.split.folds[has]
        guessed = bounds.clip(held[has, column])
        by_fold = _fold_scores(
            folds, weights, lambda inside, some: r2_score(known[inside], guessed[inside], some)
        )
        score, mean, std = r2_score(known, guessed, weights), *_mean_and_std(by_fold)
        half_width, covered = np.nan, np.nan
        if isinstance(guess, HeldOut):
            coverage = measured_coverage(
                truth, guess, column, self.split.folds, self.level, self.weights, bounds
            )
            half_width, covered = coverage.half_width, coverage.covered
        percent = f"{100 * self.level:g}"
        row = {
            "metric": "r2", "score": score, "score_folds_mean": mean, "score_folds_std": std,
            "r2": score, "r2_folds_mean": mean, "r2_folds_std": std,
            f"interval_{percent}": half_width, f"coverage_{percent}": covered,
        }  # fmt: skip
        return row, by_fold, guessed


@dataclass(frozen=True, eq=False)
class ClassTask:
    """A method that predicts one target of classes under one split, at the points that have it."""

    method: ClassMethod
    split: str
    target: str
    codes: Int[np.ndarray, " point"]
    """Class number of each point."""
    folds: Int[np.ndarray, " point"]
    """Fold of each point."""
    weights: Weights = None

    @property
    def seconds(self) -> float:
        """Estimated time."""
        classes = int(self.codes.max()) + 1
        return self.method.seconds(len(self.codes), int(self.folds.max()) + 1, classes)

    def run(self, advance: Advance) -> Iterator[MethodScores]:
        """Predict and score the target."""
        for features, guess in self.method.held_out(self.codes, self.folds, advance).items():
            scores, by_fold = _class_scores(self.codes, guess, self.folds, self.weights)
            right = (guess.argmax(axis=1) == self.codes).astype(np.float64)
            yield MethodScores(self.target, features, self.split, scores, by_fold, right)


ScoringTask = NumberTask | ClassTask


def scoring_tasks(
    data: ProbeData,
    sets: Sets,
    seed: int,
    baselines: Sequence[str],
    level: float,
    trees: Mapping[str, str] | None = None,
    spatial: Spatial | None = None,
) -> list[ScoringTask]:
    """List the tasks of every method under every split, in the order of the scores.

    Args:
        data: points to score.
        sets: sets of features at the points.
        seed: seed of the trees.
        baselines: names of the wanted baselines.
        level: share of the points that intervals should hold.
        trees: sets of features that trees are fitted on too; see `number_methods`.
        spatial: whether sets of vectors, with controls or not, are also scored with position.
    """
    numbers = {name: known for name, known in data.known.items() if data.labels(name) is None}
    methods: list[NumberMethod | PositionMethod] = []
    if numbers:
        methods += number_methods(sets, data.lonlat, data.crs, seed, baselines, trees, data.weights)
    if spatial is not None and data.vectors:
        methods = _with_position(methods, data)
    tasks: list[ScoringTask] = []
    for split in data.splits:
        options = (split, numbers, level, data.weights, data.bounds)
        tasks += [NumberTask(method, *options) for method in methods]
        for target in data.known:
            if target not in numbers:
                tasks += _class_tasks(data, sets, target, split, seed, baselines)
    return tasks


def _with_position(
    methods: Sequence[NumberMethod | PositionMethod], data: ProbeData
) -> list[NumberMethod | PositionMethod]:
    """Merge the ridges on vectors, alone and with controls, into one that adds position to each."""
    wanted = set(data.vectors)
    if data.controls is not None:
        wanted |= {with_controls(name, data.controls.label) for name in data.vectors}
    ridges = tuple(
        replace(method, leave_one_out=True)
        for method in methods
        if isinstance(method, RidgeMethod) and method.name in wanted
    )
    names = {ridge.name for ridge in ridges}
    others = [method for method in methods if method.name not in names]
    return [PositionMethod(ridges, data.lonlat), *others]


def _class_tasks(
    data: ProbeData, sets: Sets, target: str, split: Split, seed: int, baselines: Sequence[str]
) -> list[ClassTask]:
    """List the tasks of one target of classes under one split."""
    has = data.has(target)
    codes, folds = data.known[target][has].astype(np.int64), split.folds[has]
    selected = {
        name: (select_rows(values, has), scaling) for name, (values, scaling) in sets.items()
    }
    weights = None if data.weights is None else data.weights[has]
    methods = class_methods(selected, data.lonlat[has], data.crs, seed, baselines, weights)
    return [ClassTask(method, split.name, target, codes, folds, weights) for method in methods]


def run_tasks(tasks: Sequence[ScoringTask], progress: TaskProgress) -> list[MethodScores]:
    """Run all tasks; return their scores in the order of the tasks."""

    def finish(number: int) -> list[MethodScores]:
        with one_thread():  # OpenMP keeps its number of threads per thread that starts loops
            scores = list(tasks[number].run(progress.callback(number)))
        progress.end(number)
        return scores

    # Tasks that keep one thread busy with Python run one after the other beside the rest, whose
    # factorizations release the lock.
    beside = {number for number, task in enumerate(tasks) if task.method.single_threaded}
    with ThreadPoolExecutor(1) as thread:
        later = {number: thread.submit(finish, number) for number in sorted(beside)}
        try:
            done = {number: finish(number) for number in range(len(tasks)) if number not in beside}
            done |= {number: future.result() for number, future in later.items()}
        except BaseException:
            thread.shutdown(wait=False, cancel_futures=True)
            raise
    return [scores for number in range(len(tasks)) for scores in done[number]]


def _class_scores(
    codes: Int[np.ndarray, " point"],
    guess: Float[np.ndarray, "point class"],
    folds: Int[np.ndarray, " point"],
    weights: Weights,
) -> tuple[Row, list[Row]]:
    """Score one target of classes, in all folds together and by fold."""
    by_fold = _fold_scores(
        folds, weights, lambda inside, some: accuracy(codes[inside], guess[inside], some)
    )
    mean, std = _mean_and_std(by_fold)
    row = {
        "metric": "accuracy", "score": accuracy(codes, guess, weights),
        "score_folds_mean": mean, "score_folds_std": std,
        "r2": np.nan, "r2_folds_mean": np.nan, "r2_folds_std": np.nan,
        "balanced_accuracy": balanced_accuracy(codes, guess, weights),
        "average_precision": average_precision(codes, guess, weights),
        "log_loss": log_loss(codes, guess, weights),
    }  # fmt: skip
    return row, by_fold


def _fold_scores(
    folds: Int[np.ndarray, " point"],
    weights: Weights,
    score: Callable[[Bool[np.ndarray, " point"], Weights], float],
) -> list[Row]:
    """Score each fold by itself, by a function of the mask and the weights of its points."""
    rows: list[Row] = []
    for fold in np.unique(folds):
        inside = folds == fold
        some = None if weights is None else weights[inside]
        rows.append({"fold": int(fold), "points": int(inside.sum()), "score": score(inside, some)})
    return rows


def _mean_and_std(by_fold: list[Row]) -> tuple[float, float]:
    scores = [row["score"] for row in by_fold]
    return float(np.mean(scores)), float(np.std(scores))
