"""Make the open observations that come with the producer, from the data of docs/results.md.

    python -m benchmarks.producer.open_conus DATA      # writes producer/observations/open_conus

Rasters of 500 m are averaged to about 1 km, soil to about 5 km; pictures are compressed as JPEG or
WebP, heights and greenness within a stated error. Of the table of places the position and the
text are kept, of the states their outlines, simplified. `files.json` holds the hash of every source
and of every file made from it.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
from rasterio.enums import Resampling

from unigeo.producer.observations.open_conus import FOLDER

Profile = Mapping[str, Any]
_LOSSLESS: Profile = {"compress": "zstd", "zstd_level": 22, "predictor": 2, "interleave": "band"}
_WITHIN: Profile = {"compress": "lerc_zstd", "interleave": "band"}
_PICTURE: Profile = {"compress": "jpeg", "jpeg_quality": 85, "interleave": "band"}
RASTERS: Mapping[str, tuple[str, int, int, Profile]] = {
    "aerial": ("bluemarble_conus_500m.tif", 2, 1, {"compress": "webp", "webp_level": 80}),
    "nightlights": ("nightlights_conus_500m.tif", 2, 1, _PICTURE),
    "dsm": ("elevation_conus_1arcmin.tif", 1, 1, {**_WITHIN, "max_z_error": 2}),
    "greenness": ("ndvi_monthly_conus_10arcmin.tif", 1, 1, {**_WITHIN, "max_z_error": 50}),
    "seasons": ("bluemarble_seasons_conus_4arcmin.tif", 1, 1, _PICTURE),
    "soil": ("soil_texture_conus_2600m.tif", 2, 4, _LOSSLESS),
    "landcover": ("landcover_igbp_conus_3arcmin.tif", 1, 1, _LOSSLESS),
}
"""Of each modality its source, the pixels averaged along a side, the step of its values, and the
compression."""
LAND, PLACES = "us_states_5m.parquet", "places_text.parquet"
SIMPLIFIED_DEG = 0.003
"""Distance, degrees, within which outlines are simplified; some 300 m."""
_TABLE: Mapping[str, Any] = {"compression": "zstd", "compression_level": 22, "index": False}


def make_raster(source: Path, out: Path, side: int, step: int, profile: Profile) -> None:
    """Write a raster again, averaged and compressed.

    Args:
        source: the raster.
        out: file of the new one.
        side: pixels along each side of the square that is averaged.
        step: whole number that values are rounded to multiples of.
        profile: options of the GeoTIFF driver.
    """
    with rasterio.open(source) as dataset:
        shape = (dataset.count, dataset.height // side, dataset.width // side)
        values = dataset.read(out_shape=shape, resampling=Resampling.average)
        scale = dataset.width / shape[2], dataset.height / shape[1]
        kept = {"crs": dataset.crs, "nodata": dataset.nodata}
        transform = dataset.transform * dataset.transform.scale(*scale)
    if step > 1:
        info = np.iinfo(values.dtype)
        rounded = np.clip(np.rint(values / step) * step, max(info.min, 1), info.max)
        values = np.where(values == kept["nodata"], values, rounded).astype(values.dtype)
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    shape_and_type = {"count": shape[0], "height": shape[1], "width": shape[2]}
    with rasterio.open(
        out, "w", driver="GTiff", dtype=values.dtype, transform=transform,
        **shape_and_type, **kept, **tiles, **profile,
    ) as dataset:  # fmt: skip
        dataset.write(values)


def main() -> None:
    """Write the files, and print their sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="data folder")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the files")
    arguments = parser.parse_args()
    data, out = arguments.data, arguments.out
    out.mkdir(parents=True, exist_ok=True)
    made: dict[str, Path] = {}
    for name, (file, side, step, profile) in RASTERS.items():
        made[f"{name}.tif"] = data / "rasters" / file
        make_raster(made[f"{name}.tif"], out / f"{name}.tif", side, step, profile)
    made["places.parquet"] = data / "tables" / PLACES
    places = pd.read_parquet(made["places.parquet"])[["lon", "lat", "text"]]
    places.round({"lon": 4, "lat": 4}).to_parquet(out / "places.parquet", **_TABLE)
    made["land.parquet"] = data / "vectors" / LAND
    land = gpd.read_parquet(made["land.parquet"])[["geometry"]]
    land.geometry = land.geometry.simplify(SIMPLIFIED_DEG)
    land.to_parquet(out / "land.parquet", **_TABLE)
    files = {
        name: {"bytes": (out / name).stat().st_size, "sha256": _sha256(out / name),
               "source": source.name, "source_sha256": _sha256(source)}
        for name, source in made.items()
    }  # fmt: skip
    (out / "files.json").write_text(json.dumps(files, indent=1) + "\n")
    for name, about in files.items():
        print(f"{name:18} {about['bytes'] / 1e6:6.2f} MB  from {about['source']}")
    print(f"{'together':18} {sum(about['bytes'] for about in files.values()) / 1e6:6.2f} MB")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
