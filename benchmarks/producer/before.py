"""Compare observing, a training step and raster tasks with those of another checkout, in turns.

    git worktree add ../before COMMIT
    python -m benchmarks.producer.before --other ../before            # about fifteen minutes
    python -m benchmarks.producer.before --other ../before --rounds 1 --steps 2    # a trial
    python -m benchmarks.producer.before --other ../before --only observing        # five minutes

Prints one JSON line for each figure: the median seconds here and there, their ratio (below 1 where
this checkout is faster), and the least and the largest ratio of a round. Each checkout runs its own
benchmarks and presets, in processes of their own; in every other round the other one is first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
PACKAGES = ("client", "producer", "schemas")
KINDS = ("observing", "reading", "step", "raster")
OBSERVING = """
import json, sys, time
from pathlib import Path
import torch
from benchmarks.producer import observe
torch.set_num_threads(1)
folder, seconds = Path(sys.argv[1]), []
observe.rasters(folder)
for number, count in enumerate((20, 60, 360)):
    start = time.perf_counter()
    observe.build(folder, str(number), count, 256, 0.6)
    seconds.append(time.perf_counter() - start)
location = (seconds[2] - seconds[1]) / 300
print(json.dumps([location, seconds[1] - 60 * location]))
"""
"""Seconds of one location more in a set, and of all that a set takes once; after a first set."""
RASTER = """
import argparse, sys, time
from benchmarks.producer import raster
class Done(Exception): pass
plain, seconds = raster.rasterize, []
def timed(*arguments, **options):
    start = time.perf_counter()
    plain(*arguments, **options)
    seconds.append(time.perf_counter() - start)
    if len(seconds) == 3:
        raise Done
raster.rasterize = timed
try:
    raster.growth_of(argparse.Namespace(encoder="tiny", repeat=1, folder=sys.argv[1]))
except Done:
    print(seconds[-1] / 25)
"""
"""Seconds of a shard of 64 x 64 cells in the third field of `raster growth`, of 25 shards."""


def main() -> None:
    """Print a line for each figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--other", type=Path, required=True, help="root of another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of training, timed in each round")
    parser.add_argument("--only", choices=KINDS, action="append", help="what to time; else all")
    options = parser.parse_args()
    other = options.other.resolve()
    if not (other / "benchmarks/producer/raster.py").is_file():
        parser.error(f"{other} is no checkout of unigeo")
    seconds: dict[Path, dict[str, list[float]]] = {
        checkout: defaultdict(list) for checkout in (HERE, other)
    }
    for number in range(options.rounds):
        for checkout in (HERE, other) if number % 2 == 0 else (other, HERE):
            for name, value in measure(checkout, options.only or KINDS, options.steps).items():
                seconds[checkout][name].append(value)
    for name, here in seconds[HERE].items():
        there = seconds[other][name]
        ratios = [mine / its for mine, its in zip(here, there, strict=True)]
        middle = statistics.median(here), statistics.median(there)
        line = {"what": name, "here_s": middle[0], "other_s": middle[1]}
        line |= {"ratio": middle[0] / middle[1], "from": min(ratios), "to": max(ratios)}
        rounded = {key: v if isinstance(v, str) else float(f"{v:.3g}") for key, v in line.items()}
        print(json.dumps(rounded), flush=True)


def measure(checkout: Path, kinds: Sequence[str], steps: int) -> dict[str, float]:
    """Run the benchmarks of a checkout; return seconds by what was done."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "path/unigeo")
        package.mkdir(parents=True)
        for name in PACKAGES:
            (package / name).symlink_to(checkout / name)

        def run(*arguments: str) -> str:
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=checkout,
                env=os.environ | {"PYTHONPATH": str(package.parent)},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            return done.stdout

        seconds = {}
        if "observing" in kinds:
            names = "observing a location", "observing, once for a set"
            seconds |= dict(zip(names, json.loads(run("-c", OBSERVING, folder)), strict=True))
        if "reading" in kinds:
            lines = run("-m", "benchmarks.producer.observe", "--quick").splitlines()
            rates = {line["what"]: line for line in map(json.loads, lines)}
            seconds["reading a sample of a set"] = 1 / rates["read tiny"]["set_per_s"]
        if "step" in kinds:
            report = Path(folder, "step.json")
            length = ["--steps", str(steps), "--workers", "1", "--out", str(report)]
            run("-m", "benchmarks.producer.step", "--preset", "tiny", "--device", "cpu", *length)
            seconds["a training step"] = json.loads(report.read_text())["seconds"]
        if "raster" in kinds:
            seconds["a raster task"] = float(run("-c", RASTER, folder).split()[-1])
        return seconds


if __name__ == "__main__":
    main()
