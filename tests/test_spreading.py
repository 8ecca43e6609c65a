"""Points in polygons: inside, evenly by area, always the same."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from unigeo.client.areas.polygons import read_polygons
from unigeo.client.areas.random_points import points_within
from unigeo.schemas.errors import RegionError


@st.composite
def shapes(draw: st.DrawFn) -> shapely.MultiPolygon:
    """A ring with a hole, and an island."""
    west, south = draw(st.floats(-170, 150)), draw(st.floats(-80, 70))
    size = draw(st.floats(0.01, 9))
    ring = shapely.box(west, south, west + size, south + size).difference(
        shapely.box(west + 0.2 * size, south + 0.2 * size, west + 0.8 * size, south + 0.7 * size)
    )
    island = shapely.box(west + 1.1 * size, south, west + 1.3 * size, south + 0.4 * size)
    return shapely.MultiPolygon([ring, island])


@given(st.lists(shapes(), min_size=1, max_size=3), st.integers(1, 40))
def test_they_lie_within_and_are_the_same_again(
    areas: list[shapely.MultiPolygon], count: int
) -> None:
    polygons = read_polygons(areas)
    points = points_within(polygons, count)
    assert points.shape == (len(areas), count, 2)
    for area, chosen in zip(areas, points, strict=True):
        assert shapely.contains_xy(area, chosen[:, 0], chosen[:, 1]).all()
        assert len(np.unique(chosen, axis=0)) == count
    np.testing.assert_array_equal(points, points_within(polygons, count))
    np.testing.assert_array_equal(points[-1:], points_within(read_polygons(areas[-1:]), count))


def test_they_are_even_by_area_not_by_degrees() -> None:
    (points,) = points_within(read_polygons([(0.0, 0.0, 40.0, 80.0)]), 2000)
    half = np.degrees(np.arcsin(np.sin(np.radians(80)) / 2))
    assert abs((points[:, 1] < half).mean() - 0.5) < 0.01
    assert abs((points[:, 0] < 20).mean() - 0.5) < 0.01


def test_across_the_antimeridian_and_too_thin() -> None:
    (points,) = points_within(read_polygons([(177.0, -20.0, -178.0, -15.0)]), 100)
    assert ((points[:, 0] >= 177) | (points[:, 0] <= -178)).all()
    assert 0.5 < (points[:, 0] > 0).mean() < 0.7  # three of five degrees
    thin = shapely.Polygon([(0, 0), (10, 10), (10, 10 + 1e-9)])
    with pytest.raises(RegionError, match=r"row 1.*fewer than 8"):
        points_within(read_polygons([shapely.box(0, 0, 1, 1), thin]), 8)
    with pytest.raises(RegionError, match=r"row 1 \(label 1\), has no shape"):
        points_within(read_polygons([thin, None]), 8)
