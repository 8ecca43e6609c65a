"""A folder of a hundred small tiles, and a field made of their pixels."""

from functools import partial
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin

from support import stores
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.publishing.publish import publish
from unigeo.producer.raster.local_executor import RasterReport, rasterize
from unigeo.producer.raster.raster_job import Equipment
from unigeo.producer.raster.shard_encoder import Codes, ObservedCells, ShardEncoder
from unigeo.producer.raster.store_lease import lease_store
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.geo.regions import region_of_bbox
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.quantization import quantize

DESCRIPTION = """
name = "tiles"
licence = "CC0-1.0"
data = "data"
[land]
file = "land.geojson"
[aerial]
kind = "raster"
files = ["tile_*.tif"]
bands = [1]
patch_m = 800
patch_px = 4
acquired = "2020"
"""
TILES = region_of_bbox((0.01, 0.01, 0.29, 0.29), "tiles")


def write(data: Path, damage: int | None = None) -> None:
    """A hundred tiles of 32 x 32 pixels, tiled as COGs are; of one, some blocks are torn."""
    for number in range(100):
        write_tile(data, number)
    if damage is not None:
        path = data / f"tile_{damage}.tif"
        with rasterio.open(path) as file:
            offset = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
        with path.open("r+b") as raw:
            raw.seek(offset)
            raw.write(bytes(300))


def write_tile(data: Path, number: int, seed: int | None = None) -> None:
    """One tile; `seed` is another's where it is to show something else."""
    row, col = divmod(number, 10)
    rng = np.random.default_rng(number if seed is None else seed)
    values = rng.integers(1, 255, (1, 32, 32)).astype(np.uint8)
    transform = from_origin(0.03 * col, 0.03 * (10 - row), 0.03 / 32, 0.03 / 32)
    with rasterio.open(
        data / f"tile_{number}.tif", "w", driver="GTiff", count=1, height=32, width=32,
        dtype="uint8", tiled=True, blockxsize=16, blockysize=16, compress="deflate",
        crs="EPSG:4326", transform=transform,
    ) as file:  # fmt: skip
        file.write(values)


def begin(folder: Path) -> Path:
    """A description beside a folder for tiles."""
    (folder / "data").mkdir()
    box = geopandas.GeoDataFrame(geometry=[shapely.box(-1, -1, 1, 1)], crs=4326)
    box.to_file(folder / "data/land.geojson")
    (folder / "observations.toml").write_text(DESCRIPTION)
    return folder


class Means(ShardEncoder):
    """An encoder in two halves whose vectors are the pixels of a patch."""

    def __init__(self, observations: Any) -> None:
        self.observations = observations

    def batch(self, modality: str) -> int:
        return 100

    def observe(self, modality: str, lonlat: np.ndarray) -> ObservedCells:
        seen = self.observations.patches(modality, lonlat)
        return ObservedCells(seen.values, seen.valid, seen.unreadable, seen.damaged)

    def codes(self, modality: str, seen: ObservedCells) -> Codes:
        codes = quantize(seen.inputs[seen.valid].reshape(-1, 16).astype(np.float32))
        return lambda: (codes, seen.valid)


def produce(folder: Path, url: str, encoder: type[Means] = Means) -> RasterReport:
    observations = open_observations(folder / "observations.toml")
    layout = Layout(modalities=("aerial",), bands=16, shard=16, chunk=8)
    grid = TILES.grid(1000.0, 16)
    attributes = stores.attributes_of(TILES, grid, layout)
    attributes["unigeo"]["observations"] = observations.provenance()
    equipment = Equipment(encoder(observations), observations.land)
    job = stores.job_of(
        url, grid, layout, equipment.encoder, TILES, open_equipment=lambda: equipment, batch=2048
    )
    with lease_store(url) as lease:
        redo = partial(lease.redo, observations, grid, layout)
        group = create_field(url, grid, layout, attributes, lease.damaged_files(), redo)
        report = rasterize(group, stores.opened(job), progress=False, leases=lease.leases)
        if not report.failures:
            assert lease.wait_to_publish(group)
            publish(group)
    return report
