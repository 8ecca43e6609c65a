"""Time `field.sample_batches` over many points, and its memory beyond that of the points.

    python -m benchmarks.client.many conus/conus.zarr --points 10000000

Prints a JSON line.
"""

import argparse
import json
import resource
import time

import numpy as np

from unigeo import client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=100_000)
    options = parser.parse_args()
    field = client.open_field(options.store)
    modality = field.modalities[0]
    corners = field.grid.centres()[:: field.grid.shape[0] - 1, :: field.grid.shape[1] - 1]
    low, high = np.nanmin(corners, axis=(0, 1)), np.nanmax(corners, axis=(0, 1))
    lonlat = np.random.default_rng(0).uniform(low, high, (options.points, 2))
    field.sample(lonlat[: options.batch], modality, as_="numpy")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, cpu, read = time.perf_counter(), time.process_time(), 0
    for part in field.sample_batches(lonlat, modality, batch=options.batch, as_="numpy"):
        read += len(part[modality])
    print(
        json.dumps(
            {
                "points": read,
                "bands": field.bands,
                "batch": options.batch,
                "seconds": round(time.perf_counter() - start, 2),
                "cpu_seconds": round(time.process_time() - cpu, 2),
                "peak_beyond_one_batch_mb": round(
                    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before, 1
                ),
            }
        )
    )


if __name__ == "__main__":
    main()
