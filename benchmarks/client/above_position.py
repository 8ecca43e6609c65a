"""Measure whether vectors predict better than position does, and how sure that is.

    python -m benchmarks.client.above_position                    # conus-1
    python -m benchmarks.client.above_position FIELD --target diabetes --target obesity

Predicts columns of the example table of counties in blocks of 300 km that were not seen. Each
difference of R2 has its 90 % interval over resampled blocks, as `Probe.gains` has.
"""

import argparse

import pandas as pd

from unigeo import client
from unigeo.client.probing.controls import add_controls
from unigeo.client.probing.gains import r2_gain
from unigeo.client.probing.metrics import r2_score
from unigeo.client.probing.probe_data import prepare
from unigeo.client.probing.probe_inputs import read_inputs
from unigeo.client.probing.sampled_features import sample_features
from unigeo.client.probing.scoring_tasks import run_tasks, scoring_tasks
from unigeo.client.progress import TaskProgress

BASELINES = ("lonlat IDW", "lonlat trees")
LEVEL = 0.9


def differences(
    field: client.Field, table: pd.DataFrame, targets: list[str], *, kernel: bool = False
) -> pd.DataFrame:
    """Return a row per target, set of features and baseline: both R2, and their difference."""
    defaults = {"task": None, "crs": None, "columns": None, "groups": None}
    inputs, points = read_inputs(table, targets, otherwise=field.grid.crs, **defaults)
    names = field.default_modalities
    data = prepare(inputs, *sample_features(field, points, inputs.needs_vector, names, "nearest"))
    data = data.with_kernels(0, False) if kernel else data
    sets = add_controls(data.vectors, None)
    tasks = scoring_tasks(data, sets, 0, BASELINES, LEVEL, spatial="residuals")
    blocked = [task for task in tasks if task.split.name == "blocked"]
    progress = TaskProgress([task.seconds for task in blocked], lambda _: None)
    predicted = {(one.target, one.features): one.predicted for one in run_tasks(blocked, progress)}
    units = next(split.units for split in data.splits if split.name == "blocked")
    rows = []
    for target, features in predicted:
        if features in BASELINES:
            continue
        has = data.has(target)
        truth = data.known[target][has]
        for baseline in BASELINES:
            pair = predicted[target, baseline], predicted[target, features]
            gain = r2_gain(truth, *pair, units[has], LEVEL)
            scores = [r2_score(truth, one, None) for one in pair]
            row = (target, features, scores[1], baseline, scores[0], *vars(gain).values())
            rows.append(row)
    columns = ["target", "features", "R2", "baseline", "its R2", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def main() -> None:
    """Print the differences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("field", nargs="?", default="conus-1")
    parser.add_argument("--target", action="append", help="by default all ten")
    parser.add_argument("--kernel", action="store_true", help="also by a kernel of the vectors")
    options = parser.parse_args()
    table = client.example("counties")
    targets = options.target or table.attrs["targets"]
    found = differences(client.open_field(options.field), table, targets, kernel=options.kernel)
    print(found.round(3).to_string(index=False))
    for features, rows in found.groupby("features"):
        above = rows.groupby("target")["low"].min() > 0
        print(
            f"{features}: above both, with its interval, on {above.sum()} of {len(above)} targets"
        )


if __name__ == "__main__":
    main()
