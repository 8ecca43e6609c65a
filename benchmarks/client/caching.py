"""Count what the cache on disk saves over a slow link.

    python -m benchmarks.client.caching conus/conus.zarr

Serves the store at 30 ms and 50 MB/s, and reads 1,000 points of its first default modality without
a cache, with an empty one, and again, each time with a newly opened field.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.client.link import StoreLink
from unigeo import client
from unigeo.schemas.geo.bounds import grid_bounds

LATENCY_S, RATE_BYTES_S, POINTS = 0.03, 50e6, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    store = parser.parse_args().store
    with (
        tempfile.TemporaryDirectory() as folder,
        StoreLink(store, latency_s=LATENCY_S, bytes_per_s=RATE_BYTES_S) as link,
    ):
        field = client.open_field(link.url, cache=False)
        west, south, east, north = grid_bounds(field.grid)
        lonlat = np.random.default_rng(0).uniform((west, south), (east, north), (POINTS, 2))
        read = {}
        for label, cache in (("no cache", False), ("empty cache", folder), ("again", folder)):
            link.counts()
            start = time.perf_counter()
            opened = client.open_field(link.url, cache=cache)
            read[label] = opened.sample(lonlat, opened.default_modalities[0], as_="numpy")
            seconds = time.perf_counter() - start
            counts = link.counts()
            print(
                f"{label:<12} {counts['requests']:6.0f} requests {counts['bytes']:12,.0f} bytes "
                f"{seconds:7.2f} s"
            )
        name = opened.default_modalities[0]
        assert all(
            np.array_equal(one[name], read["no cache"][name], equal_nan=True)
            for one in read.values()
        )


if __name__ == "__main__":
    main()
