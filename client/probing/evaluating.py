"""The probe: what a linear model reads from vectors, beside what position alone tells."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.checks import (
    check_classes,
    check_counts,
    check_folds,
    warn_of_thin_data,
)
from unigeo.client.probing.conformal import check_level, measured_coverage
from unigeo.client.probing.folds import CONUS, Split, all_splits, group_numbers, spatial_blocks
from unigeo.client.probing.methods import (
    BASELINES,
    Vectors,
    chosen_baselines,
    class_methods,
    number_methods,
)
from unigeo.client.probing.ridge import HeldOut
from unigeo.client.probing.scoring import accuracy, balanced_accuracy, log_loss, r2_score
from unigeo.client.probing.targets import Labels, Target, check_targets, codes_of, numbers_of
from unigeo.client.progress import watched
from unigeo.client.threads import one_thread
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.points import check_lonlat

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BASELINES", "Evaluation", "ProbeData", "evaluate", "numbers_of", "prepare",
    "probe_table", "r2_score",
]  # fmt: skip

_Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class ProbeData:
    """Points that have a vector in every set, what is predicted at them, and how they are split."""

    targets: Mapping[str, Target]
    """As given; of all points."""
    known: Mapping[str, Float[np.ndarray, " point"]]
    """The targets' numbers, or class numbers, at the points; NaN where missing."""
    vectors: Vectors
    lonlat: Float[np.ndarray, "point 2"]
    blocks: Int[np.ndarray, " point"]
    splits: tuple[Split, ...]
    dropped: Mapping[str, int]
    """Points that had the target and no vector."""
    crs: str

    def labels(self, target: str) -> Labels | None:
        """The labels of a target of classes, None for one of numbers."""
        found = self.targets[target]
        return found if isinstance(found, Labels) else None

    def has(self, target: str) -> Bool[np.ndarray, " point"]:
        """Which points have the target."""
        return np.isfinite(self.known[target])


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a probe."""

    scores: "pd.DataFrame"
    """See `probe_table`."""
    fold_scores: "pd.DataFrame"
    """Each fold by itself: `target`, `features`, `split`, `fold`, `points`, `score`."""


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

    Args and errors as in `prepare` (options are its `groups`, `block_km`, `crs`, `folds`, `seed`)
    and `evaluate`.

    Returns:
        One row per split, target and set of features or baseline:
        `target`, `features`, `split` (`random`, `blocked` or `grouped`);
        `metric` and `score`: `r2` of numbers or `accuracy` of classes, over all held-out
        predictions together; `score_folds_mean`, `score_folds_std`: mean and standard deviation of
        the scores of the folds (an R2 is lower there where folds are small or alike within);
        `r2` = 1 - SSE / SST, SST about the target's overall mean, `r2_folds_mean`,
        `r2_folds_std`: those of numbers again, NaN for classes;
        `balanced_accuracy`, `log_loss`: where there are classes, NaN for numbers;
        `interval_90`: mean half-width of the 90 % intervals round the predictions of a ridge, and
        `coverage_90`: the share of points in theirs; the level is in the name;
        `points` and `blocks` used; `dropped`: points that had the target and no vector.
    """
    data = prepare(features, targets, lonlat, **options)
    seed = int(options.get("seed", 0))
    return evaluate(data, seed=seed, baselines=baselines, level=level, progress=progress).scores


def prepare(
    features: Vectors,
    targets: Mapping[str, Target],
    lonlat: Float[np.ndarray, "point 2"],
    *,
    groups: Any = None,
    block_km: float = 300.0,
    crs: str = CONUS,
    folds: int = 5,
    seed: int = 0,
) -> ProbeData:
    """Take the points that can be probed, split them, and say where they are too few.

    Args:
        features: vectors of each set (a modality, or several joined); a row with NaN in any set
            has no vector and is left out of all sets and baselines alike. May be empty.
        targets: what to predict: numbers, NaN where missing, or `Labels`; each by itself.
        lonlat: WGS 84 degrees, longitude first.
        groups: label of each point, to hold whole groups out in a third split.
        block_km: side of the squares that the blocked split keeps whole.
        crs: CRS in metres, best equal-area, of the blocks and of the nearest neighbours.
        folds: at least 3: the penalty is chosen in the folds that are not held out.
        seed: of the folds.

    Raises:
        ProbeError: if points, blocks, groups or valid vectors are too few, a target is constant,
            or lengths differ.

    Warns:
        ProbeWarning: where they are enough to score and too few to rely on.
    """
    check_lonlat(lonlat)
    check_targets(targets, len(lonlat))
    valid = _have_vectors(features, len(lonlat))
    if not valid.any():
        raise ProbeError(
            f"none of the {len(lonlat)} points has a vector in all of {', '.join(features)}: look "
            "at the points' status in the sample, and at the field's coverage"
        )
    codes = {name: codes_of(target) for name, target in targets.items()}
    known = {name: values[valid] for name, values in codes.items()}
    dropped = {name: int(np.isfinite(values[~valid]).sum()) for name, values in codes.items()}
    blocks = spatial_blocks(lonlat[valid], block_km, crs)
    for name, values in known.items():
        has = np.isfinite(values)
        used = len(np.unique(blocks[has]))
        check_counts(name, int(has.sum()), dropped[name], used, folds, block_km)
        target = targets[name]
        if isinstance(target, Labels):
            check_classes(name, target.classes, values[has].astype(np.int64))
        elif np.ptp(values[has]) == 0:
            raise ProbeError(f"target {name!r} is {values[has][0]:g} everywhere")
    numbers = None if groups is None else group_numbers(groups, len(lonlat))[valid]
    splits = all_splits(blocks, numbers, folds, seed)
    vectors = {name: values[valid] for name, values in features.items()}
    for name, values in known.items():
        has = np.isfinite(values)
        for split in splits:
            check_folds(name, has, split)
        classes = values if isinstance(targets[name], Labels) else None
        warn_of_thin_data(name, has, dropped[name], splits, vectors, classes)
    return ProbeData(targets, known, vectors, lonlat[valid], blocks, splits, dropped, crs)


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
        baselines: whether to add those of `BASELINES`, or names of some of them.
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
                    "dropped": data.dropped[about["target"]],
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
        "balanced_accuracy": balanced_accuracy(codes, guess), "log_loss": log_loss(codes, guess),
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


def _have_vectors(features: Vectors, count: int) -> Bool[np.ndarray, " point"]:
    """Rows that are whole in every set of features."""
    valid = np.ones(count, bool)
    for name, values in features.items():
        if len(values) != count:
            raise ProbeError(f"features {name!r} have {len(values)} rows for {count} points")
        sums = values.sum(axis=1, dtype=np.float64)
        if np.isinf(sums).any():
            raise ProbeError(
                f"features {name!r} are infinite in row {int(np.flatnonzero(np.isinf(sums))[0])}"
            )
        valid &= np.isfinite(sums)
    return valid
