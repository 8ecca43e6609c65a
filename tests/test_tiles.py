"""Patches cut on the device out of a shard's blocks are those cut one by one, bit for bit."""

import json
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import scenes
from test_rasters import write

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import CoordinateSettings, ImageSettings
from unigeo.producer.observations.folder.folder_observations import FolderObservations
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.patches import Gap
from unigeo.producer.observations.raster_files.modality_rasters import ModalityRasters
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.patch_frames import Frame
from unigeo.producer.observations.raster_files.raster_patches import cut
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.producer.raster import patch_mosaic
from unigeo.producer.raster.encoding import encoder_of
from unigeo.producer.raster.patch_mosaic import Mosaic, UnreadableError
from unigeo.schemas.geo.grid import CENTRAL_MERIDIANS, Grid
from unigeo.schemas.geo.projection import equal_earth_m
from unigeo.schemas.geo.window import Window

HERE = (-122.33, 47.61)
CPU = torch.device("cpu")
STEP_M = 10.0
SIDE = 700
"""Pixels of a raster: three blocks a side, the last one not whole."""


def pixels(seed: int, bands: int, dtype: type) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(1, 255, (bands, SIDE, SIDE)).astype(dtype)


def sources_of(folder: Path, dtype: type, bands: int) -> list[RasterSource]:
    """Two rasters of other CRSs that overlap; the first has holes, the second is whole."""
    found = []
    for number, crs in enumerate(("EPSG:32610", "EPSG:32611")):
        x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(*HERE)
        corner = (x - STEP_M * SIDE * (0.7 - 0.4 * number), y + STEP_M * SIDE / 2)
        values = pixels(number, bands, dtype)
        if number == 0:
            values[:, 100:180, 300:420] = 0
            values[:, ::97, ::89] = 0
        nodata = {"nodata": 0} if number == 0 else {}
        path = write(folder / f"{number}.tif", values, crs, corner, STEP_M, **nodata)
        found.append(open_source(path, tuple(range(1, bands + 1)), None, path.name))
    return found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[RasterSource]:
    return sources_of(tmp_path_factory.mktemp("pictures"), np.uint8, 3)


@pytest.fixture(scope="module")
def heights(tmp_path_factory: pytest.TempPathFactory) -> list[RasterSource]:
    return sources_of(tmp_path_factory.mktemp("heights"), np.float32, 1)


def around(seed: int, count: int) -> np.ndarray:
    """Places on the rasters, across their edges and beyond."""
    rng = np.random.default_rng(seed)
    return np.array(HERE) + rng.uniform((-0.09, -0.05), (0.09, 0.05), (count, 2))


def same(mosaic: Mosaic, rasters: ModalityRasters, lonlat: np.ndarray) -> set[int]:
    """Compare the two ways; the gaps that occur."""
    values, gaps = mosaic.cut(mosaic.look(lonlat))
    views = [
        cut(rasters.sources, lonlat, frame, rasters.dtype, rasters.min_valid)
        for frame in rasters.frames
    ]
    for number, view in enumerate(views):
        bands = len(rasters.sources[0].bands)
        ours = values[:, number * bands : (number + 1) * bands].numpy()
        theirs, seen = view.patches.values, view.observed[:, None]
        off = (ours != theirs) & np.broadcast_to(seen, ours.shape)
        assert not off[view.gaps == 0].any()
        np.testing.assert_allclose(ours.astype(float), theirs, rtol=1e-6, atol=1e-4)
    expected = np.max([view.gaps for view in views], axis=0)
    assert (gaps.numpy() == expected).all()
    return set(expected.tolist())


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@example(seed=71, patch_m=1500.0)  # one lies just off the first of two rasters
@given(seed=st.integers(0, 999), patch_m=st.sampled_from([90.0, 320.0, 1500.0]))
def test_tiles_are_the_patches(
    pictures: list[RasterSource], heights: list[RasterSource], seed: int, patch_m: float
) -> None:
    for sources, dtype in ((pictures, np.uint8), (heights, np.float32)):
        frames = [Frame(patch_m, 16), Frame(2 * patch_m, 16)]
        rasters = ModalityRasters(sources, frames, dtype, 0.5, lambda gaps: None)
        mosaic = Mosaic(rasters, CPU)
        for part in range(2):  # the second finds blocks of the first
            same(mosaic, rasters, around(seed + part, 25))
        mosaic.close()


@pytest.mark.parametrize("name", ["tiff", "netcdf4", "zarr2", "vrt"])
def test_numbers_of_every_type_and_format_are_the_patches(name: str, tmp_path: Path) -> None:
    """One byte, two, scaled and floating, with holes."""
    write = scenes.tiff if name == "tiff" else scenes.LOSSLESS[name][0]
    rng = np.random.default_rng(4)
    for dtype, numbers in (
        ("uint8", {}),
        ("uint16", {"nodata": 0}),
        ("int16", {"scale": 0.1, "offset": -3.0, "nodata": 0}),
        ("float32", {"nodata": 0.0}),
    ):
        values = rng.integers(1, 99, (3, 301, 277)).astype(dtype)
        values[:, ::11, ::7] = 0
        values[:, 100:150, 90:200] = 0
        source = open_source(
            write(tmp_path / f"{dtype}.tif", values, numbers), (1, 2, 3), None, "s"
        )
        kind = np.uint8 if source.small else np.float32
        frames = [Frame(150.0, 16), Frame(620.0, 16)]
        rasters = ModalityRasters([source], frames, kind, 0.5, lambda gaps: None)
        mosaic = Mosaic(rasters, CPU)
        same(mosaic, rasters, scenes.places(values, 40, seed=1))
        mosaic.close()


