"""Measure what it costs to ask for many similar cells.

    python -m benchmarks.similar STORE

Seconds of `Field.similar` for 10 and for 3,000 cells without a distance between them, and their
ratio: medians of runs that take turns, so that both see the same machine.
"""

import argparse
import time

import numpy as np

from unigeo import client

FEW, MANY = 10, 3_000
RUNS = 5


def main() -> None:
    """Print both medians and their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store")
    parser.add_argument("--at", nargs=2, type=float, default=(-105.0, 39.5), metavar="LON LAT")
    options = parser.parse_args()
    field = client.open_field(options.store)
    modality = field.default_modalities[0]
    seconds: dict[int, list[float]] = {FEW: [], MANY: []}
    for run in range(RUNS + 1):
        for count, taken in seconds.items():
            start = time.process_time()
            found = field.similar(tuple(options.at), modality, count=count, apart_km=0)
            if run:  # the first fills caches
                taken.append(time.process_time() - start)
            assert len(found) == count
    few, many = (float(np.median(seconds[count])) for count in (FEW, MANY))
    print(f"{modality}: {FEW} cells {few:.3f} s of CPU, {MANY:,} cells {many:.3f} s")
    print(f"ratio {many / few:.2f}")


if __name__ == "__main__":
    main()
