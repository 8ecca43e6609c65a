"""Measure what a search finds by fewer bytes: by overviews, and by fewer numbers of each vector.

    python -m benchmarks.fewer_numbers STORE [MODALITY ...]

For 200 cells as queries, each way's recall of the 100 cells of highest cosine in the whole field,
and the bytes of all vectors that it reads: of overviews, whose cells stand for those that they
cover; of the leading numbers, as `Field.leading` has them; of as many principal directions; and of
the levels of `search`, which hold 64 of these, if the store has them.
"""

import argparse

import numpy as np
import pandas as pd
import xarray as xr

from unigeo import client
from unigeo.schemas.errors import UnigeoError
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.quantization import FILL, dequantize, quantize
from unigeo.schemas.store.search_levels import GROUP as SEARCH
from unigeo.schemas.store.search_levels import axes_name, search_path
from unigeo.schemas.store.status import Status

QUERIES, BEST, FITTED = 200, 100, 20_000
NUMBERS = (32, 64, 128)
FACTORS = (2, 4, 8, 16)


def main() -> None:
    """Print a table for each modality."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store")
    parser.add_argument("modalities", nargs="*")
    options = parser.parse_args()
    field = client.open_field(options.store)
    for name in options.modalities or field.modalities:
        print(f"{name}\n{compare(options.store, name).round(3).to_string(index=False)}\n")


def read(field: client.Field, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit vectors of all valid cells, and which cells these are."""
    dataset = field.dataset()
    valid = dataset[status_name(name)].values == Status.VALID
    return dequantize(dataset[name].values[valid]), valid


def compare(store: str, name: str) -> pd.DataFrame:
    """Return the megabytes and the recall of each way."""
    vectors, valid = read(client.open_field(store), name)
    rng = np.random.default_rng(0)
    queries = vectors[rng.choice(len(vectors), QUERIES, replace=False)]
    best = top(vectors @ queries.T, rng)

    def row(way: str, cells: int, width: int, scores: np.ndarray) -> tuple[str, float, float]:
        found = top(scores, rng)
        shared = [len(np.intersect1d(*pair)) / BEST for pair in zip(found.T, best.T, strict=True)]
        return way, cells * width / 1e6, float(np.mean(shared))

    width = vectors.shape[1]
    rows = [("all", vectors.size / 1e6, 1.0)]
    sample = vectors[rng.choice(len(vectors), min(FITTED, len(vectors)), replace=False)]
    _, axes = np.linalg.eigh(sample.T.astype(np.float64) @ sample)
    for count in (one for one in NUMBERS if one < width):
        for way, turn in (("leading", np.eye(width)), ("directions", axes[:, ::-1])):
            turned = turn[:, :count].astype(np.float32)
            stored = dequantize(quantize(vectors @ turned))
            scores = stored @ (queries @ turned).T
            rows.append(row(f"{way} {count}", len(vectors), count, scores))
    cell_row, cell_col = np.nonzero(valid)
    for factor in FACTORS:
        try:
            coarse, coarse_valid = read(client.open_field(store, overview=factor), name)
        except UnigeoError:
            continue
        number = np.zeros(coarse_valid.shape, int)
        number[coarse_valid] = np.arange(len(coarse))
        scores = (coarse @ queries.T)[number[cell_row // factor, cell_col // factor]]
        rows.append(row(f"overview {factor}", len(coarse), width, scores))
    for factor in (1, *FACTORS):
        try:
            numbers = xr.open_zarr(store, group=search_path(factor), chunks=None)[name].values
            axes = xr.open_zarr(store, group=SEARCH, chunks=None)[axes_name(name)].values
        except (FileNotFoundError, KeyError):
            continue
        few = numbers[..., 0] != FILL
        number = np.zeros(few.shape, int)
        number[few] = np.arange(few.sum())
        scores = dequantize(numbers[few]) @ (queries @ axes.T).T
        scores = scores[number[cell_row // factor, cell_col // factor]]
        rows.append(row(f"search {factor}", int(few.sum()), axes.shape[0], scores))
    return pd.DataFrame(rows, columns=["way", "MB", "recall"])


def top(scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the cells of highest score for each query; of equal ones any."""
    jittered = scores + 1e-7 * rng.random(scores.shape, np.float32)
    return np.argpartition(-jittered, BEST, axis=0)[:BEST]


if __name__ == "__main__":
    main()
