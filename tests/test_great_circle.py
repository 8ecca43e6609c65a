import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unigeo.schemas.geo.great_circle import (
    EARTH_RADIUS_M,
    LEAST_METRES_PER_DEGREE,
    METRES_PER_DEGREE,
    MOST_METRES_PER_DEGREE,
    degree_margins,
    destinations,
    great_circle_m,
    unit_vectors,
)

SPHERE = pyproj.Geod(a=EARTH_RADIUS_M, f=0)
WGS84 = pyproj.Geod(ellps="WGS84")
LONLAT = st.tuples(st.floats(-180, 180), st.floats(-90, 90)).map(np.array)


def anywhere(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    return np.stack([rng.uniform(-180, 180, count), lat], axis=1)


def test_the_radius_is_the_mean_of_the_ellipsoid_s_axes() -> None:
    assert pytest.approx((2 * WGS84.a + WGS84.b) / 3, abs=0.1) == EARTH_RADIUS_M


def test_distances_are_those_of_proj_on_the_sphere() -> None:
    first, second = anywhere(2000), anywhere(2000, seed=1)
    near = first + np.random.default_rng(2).uniform(-1e-4, 1e-4, first.shape)
    near[:, 1] = near[:, 1].clip(-90, 90)
    for other in (second, near):
        expected = SPHERE.inv(*first.T, *other.T)[2]
        assert great_circle_m(first, other) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_distances_differ_from_the_ellipsoid_s_by_less_than_0_6_percent() -> None:
    first, second = anywhere(20_000), anywhere(20_000, seed=1)
    geodesic = WGS84.inv(*first.T, *second.T)[2]
    assert np.abs(great_circle_m(first, second) / geodesic - 1).max() < 0.006


def test_one_point_is_a_partner_of_every_point() -> None:
    points = anywhere(12).reshape(3, 4, 2)
    one = np.array([10.0, 50.0])
    repeated = great_circle_m(points, np.broadcast_to(one, points.shape))
    assert great_circle_m(points, one) == pytest.approx(repeated, rel=1e-12)
    assert great_circle_m(one, points) == pytest.approx(repeated, rel=1e-12)


@given(first=LONLAT, second=LONLAT, third=LONLAT)
def test_distances_are_a_metric(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> None:
    direct = great_circle_m(first, third)
    assert great_circle_m(first, first) == 0
    assert great_circle_m(third, first) == pytest.approx(direct, rel=1e-12, abs=1e-3)
    assert 0 <= direct <= np.pi * EARTH_RADIUS_M * (1 + 1e-15)
    # Near antipodes the haversine keeps half of the digits only.
    assert direct <= great_circle_m(first, second) + great_circle_m(second, third) + 1.0


@given(
    distance=st.floats(0, 200_000), bearing=st.floats(0, 6.28), lon=st.floats(-180, 180),
    lat=st.floats(-85, 85),
)  # fmt: skip
def test_a_destination_lies_at_its_distance(
    distance: float, bearing: float, lon: float, lat: float
) -> None:
    start = np.array([[lon, lat]])
    end = destinations(start, distance, np.array([bearing]))
    assert great_circle_m(start, end)[0] == pytest.approx(distance, abs=1e-3)
    if distance == 0:
        assert np.array_equal(end, start)


def test_destinations_are_those_of_proj_on_the_sphere() -> None:
    start, rng = anywhere(500), np.random.default_rng(3)
    bearing, distance = rng.uniform(0, 2 * np.pi, 500), rng.uniform(0, 1e7, 500)
    lon, lat, _ = SPHERE.fwd(*start.T, np.degrees(bearing), distance)
    expected = np.stack([lon, lat], axis=1)
    assert great_circle_m(destinations(start, distance, bearing), expected).max() < 1e-3


@given(lonlat=LONLAT)
def test_unit_vectors_have_length_one_and_their_chords_are_the_distances(
    lonlat: np.ndarray,
) -> None:
    one, other = unit_vectors(lonlat), unit_vectors(np.array([20.0, 40.0]))
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-15)
    arc = 2 * EARTH_RADIUS_M * np.arcsin(min(np.linalg.norm(one - other) / 2, 1))
    assert great_circle_m(lonlat, np.array([20.0, 40.0])) == pytest.approx(arc, abs=1.0)


@given(
    distance=st.floats(1, 50_000), azimuth=st.floats(0, 360), lon=st.floats(-170, 170),
    lat=st.floats(-85, 85),
)  # fmt: skip
def test_margins_hold_every_point_within_the_distance(
    distance: float, azimuth: float, lon: float, lat: float
) -> None:
    end_lon, end_lat, _ = WGS84.fwd(lon, lat, azimuth, distance)
    wide, high = degree_margins(distance, max(abs(lat), abs(end_lat)))
    assert abs(end_lat - lat) <= high
    assert abs((end_lon - lon + 180) % 360 - 180) <= wide


def test_a_degree_of_the_ellipsoid_is_within_the_bounds() -> None:
    lat = np.arange(-89.5, 90.5)
    northward = WGS84.inv(0 * lat, lat - 0.5, 0 * lat, lat + 0.5)[2]
    eastward = WGS84.inv(0 * lat, lat, 0 * lat + 1e-3, lat)[2] * 1e3 / np.cos(np.radians(lat))
    for degree in (northward, eastward):
        assert degree.min() > LEAST_METRES_PER_DEGREE
        assert degree.max() < MOST_METRES_PER_DEGREE
    assert northward.min() < METRES_PER_DEGREE < northward.max()
