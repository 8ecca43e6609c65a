"""The same vectors in geotessera's own layouts, so that its samplers can read them offline.

Its Zarr store: one group per UTM zone, int8 (time, band, y, x) in inner chunks of 32 x 32 cells and
shards of 4096 x 4096, Blosc zstd level 3, a float32 scale per cell. Its tile: the int8 vectors as
one `.npy`, the scales as another, and a GeoTIFF that says where they lie.

Source: geotessera 0.11, `zarr.py` (`_create_zone_group`) and `tiles.py`.
"""

import warnings
from pathlib import Path

import numpy as np
import pyproj
import zarr
from zarr.codecs import BloscCodec

_ZONE, _CRS, _PIXEL_M, _YEAR = 15, "EPSG:32615", 10.0, 2025
_WEST_M, _NORTH_M = 500_000.0, 4_500_000.0
_SHARD, _CHUNK = 4096, 32
_TILE_NAME = "grid_-92.95_40.65"


def tessera_store(cache: Path, raw: Path) -> Path:
    """Return a store that `GeoTesseraZarr` opens by its path; create it if it is missing."""
    path = cache / f"tessera_{raw.stem}.zarr"
    if (path / "done").exists():
        return path
    vectors = np.load(raw, mmap_mode="r")
    side, _, bands = vectors.shape
    root = zarr.create_group(path, zarr_format=3, overwrite=True)
    root.attrs.update({"geoemb:dimensions": bands, "geoemb:model": "waves and noise"})
    zone = root.create_group(f"utm{_ZONE:02d}")
    transform = [_PIXEL_M, 0.0, _WEST_M, 0.0, -_PIXEL_M, _NORTH_M]
    zone.attrs.update({"proj:code": _CRS, "spatial:transform": transform})
    blosc = BloscCodec(cname="zstd", clevel=3)
    embeddings = zone.create_array(
        "embeddings",
        shape=(1, bands, _SHARD, _SHARD),
        chunks=(1, bands, _CHUNK, _CHUNK),
        shards=(1, bands, _SHARD, _SHARD),
        dtype="int8",
        fill_value=0,
        compressors=blosc,
        dimension_names=("time", "band", "y", "x"),
    )
    scales = zone.create_array(
        "scales",
        shape=(1, _SHARD, _SHARD),
        chunks=(1, _CHUNK, _CHUNK),
        shards=(1, _SHARD, _SHARD),
        dtype="float32",
        fill_value=np.inf,
        compressors=blosc,
        dimension_names=("time", "y", "x"),
    )
    embeddings[0, :, :side, :side] = np.moveaxis(np.asarray(vectors), -1, 0)
    scales[0, :side, :side] = _scales(vectors)
    centre = np.arange(_SHARD) + 0.5
    for name, values in (
        ("x", _WEST_M + centre * _PIXEL_M),
        ("y", _NORTH_M - centre * _PIXEL_M),
        ("time", np.array([_YEAR], np.int32)),
        ("band", np.arange(bands, dtype=np.int32)),
    ):
        zone.create_array(name, data=values, compressors=blosc, dimension_names=(name,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata of version 3 is an extension
        zarr.consolidate_metadata(root.store, path=zone.path)
        zarr.consolidate_metadata(root.store)
    (path / "done").touch()
    return path


def tessera_tile(cache: Path, raw: Path) -> Path:
    """Return a folder with one downloaded tile; create it if it is missing."""
    import rasterio

    folder = cache / f"tessera_{raw.stem}_tile"
    grid = folder / "global_0.1_degree_representation" / str(_YEAR) / _TILE_NAME
    mask = folder / "global_0.1_degree_tiff_all" / f"{_TILE_NAME}.tiff"
    if mask.exists():
        return folder
    vectors = np.load(raw, mmap_mode="r")
    grid.mkdir(parents=True, exist_ok=True)
    np.save(grid / f"{_TILE_NAME}.npy", vectors)
    np.save(grid / f"{_TILE_NAME}_scales.npy", _scales(vectors))
    mask.parent.mkdir(parents=True, exist_ok=True)
    side = vectors.shape[0]
    transform = rasterio.Affine(_PIXEL_M, 0.0, _WEST_M, 0.0, -_PIXEL_M, _NORTH_M)
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": _CRS, "transform": transform}
    with rasterio.open(mask, "w", width=side, height=side, **profile) as file:
        file.write(np.ones((1, side, side), np.uint8))
    return folder


def tessera_points(points: Path) -> Path:
    """Return the same cells as `points`, at their coordinates in this layout."""
    path = points.with_name(f"tessera_{points.name}")
    if not path.exists():
        with np.load(points) as file:
            rowcol, vectors = file["rowcol"], file["vectors"]
        xy = np.stack(
            [_WEST_M + (rowcol[:, 1] + 0.5) * _PIXEL_M, _NORTH_M - (rowcol[:, 0] + 0.5) * _PIXEL_M],
            -1,
        )
        to_wgs84 = pyproj.Transformer.from_crs(_CRS, "OGC:CRS84", always_xy=True)
        lonlat = np.stack(to_wgs84.transform(*xy.T), axis=-1)
        np.savez(path, lonlat=lonlat, rowcol=rowcol, xy=xy, vectors=vectors)
    return path


def _scales(vectors: np.ndarray) -> np.ndarray:
    """Return scales that make the dequantized vectors unit vectors, as ours are."""
    return np.stack([1 / np.linalg.norm(row.astype(np.float32), axis=1) for row in vectors])
