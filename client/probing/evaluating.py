"""The probe: what a linear model reads from vectors, beside what position alone tells."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.conformal import check_level, measured_coverage
from unigeo.client.probing.controls import CONTROLS, controlled, with_controls
from unigeo.client.probing.estimating import (
    baseline_seconds,
    duration,
    logistic_seconds,
    ridge_seconds,
)
from unigeo.client.probing.feature_rows import some_rows
from unigeo.client.probing.folds import Split
from unigeo.client.probing.gains import accuracy_gain, r2_gain
from unigeo.client.probing.methods import (
    BESIDE,
    Push,
    Sets,
    Vectors,
    chosen_baselines,
    class_methods,
    number_methods,
)
from unigeo.client.probing.preparing import ProbeData, ask, prepare
from unigeo.client.probing.ridge import HeldOut
from unigeo.client.probing.scoring import (
    accuracy,
    average_precision,
    balanced_accuracy,
    log_loss,
    r2_score,
)
from unigeo.client.probing.targets import Target
from unigeo.client.progress import progress_bar
from unigeo.client.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd

_Row = dict[str, Any]
_LONG = 5.0
"""Seconds from which a probe says what it does, if nothing else is asked for."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a probe."""

    scores: "pd.DataFrame"
    """See `probe_table`."""
    fold_scores: "pd.DataFrame"
    """Each fold by itself: `target`, `features`, `split`, `fold`, `points`, `score`."""
    gains: "pd.DataFrame"
    """See `evaluate`; without rows where there are no controls."""

    def __repr__(self) -> str:
        return f"Evaluation({len(self.scores)} scores, {len(self.fold_scores)} of folds)"


def probe_table(
    features: Vectors,
    targets: Mapping[str, Target],
    lonlat: Float[np.ndarray, "point 2"],
    *,
    baselines: bool | Sequence[str] = True,
    level: float = 0.9,
    progress: bool | None = None,
    **options: Any,
) -> "pd.DataFrame":
    """Score each set of features, and the baselines on position, under every split.

    Args, errors and warnings as in `preparing.ask` (options are its `groups`, `block_km`, `crs`,
    `folds`, `seed`, `controls`), `preparing.prepare` and `evaluate`. The vectors of a set are an
    array, or anything of its shape that gives the rows of an array of row numbers, such as an array
    in a file: they are read in blocks.

    Returns:
        One row per split, target and set of features or baseline:
        `target`, `features`, `split` (`random`, `blocked` or `grouped`);
        `metric` and `score`: `r2` of numbers or `accuracy` of classes, over all held-out
        predictions together; `score_folds_mean`, `score_folds_std`: mean and standard deviation of
        the scores of the folds (an R2 is lower there where folds are small or alike within);
        `r2` = 1 - SSE / SST, SST about the target's overall mean, `r2_folds_mean`,
        `r2_folds_std`: those of numbers again, NaN for classes;
        `balanced_accuracy`, `average_precision` (of the rarer of two classes, of more the mean
        over the classes), `log_loss`: where there are classes, NaN for numbers; see `scoring`;
        `interval_90`: mean half-width of the 90 % intervals round the predictions of a ridge, and
        `coverage_90`: the share of points in theirs; the level is in the name;
        `points` and `blocks` used; `dropped`: points that had the target and no vector.
    """
    chosen_baselines(baselines, features)
    check_level(level)
    data = prepare(ask(targets, lonlat, **options), features)
    seed = int(options.get("seed", 0))
    return evaluate(data, seed=seed, baselines=baselines, level=level, progress=progress).scores


