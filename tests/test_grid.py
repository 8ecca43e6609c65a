from itertools import product

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Proj, Transformer

from unigeo.schemas.errors import LayoutError, OutsideGridError, RegionError
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, Grid
from unigeo.schemas.geo.window import Window

CRSS = sorted(CENTRAL_MERIDIANS)
crss = st.sampled_from(CRSS)
lons = st.floats(-180, 180)
lats = st.floats(-90, 90)


@given(crs=crss, lon=st.floats(-179, 179), lat=st.floats(-85, 85))
def test_the_projection_keeps_area(crs: str, lon: float, lat: float) -> None:
    projection = Proj(CRS.from_user_input(crs))
    assert projection.get_factors(lon, lat).areal_scale == pytest.approx(1, abs=1e-6)


@given(
    crs=crss, row=st.integers(-3000, 3000), col=st.integers(-3000, 3000), size=st.floats(50, 5e4)
)
def test_a_cell_holds_its_own_centre(crs: str, row: int, col: int, size: float) -> None:
    grid = Grid(crs, size, row, col, (3, 4))
    centres = grid.centres()
    on_globe = ~np.isnan(centres[..., 0])
    found, inside = grid.locate(centres[on_globe])
    assert inside.all()
    assert np.array_equal(found, np.argwhere(on_globe))


@given(rows=st.integers(1, 40), cols=st.integers(1, 40), cells=st.integers(1, 17))
def test_windows_cover_each_cell_once(rows: int, cols: int, cells: int) -> None:
    grid = Grid("EPSG:8857", 1000.0, 0, 0, (rows, cols))
    seen = np.zeros(grid.shape, int)
    for window in grid.windows(cells):
        seen[window.slices] += 1
    assert (seen == 1).all()


@given(crs=crss, lon=lons, lat=lats)
def test_every_point_on_earth_has_one_cell(crs: str, lon: float, lat: float) -> None:
    world = Grid(crs, 100_000.0, -100, -200, (200, 400))
    rowcol = world.cells(np.array([[lon, lat]]))
    x, y = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(lon, lat)
    left = (world.col0 + rowcol[0, 1]) * world.resolution_m
    top = -(world.row0 + rowcol[0, 0]) * world.resolution_m
    rounding = 1e-6  # metres: a point this near an edge may fall to either side
    assert left - rounding <= x < left + world.resolution_m + rounding
    assert top - world.resolution_m - rounding < y <= top + rounding


def test_the_antimeridian_the_poles_and_outside_are_distinguished() -> None:
    world = Grid("EPSG:8857", 100_000.0, -100, -200, (200, 400))
    places = np.array([[180.0, 10], [-180, 10], [179.9999, 10], [-179.9999, 10], [0, 90], [0, -90]])
    rowcol, inside = world.locate(places)
    assert inside.all()
    assert rowcol[2, 1] - rowcol[3, 1] > 300  # the map's two ends, though 22 m apart
    assert rowcol[4, 0] < rowcol[0, 0] < rowcol[5, 0]
    north_america = Grid("EPSG:8858", 25_000.0, -256, -256, (256, 512))
    rowcol, inside = north_america.locate(places)
    assert not inside[5]
    assert (rowcol[~inside] == -1).all()


def test_cells_off_the_globe_have_no_centre() -> None:
    world = Grid("EPSG:8857", 200_000.0, -50, -100, (100, 200))
    on_globe = ~np.isnan(world.centres()[..., 0])
    area = on_globe.sum() * world.resolution_m**2
    assert area == pytest.approx(5.1007e14, rel=5e-3)  # of the ellipsoid
    assert not on_globe[0, 0]


def test_grids_of_one_lattice_align() -> None:
    large = Grid("EPSG:8858", 500.0, -9000, -300, (600, 600))
    small = Grid("EPSG:8858", 500.0, -8900, -200, (100, 100))
    assert np.array_equal(large.centres(Window(100, 100, 100, 100)), small.centres())


