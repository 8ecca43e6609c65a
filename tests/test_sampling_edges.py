"""A point on the edge of cells is read as xarray's `.sel(method="nearest")` reads it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sampling import by_xarray

from unigeo import client
from unigeo.schemas.geo.grid import Grid

pytestmark = pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.PointsWarning")
CRS = "EPSG:8857"
places = st.tuples(
    st.integers(-1, 65),  # of a cell's western or northern edge; one beyond either border
    st.sampled_from([0.0, 0.25, 0.5]) | st.floats(0, 1),
    st.sampled_from([0, -1, 1]),  # a step to the next number below or above
)


def metres(chosen: list[tuple[int, float, int]], first: int, size: float) -> np.ndarray:
    """Eastings, or northings from north to south, at shares of cells."""
    values = np.array([(first + cell + share) * size for cell, share, _ in chosen])
    steps = np.array([step for _, _, step in chosen])
    return np.where(steps == 0, values, np.nextafter(values, values + steps))


@given(
    size=st.sampled_from([10_000.0, 250.0, 1000 / 3, 0.7]) | st.floats(1e-2, 1e6),
    first=st.tuples(st.integers(-20_000, 20_000), st.integers(-20_000, 20_000)),
    rows=st.lists(places, min_size=1, max_size=30),
)
def test_the_cell_is_the_one_that_pandas_finds_nearest(
    size: float, first: tuple[int, int], rows: list[tuple[int, float, int]]
) -> None:
    grid = Grid(CRS, size, *first, (64, 64))
    x, y = metres(rows, first[1], size), -metres(rows[::-1], first[0], size)
    near = [pd.Index(c).get_indexer(m, method="nearest") for c, m in ((grid.y, y), (grid.x, x))]
    within = (y - grid.y[0] <= size / 2) & (grid.y[-1] - y <= size / 2)
    within &= (grid.x[0] - x <= size / 2) & (x - grid.x[-1] <= size / 2)
    rowcol, inside = grid.locate_m(x, y)
    assert np.array_equal(inside, within)
    assert np.array_equal(rowcol[inside], np.stack(near, -1)[within])
    assert (rowcol[~inside] == -1).all()


@settings(max_examples=15)
@given(st.lists(st.tuples(places, places), min_size=1, max_size=20))
def test_points_in_the_store_s_own_crs_are_plain_xarray_bit_for_bit(
    gulf: Path, chosen: list[tuple[Any, Any]]
) -> None:
    field, dataset = client.open_field(gulf), xr.open_zarr(gulf, chunks=None)
    grid = field.grid
    x = metres([col for _, col in chosen], grid.col0, grid.resolution_m)
    y = -metres([row for row, _ in chosen], grid.row0, grid.resolution_m)
    stored = by_xarray(dataset, "aerial", x, y)
    given_crs: tuple[Any, ...] = (
        grid.crs,
        int(grid.crs[5:]),
        dataset["spatial_ref"].attrs["crs_wkt"],
    )
    xy = np.stack([x, y], -1)
    for crs in given_crs:
        sampled = field.sample(xy, "aerial", as_="numpy", dtype="int8", crs=crs)
        assert np.array_equal(sampled["aerial"], stored)
    lazy = field.sample(xy, "aerial", as_="xarray", lazy=True, dtype="int8", crs=grid.crs)
    assert np.array_equal(lazy["aerial"].values, stored)
    for method in ("bilinear", "bicubic"):
        mixed = field.sample(xy, "aerial", as_="numpy", method=method, crs=grid.crs)["aerial"]
        assert np.array_equal(np.isnan(mixed[:, 0]), stored[:, 0] == -128)


def test_a_point_on_a_corner_belongs_to_the_north_eastern_cell() -> None:
    grid = Grid(CRS, 10_000.0, 0, 0, (4, 4))
    rowcol, inside = grid.locate_m(
        np.array([20_000.0, 0.0, 40_000.0]), -np.array([20_000.0, 0, 40_000])
    )
    assert inside.all()
    assert rowcol.tolist() == [[1, 2], [0, 0], [3, 3]]


def test_a_dataset_s_own_cells_are_points(gulf: Path) -> None:
    """Stacked, or chosen by `.sel`, they carry the CRS of the store."""
    field, dataset = client.open_field(gulf), xr.open_zarr(gulf, chunks=None)
    part = dataset[["aerial"]].isel(y=slice(20, 40), x=slice(25, 45))
    stacked = part.stack(point=("y", "x"))
    sampled = field.sample(stacked, "aerial", as_="numpy", dtype="int8")["aerial"]
    assert np.array_equal(sampled, stacked["aerial"].transpose("point", "band").values)
    at = {axis: xr.DataArray(part[axis].values[[3, 5, 3]], dims="p") for axis in ("x", "y")}
    chosen = dataset.sel(at, method="nearest")
    sampled = field.sample(chosen, "aerial", as_="numpy", dtype="int8")["aerial"]
    assert np.array_equal(sampled, chosen["aerial"].transpose("p", "band").values)
