"""Time probes beside scikit-learn's RidgeCV, and measure their memory.

    python -m benchmarks.client.probes                        # about 12 minutes on two cores
    python -m benchmarks.client.probes --only wide --out docs/probes.json
    python -m benchmarks.client.probes --report docs/probes.json     # prints the table again

`wide`, `tall`: a probe of three modalities of 768 bands and of all joined, two targets, random and
blocked folds, baselines and intervals, at 3,000 and 26,000 rows; and in a process of its own, right
after, `RidgeCV` with the same penalties and its leave-one-out default in float64, on the five
blocked folds of the 2,304 bands alone. `long`: 256 bands without baselines at 26,000 and 1,000,000
rows, whose vectors stand in a file. What takes a minute is measured three times in turn, and the
median counts. Vectors are of rank 100 with noise, of length 1, float32.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.client.reporting import machine
from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.feature_rows import FileRows, JoinedRows
from unigeo.client.probing.folds import blocked_folds, spatial_blocks
from unigeo.client.probing.ridge import PENALTIES

MODALITIES, BANDS, RANK = ("coordinate", "aerial", "dsm"), 768, 100
SIZES = {"wide": 3_000, "tall": 26_000}
GOALS = {"wide": 1 / 4, "tall": 1 / 3}
ROUNDS = {"wide": 3, "tall": 1, "long": 3}
"""Runs of each side in turn; the one of median time counts."""
LONG_BANDS, LONG_ROWS = 256, (26_000, 1_000_000)
_BLOCK = 20_000


def positions(rows: int) -> np.ndarray:
    """Draw longitudes and latitudes over the contiguous United States."""
    rng = np.random.default_rng(1)
    return np.stack([rng.uniform(-120, -75, rows), rng.uniform(30, 48, rows)], axis=1)


def vectors(rows: int, bands: int, seed: int) -> np.ndarray:
    """Draw unit vectors of rank 100 with noise, float32."""
    mixing = np.random.default_rng(0).standard_normal((RANK, bands), np.float32) * 0.3
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((rows, RANK), np.float32) @ mixing
    found += rng.standard_normal((rows, bands), np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def targets(values: np.ndarray, seed: int) -> np.ndarray:
    """Draw two targets that depend on the vectors in part."""
    slopes = np.random.default_rng(7).standard_normal((values.shape[1], 2)).astype(np.float32)
    noise = np.random.default_rng(seed).standard_normal((len(values), 2))
    return values @ slopes + 0.7 * noise


def probe(rows: int) -> dict[str, Any]:
    """Probe three modalities and all joined, as `Field.probe` scores them."""
    sets: dict[str, Any] = {
        name: vectors(rows, BANDS, number) for number, name in enumerate(MODALITIES)
    }
    truth = targets(sets["coordinate"], 9) + targets(sets["dsm"], 10)
    sets["joined"] = JoinedRows(list(sets.values()))
    found: dict[str, Any] = {}

    def work() -> None:
        scores = probe_table(sets, {"a": truth[:, 0], "b": truth[:, 1]}, positions(rows))
        joined = scores[(scores["features"] == "joined") & (scores["split"] == "blocked")]
        found["r2"] = joined["r2"].round(4).tolist()
        found["coverage"] = joined["coverage_90"].round(3).tolist()

    return _measured(work) | found


def ridge_cv(rows: int) -> dict[str, Any]:
    """Fit scikit-learn's RidgeCV on the blocked folds of all bands joined."""
    from sklearn.linear_model import RidgeCV

    parts = [vectors(rows, BANDS, number) for number in range(len(MODALITIES))]
    truth = targets(parts[0], 9) + targets(parts[2], 10)
    values = np.concatenate(parts, axis=1).astype(np.float64)
    del parts
    folds = blocked_folds(spatial_blocks(positions(rows), 300.0))
    guess = np.empty_like(truth)

    def work() -> None:
        for fold in range(5):
            train = folds != fold
            model = RidgeCV(alphas=[penalty * train.sum() for penalty in PENALTIES])
            guess[~train] = model.fit(values[train], truth[train]).predict(values[~train])

    found = _measured(work)
    errors = ((truth - guess) ** 2).sum(axis=0) / ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    return found | {"r2": (1 - errors).round(4).tolist()}


