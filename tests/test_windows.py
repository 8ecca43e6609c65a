from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401
import shapely
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from unigeo import client
from unigeo.schemas.errors import LayoutError, RegionError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.status import Status

BOX = (-8.0, -6.0, 6.0, 5.0)
DISC = shapely.Point(2, 3).buffer(7.3)


@given(st.integers(-100, 100), st.integers(-100, 100), st.integers(1, 90), st.integers(1, 90))
def test_windows_cover_every_cell_once_and_keep_to_shards(
    row0: int, col0: int, rows: int, cols: int
) -> None:
    grid = Grid("EPSG:8857", 1000.0, row0, col0, (rows, cols))
    seen = np.zeros(grid.shape, int)
    for window in grid.shard_windows(32):
        seen[window.slices] += 1
        for first, length in (
            (window.row + row0, window.height),
            (window.col + col0, window.width),
        ):
            assert first // 32 == (first + length - 1) // 32
    assert (seen == 1).all()


def test_a_region_is_a_lazy_window_with_its_crs(gulf: Path) -> None:
    field = client.open_field(gulf)
    part = field.region(BOX)
    assert part["coordinate"].dtype == np.int8
    assert not part["coordinate"].variable._in_memory
    assert part.rio.crs.to_epsg() == 8857
    assert part["aerial"].rio.crs.to_epsg() == 8857
    left, bottom, right, top = part.rio.transform_bounds("EPSG:4326")
    assert left < BOX[0] < BOX[2] < right
    assert bottom < BOX[1] < BOX[3] < top
    assert right - left < BOX[2] - BOX[0] + 2
    whole = field.dataset()
    xr.testing.assert_identical(part.load(), whole.sel(x=part.x, y=part.y).load())


def test_a_region_s_window_is_a_field_again(gulf: Path) -> None:
    field = client.open_field(gulf)
    centre = np.array([[0.0, 0.0]])
    part = field.region(BOX).unigeo
    assert part.sample(centre).equals(field.sample(centre))
    assert part.region((-2, -2, 2, 2)).sizes["x"] < part.region(BOX).sizes["x"]
    box = (-2, -2, 2, 2)
    np.testing.assert_allclose(part.zonal(box, "aerial").iloc[:, :10],
                               field.zonal(box, "aerial").iloc[:, :10])  # fmt: skip
    pieces = list(part.iter_region())
    assert len(pieces) == 4


def test_cells_outside_the_geometry_can_be_masked_lazily(gulf: Path) -> None:
    field = client.open_field(gulf)
    part = field.region(DISC, mask=True)
    assert not part["coordinate"].variable._in_memory
    plain = field.region(DISC)
    centres = part.unigeo.grid.centres()
    inside = shapely.contains_xy(DISC, centres[..., 0], centres[..., 1])
    assert 0.7 < inside.mean() < 0.85
    for name in field.modalities:
        codes = np.where(inside, plain[f"{name}_status"], Status.OUTSIDE_REGION)
        assert np.array_equal(part[f"{name}_status"], codes)
        assert np.array_equal(part[name], np.where(inside[..., None], plain[name], -128))
    assert part["aerial"].attrs == plain["aerial"].attrs
    assert part.rio.crs == plain.rio.crs
    sampled = part.unigeo.sample(centres.reshape(-1, 2))
    assert (sampled["coordinate_status"].eq("outside region") == ~inside.ravel()).all()


@pytest.mark.parametrize(
    "at",
    [
        {"y": 3}, {"x": 2, "y": 4}, {"band": 1}, {"y": slice(None, None, -2)},
        {"y": [5, 1, 1], "x": slice(2, 9)}, {"x": slice(0, 0)}, {"y": -1, "x": -1, "band": -1},
    ],
)  # fmt: skip
def test_any_part_of_a_masked_array_is_the_part_of_the_whole(gulf: Path, at: dict) -> None:
    part = client.open_field(gulf).region(DISC, mask=True)
    whole = part.load().copy()
    again = client.open_field(gulf).region(DISC, mask=True)
    assert np.array_equal(again["coordinate"].isel(at), whole["coordinate"].isel(at))


def test_pieces_are_the_region_shard_by_shard(gulf: Path) -> None:
    field = client.open_field(gulf)
    for region, mask in ((BOX, False), (DISC, True), (None, False)):
        part = field.dataset() if region is None else field.region(region, mask=mask)
        grid, cells = part.unigeo.grid, 0
        for piece in field.iter_region(region, mask=mask):
            row = piece.window.row + field.grid.row0 - grid.row0
            col = piece.window.col + field.grid.col0 - grid.col0
            at = Window(row, col, piece.window.height, piece.window.width).slices
            cells += piece.window.height * piece.window.width
            for name in field.modalities:
                assert np.array_equal(piece.stored[name], part[name].values[at])
                assert np.array_equal(piece.status[name], part[f"{name}_status"].values[at])
            assert np.array_equal(piece.lonlat, grid.centres()[at], equal_nan=True)
        assert cells == grid.shape[0] * grid.shape[1]


def test_a_piece_gives_unit_vectors(gulf: Path) -> None:
    piece = next(client.open_field(gulf).iter_region(BOX, "aerial"))
    vectors = piece.vectors("aerial")
    valid = piece.status["aerial"] == Status.VALID
    assert list(piece.stored) == ["aerial"]
    np.testing.assert_allclose(np.linalg.norm(vectors[valid], axis=-1), 1, atol=1e-6)
    assert np.isnan(vectors[~valid]).all()


def test_shards_without_a_cell_inside_are_left_out(gulf: Path) -> None:
    field = client.open_field(gulf)
    corners = shapely.MultiPolygon([shapely.box(-9, 5, -8, 6), shapely.box(8, -6, 9, -5)])
    assert len(list(field.iter_region(corners))) == 4
    assert len(list(field.iter_region(corners, mask=True))) == 2


def test_a_region_across_the_antimeridian(fiji: Path) -> None:
    part = client.open_field(fiji).region((179.0, -18.0, -179.0, -16.0))
    lon = part.unigeo.grid.centres()[..., 0]
    assert lon.max() > 179
    assert lon.min() < -179


def test_a_region_off_the_field_is_refused(gulf: Path) -> None:
    field = client.open_field(gulf)
    with pytest.raises(RegionError, match="off the field"):
        field.region((100, 40, 110, 50))
    with pytest.raises(RegionError, match="no polygon"):
        field.region([])
    with pytest.raises(LayoutError, match="no modality 'dsm'"):
        field.iter_region(BOX, "dsm")
