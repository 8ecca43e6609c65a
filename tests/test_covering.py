import geopandas
import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from unigeo.client.areas.polygons import read_polygons
from unigeo.client.shapes.coverage import cover, holds_centre, touched_cells
from unigeo.client.shapes.outlines import Outlines, outlines_of, outlines_on
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.grid import Grid, from_wgs84
from unigeo.schemas.geo.window import Window

WINDOW = Window(2, 3, 7, 9)
"""A window of a plane of 12 x 15 cells, of which polygons reach all and beyond."""


def plane(polygons: list[shapely.Geometry]) -> Outlines:
    """Outlines of shapely polygons whose x is a column and y a row."""
    rings, row, hole = [], [], []
    for number, polygon in enumerate(polygons):
        for part in shapely.get_parts(polygon):
            for k, ring in enumerate(shapely.get_rings(part)):
                rings.append(shapely.get_coordinates(ring)[:-1, ::-1])
                row.append(number)
                hole.append(k > 0)
    return outlines_of(
        np.concatenate(rings) if rings else np.empty((0, 2)),
        np.repeat(np.arange(len(rings)), [len(ring) for ring in rings]),
        np.array(row, np.int64),
        np.array(hole, bool),
        len(polygons),
    )


def shares(outlines: Outlines, window: Window) -> np.ndarray:
    """Dense: polygon row col."""
    dense = np.zeros((outlines.count, window.height, window.width))
    for part in cover(outlines, window):
        dense[part.polygon, part.row, part.col] = part.share
    return dense


def by_shapely(polygon: shapely.Geometry, window: Window) -> np.ndarray:
    rows, cols = np.mgrid[window.slices]
    cells = shapely.box(cols, rows, cols + 1, rows + 1)
    return shapely.area(shapely.intersection(cells, polygon))


@st.composite
def polygons(draw: st.DrawFn) -> shapely.Geometry:
    """Several parts with holes, touching lines between cells now and then."""
    # Rounded, since GEOS divides by zero on edges of 1e-200.
    fine = st.floats(-2, 17).map(lambda value: round(value, 6))
    number = st.one_of(fine, st.integers(-2, 17).map(float))
    points = draw(st.lists(st.tuples(number, number), min_size=3, max_size=12, unique=True))
    shape = shapely.make_valid(shapely.Polygon(points))
    hole = draw(st.tuples(number, number, st.floats(0.1, 4)))
    shape = shapely.difference(shape, shapely.Point(hole[:2]).buffer(hole[2], 3))
    parts = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
    parts = [part for part in parts if part.area > 1e-6]
    return shapely.MultiPolygon(parts)


@settings(max_examples=100)
@given(polygons())
def test_shares_are_the_areas_that_shapely_cuts(polygon: shapely.Geometry) -> None:
    found = shares(plane([polygon]), WINDOW)[0]
    np.testing.assert_allclose(found, by_shapely(polygon, WINDOW), atol=2e-8)
    outlines = plane([polygon])
    assert outlines.area[0] == pytest.approx(polygon.area, abs=1e-9)


@given(polygons())
def test_the_shares_of_a_polygon_sum_to_its_area(polygon: shapely.Geometry) -> None:
    outlines = plane([polygon])
    corner = Window(-3, -3, 21, 21)
    assert shares(outlines, corner).sum() == pytest.approx(polygon.area, abs=1e-6)
    assert np.array_equal(touched_cells(outlines, corner), shares(outlines, corner)[0] > 0)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(10, 140), st.integers(10, 110)), min_size=4, max_size=40, unique=True
    )
)
def test_a_partition_of_the_plane_covers_every_cell_once(points: list[tuple[int, int]]) -> None:
    frame = shapely.box(-2, -2, 20, 20)
    seeds = shapely.MultiPoint(np.array(points) / 10)
    cells = shapely.get_parts(shapely.voronoi_polygons(seeds, extend_to=frame))
    found = shares(plane(list(cells)), WINDOW)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-7)


@given(polygons())
def test_a_cell_is_inside_if_its_centre_is(polygon: shapely.Geometry) -> None:
    rows, cols = np.mgrid[WINDOW.slices] + 0.5
    apart = shapely.distance(polygon.boundary, shapely.points(cols, rows)) > 1e-9
    expected = shapely.contains_xy(polygon, cols, rows)
    assert np.array_equal(holds_centre(plane([polygon]), WINDOW)[apart], expected[apart])


def test_windows_together_give_what_one_gives() -> None:
    shape = shapely.Point(128.3, 127.7).buffer(100, 50)
    outlines = plane([shape, shape.buffer(-20), shapely.box(0, 0, 256, 256)])
    whole = shares(outlines, Window(0, 0, 256, 256))
    for row in (0, 64, 128, 192):
        for col in (0, 64, 128, 192):
            part = shares(outlines, Window(row, col, 64, 64))
            expected = whole[:, row : row + 64, col : col + 64]
            np.testing.assert_allclose(part, expected, atol=2e-8)


def test_many_polygons_come_in_batches_without_loss() -> None:
    discs = [shapely.Point(x, 100).buffer(120) for x in range(0, 240, 2)]
    outlines = plane(discs)
    window = Window(0, 0, 256, 256)
    batches = list(cover(outlines, window))
    assert len(batches) > 1
    assert np.array_equal(
        np.unique([p.polygon[0] for p in batches]), [p.polygon[0] for p in batches]
    )
    total = sum(part.share.sum() for part in batches)
    expected = sum(disc.intersection(shapely.box(0, 0, 256, 256)).area for disc in discs)
    assert total == pytest.approx(expected)


