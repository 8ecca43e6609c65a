"""Covariates as they are produced: numbers of the patches that encoders see, whoever cuts them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from support import small_rasters, stores
from support.small_rasters import DESCRIPTION, MODALITIES, NORTH, PIXEL, SIDE, WEST, WHERE

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.observations.folder.folder_observations import FolderObservations
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.forms import Form
from unigeo.producer.observations.protocol import forms_of
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.pipeline.production_run import choose
from unigeo.producer.raster.centre_pixels import centre_pixels
from unigeo.producer.raster.covariate_columns import (
    columns_of,
    describe_columns,
    middle_of,
    names_of,
    side_text,
)
from unigeo.producer.raster.encoding import encoder_of
from unigeo.producer.raster.local_executor import rasterize
from unigeo.producer.raster.patch_statistics import patch_statistics
from unigeo.producer.raster.raster_job import Equipment
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region, region_of_bbox
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.status import Status


@pytest.fixture(scope="module")
def observations(small_folder: Path) -> FolderObservations:
    return small_rasters.observe(small_folder)


def in_numpy(observations: FolderObservations, modality: str, lonlat: np.ndarray) -> np.ndarray:
    """Statistics of the patches that the observations give, one value per name, in float64."""
    form, patches = observations.form(modality), observations.patches(modality, lonlat)
    pixels = patches.values.astype(np.float64)
    values = pixels.reshape(len(lonlat), form.shape[0], -1)
    # The middle of the finest view, a quarter as wide; of a view of 8 pixels there is none.
    size, bands = form.shape[1], form.shape[0] // form.views
    views = pixels.reshape(len(lonlat), form.views, bands, size, size)
    finest = views[:, form.sides_m.index(min(form.sides_m))] if size >= 32 else views[:, 0, :0]
    inner = finest[..., size * 3 // 8 : size * 5 // 8, size * 3 // 8 : size * 5 // 8]
    inner = inner.reshape(len(lonlat), -1, (size // 4) ** 2)
    if form.encoder == "classes":
        parts = [shares(values, len(form.classes)), shares(inner, len(form.classes))]
    else:
        moments = np.stack([values.mean(2), values.std(2), np.ptp(values, axis=2)], axis=-1)
        parts = [moments.reshape(len(lonlat), -1), inner.mean(axis=2)]
    return np.where(patches.valid[:, None], np.concatenate(parts, axis=1), np.nan)


def shares(codes: np.ndarray, classes: int) -> np.ndarray:
    """Share of each class in the pixels of each view, view by view."""
    found = [(codes == number).mean(axis=2) for number in range(1, classes + 1)]
    return np.stack(found, axis=-1).reshape(len(codes), -1)


def at_centres(folder: Path, names: list[str], lonlat: np.ndarray) -> np.ndarray:
    """The pixel under each point by rasterio alone, of the first file with data."""
    found: np.ndarray | None = None
    for name in names:
        with rasterio.open(folder / name) as file:
            (sampled,) = (np.array(list(file.sample(lonlat, masked=False)), np.float64),)
            inside = rasterio.transform.rowcol(file.transform, *lonlat.T)
            there = np.all([(np.array(i) >= 0) & (np.array(i) < n) for i, n in
                            zip(inside, file.shape, strict=True)], axis=0)  # fmt: skip
            sampled[~there] = np.nan
            if file.nodata is not None:
                sampled[(sampled == file.nodata).all(axis=1)] = np.nan
        found = sampled if found is None else np.where(np.isnan(found), sampled, found)
    assert found is not None
    return found


def compare(observations: FolderObservations, path: Path, count: int) -> dict[str, np.ndarray]:
    """Compare the statistics at random cells with numpy; return all numbers by name."""
    group: Any = zarr.open_group(path, mode="r", use_consolidated=False)
    unigeo: Any = group.attrs["unigeo"]
    about = unigeo["grid"]
    grid = Grid(**about | {"shape": tuple(about["shape"])})
    numbers, status = group["covariates"][...], group["covariates_status"][...]
    assert np.array_equal(~np.isnan(numbers).all(axis=2), status == Status.VALID)
    assert np.array_equal(status == Status.WATER, group["dsm_status"][...] == Status.WATER)
    rowcol = np.argwhere(np.isin(status, [Status.VALID, Status.NO_OBSERVATION]))
    rng = np.random.default_rng(1)
    rowcol = rowcol[rng.choice(len(rowcol), min(count, len(rowcol)), replace=False)]
    lonlat = grid.centres()[tuple(rowcol.T)]
    stored = dict(zip(group["name"][...].tolist(), numbers[tuple(rowcol.T)].T, strict=True))
    for one in columns_of(observations, unigeo["layout"]["modalities"]):
        expected = in_numpy(observations, one.modality, lonlat)
        found = np.stack([stored[name] for name in one.statistics], axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=one.modality)
    stored["lon"], stored["lat"] = lonlat.T
    return stored


def test_numbers_are_those_of_numpy_on_the_patches(
    observations: FolderObservations, small_product: Path, small_folder: Path
) -> None:
    stored = compare(observations, small_product, 1000)
    lonlat = np.stack([stored["lon"], stored["lat"]], axis=-1)
    assert len(lonlat) > 300
    colours = at_centres(small_folder, ["west.tif", "east.tif"], lonlat)
    for band, colour in enumerate(("red", "green", "blue")):
        found = stored[f"aerial_{colour}_point"]
        assert np.array_equal(found, colours[:, band].astype(np.float32), equal_nan=True)
    assert 0 < np.isnan(colours).any(axis=1).mean() < 0.5
    heights = at_centres(small_folder, ["dsm.tif", "fine.tif"], lonlat).astype(np.float32)
    assert np.array_equal(stored["dsm_point"], heights[:, 0], equal_nan=True)
    assert {bool(height > 1000) for height in heights[:, 0]} == {True, False}
    classes = at_centres(small_folder, ["landcover.tif"], lonlat)
    classes[classes == 0] = np.nan  # no class is numbered 0
    assert np.array_equal(stored["landcover_point"], classes[:, 0], equal_nan=True)


def test_names_units_and_sources(observations: FolderObservations) -> None:
    columns = columns_of(observations, MODALITIES)
    names = names_of(columns)
    assert [one.modality for one in columns] == ["aerial", "dsm", "landcover"]
    assert len(names) == len(set(names)) == (3 * 3 * 2 + 3 + 3) + (3 + 1) + (3 + 3 + 1)
    assert names[:3] == ("aerial_red_6km_mean", "aerial_red_6km_std", "aerial_red_6km_range")
    assert names[18:21] == tuple(f"aerial_{c}_250m_mean" for c in ("red", "green", "blue"))
    assert {"aerial_blue_1km_range", "dsm_2km_std", "dsm_point"} <= set(names)
    assert names[-7:] == (
        "landcover_3km_open_water",
        "landcover_3km_town",
        "landcover_3km_status_class",
        "landcover_750m_open_water",
        "landcover_750m_town",
        "landcover_750m_status_class",
        "landcover_point",
    )
    told = {one.name: one for one in describe_columns(columns, observations.provenance())}
    assert told["dsm_point"].unit == told["dsm_2km_std"].unit == "m"
    assert told["aerial_red_1km_mean"].unit == "digital number"
    assert told["landcover_3km_town"].unit == "1" and told["landcover_point"].is_class
    assert told["dsm_point"].source == "dsm.tif, fine.tif"
    assert told["landcover_point"].source == "landcover.tif: 10 open water, 20 Town, 30 status"


@pytest.mark.parametrize(
    ("px", "sides_m", "middle"),
    [
        (32, (16_000.0, 64_000.0), "4km"),
        (33, (64_000.0, 16_000.0), "3879m"),
        (40, (42_000.0,), "10500m"),
        (32, (16_000.5,), "4km"),
        (32, (20.0,), "5m"),
        (31, (16_000.0,), None),
    ],
)
def test_a_middle_is_named_by_its_side(
    px: int, sides_m: tuple[float, ...], middle: str | None
) -> None:
    form = Form(encoder="surface", shape=(len(sides_m), px, px), sides_m=sides_m)
    found = middle_of(form)
    assert (None if found is None else side_text(found.side_m)) == middle
    if found is not None:
        assert sides_m[found.view] == min(sides_m)
        assert found.side_m / found.px == pytest.approx(min(sides_m) / px)


def test_observations_with_other_columns_are_refused(
    observations: FolderObservations, small_folder: Path, tmp_path: Path
) -> None:
    encoder = small_rasters.encoder_for(observations)
    _, job = small_rasters.begin(tmp_path / "f.zarr", encoder)
    (tmp_path / "o.toml").write_text(DESCRIPTION.replace("patch_m = 2000", "patch_m = 2500"))
    other = open_observations(tmp_path / "o.toml", small_folder)
    equipment = Equipment(encoder_of(encoder.model, other, torch.device("cpu")), other.land)
    with pytest.raises(StoreError, match="give other covariates"):
        _ = OpenedJob(job.job, equipment).columns


def test_a_run_chooses_covariates_where_there_are_rasters(
    observations: FolderObservations,
) -> None:
    run = choose(WHERE, observations, resolution_m=1500)
    assert run.layout.covariates == names_of(columns_of(observations, run.layout.modalities))
    assert not choose(WHERE, observations, resolution_m=1500, covariates=False).layout.covariates
    one = choose(WHERE, observations, resolution_m=1500, modalities="coordinate,dsm")
    assert one.layout.covariates == (
        "dsm_2km_mean", "dsm_2km_std", "dsm_2km_range", "dsm_point"
    )  # fmt: skip
    assert columns_of(World(), ("coordinate", "aerial", "dsm")) == ()


@settings(max_examples=40, deadline=None)
@given(
    points=st.integers(1, 5),
    channels=st.integers(1, 4),
    side=st.integers(1, 9),
    kind=st.sampled_from(["uint8", "float32", "classes"]),
    seed=st.integers(0, 10_000),
)
def test_statistics_of_a_patch_do_not_depend_on_its_neighbours(
    points: int, channels: int, side: int, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (points, channels, side, side)
    names = ("a", "b", "c")
    if kind == "classes":
        form = Form(encoder="classes", shape=shape[1:], views=channels, classes=names)
        pixels = rng.integers(0, 4, shape).astype(np.uint8)
    else:
        form = Form(encoder="image", shape=shape[1:], dtype=kind)  # type: ignore[arg-type]
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        if kind == "float32":
            pixels = (8000 + rng.normal(0, 1e-2, shape)).astype(np.float32)
    found = patch_statistics(torch.from_numpy(pixels), form).numpy()
    alone = [patch_statistics(torch.from_numpy(one[None]), form).numpy()[0] for one in pixels]
    np.testing.assert_allclose(found, alone, rtol=1e-6, atol=1e-9)
    flat = pixels.reshape(points, channels, -1).astype(np.float64)
    if kind == "classes":
        expected = np.stack([(flat == k).mean(axis=2) for k in (1, 2, 3)], axis=-1)
    else:
        span = flat.max(axis=2) - flat.min(axis=2)
        expected = np.stack([flat.mean(axis=2), flat.std(axis=2), span], axis=-1)
    np.testing.assert_allclose(found, expected.reshape(points, -1), rtol=1e-5, atol=1e-6)


def test_centres_beyond_a_raster_have_no_pixel(observations: FolderObservations) -> None:
    rasters = observations.rasters_of("landcover")
    assert rasters is not None
    edge = WEST + SIDE * PIXEL
    lonlat = np.array([[WEST + 1e-9, NORTH - 1e-9], [edge - 1e-9, 48.7], [edge + 1e-9, 48.7],
                       [-170.0, 10.0]])  # fmt: skip
    read = centre_pixels(rasters, lonlat)
    assert np.isnan(read.values[2:]).all() and not read.unreadable.any() and read.damaged == ()
    assert centre_pixels(rasters, np.empty((0, 2))).values.shape == (0, 1)


@pytest.mark.slow
def test_a_thousand_cells_of_real_data(shared_data: Path, tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "docs/examples/conus_open.toml"
    observations = open_observations(example, shared_data)
    where: Region = region_of_bbox((-120.5, 46.5, -117.5, 48.5), "north")
    model = UniGeoCLIP(tiny(forms_of(observations)))
    encoder = encoder_of(model, observations, torch.device("cpu"))
    modalities = ("aerial", "dsm", "nightlights")
    columns = columns_of(observations, modalities)
    bands = model.settings.dimension
    layout = Layout(modalities=modalities, bands=bands, covariates=names_of(columns))
    grid = where.grid(5000.0)
    attributes = stores.attributes_of(where, grid, layout)
    described = describe_columns(columns, observations.provenance())
    url = tmp_path / "north.zarr"
    group = create_field(url, grid, layout, attributes, covariates=described)
    job = stores.job_of(url, grid, layout, encoder, where, batch=2048)
    rasterize(group, OpenedJob(job, Equipment(encoder, observations.land)), progress=False)
    stored = compare(observations, url, 1000)
    assert len(stored["lon"]) == 1000
    lonlat = np.stack([stored["lon"], stored["lat"]], axis=-1)
    heights = at_centres(shared_data, ["rasters/elevation_conus_1arcmin.tif"], lonlat)
    assert np.array_equal(stored["dsm_point"], heights[:, 0].astype(np.float32), equal_nan=True)
