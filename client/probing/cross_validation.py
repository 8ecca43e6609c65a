"""The probe: what a linear model reads from vectors, beside what position alone tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.conformal import check_level
from unigeo.client.probing.controls import controlled
from unigeo.client.probing.duration_estimate import duration
from unigeo.client.probing.gains import gains_table
from unigeo.client.probing.models import Sets, Vectors, chosen_baselines
from unigeo.client.probing.probe_data import ProbeData, ask, prepare
from unigeo.client.probing.scoring_tasks import Row, run_tasks, scoring_tasks
from unigeo.client.probing.targets import Target
from unigeo.client.progress import TaskProgress, progress_bar

if TYPE_CHECKING:
    import pandas as pd

_LONG = 5.0
"""Seconds from which a probe says what it does, if nothing else is asked for."""


@dataclass(frozen=True, eq=False)
class ProbeEvaluation:
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
) -> ProbeEvaluation:
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
    rows: list[Row] = []
    fold_rows: list[Row] = []
    kept: dict[tuple[str, str, str], np.ndarray] = {}
    tasks = scoring_tasks(data, sets, seed, wanted, level)
    seconds = [task.seconds for task in tasks]
    show = sum(seconds) > _LONG if progress is None else progress
    if show:
        _say(data, sets, wanted, sum(seconds))
    with progress_bar("probe", 100, "%", show) as percent:
        scored = run_tasks(tasks, TaskProgress(seconds, percent))
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
    gains = gains_table(data, scores, kept, level, seed)
    return ProbeEvaluation(scores, pd.DataFrame(fold_rows), gains)


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