def evaluate(
    data: ProbeData,
    *,
    seed: int = 0,
    baselines: bool | Sequence[str] = True,
    level: float = 0.9,
    progress: bool | None = None,
) -> Evaluation:
    """Predict every point by models that never saw its fold, and score the predictions.

    Args:
        data: what `prepare` gives.
        seed: of the trees, and of the intervals of gains.
        baselines: whether to add those of `methods.BASELINES`, or names of some of them.
        level: share of points that an interval should hold.
        progress: whether to say on stderr what will be done and about how long it takes, and to
            show a bar; by default where it takes more than 5 seconds.

    Returns:
        Scores; with controls also `gains`, a row per target, set of vectors and split: `metric`,
        its value by the `controls`, by the `vectors` and by `both`, `gain` (of both over the
        controls), and `low` and `high`, the ends of its interval: see `gains`.

    Raises:
        ProbeError: if a baseline is unknown, or the level no probability.
        MissingExtraError: if baselines are asked for without scikit-learn.
    """
    import pandas as pd

    check_level(level)
    wanted = chosen_baselines(baselines, data.vectors)
    sets = controlled(data.vectors, data.controls)
    rows: list[_Row] = []
    fold_rows: list[_Row] = []
    kept: dict[tuple[str, str, str], np.ndarray] = {}
    works = _works(data, sets, seed, wanted, level)
    seconds = sum(work.seconds for work in works)
    show = seconds > _LONG if progress is None else progress
    if show:
        _say(data, sets, wanted, seconds)
    with progress_bar("probe", 100, "%", show) as percent:
        scored = _done(works, _Share(seconds, percent))
    for split, (about, score, by_fold, predicted) in scored:
        about = {**about, "split": split}
        if data.controls is not None and about["features"] in sets:
            kept[split, about["target"], about["features"]] = predicted
        has = data.has(about["target"])
        counts = {
            "points": int(has.sum()),
            "blocks": len(np.unique(data.blocks[has])),
            "dropped": data.counts[about["target"]].without_vector,
        }
        rows.append(about | score | counts)
        fold_rows += [about | fold for fold in by_fold]
    scores = pd.DataFrame(rows)
    last = ["points", "blocks", "dropped"]
    scores = scores[[name for name in scores.columns if name not in last] + last]
    gains = _gains(data, scores, kept, level, seed)
    return Evaluation(scores, pd.DataFrame(fold_rows), gains)


_Scored = tuple[_Row, _Row, list[_Row], np.ndarray]
"""Which target and features; their scores; those of each fold; and the predictions."""


@dataclass(frozen=True)
class _Work:
    """Something that is fitted and scored under one split."""

    split: str
    seconds: float
    """That it takes, about."""
    run: Callable[[Push], Iterable[_Scored]]
    beside: bool = False
    """Whether it is done beside the others: it keeps one thread busy, mostly with Python."""


def _done(works: Sequence[_Work], done: "_Share") -> list[tuple[str, _Scored]]:
    """Do all works; what they scored, with the split, in their order."""

    def finish(work: _Work) -> list[tuple[str, _Scored]]:
        with one_thread():  # OpenMP keeps the number for each thread that starts loops
            scored = [(work.split, each) for each in work.run(done.of(work))]
        done.end(work)
        return scored

    with ThreadPoolExecutor(1) as thread:
        later = {n: thread.submit(finish, work) for n, work in enumerate(works) if work.beside}
        try:
            found = {n: finish(work) for n, work in enumerate(works) if not work.beside}
            found |= {number: work.result() for number, work in later.items()}
        except BaseException:
            thread.shutdown(wait=False, cancel_futures=True)
            raise
    return [each for number in range(len(works)) for each in found[number]]


class _Share:
    """Turns shares of works into whole percents of all."""

    def __init__(self, seconds: float, percent: Callable[[int], None]) -> None:
        self._seconds, self._percent = max(seconds, 1e-9), percent
        self._shares: dict[int, float] = {}  # seconds that are done, by work
        self._shown = 0
        self._lock = threading.Lock()

    def of(self, work: _Work) -> Push:
        """What a work tells its progress; all of it is told at its end only."""

        def push(part: float) -> None:
            with self._lock:
                done = self._shares.get(id(work), 0.0) + part * work.seconds
                self._show(work, min(done, 0.99 * work.seconds))

        return push

    def end(self, work: _Work) -> None:
        """A work is done."""
        with self._lock:
            self._show(work, work.seconds)

    def _show(self, work: _Work, seconds: float) -> None:
        self._shares[id(work)] = seconds
        reached = min(100, int(100 * sum(self._shares.values()) / self._seconds + 1e-6))
        if reached > self._shown:
            self._percent(reached - self._shown)
            self._shown = reached


def _say(data: ProbeData, sets: Sets, baselines: Sequence[str], seconds: float) -> None:
    """One line on stderr: what is fitted, and about how long it takes."""
    import click

    bands = ", ".join(f"{name} {values.shape[1]:,}" for name, (values, _) in sets.items())
    splits = " and ".join(split.name for split in data.splits)
    folds = int(data.splits[0].folds.max()) + 1
    beside = f", beside {len(baselines)} baselines" if baselines else ""
    targets = f"{len(data.known)} target" + "s" * (len(data.known) > 1)
    click.echo(
        f"probe: {targets} at {len(data.lonlat):,} points by {len(sets)} set"
        f"{'s' * (len(sets) != 1)} of bands ({bands})"
        f"{beside}; {splits} splits of {folds} folds; about {duration(seconds)}",
        err=True,
    )


