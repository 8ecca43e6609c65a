"""A folder of small rasters, and a store of all that is made of them: vectors, numbers, fused."""

from functools import partial
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
import torch
import zarr
from rasterio.transform import from_origin

from support import stores
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.observations.folder.folder_observations import FolderObservations
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.protocol import forms_of
from unigeo.producer.raster.covariate_columns import columns_of, describe_columns, names_of
from unigeo.producer.raster.encoding import ModelEncoder, encoder_of
from unigeo.producer.raster.local_executor import RasterReport
from unigeo.producer.raster.raster_job import Equipment, RasterJob
from unigeo.producer.raster.run import ExecutionOptions, fill
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.raster.store_lease import StoreLease, lease_store
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.geo.regions import region_of_bbox
from unigeo.schemas.store.layout import Layout

WEST, NORTH = 2.0, 49.0
SIDE = 128
"""Rows and columns of the rasters."""
PIXEL = 1 / 256
"""Side of a pixel in degrees."""
WHERE = region_of_bbox((2.05, 48.6, 2.45, 48.95), "paris")
MODALITIES = ("coordinate", "aerial", "dsm", "landcover", "fused")
DESCRIPTION = """
name = "small"
licence = "CC0-1.0"
[land]
file = "land.geojson"
[aerial]
kind = "raster"
files = ["west.tif", "east.tif"]
bands = [1, 2, 3]
patch_m = [6000, 1000]
patch_px = 32
units = "digital number"
[dsm]
kind = "raster"
files = ["dsm.tif", "fine.tif"]
bands = [1]
patch_m = 2000
patch_px = 8
[landcover]
encoder = "classes"
kind = "raster"
files = ["landcover.tif"]
bands = [1]
patch_m = 3000
patch_px = 32
[landcover.classes]
10 = "open water"
20 = "Town"
30 = "status"
"""


def write(
    path: Path, values: np.ndarray, pixel: float = PIXEL, west: float = WEST, **profile: Any
) -> None:
    """Write bands as a tiled GeoTIFF that begins in the north."""
    transform = from_origin(west, NORTH, pixel, pixel)
    own = {"crs": "EPSG:4326", "transform": transform, "dtype": values.dtype} | profile
    count, height, width = values.shape
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, **tiles, **own
    ) as file:
        file.write(values)


def write_folder(path: Path) -> None:
    """Colours with a hole in two files, heights in two that overlap, and classes."""
    rng = np.random.default_rng(0)
    colours = rng.integers(1, 255, (3, SIDE, SIDE)).astype(np.uint8)
    colours[:, 40:60, 20:50] = 0
    west, east = np.split(colours, 2, axis=2)
    write(path / "west.tif", west, nodata=0)
    write(path / "east.tif", east, west=WEST + SIDE // 2 * PIXEL, nodata=0)
    heights = (3000 + rng.normal(0, 40, (1, SIDE, SIDE)).cumsum(axis=2)).astype(np.float32)
    heights[..., 70:] = -9999
    write(path / "dsm.tif", heights, nodata=-9999)
    fine = (500 + rng.normal(0, 1, (1, 3 * SIDE, 3 * SIDE))).astype(np.float32)
    write(path / "fine.tif", fine, PIXEL / 3)
    write(path / "landcover.tif", rng.choice([0, 10, 20, 30], (1, SIDE, SIDE)).astype(np.uint8))
    land = geopandas.GeoDataFrame(geometry=[shapely.box(2.0, 48.55, 2.4, 49.0)], crs=4326)
    land.to_file(path / "land.geojson")
    (path / "observations.toml").write_text(DESCRIPTION)


def tear(path: Path) -> None:
    """Damage a tile of a raster."""
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(bytes(200))


def observe(path: Path) -> FolderObservations:
    return open_observations(path / "observations.toml", path)


def encoder_for(observations: FolderObservations) -> ModelEncoder:
    """The same untrained model every time."""
    model = UniGeoCLIP(tiny(forms_of(observations)))
    return encoder_of(model, observations, torch.device("cpu"))


def begin(
    url: Path, encoder: ModelEncoder, lease: StoreLease | None = None, store: Any = None
) -> tuple[zarr.Group, OpenedJob]:
    """A store of all modalities and their covariates, and its job; `store` writes to `url`."""
    observations = encoder.observations
    columns = columns_of(observations, MODALITIES)
    layout = Layout(
        modalities=MODALITIES,
        bands=encoder.model.settings.dimension,
        shard=16,
        chunk=8,
        covariates=names_of(columns),
    )
    grid = WHERE.grid(1500.0, 16)
    attributes = stores.attributes_of(WHERE, grid, layout)
    attributes["unigeo"]["observations"] = observations.provenance()
    again: dict[str, Any] = {}
    if lease is not None:
        again["damaged_files"] = lease.damaged_files()
        again["redo"] = partial(lease.redo, observations, grid, layout)
    described = describe_columns(columns, observations.provenance())
    group = create_field(store or url, grid, layout, attributes, covariates=described, **again)
    equipment = Equipment(encoder, observations.land)
    job = RasterJob(
        url=str(url), region=WHERE, grid=grid, layout=layout, open_equipment=lambda: equipment
    )
    return group, OpenedJob(job, equipment)


def produce(
    url: Path, encoder: ModelEncoder, *, accept_failures: bool = False, store: Any = None
) -> RasterReport:
    """Write every shard that is missing, as `unigeo-produce` does; nothing is published."""
    options = ExecutionOptions(progress=False, accept_failures=accept_failures)
    with lease_store(str(url)) as lease:
        group, job = begin(url, encoder, lease, store)
        report = fill(group, job, options, lease)
        if not report.failures:
            assert lease.wait_to_publish(group)
    return report
