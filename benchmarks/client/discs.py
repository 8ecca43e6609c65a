"""Time means over small discs: their geometry beside exactextract's, their reading beside points'.

    python -m benchmarks.client.discs STORE --discs 100000

The discs have half a cell as radius and lie anywhere on the field. Each round takes three or four
turns: the discs' shares of cells alone; exactextract on the same discs, as polygons that are ready
(`pip install exactextract`; else left out); `field.sample` over the discs; and `field.sample` at as
many points as the discs touch cells. Reading is what sampling takes beyond the geometry. Prints a
line of JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyproj
from jaxtyping import Float

from unigeo import client
from unigeo.client.reading.sampling import order_by_block
from unigeo.client.shapes.coverage import Cover, cover_grid
from unigeo.client.shapes.discs import VERTICES, disc_outlines
from unigeo.client.shapes.outlines import Outlines
from unigeo.schemas.geo.grid import Grid

_BATCH = 1024
"""Discs of one batch, as `field.sample` has them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--discs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    field = client.open_field(options.store)
    modality, grid = field.modalities[0], field.grid
    radius_m = grid.resolution_m / 2
    discs = _points(grid, options.discs, seed=0)
    touched = sum(len(part.share) for part in _shares(discs, radius_m, grid))
    points = _points(grid, touched, seed=1)
    turns: dict[str, Callable[[], Any]] = {
        "geometry": lambda: sum(part.share.sum() for part in _shares(discs, radius_m, grid)),
        "exactextract": _exactextract(discs, radius_m, grid),
        "discs": lambda: field.sample(discs, modality, radius_m=radius_m, as_="numpy"),
        "points": lambda: field.sample(points, modality, as_="numpy"),
    }
    turns = {name: turn for name, turn in turns.items() if turn is not None}
    for name in ("discs", "points"):
        turns[name]()  # the first reading maps the files
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    cpu: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(options.rounds):
        for name, turn in turns.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            turn()
            seconds[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - cpu_start)
    medians, cpu_medians = (
        {name: round(statistics.median(each), 3) for name, each in measured.items()}
        for measured in (seconds, cpu)
    )
    found = {
        "discs": options.discs,
        "cells": touched,
        "bands": field.layout.width(modality),
        "seconds": medians,
        "cpu_seconds": cpu_medians,
        "rounds": options.rounds,
    }
    print(json.dumps(found))


def _points(grid: Grid, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
    """Draw points anywhere on the field, sorted as `field.sample` sorts them."""
    cell = np.random.default_rng(seed).uniform(1, np.array(grid.shape) - 1, (count, 2))
    cell = cell[order_by_block(cell)]
    x = (grid.col0 + cell[:, 1]) * grid.resolution_m
    y = -(grid.row0 + cell[:, 0]) * grid.resolution_m
    to_wgs84 = pyproj.Transformer.from_crs(grid.crs, "OGC:CRS84", always_xy=True)
    return np.stack(to_wgs84.transform(x, y), axis=-1)


def _outlines(discs: np.ndarray, radius_m: float, grid: Grid) -> Iterator[Outlines]:
    for first in range(0, len(discs), _BATCH):
        yield disc_outlines(discs[first : first + _BATCH], radius_m, grid)


def _shares(discs: np.ndarray, radius_m: float, grid: Grid) -> Iterator[Cover]:
    """Yield the discs' shares of cells."""
    for outlines in _outlines(discs, radius_m, grid):
        yield from cover_grid(outlines, grid)


def _exactextract(discs: np.ndarray, radius_m: float, grid: Grid) -> Callable[[], Any] | None:
    """Return a function that gets the same shares from exactextract; None if it is missing."""
    try:
        import geopandas
        import shapely
        from exactextract import exact_extract
        from exactextract.raster import NumPyRasterSource
    except ImportError:
        return None
    starts = [one.start.reshape(-1, VERTICES, 2) for one in _outlines(discs, radius_m, grid)]
    rows, cols = np.moveaxis(np.concatenate(starts), -1, 0)
    xy = np.stack([grid.col0 + cols, -(grid.row0 + rows)], axis=-1) * grid.resolution_m
    frame = geopandas.GeoDataFrame(geometry=shapely.polygons(xy), crs=grid.crs)
    wkt = pyproj.CRS(grid.crs).to_wkt()
    raster = NumPyRasterSource(np.ones(grid.shape, np.float32), *grid.bounds, srs_wkt=wkt)
    return lambda: exact_extract(raster, frame, ["cell_id", "coverage"], output="pandas")


if __name__ == "__main__":
    main()
