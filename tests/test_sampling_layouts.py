"""Whole fields of drawn grids, layouts and gaps, sampled as plain xarray does."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from support import stores

from unigeo import client
from unigeo.producer.publishing.publish import publish
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.quantization import FILL, dequantize
from unigeo.schemas.store.status import Status

pytestmark = pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.PointsWarning")

grids = st.fixed_dictionaries(
    {
        "crs": st.sampled_from(["EPSG:8857", "EPSG:8858", "EPSG:8859"]),
        "resolution_m": st.sampled_from([250.0, 10_000.0, 33_333.3]),
        "corner": st.tuples(st.integers(-3, 1), st.integers(-3, 1)),
        "shards": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "chunk": st.sampled_from([2, 4, 8]),
        "chunks": st.integers(1, 3),
        "bands": st.integers(1, 9),
        "width": st.none() | st.integers(1, 9),
        "name": st.sampled_from(["aerial", "night-lights"]),
        "codec": st.sampled_from(["none", "zstd"]),
        "empty_shards": st.floats(0, 1),
        "empty_cells": st.sampled_from([0.0, 0.2, 0.95]),
        "seed": st.integers(0, 2**32 - 1),
    }
)
"""A grid near the middle of its map, a layout, and how many shards and cells are empty."""


def grid_and_layout(drawn: dict[str, Any]) -> tuple[Grid, Layout]:
    shard = drawn["chunk"] * drawn["chunks"]
    (row, col), (rows, cols) = drawn["corner"], drawn["shards"]
    grid = Grid(
        drawn["crs"], drawn["resolution_m"], row * shard, col * shard, (rows * shard, cols * shard)
    )
    layout = Layout(
        modalities=(drawn["name"],),
        bands=drawn["bands"],
        widths={drawn["name"]: drawn["width"] or drawn["bands"]},
        shard=shard,
        chunk=drawn["chunk"],
        codec=drawn["codec"],
    )
    return grid, layout


def build(path: Path, drawn: dict[str, Any]) -> None:
    grid, layout = grid_and_layout(drawn)
    rng, name = np.random.default_rng(drawn["seed"]), drawn["name"]
    width = layout.width(name)
    attributes = stores.attributes_of(stores.GULF, grid, layout)
    group: Any = create_field(path, grid, layout, attributes)
    for window in grid.windows(layout.shard):
        shape = (window.height, window.width)
        status = rng.choice([2, 3, 4, 5], shape).astype(np.uint8)
        if rng.random() >= drawn["empty_shards"]:
            status[rng.random(shape) >= drawn["empty_cells"]] = Status.VALID
        vectors = rng.integers(-127, 128, (*shape, width)).astype(np.int8)
        vectors[..., rng.integers(width)] = 127
        vectors[status != Status.VALID] = FILL
        if (status == Status.VALID).any():
            group[name][window.slices] = vectors
        group[f"{name}_status"][window.slices] = status
    publish(group)


@settings(max_examples=15)
@given(grids, st.integers(0, 80))
def test_any_field_is_sampled_as_plain_xarray_does(drawn: dict[str, Any], count: int) -> None:
    grid, _ = grid_and_layout(drawn)
    rng, name = np.random.default_rng(drawn["seed"] + 1), drawn["name"]
    west, south, east, north = grid.bounds
    margin = 0.2 * max(east - west, north - south)
    x = rng.uniform(west - margin, east + margin, count)
    y = rng.uniform(south - margin, north + margin, count)
    to_map = Transformer.from_crs("OGC:CRS84", grid.crs, always_xy=True)
    lonlat = np.stack(to_map.transform(x, y, direction="INVERSE"), axis=-1).reshape(-1, 2)
    inside = (x > west) & (x < east) & (y > south) & (y < north)
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder) / "field.zarr", drawn)
        dataset = xr.open_zarr(Path(folder) / "field.zarr", chunks=None)
        at = {"x": xr.DataArray(x, dims="point"), "y": xr.DataArray(y, dims="point")}
        near = dataset.sel(at, method="nearest")
        stored = np.where(inside[:, None], near[name].values, np.int8(FILL))
        status = np.where(inside, near[f"{name}_status"].values, np.uint8(Status.OUTSIDE_REGION))
        field = client.open_field(Path(folder) / "field.zarr")
        for one in (field, dataset.unigeo, xr.open_zarr(Path(folder) / "field.zarr").unigeo):
            raw = one.sample(lonlat, as_="numpy", dtype="int8")[name]
            assert np.array_equal(raw, stored)
        sampled = field.sample(lonlat, as_="xarray")
        assert np.array_equal(sampled[name], dequantize(stored), equal_nan=True)
        valid = stored[:, 0] != FILL
        assert np.array_equal(sampled[f"{name}_status"] == Status.VALID, valid)
        assert np.array_equal(sampled[f"{name}_status"].values[~valid], status[~valid])