def test_the_affine_is_what_rasterio_reads() -> None:
    grid = Grid("EPSG:8858", 25_000.0, -256, -256, (256, 512))
    affine = Affine(*grid.affine)
    assert affine.a * 10.5 + affine.b * 20.5 + affine.c == grid.x[10]
    assert affine.d * 10.5 + affine.e * 20.5 + affine.f == grid.y[20]
    assert grid.bounds == (-6_400_000.0, 0.0, 6_400_000.0, 6_400_000.0)


def test_points_off_the_grid_are_named() -> None:
    grid = Grid("EPSG:8858", 25_000.0, -256, -256, (256, 512))
    with pytest.raises(
        OutsideGridError, match=r"1 of 2 points .* index 1: longitude 5, latitude 52"
    ):
        grid.cells(np.array([[-100.0, 40], [5, 52]]))


@pytest.mark.parametrize(
    "wrong",
    [("EPSG:4326", 10.0, (2, 2)), ("EPSG:8857", -1.0, (2, 2)), ("EPSG:8857", np.nan, (2, 2)),
     ("EPSG:8857", 10.0, (0, 2))],
)  # fmt: skip
def test_a_grid_that_cannot_be_is_refused(wrong: tuple[str, float, tuple[int, int]]) -> None:
    crs, size, shape = wrong
    with pytest.raises(RegionError):
        Grid(crs, size, 0, 0, shape)


@settings(max_examples=60)
@given(
    crs=crss,
    row=st.integers(-9000, 9000),
    col=st.integers(-20000, 20000),
    size=st.sampled_from([30.0, 100.0, 1000.0, 25_000.0, 400_000.0]) | st.floats(50, 1e6),
)
def test_centres_are_proj_s_to_the_last_bit(crs: str, row: int, col: int, size: float) -> None:
    """And a centre is off the globe where PROJ does not bring it back to itself."""
    grid = Grid(crs, size, row, col, (24, 16))
    to_map = Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    x, y = np.meshgrid(grid.x, grid.y)
    lon, lat = to_map.transform(x, y, direction="INVERSE")
    x_again, y_again = to_map.transform(lon, lat)
    with np.errstate(invalid="ignore"):
        off = ~(np.hypot(x_again - x, y_again - y) < 1e-3)
    wanted = np.stack([lon, lat], axis=-1)
    wanted[off] = np.nan
    assert np.array_equal(grid.centres(), wanted, equal_nan=True)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    origin, side = st.integers(-3000, 3000), st.integers(1, 12)
    size = st.sampled_from([100.0, 1000.0, 25_000.0]) | st.floats(50, 5e4)
    return Grid(draw(crss), draw(size), draw(origin), draw(origin), (draw(side), draw(side)))


@st.composite
def windows(draw: st.DrawFn, grid: Grid) -> Window:
    (rows, cols) = grid.shape
    row, col = draw(st.integers(0, rows - 1)), draw(st.integers(0, cols - 1))
    return Window(row, col, draw(st.integers(1, rows - row)), draw(st.integers(1, cols - col)))


@given(data=st.data(), grid=grids())
def test_a_crop_s_cells_are_those_of_the_whole(data: st.DataObject, grid: Grid) -> None:
    window = data.draw(windows(grid))
    part = grid.crop(window)
    assert np.array_equal(part.centres(), grid.centres(window), equal_nan=True)
    assert np.array_equal(part.x, grid.x[window.slices[1]])
    assert grid.offset_of(part) == (window.row, window.col)
    assert grid.of_centres(part.x, part.y) == part
    assert grid.crop(grid.full_window) == grid


@given(data=st.data(), grid=grids())
def test_a_crop_of_a_crop_is_one_crop(data: st.DataObject, grid: Grid) -> None:
    outer = data.draw(windows(grid))
    inner = data.draw(windows(grid.crop(outer)))
    assert grid.crop(outer).crop(inner) == grid.crop(inner.shifted(outer.row, outer.col))