def test_a_polygon_on_the_globe_has_its_area_on_every_map() -> None:
    box = (177.0, -20.0, -178.0, -15.0)  # across the antimeridian, where EPSG:8857 is cut open
    areas = [
        outlines_on(read_polygons(box), Grid(crs, 1000.0, 0, 0, (1, 1))).area[0]
        for crs in ("EPSG:8857", "EPSG:8858", "EPSG:8859")
    ]
    radius_km = 6371.0071809  # of the sphere of WGS 84's area
    sphere = radius_km**2 * np.radians(5) * (np.sin(np.radians(20)) - np.sin(np.radians(15)))
    np.testing.assert_allclose(areas, areas[2], rtol=1e-6)
    assert areas[2] == pytest.approx(sphere, rel=5e-3)  # latitudes of the ellipsoid are not its


def test_the_whole_globe_covers_every_cell_of_the_map() -> None:
    for crs in ("EPSG:8857", "EPSG:8858", "EPSG:8859"):
        grid = Grid(crs, 500_000.0, -18, -36, (36, 72))
        outlines = outlines_on(read_polygons((-180.0, -90.0, 180.0, 90.0)), grid)
        found = shares(outlines, Window(0, 0, *grid.shape))[0]
        assert found.sum() * 0.25 == pytest.approx(510.0656, abs=0.01)  # million km2
        inside = np.isfinite(grid.centres()).all(axis=-1)
        assert (found[inside] > 0.4).all()


def test_a_polygon_that_crosses_itself_is_named() -> None:
    bow = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]
    square = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    grid = Grid("EPSG:8857", 10_000.0, -256, 0, (256, 256))
    shapes = [{"type": "Polygon", "coordinates": [ring]} for ring in (square, bow)]
    shapes[1]["coordinates"][0][1] = [9.0, 9.0]
    with pytest.raises(RegionError, match=r"row 1 .*is not valid \(its edges cross"):
        outlines_on(read_polygons(shapes), grid)


def test_parts_that_overlap_a_turn_apart_are_named() -> None:
    grid = Grid("EPSG:8857", 10_000.0, -256, 0, (256, 256))
    twice = shapely.MultiPolygon([shapely.box(1, 1, 5, 5), shapely.box(362, 2, 363, 3)])
    outlines = outlines_on(read_polygons([shapely.box(0, 0, 1, 1), twice]), grid)
    with pytest.raises(RegionError, match="row 1 overlaps or crosses itself"):
        list(cover(outlines, Window(0, 0, 256, 256)))


def test_a_polygon_without_area_is_named() -> None:
    line = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [0, 0], [0, 0]]]}
    with pytest.raises(RegionError, match=r"1 of 2 .*in row 1 .*fewer than three different"):
        outlines_on(read_polygons([(0, 0, 1, 1), line]), Grid("EPSG:8857", 1e4, 0, 0, (1, 1)))


def test_edges_are_straight_in_longitude_and_latitude() -> None:
    grid = Grid("EPSG:8858", 1000.0, -6000, -6000, (6000, 6000))
    outlines = outlines_on(read_polygons((-120.0, 30.0, -80.0, 50.0)), grid)
    lon = np.linspace(-120, -80, 4001)
    _, y = from_wgs84("EPSG:8858").transform(lon, np.full(lon.shape, 50.0))
    assert outlines.bounds[0, 0] == pytest.approx(-y.max() / 1000 + 6000, abs=0.02)


@pytest.mark.parametrize("size", [1.0, 10.0, 1000.0])
@pytest.mark.parametrize("crs", ["EPSG:8858", "EPSG:4326"])
def test_a_polygon_that_is_a_cell_covers_that_cell_alone(size: float, crs: str) -> None:
    grid = Grid("EPSG:8858", size, int(-4.9e6 / size), int(1.3e6 / size), (60, 60))
    rows, cols = (cells.ravel() for cells in np.mgrid[20:40, 20:40])
    x, y = (grid.col0 + cols) * size, -(grid.row0 + rows) * size
    boxes = geopandas.GeoSeries(shapely.box(x, y - size, x + size, y), crs=grid.crs).to_crs(crs)
    (found,) = cover(outlines_on(read_polygons(boxes), grid), Window(0, 0, *grid.shape))
    assert np.array_equal(found.polygon, np.arange(len(boxes)))
    assert np.array_equal(found.row, rows)
    assert np.array_equal(found.col, cols)
    np.testing.assert_allclose(found.share, 1, atol=1e-7)


@given(polygons(), st.floats(1e-6, 1e-2))
def test_a_small_polygon_has_the_shares_of_a_large_one(
    polygon: shapely.Geometry, scale: float
) -> None:
    assume(polygon.area > 1)
    small = shapely.affinity.scale(polygon, scale, scale, origin=(7.5, 6.5))
    found = shares(plane([small]), WINDOW)[0]
    expected = np.zeros((WINDOW.height, WINDOW.width))
    expected[6 - WINDOW.row, 7 - WINDOW.col] = polygon.area * scale**2
    np.testing.assert_allclose(found, expected, rtol=1e-4)
