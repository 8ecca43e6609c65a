"""Locations are balanced, spread and repeatable; no footprint crosses a split."""

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from unigeo.producer.sources import s2
from unigeo.producer.sources.location_sampling import (
    LocationSampling,
    apportion,
    cover_region,
    farthest_points,
    sample_locations,
)
from unigeo.producer.sources.splits import BORDER, Splitting, split, split_numbers
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import Region, region_of_bbox

GEOD = pyproj.Geod(ellps="WGS84")
TOWN = region_of_bbox((-77.10, 38.78, -77.02, 38.84))


def test_a_covering_is_the_cells_that_hold_points_of_the_region() -> None:
    cells, share = cover_region(TOWN, 14)
    lonlat = np.random.default_rng(0).uniform((-77.10, 38.78), (-77.02, 38.84), (20_000, 2))
    assert set(np.unique(s2.cell_ids(lonlat, 14))) <= set(cells)
    box = shapely.box(-77.10, 38.78, -77.02, 38.84)
    polygons = shapely.polygons(s2.corners(cells))
    exact = shapely.area(shapely.intersection(box, polygons)) / shapely.area(polygons)
    np.testing.assert_allclose(share, exact, atol=0.25)


@settings(max_examples=8)
@given(st.integers(1, 400), st.integers(1, 4), st.integers(12, 14), st.integers(0, 9))
def test_locations_keep_to_the_region_the_count_and_the_cell(
    count: int, per_cell: int, balance: int, seed: int
) -> None:
    sampling = LocationSampling(count=count, per_cell=per_cell, balance_level=balance, seed=seed)
    sampled = sample_locations(TOWN, sampling)
    assert TOWN.contains(sampled.lonlat).all()
    assert len(np.unique(sampled.lonlat, axis=0)) == len(sampled.lonlat) <= count
    assert (s2.cell_ids(sampled.lonlat, 16) == sampled.cell).all()
    assert np.unique(sampled.cell, return_counts=True)[1].max() <= per_cell
    again = sample_locations(TOWN, sampling)
    assert (again.lonlat == sampled.lonlat).all()
    other = sample_locations(
        TOWN, LocationSampling(count=count, per_cell=per_cell, balance_level=balance, seed=99)
    )
    assert len(other.lonlat) != len(sampled.lonlat) or (other.lonlat != sampled.lonlat).any()


def test_whole_cells_get_equal_shares_and_fine_cells_no_second_before_all_have_one() -> None:
    cells = s2.children(s2.cell_ids(np.array([[-77.06, 38.81]]), 10), 12)[0]
    ring = np.concatenate([s2.corners(cells[:1])[0], s2.corners(cells[:1])[0][:1]])
    one_cell = Region("cell", (ring,), "EPSG:8858")
    sampled = sample_locations(one_cell, LocationSampling(count=64, balance_level=13, per_cell=3))
    cells_inside = sampled.cell[s2.parents(sampled.cell, 12) == cells[0]]
    counts = np.unique(s2.parents(cells_inside, 13), return_counts=True)[1]
    assert len(cells_inside) > 48 and np.ptp(counts) <= 2
    assert np.unique(sampled.cell, return_counts=True)[1].max() == 1


def test_weights_draw_locations_and_no_weight_draws_none() -> None:
    sampled = sample_locations(
        TOWN, LocationSampling(count=200, balance_level=14), lambda p: (p[:, 0] < -77.06) * 1.0
    )
    assert sampled.lonlat[:, 0].max() < -77.05  # coarse cells reach over the limit
    heavy = sample_locations(
        TOWN,
        LocationSampling(count=100, balance_level=13),
        lambda p: np.where(p[:, 0] < -77.06, 9.0, 1.0),
    )
    assert (heavy.lonlat[:, 0] < -77.06).mean() > 0.75
    with pytest.raises(ObservationsError, match="no place to observe"):
        sample_locations(TOWN, LocationSampling(count=5), lambda p: np.full(len(p), np.nan))


def test_candidates_are_chosen_among_and_only_once() -> None:
    rng = np.random.default_rng(1)
    near = rng.uniform((-77.2, 38.7), (-76.9, 38.9), (3000, 2))
    sampled = sample_locations(TOWN, LocationSampling(count=150, per_cell=2), candidates=near)
    assert len(sampled.lonlat) == 150
    rows = {tuple(row) for row in near}
    assert all(tuple(row) in rows for row in sampled.lonlat)
    with pytest.raises(ObservationsError, match="nothing of the candidates"):
        sample_locations(TOWN, LocationSampling(count=5), candidates=near + 5)


