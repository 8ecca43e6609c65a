import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import example, given
from hypothesis import strategies as st

from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, SHARD
from unigeo.schemas.geo.region_forms import read_region
from unigeo.schemas.geo.regions import named_regions, region, region_of_bbox, region_of_geojson
from unigeo.schemas.geo.rings import in_ring


@pytest.mark.parametrize("name", ["conus", "california", "manhattan", "amsterdam"])
def test_a_named_region_fits_its_grid(name: str) -> None:
    place = region(name)
    assert name in named_regions()
    grid = place.grid(place.resolution_m * 10)
    assert all(side % SHARD == 0 for side in (grid.row0, grid.col0, *grid.shape))
    vertices = np.concatenate(place.rings)
    _, inside = grid.locate(vertices)
    assert inside.all()


def test_points_are_in_the_regions_that_hold_them() -> None:
    boston, amsterdam = [-71.06, 42.36], [4.9, 52.37]
    places = np.array([boston, amsterdam, [-122.4, 37.77], [np.nan, np.nan]])
    assert region("conus").contains(places).tolist() == [True, False, True, False]
    assert region("amsterdam").contains(places).tolist() == [False, True, False, False]
    assert region("california").contains(places).tolist() == [False, False, True, False]


@given(st.lists(st.tuples(st.floats(-130, -60), st.floats(20, 55)), min_size=1, max_size=50))
def test_inside_agrees_with_shapely(points: list[tuple[float, float]]) -> None:
    conus = region("conus")
    polygon = shapely.Polygon(conus.rings[0])
    lonlat = np.array(points)
    apart = shapely.distance(polygon.boundary, shapely.points(lonlat)) > 1e-9
    expected = shapely.contains_xy(polygon, lonlat[:, 0], lonlat[:, 1])
    assert np.array_equal(conus.contains(lonlat)[apart], expected[apart])


def test_all_land_of_conus_is_in_the_region(shared_data: Path) -> None:
    import geopandas

    states = geopandas.read_parquet(shared_data / "vectors" / "us_states_5m.parquet")
    conus = shapely.Polygon(region("conus").rings[0])
    assert conus.contains(shapely.unary_union(states.geometry.values))


def test_a_box_may_cross_the_antimeridian() -> None:
    fiji = region_of_bbox((177, -20, -178, -15))
    assert fiji.crs == "EPSG:8859"
    inside = fiji.contains(np.array([[179.0, -17], [-179, -17], [0, -17], [-177, -17]]))
    assert inside.tolist() == [True, True, False, False]
    assert fiji.grid(10_000).locate(np.array([[179.0, -17], [-179, -17]]))[1].all()


def test_the_crs_with_least_shear_is_chosen() -> None:
    assert region_of_bbox((-123, 47, -122, 48)).crs == "EPSG:8858"
    assert region_of_bbox((4, 52, 5, 53)).crs == "EPSG:8857"
    assert region_of_bbox((139, 35, 140, 36)).crs == "EPSG:8859"


def test_a_region_across_its_map_s_seam_is_refused() -> None:
    with pytest.raises(RegionError, match="cut open"):
        region_of_bbox((80, 10, 100, 20), crs="EPSG:8858").grid(10_000)


@given(st.floats(-179, 179), st.floats(0.5, 40), st.floats(-60, 60))
def test_polygons_cut_at_the_antimeridian_have_the_grid_of_the_uncut(
    west: float, width: float, south: float
) -> None:
    box = shapely.box(west, south, west + width, south + 5)
    parts = [
        shapely.affinity.translate(box & shapely.box(low, -90, low + 360, 90), -turn)
        for low, turn in ((-180, 0), (180, 360))
    ]
    cut = shapely.MultiPolygon([part for part in parts if part.area > 1e-9])
    one, other = (region_of_geojson(shape.__geo_interface__, "it") for shape in (box, cut))
    assert other.crs == one.crs
    try:
        grid = one.grid(10_000)
    except RegionError:
        return  # across the seam of its map
    assert other.grid(10_000) == grid


def test_a_region_may_end_at_its_map_s_seam() -> None:
    globe = region_of_bbox((-180, -90, 180, 90)).grid(100_000)
    assert globe.crs == "EPSG:8857" and globe.bounds[0] == -globe.bounds[2]
    for box in ((170, 10, 180, 20), (-180, 10, -170, 20)):
        west, _, east, _ = region_of_bbox(box, crs="EPSG:8857").grid(1000).bounds
        assert (west > 0) == (east > 0) == (box[0] > 0)


@pytest.mark.parametrize("crs", ["EPSG:4326", "8858", ""])
def test_a_map_that_is_not_equal_earth_is_refused(crs: str) -> None:
    with pytest.raises(RegionError, match="one of EPSG:8857, EPSG:8858, EPSG:8859"):
        read_region((4, 52, 5, 53), crs)


