from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from unigeo import client
from unigeo.client.reading.cell_protocol import WindowCells
from unigeo.client.reading.point_status import NO_POSITION
from unigeo.client.reading.sampling import Method, Modality, sample
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, Grid
from unigeo.schemas.geo.projection import equal_earth_m
from unigeo.schemas.store.quantization import FILL, dequantize
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

pytestmark = pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.PointsWarning")


def in_memory(arrays: dict[str, np.ndarray], name: str, grid: Grid) -> Modality:
    """A modality whose arrays are numpy's."""
    cells = {
        key: WindowCells(
            lambda rows, cols, key=key: arrays[key][rows, cols],
            arrays[key].shape[2] if arrays[key].ndim == 3 else 1,
            arrays[key].dtype,
            (32, 32),
            (8, 8),
        )
        for key in (name, name + "_status")
    }
    return Modality(name, grid, cells[name], cells[name + "_status"])


gulf_lonlats = st.lists(st.tuples(st.floats(-30, 35), st.floats(-25, 28)), max_size=40)
fiji_lonlats = st.lists(
    st.tuples(st.floats(176, 183).map(lambda lon: (lon + 180) % 360 - 180), st.floats(-21, -14)),
    max_size=40,
)
anywhere = st.lists(st.tuples(st.floats(-180, 180), st.floats(-90, 90)), max_size=10)


