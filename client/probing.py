"""The probe: what a linear model reads from vectors, beside what position alone tells."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from unigeo.client.baselines import lonlat_knn, lonlat_ridge, lonlat_trees
from unigeo.client.folds import CONUS, blocked_folds, random_folds, spatial_blocks
from unigeo.client.reporting import SPLITS
from unigeo.client.ridge import RidgeProbe
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.points import check_lonlat

if TYPE_CHECKING:
    import pandas as pd

BASELINES = ("lonlat ridge", "lonlat kNN", "lonlat trees")

_POINTS_PER_FOLD = 10
_Targets = Float[np.ndarray, "point target"]
_Method = Callable[[_Targets, Int[np.ndarray, " point"]], _Targets]


def probe_table(
    features: Mapping[str, Float[np.ndarray, "point _"]],
    targets: Mapping[str, Num[np.ndarray, " point"]],
    lonlat: Float[np.ndarray, "point 2"],
    *,
    block_km: float = 300.0,
    crs: str = CONUS,
    folds: int = 5,
    seed: int = 0,
    baselines: bool = True,
    progress: bool = False,
) -> "pd.DataFrame":
    """Score each set of features, and the baselines on position, under two splits.

    Args:
        features: vectors of each set (a modality, or several joined); a row with NaN in any set
            has no vector and is left out of all sets and baselines alike. May be empty.
        targets: what to predict; NaN where missing, for each target by itself.
        lonlat: WGS 84 degrees, longitude first.
        block_km: side of the squares that the blocked split keeps whole.
        crs: CRS in metres, best equal-area, of the blocks and of the nearest neighbours.
        folds: at least 3: the penalty is chosen in the folds that are not held out.
        seed: of the folds and of the trees.
        baselines: whether to add ridge, nearest neighbours and trees on position.
        progress: whether to show a bar.

    Returns:
        One row per split, target and set of features or baseline:
        `target`, `features`, `split` (`random` or `blocked`);
        `r2` = 1 - SSE / SST over all held-out predictions together, SST about the target's overall
        mean; `r2_folds_mean` and `r2_folds_std`: the R2 of each fold by itself, SST about that
        fold's own mean, their mean and standard deviation (lower where folds are small or alike
        within); `points` and `blocks` used; `dropped`: points that had the target and no vector.

    Raises:
        ProbeError: if points, blocks or valid vectors are too few, a target is constant, or
            lengths differ.
        MissingExtraError: if baselines are asked for without scikit-learn.
    """
    import pandas as pd

    check_lonlat(lonlat)
    stacked = _stack_targets(targets, len(lonlat))
    valid = _have_vectors(features, len(lonlat))
    if not valid.any():
        raise ProbeError(
            f"none of the {len(lonlat)} points has a vector in all of {', '.join(features)}: look "
            "at the points' status in the sample, and at the field's coverage"
        )
    dropped = np.isfinite(stacked[~valid]).sum(axis=0)
    known, places = stacked[valid], lonlat[valid]
    blocks = spatial_blocks(places, block_km, crs)
    _check_counts(list(targets), known, blocks, folds, dropped, block_km)
    vectors = {name: values[valid] for name, values in features.items()}
    methods = _methods(vectors, places, crs, seed, baselines)
    fold_numbers = {
        "random": random_folds(len(places), folds, seed),
        "blocked": blocked_folds(blocks, folds, seed),
    }
    rows = []
    for split, method in _progress(methods, progress):
        numbers = fold_numbers[split]
        _check_folds(list(targets), known, numbers, split)
        with _one_thread():
            predictions = methods[method](known, numbers)
        for column, target in enumerate(targets):
            has = np.isfinite(known[:, column])
            truth, guess = known[has, column], predictions[has, column]
            by_fold = [
                r2_score(truth[inside], guess[inside])
                for inside in (numbers[has] == fold for fold in range(folds))
            ]
            rows.append(
                {
                    "target": target,
                    "features": method,
                    "split": split,
                    "r2": r2_score(truth, guess),
                    "r2_folds_mean": np.mean(by_fold),
                    "r2_folds_std": np.std(by_fold),
                    "points": int(has.sum()),
                    "blocks": len(np.unique(blocks[has])),
                    "dropped": int(dropped[column]),
                }
            )
    return pd.DataFrame(rows)


def r2_score(truth: Float[np.ndarray, " point"], guess: Float[np.ndarray, " point"]) -> float:
    """1 - SSE / SST, SST about the mean of `truth`; NaN where `truth` is constant.

    >>> r2_score(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0]))
    0.5
    """
    total = ((truth - truth.mean()) ** 2).sum()
    return float(1 - ((truth - guess) ** 2).sum() / total) if total > 0 else float("nan")


def numbers_of(table: Any, name: str) -> Float[np.ndarray, " point"]:
    """A column of a table as float64, NaN where it is missing.

    Raises:
        ProbeError: if there is no such column, or it holds anything but numbers.
    """
    if name not in table.columns:
        raise ProbeError(f"there is no column {name!r}; there are " + _listed(table.columns))
    column = table[name]
    try:
        if hasattr(column, "isna"):  # pandas, whose own missing values numpy does not know
            return np.asarray(column.to_numpy(np.float64, na_value=np.nan))
        return np.asarray(column, np.float64)
    except (TypeError, ValueError) as error:
        raise ProbeError(f"the column {name!r} must hold numbers: {error}") from error


def _stack_targets(targets: Mapping[str, Num[np.ndarray, " point"]], count: int) -> _Targets:
    if not targets:
        raise ProbeError("no target is named: give at least one column of numbers to predict")
    for name, values in targets.items():
        if len(values) != count:
            raise ProbeError(f"target {name!r} has {len(values)} values for {count} points")
        if np.isinf(values).any():
            raise ProbeError(
                f"target {name!r} is infinite in row {int(np.flatnonzero(np.isinf(values))[0])}: "
                "use NaN where it is missing"
            )
    return np.stack([np.asarray(values, np.float64) for values in targets.values()], axis=-1)


def _have_vectors(
    features: Mapping[str, Float[np.ndarray, "point _"]], count: int
) -> Bool[np.ndarray, " point"]:
    valid = np.ones(count, bool)
    for name, values in features.items():
        if name in BASELINES:
            raise ProbeError(f"a set of features may not be named like the baseline {name!r}")
        if len(values) != count:
            raise ProbeError(f"features {name!r} have {len(values)} rows for {count} points")
        sums = values.sum(axis=1, dtype=np.float64)  # NaN or infinite as soon as one band is
        if np.isinf(sums).any():
            raise ProbeError(
                f"features {name!r} are infinite in row {int(np.flatnonzero(np.isinf(sums))[0])}"
            )
        valid &= np.isfinite(sums)
    return valid


def _check_counts(
    names: list[str],
    known: _Targets,
    blocks: Int[np.ndarray, " point"],
    folds: int,
    dropped: Int[np.ndarray, " target"],
    block_km: float,
) -> None:
    if folds < 3:
        raise ProbeError(
            f"{folds} folds are too few: with at least 3, the penalty is chosen without the one "
            "that is held out"
        )
    for column, name in enumerate(names):
        has = np.isfinite(known[:, column])
        points, used = int(has.sum()), len(np.unique(blocks[has]))
        if points < folds * _POINTS_PER_FOLD:
            lost = f" ({dropped[column]} more have no vector)" if dropped[column] else ""
            raise ProbeError(
                f"{points} points have the target {name!r} and a vector{lost}; {folds} folds need "
                f"at least {folds * _POINTS_PER_FOLD}"
            )
        if used < folds:
            raise ProbeError(
                f"the {points} points of target {name!r} lie in {used} blocks of {block_km:g} km; "
                f"{folds} folds need at least {folds}: make the blocks smaller"
            )
        if np.ptp(known[has, column]) == 0:
            raise ProbeError(f"target {name!r} is {known[has, column][0]:g} everywhere")


def _check_folds(
    names: list[str], known: _Targets, numbers: Int[np.ndarray, " point"], split: str
) -> None:
    for column, name in enumerate(names):
        sizes = np.bincount(numbers[np.isfinite(known[:, column])], minlength=numbers.max() + 1)
        if sizes.min() < 2:
            raise ProbeError(
                f"the {split} folds hold {sizes.tolist()} points with the target {name!r}, and "
                "each needs 2: make the blocks smaller, ask for fewer folds, or probe it alone"
            )


def _methods(
    features: Mapping[str, Float[np.ndarray, "point _"]],
    lonlat: Float[np.ndarray, "point 2"],
    crs: str,
    seed: int,
    baselines: bool,
) -> dict[str, _Method]:
    """What predicts, by name: the sets of features first."""

    def probe(values: Float[np.ndarray, "point band"]) -> _Method:
        return lambda targets, folds: RidgeProbe().held_out(values, targets, folds).predictions

    methods: dict[str, _Method] = {name: probe(values) for name, values in features.items()}
    if baselines:
        methods["lonlat ridge"] = lambda y, f: lonlat_ridge(lonlat, y, f)
        methods["lonlat kNN"] = lambda y, f: lonlat_knn(lonlat, y, f, crs)
        methods["lonlat trees"] = lambda y, f: lonlat_trees(lonlat, y, f, seed)
    return methods


def _one_thread() -> AbstractContextManager[Any]:
    """Keep BLAS and trees to one thread: their many small steps wait for each other otherwise.

    The standard suite took 6 times as long on two busy cores with two threads as with one.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def _listed(names: Any, most: int = 30) -> str:
    shown = ", ".join(map(str, names[:most]))
    return shown + (f", ... ({len(names)} in all)" if len(names) > most else "")


def _progress(methods: Mapping[str, _Method], show: bool) -> Iterator[tuple[str, str]]:
    pairs = [(split, method) for split in SPLITS for method in methods]
    if not show:
        yield from pairs
        return
    from tqdm import tqdm

    with tqdm(pairs, desc="probe", unit="fit") as bar:
        for split, method in bar:
            bar.set_postfix_str(f"{method}, {split}")
            yield split, method
