"""Cells mixed from a coarser lattice are the field's, where the field is that smooth."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import stores
from test_folded import model_of

from unigeo import client
from unigeo.producer.encoders.tower_settings import CoordinateSettings
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.raster.coordinate_detail import (
    TOLERATED,
    complete_at_m,
    describe_detail,
    detail_of,
    lattice_error,
)
from unigeo.producer.raster.coordinate_interpolation import (
    check_errors,
    check_factor,
    measured_errors,
)
from unigeo.producer.raster.cost_estimate import sample_cells
from unigeo.producer.raster.encoding import ModelEncoder, encoder_of
from unigeo.schemas.errors import ModelError, StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.attributes import read_attributes

CPU = torch.device("cpu")
SHARD = 32
DEFAULT = CoordinateSettings(width=64, depth=1, heads=1)


def encoder(factor: int, **options: Any) -> ModelEncoder:
    model = model_of(sigmas=(1.0, 16.0), noise=0.02, dimension=32, **options)
    return encoder_of(model, World(), CPU, factor)


def vectors_of(one: ModelEncoder, grid: Grid, window: Window) -> np.ndarray:
    """Unit vectors of every cell of a window, read in two batches."""
    lonlat = grid.centres(window).reshape(-1, 2)
    cells = np.flatnonzero(np.isfinite(lonlat[:, 0]))
    found = np.full((len(lonlat), 32), np.nan, np.float32)
    with ExitStack() as stack:
        observe = stack.enter_context(one.open_shard("coordinate", grid, window, lonlat, cells))
        for part in np.array_split(cells, 2):
            found[part] = one._encode("coordinate", observe(part)).numpy()
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@settings(max_examples=8, deadline=None)
@given(
    row=st.integers(-8, 7),
    col=st.integers(-4, 4),
    factor=st.sampled_from([2, 4, 8]),
    crs=st.sampled_from(["EPSG:8857", "EPSG:8858", "EPSG:8859"]),
)
def test_every_shard_of_a_fine_lattice_is_the_field(
    row: int, col: int, factor: int, crs: str
) -> None:
    grid = Grid(crs, 30_000.0 / factor, row * SHARD, col * SHARD, (SHARD, SHARD))
    window = Window(0, 0, SHARD, SHARD)
    exact = vectors_of(encoder(1), grid, window)
    between = vectors_of(encoder(factor), grid, window)
    assert (np.isfinite(exact) == np.isfinite(between)).all()
    error = np.linalg.norm(exact - between, axis=1)
    assert not (error > 0.01).any()
    assert not (error[np.isfinite(error)] == 0).all() or not np.isfinite(error).any()


def test_a_cell_does_not_depend_on_its_shard() -> None:
    grid = Grid("EPSG:8858", 20_000.0, -64, -64, (64, 64))
    one = encoder(4)
    whole = vectors_of(one, grid, Window(0, 0, 64, 64)).reshape(64, 64, -1)
    for row, col in ((0, 0), (0, 32), (32, 32)):
        part = vectors_of(one, grid, Window(row, col, 32, 32)).reshape(32, 32, -1)
        assert np.abs(part - whole[row : row + 32, col : col + 32]).max() < 1e-6


def test_cells_at_the_encoder_s_seam_are_encoded_themselves() -> None:
    """In the grid of the Americas the antimeridian lies amid cells; the plane is torn there."""
    lon = Grid("EPSG:8858", 25_000.0, -224, -320, (32, 64)).centres()[..., 0]
    grid = Grid("EPSG:8858", 25_000.0, -224, -320, (32, 64))
    assert (lon < 0).any() and (lon > 0).any()
    exact = vectors_of(encoder(1), grid, Window(0, 0, 32, 64))
    between = vectors_of(encoder(4), grid, Window(0, 0, 32, 64))
    error = np.linalg.norm(exact - between, axis=1).reshape(32, 64)
    seam = np.abs(np.diff(lon, axis=1)) > 180
    assert seam.any() and np.nanmax(error) < 0.3  # across the seam it would be about 1
    assert error[:, :-1][seam].max() < 1e-6


def test_what_interpolation_costs_is_measured_and_refused_where_it_shows() -> None:
    one = encoder(4)
    errors = {}
    for resolution_m in (2_000.0, 100_000.0):
        grid = Grid("EPSG:8857", resolution_m, -32, -32, (64, 64))
        opened = stores.opened(stores.job_of("", grid, stores.layout_of(), one))
        cells = sample_cells(opened, 20)
        assert len(cells) == 20 and (cells == sample_cells(opened, 20)).all()
        errors[resolution_m] = measured_errors(one.encode_cells, CPU, grid, 4, cells)
    check_errors(errors[2_000.0], 4)
    with pytest.raises(ModelError, match="smaller factor"):
        check_errors(errors[100_000.0], 4)
    assert 0.001 < errors[2_000.0].quantization < 0.02
    with pytest.raises(ModelError, match="does not divide a shard of 256 cells; 2, 4, 8, 16 do"):
        check_factor(3, 256)


def test_the_lattice_that_holds_all_follows_the_finest_scale() -> None:
    assert 200 <= complete_at_m(DEFAULT) <= 300  # DESIGN: about 250 m
    finer = CoordinateSettings(width=64, depth=1, heads=1, sigmas=(1.0, 16.0, 256.0, 8192.0))
    assert complete_at_m(finer) == pytest.approx(complete_at_m(DEFAULT) / 2, rel=0.1)
    for spacing_m, published in ((100, 1e-4), (250, 2e-3), (500, 1.8e-2), (1000, 0.13)):
        assert 0.5 * lattice_error(DEFAULT, spacing_m) < published
        assert published < lattice_error(DEFAULT, spacing_m)
    assert "--interpolate 2 is 4 times" in describe_detail(DEFAULT, 100.0)
    assert "leaves" in describe_detail(DEFAULT, 1000.0)
    degree = CoordinateSettings(width=64, depth=1, heads=1, kind="satclip", degree=10)
    assert lattice_error(degree, complete_at_m(degree)) <= TOLERATED < lattice_error(degree, 1e6)


def test_a_raster_says_what_it_leaves_out_and_older_ones_open(tmp_path: Path) -> None:
    layout = stores.layout_of(("coordinate",), bands=32)
    grid = stores.grid_of(stores.GULF, layout)
    told = stores.attributes_of(stores.GULF, grid, layout)
    assert read_attributes(told, "").coordinate_detail is None
    del told["unigeo"]["coordinate_detail"]  # as made before this was told
    assert read_attributes(told, "").coordinate_detail is None
    detail = detail_of(DEFAULT, grid.resolution_m, 2)
    assert not detail.complete and detail.error > 0.5
    told["unigeo"]["coordinate_detail"] = detail.model_dump(mode="json")

    from unigeo.producer.publishing.publish import publish
    from unigeo.producer.raster.local_executor import rasterize
    from unigeo.producer.storage.field_store import create_field

    group = create_field(tmp_path / "f", grid, layout, told)
    job = stores.job_of(tmp_path / "f", grid, layout, encoder(2), batch=2048)
    rasterize(group, stores.opened(job), progress=False)
    publish(group, encoder={}, encoder_settings={})
    field = client.open_field(tmp_path / "f")
    assert field.info()["coordinate_detail"]["interpolated"] == 2
    places = grid.centres().reshape(-1, 2)
    places = places[stores.GULF.contains(places) & stores.land(places)]
    true = encoder(1)("coordinate", places)[0]
    stored = field.sample(places, as_="numpy")["coordinate"]
    assert np.isfinite(stored).all() and (stored * true).sum(axis=1).min() > 0.9
    told["unigeo"]["coordinate_detail"]["interpolated"] = 1
    with pytest.raises(StoreError, match="interpolation"):
        create_field(tmp_path / "f", grid, layout, told)