def long_probe(rows: int) -> dict[str, Any]:
    """Probe vectors in a file, without baselines."""
    filed, truth = FileRows(), []
    for number, start in enumerate(range(0, rows, _BLOCK)):
        block = vectors(min(_BLOCK, rows - start), LONG_BANDS, number)
        filed.append(block)
        truth.append(targets(block, 1000 + number))
    both = np.concatenate(truth)

    def work() -> None:
        named = {"a": both[:, 0], "b": both[:, 1]}
        probe_table({"vectors": filed}, named, positions(rows), baselines=False)

    return _measured(work)


def _measured(work: Callable[[], None]) -> dict[str, Any]:
    """Return wall and CPU seconds without imports, and the peak of memory of the process."""
    import sklearn.ensemble
    import sklearn.linear_model
    import sklearn.neighbors  # noqa: F401

    start, cpu = time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "probe": probe,
    "RidgeCV": ridge_cv,
    "long": long_probe,
}


def run(part: str, rows: int) -> dict[str, Any]:
    """Run one measurement in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.client.probes", "--part", part, str(rows)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{part}, {rows:,} rows: {found}", flush=True)
    return found


def in_turn(sides: Mapping[str, tuple[str, int]], rounds: int) -> dict[str, Any]:
    """Measure sides in turn, and return each side's run of median time."""
    every = [{name: run(*side) for name, side in sides.items()} for _ in range(rounds)]
    ordered = {name: sorted((r[name] for r in every), key=lambda r: r["seconds"]) for name in sides}
    return {name: runs[rounds // 2] for name, runs in ordered.items()}


def section(found: dict[str, Any]) -> str:
    """Return the figures as a section of `docs/performance.md`."""
    on = found["machine"]
    return (
        f"\n## Probes\n\n`python -m benchmarks.client.probes`; {on['cpu']}, {on['cores']} cores, "
        f"load {found['load']:.1f} at the end. A probe scores three modalities and all joined, two "
        "targets, random and blocked folds, baselines and intervals; RidgeCV fits the five blocked "
        f"folds of all joined alone, with the same penalties; the median of three runs in turn, "
        "but for 26,000 rows, measured once.\n\n{report(found['results'])}\n"
    )


def report(results: dict[str, Any]) -> str:
    """Return the figures beside their goals."""
    lines = ["| case | probe, s | RidgeCV, s | ratio | bar | peak, MB | R2 blocked | RidgeCV's |"]
    lines.append("| --- | --: | --: | --: | --: | --: | --- | --- |")
    for case in SIZES:
        if case in results:
            ours, theirs = results[case]["probe"], results[case]["RidgeCV"]
            ratio = ours["seconds"] / theirs["seconds"]
            lines.append(
                f"| {SIZES[case]:,} x 3 x {BANDS} and joined | {ours['seconds']} | "
                f"{theirs['seconds']} | {ratio:.3f} | {GOALS[case]:.2f} | {ours['peak_mb']} | "
                f"{ours['r2']} | {theirs['r2']} |"
            )
    if "long" in results:
        few, many = (results["long"][str(rows)] for rows in LONG_ROWS)
        each = [1e6 * f["seconds"] / rows for f, rows in zip((few, many), LONG_ROWS, strict=True)]
        lines.append(
            f"\n{LONG_BANDS} bands without baselines: {each[0]:.0f} µs a row at {LONG_ROWS[0]:,} "
            f"rows, {each[1]:.0f} at {LONG_ROWS[1]:,} (bar: no more); peak {few['peak_mb']} and "
            f"{many['peak_mb']} MB, the vectors {4 * LONG_BANDS * LONG_ROWS[1] / 1e6:.0f} MB in a "
            "file"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=[*SIZES, "long"], default=[*SIZES, "long"])
    parser.add_argument("--out", type=Path, help="JSON file; cases not run now stay in it")
    parser.add_argument("--report", type=Path, help="print the table of such a file")
    parser.add_argument("--part", nargs=2, metavar=("PART", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.report:
        print(report(json.loads(options.report.read_text())["results"]))
        return
    if options.part:
        print(json.dumps(PARTS[options.part[0]](int(options.part[1]))))
        return
    results: dict[str, Any] = {}
    for case in options.only:
        if case == "long":
            sides = {str(rows): ("long", rows) for rows in LONG_ROWS}
        else:
            sides = {part: (part, SIZES[case]) for part in ("probe", "RidgeCV")}
        results[case] = in_turn(sides, ROUNDS[case])
    if options.out:
        earlier = json.loads(options.out.read_text())["results"] if options.out.exists() else {}
        found = {"machine": machine(), "load": os.getloadavg()[0], "results": earlier | results}
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(report(results))


if __name__ == "__main__":
    main()
