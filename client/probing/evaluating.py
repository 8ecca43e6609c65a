"""The probe: what a linear model reads from vectors, beside what position alone tells."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.conformal import check_level, measured_coverage
from unigeo.client.probing.folds import Split
from unigeo.client.probing.methods import (
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
from unigeo.client.progress import watched
from unigeo.client.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd

_Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a probe."""

    scores: "pd.DataFrame"
    """See `probe_table`."""
    fold_scores: "pd.DataFrame"
    """Each fold by itself: `target`, `features`, `split`, `fold`, `points`, `score`."""

    def __repr__(self) -> str:
        return f"Evaluation({len(self.scores)} scores, {len(self.fold_scores)} of folds)"


def probe_table(
    features: Vectors,
    targets: Mapping[str, Target],
    lonlat: Float[np.ndarray, "point 2"],
    *,
    baselines: bool | Sequence[str] = True,
    level: float = 0.9,
    progress: bool = False,
    **options: Any,
) -> "pd.DataFrame":
    """Score each set of features, and the baselines on position, under every split.

    Args, errors and warnings as in `preparing.ask` (options are its `groups`, `block_km`, `crs`,
    `folds`, `seed`), `preparing.prepare` and `evaluate`.

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
    progress: bool = False,
) -> Evaluation:
    """Predict every point by models that never saw its fold, and score the predictions.

    Args:
        data: what `prepare` gives.
        seed: of the trees.
        baselines: whether to add those of `methods.BASELINES`, or names of some of them.
        level: share of points that an interval should hold.
        progress: whether to show a bar.

    Raises:
        ProbeError: if a baseline is unknown, or the level no probability.
        MissingExtraError: if baselines are asked for without scikit-learn.
    """
    import pandas as pd

    check_level(level)
    wanted = chosen_baselines(baselines, data.vectors)
    rows: list[_Row] = []
    fold_rows: list[_Row] = []
    works = _works(data, seed, wanted, level)
    for split, _, work in watched(works, "probe", "fits", progress):
        with one_thread():
            for about, score, by_fold in work():
                about = {**about, "split": split}
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
    return Evaluation(scores, pd.DataFrame(fold_rows))


_Scored = tuple[_Row, _Row, list[_Row]]
"""Which target and features; their scores; and those of each fold."""
_Work = Callable[[], Iterable[_Scored]]


def _works(
    data: ProbeData, seed: int, baselines: Sequence[str], level: float
) -> list[tuple[str, str, _Work]]:
    """What is to be computed: the split, what predicts, and the function that scores it."""
    about = (data.vectors, data.lonlat, data.crs, seed, baselines)
    numeric = [name for name in data.known if data.labels(name) is None]
    works: list[tuple[str, str, _Work]] = []
    for split in data.splits:
        if numeric:
            works += [
                (split.name, name, _number_work(data, numeric, method, split, level))
                for name, method in number_methods(*about).items()
            ]
        for target in data.known:
            if target not in numeric:
                works += _class_works(data, target, split, seed, baselines)
    return works


def _number_work(
    data: ProbeData, names: list[str], method: Any, split: Split, level: float
) -> _Work:
    """All targets of numbers at once, since one decomposition serves them all."""

    def work() -> Iterator[_Scored]:
        truth = np.stack([data.known[name] for name in names], axis=1)
        for features, guess in method(truth, split.folds).items():
            for column, target in enumerate(names):
                scores, by_fold = _number_scores(truth[:, column], guess, column, split, level)
                yield {"target": target, "features": features}, scores, by_fold

    return work


def _class_works(
    data: ProbeData, target: str, split: Split, seed: int, baselines: Sequence[str]
) -> Iterator[tuple[str, str, _Work]]:
    """One target of classes, at the points that have it."""
    has = data.has(target)
    codes, folds = data.known[target][has].astype(np.int64), split.folds[has]
    vectors = {name: values[has] for name, values in data.vectors.items()}
    methods = class_methods(vectors, data.lonlat[has], data.crs, seed, baselines)

    def work_of(method: Any) -> _Work:
        def work() -> Iterator[_Scored]:
            for features, guess in method(codes, folds).items():
                yield {"target": target, "features": features}, *_class_scores(codes, guess, folds)

        return work

    for name, method in methods.items():
        yield split.name, name, work_of(method)


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