def _works(
    data: ProbeData, sets: Sets, seed: int, baselines: Sequence[str], level: float
) -> list[_Work]:
    """What is to be computed, in order."""
    about = (data.lonlat, data.crs, seed, baselines)
    numeric = [name for name in data.known if data.labels(name) is None]
    works: list[_Work] = []
    for split in data.splits:
        folds, rows = int(split.folds.max()) + 1, len(data.lonlat)
        if numeric:
            for name, method in number_methods(sets, *about).items():
                if name in sets:
                    seconds = ridge_seconds(rows, sets[name][0].shape[1], folds)
                else:
                    seconds = baseline_seconds(name, rows, len(numeric))
                run = _number_work(data, numeric, method, split, level)
                works.append(_Work(split.name, seconds, run, name in BESIDE))
        for target in data.known:
            if target not in numeric:
                works += _class_works(data, sets, target, split, seed, baselines)
    return works


def _number_work(
    data: ProbeData, names: list[str], method: Any, split: Split, level: float
) -> Callable[[Push], Iterator[_Scored]]:
    """All targets of numbers at once, since one factorization serves them all."""

    def work(push: Push) -> Iterator[_Scored]:
        truth = np.stack([data.known[name] for name in names], axis=1)
        for features, guess in method(truth, split.folds, push).items():
            held = guess.predictions if isinstance(guess, HeldOut) else guess
            for column, target in enumerate(names):
                scores, by_fold = _number_scores(truth[:, column], guess, column, split, level)
                about = {"target": target, "features": features}
                yield about, scores, by_fold, held[data.has(target), column]

    return work


def _class_works(
    data: ProbeData, sets: Sets, target: str, split: Split, seed: int, baselines: Sequence[str]
) -> Iterator[_Work]:
    """One target of classes, at the points that have it."""
    has = data.has(target)
    codes, folds = data.known[target][has].astype(np.int64), split.folds[has]
    own = {name: (some_rows(values, has), strength) for name, (values, strength) in sets.items()}
    methods = class_methods(own, data.lonlat[has], data.crs, seed, baselines)

    def work_of(method: Any) -> Callable[[Push], Iterator[_Scored]]:
        def work(push: Push) -> Iterator[_Scored]:
            for features, guess in method(codes, folds, push).items():
                scores, by_fold = _class_scores(codes, guess, folds)
                found = (guess.argmax(axis=1) == codes).astype(np.float64)
                yield {"target": target, "features": features}, scores, by_fold, found

        return work

    classes, count = int(codes.max()) + 1, int(folds.max()) + 1
    for name, method in methods.items():
        if name in own:
            seconds = logistic_seconds(len(codes), own[name][0].shape[1], count, classes)
        else:
            seconds = baseline_seconds(name, len(codes), classes)
        yield _Work(split.name, seconds, work_of(method), name in BESIDE)


def _gains(
    data: ProbeData,
    scores: "pd.DataFrame",
    kept: Mapping[tuple[str, str, str], np.ndarray],
    level: float,
    seed: int,
) -> "pd.DataFrame":
    """What each set of vectors adds to the controls."""
    import pandas as pd

    rows = []
    at = scores.set_index(["split", "target", "features"])[["metric", "score"]].to_dict("index")
    for split in data.splits if data.controls is not None else ():
        units = data.blocks if split.name == "random" else split.units
        for target in data.known:
            has = data.has(target)
            first = kept[split.name, target, CONTROLS]
            for features in data.vectors:
                names = CONTROLS, features, with_controls(features)
                found = [at[split.name, target, name] for name in names]
                second = kept[split.name, target, names[2]]
                if data.labels(target) is None:
                    gain = r2_gain(data.known[target][has], first, second, units[has], level, seed)
                else:
                    gain = accuracy_gain(first, second, units[has], level, seed)
                own, alone, both = (one["score"] for one in found)
                rows.append(
                    {
                        "target": target, "features": features, "split": split.name,
                        "metric": found[0]["metric"], "controls": own, "vectors": alone,
                        "both": both, "gain": gain.difference, "low": gain.low, "high": gain.high,
                    }
                )  # fmt: skip
    columns = ["target", "features", "split", "metric", "controls", "vectors", "both"]
    return pd.DataFrame(rows, columns=[*columns, "gain", "low", "high"])


def _number_scores(
    truth: Float[np.ndarray, " point"],
    guess: HeldOut | Float[np.ndarray, "point target"],
    column: int,
    split: Split,
    level: float,
) -> tuple[_Row, list[_Row]]:
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
) -> tuple[_Row, list[_Row]]:
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
) -> list[_Row]:
    insides = [(fold, folds == fold) for fold in np.unique(folds)]
    return [
        {"fold": int(fold), "points": int(inside.sum()), "score": score(inside)}
        for fold, inside in insides
    ]


def _mean_and_std(by_fold: list[_Row]) -> tuple[float, float]:
    scores = [row["score"] for row in by_fold]
    return float(np.mean(scores)), float(np.std(scores))