def test_a_geojson_hole_is_outside(tmp_path: Path) -> None:
    def square(low: float, high: float) -> list[list[float]]:
        return [[low, low], [high, low], [high, high], [low, high], [low, low]]

    path = tmp_path / "ring.geojson"
    geometry = {"type": "Polygon", "coordinates": [square(0, 10), square(4, 6)]}
    path.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": geometry}))
    ring = read_region(path)
    assert ring.name == "ring"
    assert ring.contains(np.array([[2.0, 2.0], [5, 5], [11, 5]])).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot read"),
        ('{"type": "Point", "coordinates": [0, 0]}', "needs Polygon"),
        ('{"type": "FeatureCollection", "features": []}', "no polygon"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}', "4 or more"),
        ('{"type": "Polygon"}', "not valid GeoJSON"),
        ("[1]", "no object but a list"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}', "cross"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [NaN, 2], [2, 0], [0, 0]]]}', "NaN"),
        ('{"type": "Polygon", "coordinates": [[[0, 99], [1, 98], [2, 99], [0, 99]]]}', "swapped"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 0], [3, 0]]]}', "the last the"),
    ],
)
def test_a_bad_geojson_says_why(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "bad.geojson"
    path.write_text(content)
    with pytest.raises(RegionError, match=said):
        read_region(path)


def test_a_geojson_in_another_crs_is_brought_to_degrees(tmp_path: Path) -> None:
    square = [[0, 0], [1e6, 0], [1e6, 1e6], [0, 1e6], [0, 0]]
    document = {
        "type": "Polygon",
        "coordinates": [square],
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}},
    }
    path = tmp_path / "there.geojson"
    path.write_text(json.dumps(document))
    place = read_region(path)
    assert place.contains(np.array([[4.0, 4.0], [10.0, 4.0]])).tolist() == [True, False]
    document["crs"]["properties"]["name"] = "EPSG:banana"
    path.write_text(json.dumps(document))
    with pytest.raises(RegionError, match="not a CRS that PROJ knows"):
        read_region(path)


def test_a_box_with_west_and_east_exchanged_is_refused() -> None:
    for box in ((-99, 40, -100, 41), (10, 0, -10, 5), (5, 0, 4, 1)):
        with pytest.raises(RegionError, match="exchange the two"):
            region_of_bbox(box)
    pacific = region_of_bbox((100, -60, 290, 60))
    assert pacific.contains(np.array([[-150.0, 0.0], [0.0, 0.0]])).tolist() == [True, False]


@pytest.mark.parametrize(
    "bbox", [(0, 10, 5, 5), (0, -91, 5, 5), (0, 0, 0, 5), (0, 0, 999, 5), (0, 0, float("nan"), 5)]
)
def test_a_bad_box_is_refused(bbox: tuple[float, float, float, float]) -> None:
    with pytest.raises(RegionError, match="bounding box"):
        region_of_bbox(bbox)


def test_an_unknown_region_lists_the_known() -> None:
    with pytest.raises(RegionError, match="conus, california"):
        region("atlantis")


@pytest.mark.parametrize("size", [0, -5, float("nan"), float("inf"), 1e-3])
def test_a_resolution_that_cannot_be_is_refused(size: float) -> None:
    with pytest.raises(RegionError):
        region("conus").grid(size)


@given(st.integers(0, 2**32 - 1), st.integers(3, 40))
def test_few_points_lie_in_a_ring_as_many_do(seed: int, vertices: int) -> None:
    rng = np.random.default_rng(seed)
    ring = rng.integers(-9, 10, (vertices, 2)).astype(float)
    ring = np.concatenate([ring, ring[:1]])
    points = rng.integers(-9, 10, (200, 2)).astype(float)
    many = in_ring(ring, points)
    few = [in_ring(ring, point[None])[0] for point in points]
    np.testing.assert_array_equal(few, many)


def options_in(message: str) -> list[tuple[tuple[float, ...] | None, str]]:
    """Boxes, if any, and CRSs that a refusal advises to ask for."""
    advised = message.rpartition(": ")[2].replace(" and ", " or ").split(" or ")
    boxes = [part.partition("--bbox")[2].partition("--crs")[0].split() for part in advised]
    systems = [part.partition("--crs ")[2] for part in advised]
    return [(tuple(map(float, box)) or None, crs) for box, crs in zip(boxes, systems, strict=True)]


@given(
    west=st.integers(-180, 180),
    span=st.integers(1, 360),
    south=st.integers(-90, 80),
    crs=st.sampled_from(sorted(CENTRAL_MERIDIANS)),
)
@example(west=-180, span=360, south=-60, crs="EPSG:8858")  # the globe
@example(west=-170, span=355, south=66, crs="EPSG:8857")  # a polar cap across every cut
def test_whatever_a_refusal_advises_works(west: int, span: int, south: int, crs: str) -> None:
    box = (float(west), float(south), float(min(west + span, 360)), 90.0)
    region = region_of_bbox(box, crs=crs)
    try:
        region.grid(100_000.0)
    except RegionError as error:
        advised = options_in(str(error))
        spans = [(box if one is None else one) for one, _ in advised]
        for part, (_, other) in zip(spans, advised, strict=True):
            assert region_of_bbox(part, crs=other).grid(100_000.0).crs == other
        if advised[0][0] is not None:  # two boxes that are the region
            assert (spans[0][0], spans[0][2], spans[1][2]) == (box[0], spans[1][0], box[2])


@pytest.mark.parametrize("crs", [None, *CENTRAL_MERIDIANS])
def test_polygons_cut_at_the_antimeridian_are_mapped_in_every_crs(crs: str | None) -> None:
    """As RFC 7946 asks for; Fiji, which the CRS of its side of the globe holds in one shard."""
    rings = [[[w, -18.5], [e, -18.5], [e, -16], [w, -16], [w, -18.5]] for w, e in FIJI]
    region = read_region({"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}, crs)
    grid = region.grid(10_000.0)
    for west, east in FIJI:
        assert region.contains(np.array([(west + east) / 2, -17.0]))
        cells = grid.cells(np.array([[(west + east) / 2, -17.0]]))
        assert (cells >= 0).all() and (cells < grid.shape).all()
    assert crs is not None or (region.crs, grid.shape) == ("EPSG:8859", (256, 256))


FIJI = ((178, 180), (-180, -178))
