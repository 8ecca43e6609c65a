"""Time plain xarray with different options of opening a field.

    python -m benchmarks.client.opening conus/conus.zarr

Reads one shard's vectors (256 x 256 cells of the first modality) from each opening; seconds are the
least of five turns, page cache warm, and relative to `chunks=None`.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
import zarr

TURNS = 5
BLOCK = 256


def ways(url: str, window: dict[str, slice], name: str) -> dict[str, Callable[[], np.ndarray]]:
    """Return functions by name that open the field and read the window."""

    def read(transposed: bool = False, **options: Any) -> np.ndarray:
        vectors = xr.open_zarr(url, **options)[name].isel(window)
        if transposed:
            vectors = vectors.transpose(..., "y", "x")
        return np.asarray(vectors.values)

    return {
        "chunks=None": lambda: read(chunks=None),
        'chunks={"y": 256, "x": 256}': lambda: read(chunks={"y": BLOCK, "x": BLOCK}),
        "default": read,
        "chunks=None, bands first before loading": lambda: read(True, chunks=None),
        "default, bands first before loading": lambda: read(True),
    }


def fullest(url: str, name: str) -> dict[str, slice]:
    """Return the window of the shard with the most vectors."""
    manifest: Any = zarr.open_group(url, mode="r")["manifest"]
    valid = np.asarray(manifest[f"{name}_valid_cells"][...])
    row, col = np.unravel_index(int(valid.argmax()), valid.shape)
    side = xr.open_zarr(url, chunks=None).attrs["unigeo"]["layout"]["shard"]
    return {"y": slice(row * side, (row + 1) * side), "x": slice(col * side, (col + 1) * side)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    url = parser.parse_args().store
    name = xr.open_zarr(url, chunks=None).attrs["unigeo"]["layout"]["modalities"][0]
    window = fullest(url, name)
    openings = ways(url, window, name)
    least = dict.fromkeys(openings, float("inf"))
    for _ in range(TURNS):  # in turn, so that a busy machine is busy for all
        for label, read in openings.items():
            start = time.perf_counter()
            read()
            least[label] = min(least[label], time.perf_counter() - start)
    for label, seconds in least.items():
        print(f"{label:<42} {seconds:8.3f} s  {seconds / least['chunks=None']:6.1f} times")


if __name__ == "__main__":
    main()
