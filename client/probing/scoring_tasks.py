"""The methods of a probe as tasks: each predicts held-out points under one split and is scored."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.conformal import measured_coverage
from unigeo.client.probing.duration_estimate import (
    baseline_seconds,
    logistic_seconds,
    ridge_seconds,
)
from unigeo.client.probing.feature_rows import some_rows
from unigeo.client.probing.folds import Split
from unigeo.client.probing.metrics import (
    accuracy,
    average_precision,
    balanced_accuracy,
    log_loss,
    r2_score,
)
from unigeo.client.probing.models import BESIDE, Push, Sets, class_methods, number_methods
from unigeo.client.probing.probe_data import ProbeData
from unigeo.client.probing.ridge import HeldOut
from unigeo.client.progress import TaskProgress
from unigeo.client.threads import one_thread

Row = dict[str, Any]
Scored = tuple[Row, Row, list[Row], np.ndarray]
"""Which target and features; their scores; those of each fold; and the predictions."""


@dataclass(frozen=True)
class ScoringTask:
    """A method that is fitted and scored under one split."""

    split: str
    seconds: float
    """Time that it takes, about."""
    run: Callable[[Push], Iterable[Scored]]
    beside: bool = False
    """Whether it runs beside the others: it keeps one thread busy, mostly with Python."""


def scoring_tasks(
    data: ProbeData, sets: Sets, seed: int, baselines: Sequence[str], level: float
) -> list[ScoringTask]:
    """Every method under every split, in the order of the scores."""
    about = (data.lonlat, data.crs, seed, baselines)
    numeric = [name for name in data.known if data.labels(name) is None]
    tasks: list[ScoringTask] = []
    for split in data.splits:
        folds, rows = int(split.folds.max()) + 1, len(data.lonlat)
        if numeric:
            for name, method in number_methods(sets, *about).items():
                if name in sets:
                    seconds = ridge_seconds(rows, sets[name][0].shape[1], folds)
                else:
                    seconds = baseline_seconds(name, rows, len(numeric))
                run = _number_task(data, numeric, method, split, level)
                tasks.append(ScoringTask(split.name, seconds, run, name in BESIDE))
        for target in data.known:
            if target not in numeric:
                tasks += _class_tasks(data, sets, target, split, seed, baselines)
    return tasks


def _number_task(
    data: ProbeData, names: list[str], method: Any, split: Split, level: float
) -> Callable[[Push], Iterator[Scored]]:
    """All targets of numbers at once, since one factorization serves them all."""

    def score(push: Push) -> Iterator[Scored]:
        truth = np.stack([data.known[name] for name in names], axis=1)
        for features, guess in method(truth, split.folds, push).items():
            held = guess.predictions if isinstance(guess, HeldOut) else guess
            for column, target in enumerate(names):
                scores, by_fold = _number_scores(truth[:, column], guess, column, split, level)
                about = {"target": target, "features": features}
                yield about, scores, by_fold, held[data.has(target), column]

    return score


def _class_tasks(
    data: ProbeData, sets: Sets, target: str, split: Split, seed: int, baselines: Sequence[str]
) -> Iterator[ScoringTask]:
    """One target of classes, at the points that have it."""
    has = data.has(target)
    codes, folds = data.known[target][has].astype(np.int64), split.folds[has]
    own = {name: (some_rows(values, has), strength) for name, (values, strength) in sets.items()}
    methods = class_methods(own, data.lonlat[has], data.crs, seed, baselines)

    def task_of(method: Any) -> Callable[[Push], Iterator[Scored]]:
        def score(push: Push) -> Iterator[Scored]:
            for features, guess in method(codes, folds, push).items():
                scores, by_fold = _class_scores(codes, guess, folds)
                found = (guess.argmax(axis=1) == codes).astype(np.float64)
                yield {"target": target, "features": features}, scores, by_fold, found

        return score

    classes, count = int(codes.max()) + 1, int(folds.max()) + 1
    for name, method in methods.items():
        if name in own:
            seconds = logistic_seconds(len(codes), own[name][0].shape[1], count, classes)
        else:
            seconds = baseline_seconds(name, len(codes), classes)
        yield ScoringTask(split.name, seconds, task_of(method), name in BESIDE)


def run_tasks(tasks: Sequence[ScoringTask], progress: TaskProgress) -> list[tuple[str, Scored]]:
    """Run all tasks; returns what they scored, with the split, in their order."""

    def finish(number: int) -> list[tuple[str, Scored]]:
        task = tasks[number]
        with one_thread():  # OpenMP keeps the number for each thread that starts loops
            scored = [(task.split, each) for each in task.run(progress.callback(number))]
        progress.end(number)
        return scored

    with ThreadPoolExecutor(1) as thread:
        later = {n: thread.submit(finish, n) for n, task in enumerate(tasks) if task.beside}
        try:
            found = {n: finish(n) for n, task in enumerate(tasks) if not task.beside}
            found |= {number: future.result() for number, future in later.items()}
        except BaseException:
            thread.shutdown(wait=False, cancel_futures=True)
            raise
    return [each for number in range(len(tasks)) for each in found[number]]


def _number_scores(
    truth: Float[np.ndarray, " point"],
    guess: HeldOut | Float[np.ndarray, "point target"],
    column: int,
    split: Split,
    level: float,
) -> tuple[Row, list[Row]]:
    has = np.isfinite(truth)
    held = guess.predictions if isinstance(guess, HeldOut) else guess
    known, guessed, folds = truth[has], held[has, column], split.folds[has]
    by_fold = _by_fold(folds, lambda inside: r2_score(known[inside], guessed[inside]))
    score, mean, std = r2_score(known, guessed), *_mean_and_std(by_fold)
    width, covered = np.nan, np.nan
    if isinstance(guess, HeldOut):
        coverage = measured_coverage(truth, guess, column, split.folds, level)
        width, covered = coverage.half_width, coverage.covered
    percent = f"{100 * level:g}"
    row = {
        "metric": "r2", "score": score, "score_folds_mean": mean, "score_folds_std": std,
        "r2": score, "r2_folds_mean": mean, "r2_folds_std": std,
        f"interval_{percent}": width, f"coverage_{percent}": covered,
    }  # fmt: skip
    return row, by_fold


def _class_scores(
    codes: Int[np.ndarray, " point"],
    guess: Float[np.ndarray, "point class"],
    folds: Int[np.ndarray, " point"],
) -> tuple[Row, list[Row]]:
    by_fold = _by_fold(folds, lambda inside: accuracy(codes[inside], guess[inside]))
    mean, std = _mean_and_std(by_fold)
    row = {
        "metric": "accuracy", "score": accuracy(codes, guess),
        "score_folds_mean": mean, "score_folds_std": std,
        "r2": np.nan, "r2_folds_mean": np.nan, "r2_folds_std": np.nan,
        "balanced_accuracy": balanced_accuracy(codes, guess),
        "average_precision": average_precision(codes, guess), "log_loss": log_loss(codes, guess),
    }  # fmt: skip
    return row, by_fold


def _by_fold(
    folds: Int[np.ndarray, " point"], score: Callable[[Bool[np.ndarray, " point"]], float]
) -> list[Row]:
    insides = [(fold, folds == fold) for fold in np.unique(folds)]
    return [
        {"fold": int(fold), "points": int(inside.sum()), "score": score(inside)}
        for fold, inside in insides
    ]


def _mean_and_std(by_fold: list[Row]) -> tuple[float, float]:
    scores = [row["score"] for row in by_fold]
    return float(np.mean(scores)), float(np.std(scores))
