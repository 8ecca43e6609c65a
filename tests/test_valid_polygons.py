"""Validity of polygons is that of shapely, whatever their numbers."""

import re

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from unigeo.schemas.geo.valid_polygons import find_faults


def faults(shapes: list[shapely.Geometry]) -> dict[int, str]:
    parts, row_of_part = shapely.get_parts(shapes, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    hole = np.ones(len(rings), bool)
    hole[np.unique(part_of_ring, return_index=True)[1]] = False
    first = np.cumsum([0, *shapely.get_num_coordinates(rings)])
    return find_faults(
        shapely.get_coordinates(rings), first, row_of_part[part_of_ring].astype(np.int64), hole
    )


@st.composite
def shapes(draw: st.DrawFn) -> shapely.Geometry:
    """Polygons on a coarse lattice, so that vertices and edges often meet; turned and scaled."""
    number = st.integers(0, 7)
    place = st.tuples(number, number)
    free = st.lists(place, min_size=3, max_size=6)
    box = st.tuples(place, st.tuples(st.integers(1, 5), st.integers(1, 5))).map(
        lambda b: shapely.box(*b[0], b[0][0] + b[1][0], b[0][1] + b[1][1]).exterior.coords[:-1]
    )
    ring = st.one_of(box, box, free)
    angle, scale = draw(st.sampled_from([0.0, 0.3, 1.0])), draw(st.sampled_from([1.0, 0.1, 1e-9]))
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    offset = draw(st.sampled_from([0.0, -105.3]))
    parts = draw(st.lists(st.tuples(ring, st.lists(ring, max_size=3)), min_size=1, max_size=3))
    moved = [
        [np.array(one, float) @ turn + offset for one in (outer, *holes)] for outer, holes in parts
    ]
    polygons = [shapely.Polygon(outer, holes) for outer, *holes in moved]
    return shapely.MultiPolygon(polygons) if len(polygons) > 1 else polygons[0]


@settings(max_examples=120)
@given(st.lists(shapes(), min_size=1, max_size=4))
def test_a_polygon_is_valid_if_it_is_to_shapely(drawn: list[shapely.Geometry]) -> None:
    found = faults(drawn)
    assert [k not in found for k in range(len(drawn))] == shapely.is_valid(drawn).tolist()


def square(west: float, south: float, side: float) -> list[tuple[float, float]]:
    return list(shapely.box(west, south, west + side, south + side).exterior.coords)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (shapely.Polygon(square(0, 0, 9)), None),
        (shapely.Polygon(square(0, 0, 9), [square(2, 2, 3), square(5, 5, 2)]), None),
        (shapely.Polygon([(0, 0), (4, 4), (4, 0), (0, 4)]), "cross, touch .* at 2 2"),
        (shapely.Polygon([(0, 0), (2, 2), (4, 4), (4, 0), (2, 2), (0, 4)]), "cross, touch"),
        (shapely.Polygon([(0, 0), (4, 0), (9, 0), (4, 0), (4, 4)]), "runs back on itself at 9 0"),
        (shapely.Polygon([(0, 0), (1, 1), (1, 1)]), "fewer than three different"),
        (shapely.Polygon(square(0, 0, 4), [square(5, 5, 2)]), "a hole lies outside its ring"),
        (shapely.Polygon(square(0, 0, 4), [square(3, 3, 2)]), "cross, touch"),
        (shapely.Polygon(square(0, 0, 9), [square(1, 1, 7), square(2, 2, 2)]), "hole .* another"),
        (
            shapely.Polygon(square(0, 0, 4), [[(0, 2), (2, 4), (4, 2), (2, 0)]]),
            "its holes cut it in pieces",
        ),
        (
            shapely.MultiPolygon([shapely.Polygon(square(k, k, 9 - 2 * k)) for k in (0, 1)]),
            "a part lies within another",
        ),
        (shapely.MultiPolygon([shapely.Polygon(square(k, 0, 2)) for k in (0, 2)]), "run along"),
        (shapely.MultiPolygon([shapely.Polygon(square(k, k, 2)) for k in (0, 2)]), None),
    ],
)
def test_what_is_wrong_is_named(shape: shapely.Geometry, said: str | None) -> None:
    assert shape.is_valid == (said is None)
    found = faults([shapely.box(0, 0, 1, 1), shape])
    if said is None:
        assert found == {}
    else:
        assert list(found) == [1]
        assert re.search(said, found[1])


def test_many_vertices_and_many_parts() -> None:
    turn = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    radius = 10 + np.cumsum(np.random.default_rng(0).normal(0, 2e-4, len(turn)))
    coast = shapely.Polygon(np.stack([radius * np.cos(turn), radius * np.sin(turn)], -1))
    islands = [shapely.box(20 + x, y, 20.5 + x, y + 0.5) for x in range(60) for y in range(60)]
    lakes = [
        shapely.box(x, y, x + 0.1, y + 0.1).exterior.coords for x in range(5) for y in range(5)
    ]
    whole = shapely.MultiPolygon([shapely.Polygon(coast.exterior.coords, lakes), *islands])
    assert whole.is_valid
    assert faults([whole]) == {}
    crossed = shapely.MultiPolygon([*whole.geoms, shapely.box(19.9, 9.9, 20.1, 10.1)])
    assert list(faults([whole, crossed])) == [1]