def test_blocks_are_decoded_once_for_all_batches_of_a_shard(pictures: list[RasterSource]) -> None:
    frame = Frame(320.0, 32)
    rasters = ModalityRasters(pictures, [frame], np.uint8, 0.5, lambda gaps: None)
    mosaic = Mosaic(rasters, CPU)
    lonlat = around(0, 300)
    for part in np.array_split(lonlat, 10):
        mosaic.look(part)
    assert 9 <= mosaic.decoded <= 2 * 9  # of two rasters of 3 x 3 blocks
    before = mosaic.decoded
    mosaic.look(lonlat)
    assert mosaic.decoded == before
    mosaic.close()


def test_a_pool_that_is_too_small_gives_the_same(
    pictures: list[RasterSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    rasters = ModalityRasters(pictures, [Frame(320.0, 16)], np.uint8, 0.5, lambda gaps: None)
    whole = Mosaic(rasters, CPU)
    monkeypatch.setattr(patch_mosaic, "CACHE_BYTES", {"cpu": 3 * 4 * 256**2})
    monkeypatch.setattr(patch_mosaic, "PIXELS", {"cpu": 5 * 256})
    mosaic = Mosaic(rasters, CPU)
    gaps = set().union(*(same(mosaic, rasters, around(seed, 3)) for seed in range(12)))
    assert {Gap.NONE, Gap.OUTSIDE} <= gaps
    for seed in range(12):
        whole.look(around(seed, 3))
    assert mosaic.decoded > whole.decoded  # some left and came again
    whole.close()
    mosaic.close()


TOML = """
name = "small"
licence = "CC0-1.0"
[land]
file = "land.geojson"
[aerial]
kind = "raster"
files = ["*.tif"]
bands = [1, 2, 3]
patch_m = 320
patch_px = 16
"""


@pytest.fixture(scope="module")
def folder(pictures: list[RasterSource]) -> FolderObservations:
    path = Path(pictures[0].path).parent
    square = shapely.geometry.mapping(shapely.Point(HERE).buffer(1))
    feature = {"type": "Feature", "properties": {}, "geometry": square}
    (path / "land.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [feature]})
    )
    (path / "observations.toml").write_text(TOML)
    return open_observations(path / "observations.toml")


def test_a_shard_s_codes_are_those_of_its_cells(folder: FolderObservations) -> None:
    aerial = ImageSettings(rows=16, cols=16, patch=8, width=16, depth=1, heads=1)
    point = CoordinateSettings(width=16, depth=0, heads=1)
    model = UniGeoCLIP(ModelSettings(dimension=16, towers={"coordinate": point, "aerial": aerial}))
    encoder = encoder_of(model, folder, CPU)
    grid = Grid("EPSG:8858", 700.0, 0, 0, (16, 16))
    here = equal_earth_m(np.array([HERE]), CENTRAL_MERIDIANS[grid.crs])
    row, col = grid.position_m(*here)[0].astype(int)
    grid = Grid("EPSG:8858", 700.0, int(row) - 8, int(col) - 8, (16, 16))
    lonlat = grid.centres().reshape(-1, 2)
    cells = np.arange(256)
    window = Window(0, 0, 16, 16)
    with encoder.open_shard("aerial", grid, window, lonlat, cells) as observe:
        for part in np.array_split(cells, 3):
            codes, valid = encoder.codes("aerial", observe(part))()
            alone, seen = encoder.codes("aerial", encoder.observe("aerial", lonlat[part]))()
            assert (valid == seen).all()
            assert np.abs(codes.astype(int) - alone).max() <= 1
    counted = folder.gaps()["aerial"]
    assert counted and all(count % 2 == 0 for count in counted.values())  # both ways count


def test_damaged_blocks_are_left_to_the_one_who_names_them(tmp_path: Path) -> None:
    compressed = write(
        tmp_path / "c.tif", pixels(1, 3, np.uint8), "EPSG:32611", (0, 0), STEP_M, compress="deflate"
    )
    content = bytearray(compressed.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    damaged = tmp_path / "d.tif"
    damaged.write_bytes(content)
    source = open_source(damaged, (1, 2, 3), None, "d.tif")
    west, south, east, north = source.reach
    lonlat = np.random.default_rng(0).uniform((west, south), (east, north), (40, 2))
    rasters = ModalityRasters([source], [Frame(320.0, 16)], np.uint8, 0.5, lambda gaps: None)
    with pytest.raises(UnreadableError):
        Mosaic(rasters, CPU).look(lonlat)