def by_xarray(dataset: xr.Dataset, name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Stored vectors by plain `.sel(method='nearest')`, and no data where it is too far."""
    half = abs(float(dataset["x"][1] - dataset["x"][0])) / 2
    points = {"x": xr.DataArray(x, dims="point"), "y": xr.DataArray(y, dims="point")}
    near = dataset[name].sel(points, method="nearest")
    off = (np.abs(near["x"] - x) > half) | (np.abs(near["y"] - y) > half)
    return np.where(off.values[:, None], FILL, near.transpose("point", "band").values)


def on_an_edge(grid: Grid, lonlat: np.ndarray) -> np.ndarray:
    """Points so near the edge of two cells that either may be taken."""
    exact = grid.position_m(*equal_earth_m(lonlat, CENTRAL_MERIDIANS[grid.crs]))
    return (np.abs(exact - np.rint(exact)) < 1e-9).any(axis=1)


@given(near=gulf_lonlats, far=anywhere)
@example(near=[(0.0, 0.0)], far=[(180.0, 0.0), (-180.0, 0.0), (0.0, 90.0), (0.0, -90.0)])
@example(near=[], far=[])
def test_nearest_is_plain_xarray_bit_for_bit(
    gulf: Path, near: list[tuple[float, float]], far: list[tuple[float, float]]
) -> None:
    check_nearest(gulf, ("coordinate", "aerial"), np.array(near + far).reshape(-1, 2))


@given(near=fiji_lonlats, far=anywhere)
@example(near=[(180.0, -17.0), (-180.0, -17.0)], far=[])
def test_nearest_is_plain_xarray_across_the_antimeridian(
    fiji: Path, near: list[tuple[float, float]], far: list[tuple[float, float]]
) -> None:
    check_nearest(fiji, ("coordinate",), np.array(near + far).reshape(-1, 2))


def check_nearest(path: Path, modalities: tuple[str, ...], lonlat: np.ndarray) -> None:
    field = client.open_field(path)
    lonlat = lonlat[~on_an_edge(field.grid, lonlat)]
    dataset = xr.open_zarr(path, chunks=None)
    to_map = Transformer.from_crs("OGC:CRS84", field.grid.crs, always_xy=True)
    sampled = field.sample(lonlat, as_="numpy")
    for name in modalities:
        expected = by_xarray(dataset, name, *to_map.transform(*lonlat.T))
        vectors = expected.astype(np.float32)
        vectors /= np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
        vectors[expected[:, 0] == FILL] = np.nan
        assert np.array_equal(sampled[name], vectors, equal_nan=True)
        assert sampled[name].dtype == np.float32


def test_longitudes_may_run_from_0_to_360(gulf: Path) -> None:
    field = client.open_field(gulf)
    west = np.array([[-10.0, 3.0], [-3.5, -4.25], [-0.01, 2.0]])
    expected = field.sample(west, as_="numpy")["coordinate"]
    assert np.isfinite(expected).all()
    assert np.array_equal(
        field.sample(west + np.array([360, 0]), as_="numpy")["coordinate"], expected
    )


def test_both_sides_of_the_antimeridian_are_one_point(fiji: Path) -> None:
    vectors = client.sample([(180.0, -17.0), (-180.0, -17.0)], fiji, as_="numpy")["coordinate"]
    assert np.isfinite(vectors).all()
    assert np.array_equal(vectors[0], vectors[1])


def test_a_cell_s_centre_returns_what_is_stored_there(gulf: Path) -> None:
    field = client.open_field(gulf)
    sampled = field.sample(field.grid.centres().reshape(-1, 2), "aerial", as_="xarray")
    stored = xr.open_zarr(gulf)
    everything = stored["aerial"].values.reshape(-1, 8)
    assert np.array_equal(sampled["aerial"], dequantize(everything), equal_nan=True)
    assert np.array_equal(sampled["aerial_status"], stored["aerial_status"].values.ravel())


def bilinear_reference(
    dataset: xr.Dataset, name: str, lonlat: np.ndarray, crs: str
) -> tuple[np.ndarray, np.ndarray]:
    """Point by point in float64, from the definition: cells with data, weighted by nearness."""
    stored = dataset[name].values.astype(np.float64)
    status = dataset[name + "_status"].values
    size = float(dataset["x"][1] - dataset["x"][0])
    to_map = Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    vectors = np.full((len(lonlat), stored.shape[2]), np.nan)
    loose = np.zeros(len(lonlat), bool)
    for i, (lon, lat) in enumerate(lonlat):
        x, y = to_map.transform(lon, lat)
        col, row = (x - float(dataset["x"][0])) / size, (float(dataset["y"][0]) - y) / size
        home = (int(np.floor(row + 0.5)), int(np.floor(col + 0.5)))
        if not (0 <= home[0] < status.shape[0] and 0 <= home[1] < status.shape[1]):
            continue
        if status[home] != Status.VALID:
            continue
        total = np.zeros(stored.shape[2])
        for r in (int(np.floor(row)), int(np.floor(row)) + 1):
            for c in (int(np.floor(col)), int(np.floor(col)) + 1):
                on_grid = 0 <= r < status.shape[0] and 0 <= c < status.shape[1]
                if on_grid and status[r, c] == Status.VALID:
                    weight = (1 - abs(row - r)) * (1 - abs(col - c))
                    total += weight * stored[r, c] / np.linalg.norm(stored[r, c])
        length = np.linalg.norm(total)
        loose[i] = length < 1e-3  # opposite vectors: their mean has no sure direction
        vectors[i] = total / length
    return vectors, loose


@settings(max_examples=20)
@given(near=gulf_lonlats, far=anywhere)
def test_bilinear_is_the_float64_reference(
    gulf: Path, near: list[tuple[float, float]], far: list[tuple[float, float]]
) -> None:
    field = client.open_field(gulf)
    lonlat = np.array(near + far).reshape(-1, 2)
    lonlat = lonlat[~on_an_edge(field.grid, lonlat)]
    dataset = xr.open_zarr(gulf, chunks=None)
    sampled = field.sample(lonlat, method="bilinear", as_="numpy")
    for name in ("coordinate", "aerial"):
        expected, loose = bilinear_reference(dataset, name, lonlat, field.grid.crs)
        assert np.allclose(
            sampled[name][~loose], expected[~loose], rtol=0, atol=1e-5, equal_nan=True
        )


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_interpolation_never_mixes_in_cells_without_data(method: Method) -> None:
    """All cells with data hold one vector; whatever lies beside them, that vector comes back."""
    rng = np.random.default_rng(0)
    grid = Grid("EPSG:8857", 10_000.0, 0, 0, (32, 32))
    status = rng.integers(0, 6, grid.shape).astype(np.uint8)
    vector = np.array([127, -3, 5, 60, 0, 1, 90, -44], np.int8)
    arrays = {
        "aerial": np.where((status == Status.VALID)[..., None], vector, np.int8(FILL)),
        "aerial_status": status,
    }
    places = np.stack([rng.uniform(0.01, 3.3, 3000), rng.uniform(-2.5, -0.01, 3000)], -1)
    found = sample(in_memory(arrays, "aerial", grid), Points(places), method=method)
    sampled, codes = found.vectors, found.status
    rowcol, inside = grid.locate(places)
    has = np.zeros(len(places), bool)
    has[inside] = status[tuple(rowcol[inside].T)] == Status.VALID
    assert 100 < has.sum() < 2900
    assert np.allclose(sampled[has], dequantize(vector[None]), atol=1e-6)
    assert np.isnan(sampled[~has]).all()
    assert ((codes == Status.VALID) == has).all()


def test_opposite_vectors_leave_the_cell_s_own() -> None:
    """Half way between v and -v there is no direction to interpolate."""
    grid = Grid("EPSG:8857", 10_000.0, 0, 0, (32, 32))
    signs = np.where(np.arange(32) % 2, -1, 1)[None, :, None]
    arrays = {
        "dsm": np.broadcast_to(
            signs * np.array([127, 5, 0, 0, 0, 0, 0, -60], np.int8), (32, 32, 8)
        ).astype(np.int8),
        "dsm_status": np.ones((32, 32), np.uint8),
    }
    to_map = Transformer.from_crs("OGC:CRS84", grid.crs, always_xy=True)
    x = np.array([50_000.0 + 1e-7, 50_000.0 - 1e-7])
    lonlat = np.stack(to_map.transform(x, np.full(2, -75_000.0), direction="INVERSE"), -1)
    sampled = sample(in_memory(arrays, "dsm", grid), Points(lonlat), method="bilinear").vectors
    assert np.allclose(np.linalg.norm(sampled, axis=1), 1)


def catmull_rom(share: float) -> list[float]:
    """Weights of the cells at -1, 0, 1 and 2 of a spline through their values."""
    t = share
    return [
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (-(t**2) + t**3),
    ]


def test_bicubic_is_the_float64_reference_and_bilinear_beside_gaps() -> None:
    rng = np.random.default_rng(3)
    grid = Grid("EPSG:8857", 10_000.0, 0, 0, (32, 32))
    status = np.where(rng.random(grid.shape) < 0.03, Status.WATER, Status.VALID).astype(np.uint8)
    base = np.array([90, -30, 50, 60, 10, 20, 90, -44])
    stored = np.clip(base + rng.normal(0, 30, (*grid.shape, 8)), -127, 127).astype(np.int8)
    stored[..., 0] = 127
    arrays = {
        "dsm": np.where((status == Status.VALID)[..., None], stored, np.int8(FILL)),
        "dsm_status": status,
    }
    modality = in_memory(arrays, "dsm", grid)
    to_map = Transformer.from_crs("OGC:CRS84", grid.crs, always_xy=True)
    x, y = rng.uniform(1_000, 319_000, (2, 500))
    lonlat = np.stack(to_map.transform(x, -y, direction="INVERSE"), -1)
    cubic, linear = (
        sample(modality, Points(lonlat), method=m).vectors for m in ("bicubic", "bilinear")
    )
    unit = stored / np.linalg.norm(stored.astype(np.float64), axis=2, keepdims=True)
    whole = 0
    for i, (row, col) in enumerate(zip(y / 10_000 - 0.5, x / 10_000 - 0.5, strict=True)):
        top, left = int(np.floor(row)) - 1, int(np.floor(col)) - 1
        inside = top >= 0 and left >= 0 and top + 4 <= 32 and left + 4 <= 32
        if not inside or (status[top : top + 4, left : left + 4] != Status.VALID).any():
            assert np.allclose(cubic[i], linear[i], atol=1e-6, equal_nan=True)
            continue
        whole += 1
        weight = np.outer(catmull_rom(row - top - 1), catmull_rom(col - left - 1))
        total = np.einsum("rc,rcb->b", weight, unit[top : top + 4, left : left + 4])
        assert np.allclose(cubic[i], total / np.linalg.norm(total), atol=1e-6)
    assert 200 < whole < 450


def test_bicubic_follows_a_smooth_field_closer_than_bilinear() -> None:
    """Of a field whose waves are long beside the cells: 16 cells and more."""
    grid = Grid("EPSG:8857", 10_000.0, 0, 0, (64, 64))
    phase = np.arange(1, 5) * 0.7

    def field_at(row: np.ndarray, col: np.ndarray) -> np.ndarray:
        angle = 2 * np.pi * (row[..., None] + 0.5 * col[..., None]) * np.arange(1, 5) / 64 + phase
        vectors = np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    row, col = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5, indexing="ij")
    exact = field_at(row, col).astype(np.float32)

    class Exact:
        """Cells that hold the field itself, so that no quantization hides the difference."""

        bands, dtype = 8, np.dtype(np.int8)

        def gather(self, rowcol: np.ndarray, out: np.ndarray, *, at: Any = None, **_: Any) -> None:
            out[slice(None) if at is None else at] = exact[tuple(rowcol.T)]

        def cost(self, rowcol: np.ndarray) -> list[tuple[int, int]]:
            return []

    modality = replace(
        in_memory(
            {"dsm": np.empty((64, 64, 8), np.int8), "dsm_status": np.ones((64, 64), np.uint8)},
            "dsm",
            grid,
        ),
        vectors=Exact(),
    )
    rng = np.random.default_rng(0)
    place = rng.uniform(4, 60, (2000, 2))
    to_map = Transformer.from_crs("OGC:CRS84", grid.crs, always_xy=True)
    lonlat = np.stack(
        to_map.transform(place[:, 1] * 1e4, -place[:, 0] * 1e4, direction="INVERSE"), -1
    )
    truth = field_at(place[:, 0], place[:, 1])
    errors = {
        m: np.linalg.norm(sample(modality, Points(lonlat), method=m).vectors - truth, axis=1).mean()
        for m in ("bilinear", "bicubic")
    }
    assert errors["bicubic"] < errors["bilinear"] / 5


def test_bilinear_at_a_centre_is_nearest(gulf: Path) -> None:
    field = client.open_field(gulf)
    centres = field.grid.centres().reshape(-1, 2)[::7]
    nearest, bilinear = (
        field.sample(centres, "aerial", method=method, as_="numpy")["aerial"]
        for method in ("nearest", "bilinear")
    )
    assert np.allclose(nearest, bilinear, atol=1e-5, equal_nan=True)


def test_the_order_of_points_is_kept_and_repeats_are_alike(gulf: Path) -> None:
    field = client.open_field(gulf)
    rng = np.random.default_rng(1)
    places = rng.uniform((-20, -15), (25, 18), (500, 2))
    order = rng.permutation(np.repeat(np.arange(500), 2))
    for method in ("nearest", "bilinear"):
        once = field.sample(places, "coordinate", method=method, as_="numpy")["coordinate"]
        again = field.sample(places[order], "coordinate", method=method, as_="numpy")["coordinate"]
        atol = 0 if method == "nearest" else 1e-6
        np.testing.assert_allclose(again, once[order], rtol=0, atol=atol)


def test_a_point_without_a_position_says_so(gulf: Path) -> None:
    sampled = sample(client.open_field(gulf).modality("aerial"), Points(np.full((1, 2), np.nan)))
    assert sampled.status.tolist() == [NO_POSITION]
    assert np.isnan(sampled.vectors).all()


def test_statuses_say_why(gulf: Path) -> None:
    field = client.open_field(gulf)
    places = np.array([[-10.0, 0], [5, 5], [24, 17], [-24.5, 0], [100, 0]])
    sampled = sample(field.modality("aerial"), Points(places))
    assert sampled.status.tolist() == [
        Status.VALID, Status.WATER, Status.NO_OBSERVATION, Status.OUTSIDE_REGION,
        Status.OUTSIDE_REGION,
    ]  # fmt: skip
    assert (np.isnan(sampled.vectors).all(axis=1) == (sampled.status != Status.VALID)).all()