@given(
    st.integers(1, 300),
    hn.arrays(float, st.integers(1, 30), elements=st.floats(0, 10, allow_subnormal=False)),
    st.integers(0, 20),
    st.integers(0, 5),
)
def test_a_quota_is_near_its_share_and_grows_with_the_count(
    count: int, weight: np.ndarray, room: int, seed: int
) -> None:
    rooms = np.full(len(weight), room)
    quota = apportion(count, weight, rooms, np.random.default_rng(seed))
    assert (quota >= 0).all() and (quota <= rooms).all() and (quota[weight == 0] == 0).all()
    assert quota.sum() <= count
    if weight.sum() > 1e-3 and (count * weight / weight.sum() < room / 2).all():
        off = np.abs(quota - count * weight / weight.sum())
        assert (off < 1 + (weight > 0).sum() * weight / weight.sum() + 1e-6).all()
    more = apportion(count + 1 + room, weight, rooms, np.random.default_rng(seed))
    assert (more >= quota).all()


def test_the_expectation_of_a_quota_is_its_share() -> None:
    weight = np.array([0.1, 0.3, 0.3, 1.0, 1.0, 1.0, 2.0, 7.0])
    rooms = np.full(len(weight), 100)
    quotas = [apportion(4, weight, rooms, np.random.default_rng(n)) for n in range(400)]
    np.testing.assert_allclose(np.mean(quotas, axis=0), 4 * weight / weight.sum(), atol=0.2)


@settings(max_examples=8)
@given(
    st.tuples(st.integers(1, 200), st.integers(0, 200)),
    st.integers(1, 3),
    st.sampled_from(["even", "weights", "candidates"]),
    st.integers(0, 9),
)
def test_a_larger_count_keeps_every_location_of_a_smaller_one(
    counts: tuple[int, int], per_cell: int, kind: str, seed: int
) -> None:
    near = np.random.default_rng(1).uniform((-77.2, 38.7), (-76.9, 38.9), (2000, 2))
    few, many = (
        sample_locations(
            TOWN,
            LocationSampling(count=count, per_cell=per_cell, balance_level=14, seed=seed),
            (lambda p: 1 + 9 * (p[:, 0] < -77.06)) if kind == "weights" else None,
            near if kind == "candidates" else None,
        ).lonlat.tolist()
        for count in (counts[0], sum(counts))
    )
    assert {tuple(row) for row in few} <= {tuple(row) for row in many}


@given(
    hn.arrays(float, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(-1, 1)),
    st.integers(1, 12),
)
def test_each_chosen_point_is_the_farthest_from_those_before(points: np.ndarray, n: int) -> None:
    chosen = farthest_points(points, n)
    assert len(set(chosen)) == len(chosen) == min(n, len(points))
    for k in range(1, len(chosen)):
        held_out = np.linalg.norm(points[:, None] - points[chosen[:k]][None], axis=2).min(axis=1)
        assert held_out[chosen[k]] >= held_out.max() - 1e-7


def footprint(lonlat: np.ndarray, side_m: float) -> shapely.Polygon:
    half = side_m / 2
    ends = [(-half, -half), (half, -half), (half, half), (-half, half)]
    return shapely.Polygon(
        [
            GEOD.fwd(*lonlat, np.degrees(np.arctan2(east, north)), np.hypot(east, north))[:2]
            for east, north in ends
        ]
    )


@settings(max_examples=6)
@given(st.integers(0, 50), st.integers(12, 14), st.sampled_from([154.0, 400.0]))
def test_no_footprint_crosses_a_split(seed: int, level: int, side_m: float) -> None:
    splitting = Splitting(spatial_level=level, spatial_share=0.4, seed=seed)
    lonlat = sample_locations(TOWN, LocationSampling(count=150, seed=seed)).lonlat
    held_out = region_of_bbox((-77.05, 38.80, -77.03, 38.82))
    parts = split(lonlat, side_m / 2**0.5, splitting, held_out)
    cells, _ = cover_region(region_of_bbox((-77.15, 38.74, -76.97, 38.88)), level)
    polygons = shapely.polygons(s2.corners(cells))
    is_held_out = np.array(
        [split_numbers(c[None], splitting, None)[0] == 1 for c in s2.centres(cells)]
    )
    region = shapely.box(-77.05, 38.80, -77.03, 38.82)
    spatial = shapely.difference(shapely.union_all(polygons[is_held_out]), region)
    areas = {
        "region": region,
        "spatial": spatial,
        "train": shapely.difference(shapely.union_all(polygons[~is_held_out]), region),
    }
    kept = [(p, part) for p, part in zip(lonlat, parts, strict=True) if part != BORDER]
    assert len(kept) > 5
    for location, part in kept:
        square = footprint(location, side_m)
        for other, area in areas.items():
            if other != part:
                assert shapely.intersection(square, area).area == 0


def test_a_cell_is_held_out_whatever_else_is_asked_and_no_share_holds_nothing_out() -> None:
    lonlat = sample_locations(TOWN, LocationSampling(count=100)).lonlat
    splitting = Splitting(spatial_level=13, spatial_share=0.5)
    parts = split_numbers(lonlat, splitting, None)
    assert (split_numbers(lonlat[::-1], splitting, None)[::-1] == parts).all()
    assert 0 < parts.mean() < 1
    assert set(split(lonlat, 100.0, Splitting())) == {"train"}