@given(data=st.data(), grid=grids(), cells=st.integers(1, 9))
def test_padding_is_undone_by_a_crop(data: st.DataObject, grid: Grid, cells: int) -> None:
    assert grid.pad(cells).crop(grid.full_window.shifted(cells, cells)) == grid


@given(grid=grids(), factor=st.sampled_from([1, 2, 4, 8, 64]))
def test_refining_is_undone_by_coarsening(grid: Grid, factor: int) -> None:
    """To the last bit, as the factors are powers of two."""
    fine = grid.refine(factor)
    assert fine.coarsen(factor) == grid
    assert fine.bounds == pytest.approx(grid.bounds, rel=1e-12, abs=1e-6)


@given(grid=grids(), factor=st.sampled_from([3, 5, 7]))
def test_a_cell_s_centre_is_that_of_its_middle_cell(grid: Grid, factor: int) -> None:
    fine, middle = grid.refine(factor), slice(factor // 2, None, factor)
    assert fine.x[middle] == pytest.approx(grid.x, rel=1e-12, abs=1e-6)
    assert fine.y[middle] == pytest.approx(grid.y, rel=1e-12, abs=1e-6)
    centres, own = grid.centres(), fine.centres()[middle, middle]
    known = np.isfinite(centres) & np.isfinite(own)
    assert own[known] == pytest.approx(centres[known], abs=1e-6)


@given(grid=grids(), cells=st.integers(1, 40))
def test_an_aligned_grid_is_the_smallest_around(grid: Grid, cells: int) -> None:
    wide = grid.align(cells)
    assert wide.align(cells) == wide
    assert wide.crop(Window(*wide.offset_of(grid), *grid.shape)) == grid
    assert all(0 <= offset < cells for offset in wide.offset_of(grid))
    assert all(wide.shape[k] - grid.shape[k] <= 2 * (cells - 1) for k in (0, 1))
    coarse = wide.coarsen(cells)
    assert coarse.shape == (wide.shape[0] // cells, wide.shape[1] // cells)
    assert coarse.bounds == pytest.approx(wide.bounds, rel=1e-12)


@pytest.mark.parametrize(
    "window", [Window(-1, 0, 1, 1), Window(0, 2, 1, 3), Window(3, 0, 1, 1), Window(0, 0, 0, 1)]
)
def test_a_window_that_is_not_in_the_grid_is_refused(window: Window) -> None:
    with pytest.raises(RegionError):
        Grid("EPSG:8857", 1000.0, 0, 0, (3, 4)).crop(window)


@pytest.mark.parametrize("corner_and_shape", [(1, 0, 4, 4), (0, 2, 4, 4), (0, 0, 6, 4)])
def test_a_grid_that_is_not_whole_coarse_cells_is_refused(
    corner_and_shape: tuple[int, int, int, int],
) -> None:
    row, col, rows, cols = corner_and_shape
    with pytest.raises(LayoutError, match="cannot be put together 4 by 4"):
        Grid("EPSG:8857", 1000.0, row, col, (rows, cols)).coarsen(4)


@given(data=st.data(), grid=grids(), cells=st.integers(1, 20))
def test_blocks_are_the_squares_that_hold_a_window_s_cells(
    data: st.DataObject, grid: Grid, cells: int
) -> None:
    window = data.draw(windows(grid))
    block = np.stack(np.mgrid[window.slices], axis=-1).reshape(-1, 2) // cells
    held = {(row, col) for row, col in block.tolist()}
    assert set(product(*window.blocks(cells))) == held


@given(data=st.data(), grid=grids())
def test_a_clipped_window_holds_the_cells_of_both(data: st.DataObject, grid: Grid) -> None:
    one, other = data.draw(windows(grid)), data.draw(windows(grid))
    both = np.zeros(grid.shape, int)
    both[one.slices] += 1
    both[other.slices] += 1
    if (both == 2).any():
        clipped = np.zeros(grid.shape, bool)
        clipped[one.clipped(other).slices] = True
        assert np.array_equal(clipped, both == 2)
