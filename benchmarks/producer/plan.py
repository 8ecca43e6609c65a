"""Compare what a run says it will take with what it takes, over four kinds of run.

    python -m benchmarks.producer.plan               # about four minutes on two idle cores
    python -m benchmarks.producer.plan --steps 40    # with shorter trainings, about two
    python -m benchmarks.producer.plan --clock cpu   # where other programs use the machine, too

Prints one JSON line for each run: seconds predicted and taken, of the whole and of each stage, and
their ratio. Goal: within 20 %. With `--clock cpu` both are seconds of the processor, which other
programs do not lengthen much.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.pipeline import forecast as forecasts
from unigeo.producer.pipeline.pipeline import carry_out, choose
from unigeo.producer.publishing import rehearsal
from unigeo.producer.raster import cost_estimate, local_executor
from unigeo.producer.raster.run import ExecutionOptions
from unigeo.producer.training import train, training_cost
from unigeo.schemas.geo.region_forms import read_region

COLORADO = (-106.0, 37.0, -102.0, 41.0)
RUNS: dict[str, dict[str, Any]] = {
    "a training and a coarse field": {"steps": 150, "resolution_m": 20_000},
    "a training alone": {"steps": 150, "resolution_m": 50_000, "modalities": "coordinate"},
    "a finished model, coordinates": {"resolution_m": 5_000, "modalities": "coordinate"},
    "a finished model, images": {"resolution_m": 10_000, "region": COLORADO, "seed": 1},
}
"""Options of each run; one without steps uses the model of the first."""
_TIMED = (forecasts, rehearsal, cost_estimate, local_executor, training_cost, train)


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--steps", type=int, help="of each training")
    chosen = parser.parse_args()
    if chosen.clock == "cpu":
        clock = SimpleNamespace(perf_counter=time.process_time, monotonic=time.process_time)
        for module in _TIMED:
            module.time = clock  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        model = None
        for number, (name, options) in enumerate(RUNS.items()):
            if chosen.steps is not None and "steps" in options:
                options = options | {"steps": chosen.steps}
            out = str(Path(folder, str(number), "field.zarr"))
            predicted, taken = measure(out, model, **options)
            if model is None:
                model = str(Path(folder, str(number), "model"))
            ratio = sum(predicted.values()) / sum(taken.values())
            stages = {
                stage: [round(predicted[stage], 1), round(taken[stage], 1)]
                for stage in forecasts.STAGES
            }
            print(
                json.dumps({"run": name, "predicted / taken": round(ratio, 2)} | stages), flush=True
            )


def measure(
    out: str, model: str | None, region: Any = "conus", **options: Any
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds of each stage as predicted, and as taken."""
    observations = World()
    if "steps" in options:
        options["model_out"] = str(Path(out).with_name("model"))
    else:
        options["model"] = model
    run = choose(read_region(region), observations, out=out, **options)
    predicted = forecasts.forecast(run, observations).seconds
    assert predicted is not None
    taken: dict[str, float] = {}
    compare = forecasts.compare_times

    def note(times: Any, _: Any) -> str:
        taken.update(times)
        return compare(times, predicted)

    pipeline = __import__("unigeo.producer.pipeline.pipeline", fromlist=["compare_times"])
    pipeline.compare_times = note
    progress = ExecutionOptions(progress=False)
    for _ in carry_out(run, observations, options=progress, predicted=predicted):
        pass
    return dict(predicted), taken


if __name__ == "__main__":
    main()
