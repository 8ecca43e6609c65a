from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from unigeo.client.probing.folds import (
    blocked_folds,
    blocks_crs,
    project,
    random_folds,
    spatial_blocks,
)
from unigeo.schemas.errors import ProbeError

COUNT, SEED = st.integers(3, 400), st.integers(0, 2**31)


def conus(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((-120, 30), (-75, 48), (count, 2))


@given(count=st.integers(5, 400), seed=SEED)
def test_random_folds_give_each_row_one_fold_of_equal_size(count: int, seed: int) -> None:
    folds = random_folds(count, 5, seed)
    sizes = np.bincount(folds, minlength=5)
    assert folds.shape == (count,)
    assert len(sizes) == 5
    assert np.ptp(sizes) <= 1


@given(blocks=st.lists(st.integers(0, 30), min_size=60, max_size=400), seed=SEED)
def test_no_block_is_in_two_folds_and_folds_are_balanced(blocks: list[int], seed: int) -> None:
    numbers = np.array([*blocks, *range(5)])
    folds = blocked_folds(numbers, 5, seed)
    assert folds.shape == numbers.shape
    assert set(folds) == set(range(5))
    for block in np.unique(numbers):
        assert len(np.unique(folds[numbers == block])) == 1
    largest = np.unique(numbers, return_counts=True)[1].max()
    assert np.ptp(np.bincount(folds)) <= largest


def test_the_seed_decides_the_folds() -> None:
    blocks = np.arange(100)
    assert (blocked_folds(blocks, seed=1) == blocked_folds(blocks, seed=1)).all()
    assert (blocked_folds(blocks, seed=1) != blocked_folds(blocks, seed=2)).any()
    assert (random_folds(100, seed=1) != random_folds(100, seed=2)).any()


@given(seed=SEED, km=st.floats(20, 500))
def test_points_share_a_block_where_their_floored_map_coordinates_agree(
    seed: int, km: float
) -> None:
    lonlat = conus(80, seed)
    blocks = spatial_blocks(lonlat, km)
    cells = [tuple(cell) for cell in np.floor(project(lonlat, "EPSG:5070") / (km * 1000))]
    for number in range(blocks.max() + 1):
        assert len({cells[row] for row in np.flatnonzero(blocks == number)}) == 1
    assert blocks.max() + 1 == len(set(cells))


def test_a_block_is_no_wider_on_the_ground_than_its_diagonal_stretched() -> None:
    lonlat = conus(3000)
    blocks = spatial_blocks(lonlat, 300)
    geod = Geod(ellps="GRS80")
    for number in np.unique(blocks)[::10]:
        inside = lonlat[blocks == number]
        first = np.broadcast_to(inside[0], inside.shape)
        km = geod.inv(*first.T, *inside.T)[2] / 1000
        assert km.max() < 300 * np.sqrt(2) * 1.05  # EPSG:5070 stretches lengths by a few percent


def test_blocks_are_cut_in_epsg_5070_in_the_contiguous_states_only() -> None:
    assert blocks_crs(conus(50), "EPSG:8857") == "EPSG:5070"
    mostly = np.concatenate([conus(50), [[-150.0, 64.0]]])
    assert blocks_crs(mostly, "EPSG:8858") == "EPSG:5070"
    assert blocks_crs(np.array([[4.9, 52.4]]), "EPSG:8857") == "EPSG:8857"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: random_folds(4, 5), "4 points cannot fill 5 folds"),
        (lambda: random_folds(4, 1), "at least 2 folds"),
        (lambda: blocked_folds(np.array([0, 0, 1]), 3), "2 spatial blocks cannot fill 3 folds"),
        (lambda: spatial_blocks(conus(3), 0.0), "positive number of km"),
        (lambda: spatial_blocks(conus(3), 100.0, "EPSG:0"), "not a CRS"),
    ],
)
def test_impossible_folds_are_refused(call: Callable[[], object], words: str) -> None:
    with pytest.raises(ProbeError, match=words):
        call()
