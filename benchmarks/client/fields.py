"""Stores and points for the timings, created once in a cache folder and always the same."""

from pathlib import Path

import numpy as np
import pyproj
import zarr

from unigeo import client
from unigeo.producer.publishing.publish import publish
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.errors import UnigeoError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.attributes import root_attributes
from unigeo.schemas.store.layout import Codec, Layout, status_name
from unigeo.schemas.store.quantization import quantize
from unigeo.schemas.store.status import Status

MODALITY = "aerial"
RESOLUTION_M = 1000.0
_WAVES = 48  # smooth directions of the field
_NOISE = 0.7  # of what differs from cell to cell, beside the smooth part
_SPREAD_M = 12_000.0  # of a large city; small ones are tighter


def grid_of(side: int) -> Grid:
    """Return a grid of cells of 1 km round 90 degrees west, 40 degrees north."""
    return Grid("EPSG:8858", RESOLUTION_M, row0=-5120, col0=-512, shape=(side, side))


def field_store(cache: Path, side: int, bands: int, codec: Codec = "none") -> Path:
    """Return a published field of `side` x `side` valid cells; create it if it is missing."""
    path = cache / f"field_{side}_{bands}_{codec}.zarr"
    try:
        client.open_field(path)
    except UnigeoError:
        _write_field(path, raw_vectors(cache, side, bands), codec)
    return path


def raw_vectors(cache: Path, side: int, bands: int) -> Path:
    """Return the same vectors as one flat `.npy`, for the memory map."""
    path = cache / f"raw_{side}_{bands}.npy"
    if not path.exists():
        part = path.with_suffix(".part")
        raw = np.lib.format.open_memmap(part, "w+", np.int8, (side, side, bands))
        random = np.random.default_rng(0)
        directions = random.standard_normal((_WAVES, bands), np.float32)
        frequency = random.normal(0, 12 / side, (2, _WAVES))
        phase = random.uniform(0, 2 * np.pi, _WAVES)
        for start in range(0, side, 32):
            row, col = np.mgrid[start : start + 32, 0:side]
            angle = row[..., None] * frequency[0] + col[..., None] * frequency[1] + phase
            smooth = np.cos(angle).astype(np.float32) @ directions / np.sqrt(_WAVES / 2)
            noise = random.standard_normal(smooth.shape, np.float32)
            raw[start : start + 32] = quantize(smooth + _NOISE * noise)
        raw.flush()
        part.replace(path)
    return path


def points_file(cache: Path, kind: str, count: int, side: int, raw: Path) -> Path:
    """Return a file of points as lonlat, row and column, x and y, with their true vectors.

    Args:
        cache: folder of all created files.
        kind: `uniform` over the cells, or `clustered` round forty cities.
        count: number of points.
        side: number of cells along a side of the field.
        raw: the flat vectors.
    """
    path = cache / f"{kind}_{count}_{raw.stem}.npz"
    if path.exists():
        return path
    random = np.random.default_rng(1)
    if kind == "uniform":
        exact = random.uniform(0, side, (count, 2))
    else:
        centre = random.uniform(0.05 * side, 0.95 * side, (40, 2))
        share = 1 / np.arange(1, 41)  # Zipf's law of cities
        city = random.choice(40, count, p=share / share.sum())
        spread = _SPREAD_M / RESOLUTION_M * np.sqrt(share)[city, None]
        exact = np.clip(centre[city] + random.normal(0, 1, (count, 2)) * spread, 0, side - 1e-6)
    grid = grid_of(side)
    x = (grid.col0 + exact[:, 1]) * RESOLUTION_M
    y = -(grid.row0 + exact[:, 0]) * RESOLUTION_M
    to_wgs84 = pyproj.Transformer.from_crs(grid.crs, "OGC:CRS84", always_xy=True)
    lonlat = np.stack(to_wgs84.transform(x, y), axis=-1)
    rowcol = grid.cells(lonlat)
    vectors = np.load(raw, mmap_mode="r")[rowcol[:, 0], rowcol[:, 1]]
    np.savez(path, lonlat=lonlat, rowcol=rowcol, xy=np.stack([x, y], -1), vectors=vectors)
    return path


def files_below(path: Path) -> list[Path]:
    """Return a file itself, or every file of a folder."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _write_field(path: Path, raw: Path, codec: Codec) -> None:
    vectors = np.load(raw, mmap_mode="r")
    side, _, bands = vectors.shape
    grid, layout = grid_of(side), Layout(modalities=(MODALITY,), bands=bands, codec=codec)
    attributes = root_attributes(
        region="square",
        grid=grid,
        layout=layout,
        model_name="waves and noise",
        model_sha256="00" * 32,
        model_settings={},
        observations={"name": "none", "licence": "CC0-1.0", "citation": "a benchmark"},
        seed=0,
        code_version="0",
    )
    group = create_field(path, grid, layout, attributes)
    fill_field(group, grid, layout, vectors)
    publish(group)


def fill_field(group: zarr.Group, grid: Grid, layout: Layout, vectors: np.ndarray) -> None:
    """Write the vectors and status of every shard; all cells are valid."""
    for window in grid.windows(layout.shard):
        group[MODALITY][window.slices] = vectors[window.slices]  # type: ignore[index]
        group[status_name(MODALITY)][window.slices] = Status.VALID  # type: ignore[index]
