"""The scores of a probe: every method predicts held-out points under every split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.baselines import need_sklearn
from unigeo.client.probing.conformal import check_level
from unigeo.client.probing.controls import add_controls
from unigeo.client.probing.gains import gains_table
from unigeo.client.probing.kernel_option import check_kernel
from unigeo.client.probing.models import Sets, Vectors, chosen_baselines
from unigeo.client.probing.probe_data import ProbeData, prepare
from unigeo.client.probing.probe_inputs import check_inputs
from unigeo.client.probing.scoring_tasks import Row, run_tasks, scoring_tasks
from unigeo.client.probing.spatial_option import Spatial, check_spatial
from unigeo.client.probing.targets import Target
from unigeo.client.progress import TaskProgress, progress_bar
from unigeo.schemas.io.durations import format_duration

if TYPE_CHECKING:
    import pandas as pd

_LONG_S = 2.0
"""Seconds from which a probe reports its progress by default."""


@dataclass(frozen=True, eq=False)
class ProbeEvaluation:
    """Scores of a probe."""

    scores: "pd.DataFrame"
    """Scores of all folds together; see `probe_table`."""
    fold_scores: "pd.DataFrame"
    """Score of each fold: `target`, `features`, `split`, `fold`, `points`, `score`."""
    gains: "pd.DataFrame"
    """Gains of vectors over the controls; see `evaluate`. Without controls there are no rows."""

    def __repr__(self) -> str:
        return f"ProbeEvaluation({len(self.scores)} scores, {len(self.fold_scores)} of folds)"


def probe_table(
    features: Vectors,
    targets: Mapping[str, Target],
    lonlat: Float[np.ndarray, "point 2"],
    *,
    baselines: bool | Sequence[str] = True,
    level: float = 0.9,
    progress: bool | None = None,
    trees: Mapping[str, str] | None = None,
    spatial: Spatial | None = None,
    kernel: bool = False,
    **options: Any,
) -> "pd.DataFrame":
    """Score each set of features, and the baselines on position, under every split.

    Args, errors and warnings as in `probe_inputs.check_inputs` (options are its `groups`,
    `block_km`, `crs`, `folds`, `seed`, `controls`, `weights`, `bounds`), `probe_data.prepare` and
    `evaluate`. `kernel` adds to each set that of its kernel's numbers, such as `joined kernel`, but
    not to those that trees are grown on; see `kernel_map`. The vectors of a set are an array, or an
    object of its shape that returns the rows of an array of row numbers, such as an array in a
    file: they are read in blocks.

    Returns:
        One row per split, target and set of features or baseline:
        `target`, `features`, `split` (`random`, `blocked` or `grouped`);
        `metric` and `score`: `r2` of numbers or `accuracy` of classes, over all held-out
        predictions together; `score_folds_mean`, `score_folds_std`: mean and standard deviation of
        the scores of the folds (an R2 is lower there where folds are small or alike within);
        `r2` = 1 - SSE / SST, SST about the target's overall mean, `r2_folds_mean`,
        `r2_folds_std`: those of numbers again, NaN for classes;
        `balanced_accuracy`, `average_precision` (of the rarer of two classes, of more the mean
        over the classes), `log_loss`: where there are classes, NaN for numbers; see `metrics`;
        `interval_90`: mean half-width of the 90 % intervals round the predictions of a ridge, and
        `coverage_90`: the share of points in theirs; the level is in the name;
        `points` and `blocks` used; `dropped`: points that had the target and no vector.
    """
    chosen_baselines(baselines, features)
    check_level(level)
    inputs = check_inputs(targets, lonlat, **options)
    check_spatial(spatial, inputs.targets, features, inputs.weights is not None)
    check_kernel(kernel, features)
    seed = int(options.get("seed", 0))
    data = prepare(inputs, features)
    if kernel:
        data = data.with_kernels(seed, progress, without=(trees or {}).values())
    evaluation = evaluate(
        data,
        seed=seed,
        baselines=baselines,
        level=level,
        progress=progress,
        trees=trees,
        spatial=spatial,
    )
    return evaluation.scores


def evaluate(
    data: ProbeData,
    *,
    seed: int = 0,
    baselines: bool | Sequence[str] = True,
    level: float = 0.9,
    progress: bool | None = None,
    trees: Mapping[str, str] | None = None,
    spatial: Spatial | None = None,
) -> ProbeEvaluation:
    """Predict every point by models that never saw its fold, and score the predictions.

    Args:
        data: points that `prepare` returned.
        seed: seed of the trees, and of the resamples that give gains their intervals.
        baselines: whether to add those of `models.BASELINES`, or names of some of them.
        level: share of points that an interval should hold.
        progress: whether to say on stderr what will be done and about how long it takes, and to
            show a bar; by default where it takes more than 2 seconds.
        trees: sets of features on which gradient-boosted trees are fitted too, beside longitude
            and latitude, for targets of numbers: name of the set, by the name of the trees.
        spatial: `residuals` also scores each set of vectors with position, as `joined + position`;
            see `regression_kriging`.

    Returns:
        Scores; with controls also `gains`, a row per target, set of vectors and split: `metric`,
        its value by the `controls`, by the `vectors` and by `both`, `gain` (of both over the
        controls), and `low` and `high`, the ends of its interval: see `gains`.

    Raises:
        ProbeError: if a baseline is unknown, or the level no probability.
        MissingExtraError: if baselines, trees or `spatial` are asked for without scikit-learn.
    """
    import pandas as pd

    check_level(level)
    wanted = chosen_baselines(baselines, data.vectors)
    if trees:
        need_sklearn("ensemble")
    # Sets that trees are grown on are held against vectors themselves.
    sets = add_controls(data.vectors, data.controls, alone=(trees or {}).values())
    tasks = scoring_tasks(data, sets, seed, wanted, level, trees, spatial)
    seconds = [task.seconds for task in tasks]
    show = sum(seconds) > _LONG_S if progress is None else progress
    if show:
        _announce(data, sets, wanted, sum(seconds))
    with progress_bar("probe", 100, "%", show) as percent:
        scored = run_tasks(tasks, TaskProgress(seconds, percent))
    rows: list[Row] = []
    fold_rows: list[Row] = []
    predicted: dict[tuple[str, str, str], np.ndarray] = {}
    for each in scored:
        names = {"target": each.target, "features": each.features, "split": each.split}
        if data.controls is not None and each.features in sets:
            predicted[each.split, each.target, each.features] = each.predicted
        has = data.has(each.target)
        counted = data.counts[each.target]
        counts = {
            "points": int(has.sum()),
            "blocks": len(np.unique(data.blocks[has])),
            "dropped": counted.without_vector + counted.without_control,
        }
        rows.append(names | each.scores | counts)
        fold_rows += [names | fold for fold in each.by_fold]
    scores = pd.DataFrame(rows)
    # Numbers and classes have columns of their own, and the counts come after all of them.
    last = ["points", "blocks", "dropped"]
    scores = scores[[name for name in scores.columns if name not in last] + last]
    gains = gains_table(data, scores, predicted, level, seed)
    return ProbeEvaluation(scores, pd.DataFrame(fold_rows), gains)


def _announce(data: ProbeData, sets: Sets, baselines: Sequence[str], seconds: float) -> None:
    """Print one line on stderr: what is fitted, and about how long it takes."""
    import click

    bands = ", ".join(f"{name} {values.shape[1]:,}" for name, (values, _) in sets.items())
    splits = " and ".join(split.name for split in data.splits)
    folds = int(data.splits[0].folds.max()) + 1
    beside = f", beside {len(baselines)} baselines" if baselines else ""
    targets = f"{len(data.known)} target" + "s" * (len(data.known) > 1)
    click.echo(
        f"probe: {targets} at {len(data.lonlat):,} points by {len(sets)} set"
        f"{'s' * (len(sets) != 1)} of bands ({bands})"
        f"{beside}; {splits} splits of {folds} folds; about {format_duration(seconds)}",
        err=True,
    )
