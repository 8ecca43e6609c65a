"""Time probes of vectors and position beside plain probes of the same data, as ratios in one run.

    python -m benchmarks.client.spatial_probes                     # 3,000 and 26,000 rows
    python -m benchmarks.client.spatial_probes --rows 3000 --bands 128 --rounds 3

Three modalities and all joined, two targets, random and blocked folds, all baselines and intervals.
Plain and spatial probes take turns; the ratio of each pair is taken, and the median printed, of the
time on the wall and of the processor's time, which other work on the machine disturbs less.
"""

import argparse
import time
from collections.abc import Sequence
from statistics import median

from benchmarks.client.probes import MODALITIES, positions, targets, vectors
from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.feature_rows import FeatureRows, JoinedRows
from unigeo.client.probing.spatial_option import Spatial


def measure(rows: int, bands: int, rounds: int) -> str:
    """Return a row of the table: rows, bands, seconds of the plain probe, and the ratios."""
    sets: dict[str, FeatureRows] = {
        name: vectors(rows, bands, number) for number, name in enumerate(MODALITIES)
    }
    truth = targets(sets["coordinate"], 9) + targets(sets["dsm"], 10)  # type: ignore[arg-type]
    sets["joined"] = JoinedRows(list(sets.values()))
    named = {"a": truth[:, 0], "b": truth[:, 1]}

    def seconds(spatial: Spatial | None) -> tuple[float, float]:
        wall, used = time.perf_counter(), time.process_time()
        probe_table(sets, named, positions(rows), spatial=spatial, progress=False)
        return time.perf_counter() - wall, time.process_time() - used

    seconds(None)  # imports, and the first touch of memory
    pairs = [(seconds(None), seconds("residuals")) for _ in range(rounds)]
    plain = [median(plain[clock] for plain, _ in pairs) for clock in (0, 1)]
    ratio = [median(both[clock] / plain[clock] for plain, both in pairs) for clock in (0, 1)]
    return (
        f"| {rows:,} | {bands * len(MODALITIES):,} | {plain[0]:.1f} | {plain[1]:.1f} "
        f"| {ratio[0]:.2f} | {ratio[1]:.2f} |"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sizes that are asked for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[3_000, 26_000])
    parser.add_argument("--bands", type=int, default=768, help="bands of each modality")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    print("| rows | bands joined | plain, s | plain, CPU s | ratio | ratio of CPU |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for rows in options.rows:
        print(measure(rows, options.bands, options.rounds), flush=True)


if __name__ == "__main__":
    main()
