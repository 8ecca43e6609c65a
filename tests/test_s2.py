"""S2 cells equal those of the package s2cell, and form a hierarchy."""

import numpy as np
import pytest
import s2cell
from hypothesis import given
from hypothesis import strategies as st

from unigeo.producer.sources import s2

LON, LAT = st.floats(-180, 180), st.floats(-90, 90)


def points(count: int, seed: int = 0) -> np.ndarray:
    """Points uniform over the sphere."""
    rng = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    return np.stack([rng.uniform(-180, 180, count), lat], axis=1)


@pytest.mark.parametrize("level", [0, 1, 2, 5, 12, 16, 23, 30])
def test_ids_are_those_of_s2cell(level: int) -> None:
    lonlat = points(300, level)
    ids = s2.cell_ids(lonlat, level)
    assert [int(i) for i in ids] == [s2cell.lat_lon_to_cell_id(y, x, level) for x, y in lonlat]
    assert s2.tokens(ids) == [s2cell.lat_lon_to_token(y, x, level) for x, y in lonlat]
    centres = [s2cell.cell_id_to_lat_lon(int(i))[::-1] for i in ids]
    np.testing.assert_allclose(s2.centres(ids), centres, atol=1e-9)
    assert s2.level_of(ids) == level


@given(LON, LAT, st.integers(0, 30), st.integers(0, 30))
def test_a_parent_is_the_cell_of_the_coarser_level(lon: float, lat: float, a: int, b: int) -> None:
    coarse, fine = sorted((a, b))
    point = np.array([[lon, lat]])
    ids = s2.cell_ids(point, fine)
    assert s2.parents(ids, coarse) == s2.cell_ids(point, coarse)
    assert s2cell.cell_id_to_parent_cell_id(int(ids[0]), coarse) == s2.parents(ids, coarse)[0]


@given(LON, LAT, st.integers(0, 26), st.integers(1, 3))
def test_children_are_the_cells_of_a_cell(lon: float, lat: float, level: int, depth: int) -> None:
    ids = s2.cell_ids(np.array([[lon, lat]]), level)
    inner = s2.children(ids, level + depth)
    assert inner.shape == (1, 4**depth)
    assert (np.diff(inner[0].astype(object)) > 0).all()
    assert (s2.parents(inner[0], level) == ids[0]).all()


@given(LON, LAT, st.integers(0, 28), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_point_in_a_cell_is_in_it(lon: float, lat: float, level: int, a: float, b: float) -> None:
    ids = s2.cell_ids(np.array([[lon, lat]]), level)
    assert s2.cell_ids(s2.points_in_cells(ids, np.array([[a, b]])), level) == ids


@given(
    st.floats(-180, 180), st.floats(-80, 80), st.floats(0, 3), st.floats(0, 3), st.integers(3, 9)
)
def test_a_covering_holds_every_point_of_its_box(
    west: float, south: float, wide: float, high: float, level: int
) -> None:
    cells = s2.covering(west, south, west + wide, south + high, level)
    lonlat = np.random.default_rng(0).uniform((west, south), (west + wide, south + high), (200, 2))
    assert np.isin(s2.cell_ids(lonlat, level), cells).all()
    assert len(np.unique(cells)) == len(cells)
    # No cell of it is farther from the box than the widest cell is wide.
    away = np.abs(s2.centres(cells)[:, 1] - (south + high / 2)) - high / 2
    assert away.max() < 180 / 2**level


def test_uniform_points_in_a_cell_are_uniform_by_area() -> None:
    ids = s2.cell_ids(np.array([[-77.05, 38.81]]), 12)
    inner = s2.children(ids, 13)[0]
    drawn = s2.points_in_cells(np.repeat(ids, 40_000), np.random.default_rng(0).random((40_000, 2)))
    counts = [(s2.cell_ids(drawn, 13) == cell).mean() for cell in inner]
    np.testing.assert_allclose(counts, 0.25, atol=0.01)
