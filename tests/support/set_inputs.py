"""Small files of every kind that a set of observations is made of, and the set's settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.transform import from_origin

from unigeo.producer.sources import set_builder
from unigeo.producer.sources.build_set import observe_set, prepare
from unigeo.producer.sources.set_description import read_set_description

BOX = (-77.075, 38.825, -77.062, 38.835)
SET = """
name = "files"
licence = "CC0-1.0"
areas = "areas.geojson"
[where]
region = "region.geojson"
count = 24
cell_level = 18
balance_level = 14
weights = "weights.tif"
candidates = "candidates.csv"
[kept]
shard_level = 14
shard_places = 6
[aerial]
kind = "files"
files = ["aerial_*.tif"]
resolution_m = 1
patch_px = 16
[dsm]
kind = "files"
files = ["dsm.tif"]
ground = "terrain"
terrain_files = ["dtm.tif"]
resolution_m = 1
patch_px = 16
[street]
kind = "folder"
files = "street/*.jpg"
table = "street.csv"
blurred = true
radius_m = 5000
patch_px = 16
[text]
kind = "files"
files = ["words.geojson"]
landcover = "cover.tif"
radius_m = 2000
"""


def raster(name: str, seed: int) -> None:
    """Random pixels whose kind the name tells; all files have the same size."""
    rng = np.random.default_rng(seed)
    bands = 3 if name.startswith("aerial") else 1
    kind = np.float32 if name.startswith("d") else np.uint8
    values = np.full((bands, 60, 70), 10 + seed % 3, kind)
    values[:, ::2] += rng.integers(0, 9, (bands, 30, 70)).astype(kind)
    with rasterio.open(
        name, "w", driver="GTiff", width=70, height=60, count=bands, dtype=kind, crs=4326,
        transform=from_origin(BOX[0] - 0.001, BOX[3] + 0.001, 0.0003, 0.0003),
    ) as file:  # fmt: skip
        file.write(values)


def polygons(name: str, seed: int) -> None:
    frame = {"name": [f"area {seed}"], "geometry": [shapely.box(*BOX)]}
    if seed:
        frame["geometry"] = [shapely.box(BOX[0], BOX[1], BOX[2] - 0.0001, BOX[3])]
    geopandas.GeoDataFrame(frame, crs=4326).to_file(name)


def candidates(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(BOX[:2], BOX[2:], (300, 2)).T
    pd.DataFrame({"lon": lon, "lat": lat}).to_csv(name, index=False)


def features(name: str, seed: int) -> None:
    shapes = [shapely.Point(BOX[0] + 0.006, BOX[1] + 0.005 + k * 1e-4) for k in range(3)]
    kinds = ["school", "bakery", "clinic", "bank"][seed % 2 :][:3]
    geopandas.GeoDataFrame({"amenity": kinds}, geometry=shapes, crs=4326).to_file(name)


def image(name: str, seed: int) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Image.new("RGB", (40, 40), (seed * 40 % 255, 9, 9)).save(name)


def street(name: str, seed: int) -> None:
    lat = BOX[1] + 0.005 + seed * 1e-5
    Path(name).write_text(f"file,lat,lon,date\na.jpg,{lat:.6f},{BOX[0] + 0.006:.6f},2019\n")


WRITERS: dict[str, Callable[[str, int], None]] = {
    "aerial_20200101.tif": raster, "dsm.tif": raster, "dtm.tif": raster, "cover.tif": raster,
    "weights.tif": raster, "areas.geojson": polygons, "region.geojson": polygons,
    "candidates.csv": candidates, "words.geojson": features, "street/a.jpg": image,
    "street.csv": street,
}  # fmt: skip


def write_all() -> None:
    """Write every file, and `set.toml`, into the working directory."""
    for name, write in WRITERS.items():
        write(name, 0)
    Path("set.toml").write_text(SET)


def stopped(patch: pytest.MonkeyPatch, out: str, shards: int = 2) -> None:
    """A set of which only some shards were built."""
    build, left = set_builder._build_shard, iter(range(shards))

    def some(*arguments: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return build(*arguments)

    with patch.context() as inner:
        inner.setattr(set_builder, "_build_shard", some)
        with pytest.raises(KeyboardInterrupt):
            observe_set(prepare(read_set_description(Path("set.toml"))), out, workers=1)
    assert len(list(Path(out).glob("shards/*.parquet"))) == shards


def tree(folder: str) -> dict[str, bytes]:
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
