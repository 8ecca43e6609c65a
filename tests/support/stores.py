"""Small published stores made by a cheap encoder, for tests that read or write fields."""

import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from unigeo.producer.publishing.concepts import ConceptVectors
from unigeo.producer.publishing.publish import publish
from unigeo.producer.raster.local_executor import RasterReport, rasterize
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.raster_job import Equipment, RasterJob
from unigeo.producer.raster.shard_commit import ShardCommitter
from unigeo.producer.raster.shard_encoder import Encode, FunctionEncoder, ShardEncoder
from unigeo.producer.raster.shard_task import EncodedTask, OpenedJob
from unigeo.producer.storage.field_store import create_field, is_published
from unigeo.producer.storage.shard_codec import VectorObject, status_object
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region, region_of_bbox
from unigeo.schemas.store.attributes import root_attributes
from unigeo.schemas.store.concepts import LEAST_CENTRED
from unigeo.schemas.store.covariates import Covariate
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.quantization import quantize
from unigeo.schemas.store.search_levels import WIDE
from unigeo.schemas.store.status import Status

GULF = region_of_bbox((-20.0, -15.0, 25.0, 18.0), "gulf")
"""Two by two shards round the origin of EPSG:8857, with land, water and unobserved cells."""
FIJI = region_of_bbox((177.0, -20.0, -178.0, -15.0), "fiji")
"""Across the antimeridian, in EPSG:8859."""
WEIGHTS, ENCODER = {"matrix": np.eye(2, dtype=np.float32)}, {"kind": "waves"}
SHARD, CHUNK = 32, 8
WIDTHS = {"coordinate": 8, "night-lights": 3, "sar": 12, "fused": 8}
"""Of the store that `build_wide` makes."""
COVARIATES = (
    Covariate("height", "m", "DEM"),
    Covariate("rain", "mm", "gauges"),
    Covariate("crop_point", "class", "crops"),
)
RESOLUTION_M = {"gulf": 80_000.0, "fiji": 20_000.0, "rockies": 10_000.0}


def layout_of(modalities: tuple[str, ...] = ("coordinate", "aerial"), **options: Any) -> Layout:
    """Eight bands in shards of 32 x 32 cells, 8 x 8 to a chunk."""
    chosen = {"bands": 8, "shard": SHARD, "chunk": CHUNK} | options
    return Layout(modalities=modalities, **chosen)


def grid_of(region: Region, layout: Layout) -> Grid:
    return region.grid(RESOLUTION_M[region.name], layout.shard)


def land(lonlat: np.ndarray) -> np.ndarray:
    """Everything but a round lake."""
    return np.hypot(lonlat[:, 0] - 5.0, lonlat[:, 1] - 5.0) > 4.0


def encoder(bands: int = 8, wait_s: float = 0.0) -> Encode:
    """Waves over the globe, element by element, so that a point alone gives the same bits."""

    def encode(modality: str, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(wait_s)
        number = np.arange(1, bands + 1) + (0.5 if modality == "aerial" else 0.0)
        lon, lat = np.radians(lonlat).T
        waves = np.sin(lon[:, None] * number * 3.0) + np.cos(lat[:, None] * number * 2.0 + number)
        vectors = waves / np.sqrt((waves * waves).sum(axis=1, keepdims=True))
        observed = np.ones(len(lonlat), bool)
        if modality == "aerial":
            observed = lonlat[:, 0] + lonlat[:, 1] < 30.0
        vectors[~observed] = np.nan
        return vectors.astype(np.float32), observed

    return encode


def attributes_of(
    region: Region, grid: Grid, layout: Layout, model_sha256: str = "ab" * 32
) -> dict[str, Any]:
    return root_attributes(
        region=region.name,
        grid=grid,
        layout=layout,
        model_name="waves",
        model_sha256=model_sha256,
        model_settings={"kind": "waves"},
        observations={"name": "nothing", "licence": "CC0-1.0", "citation": "Nobody (2026)"},
        seed=0,
        code_version="0",
    )


def begin(
    url: Any, region: Region = GULF, layout: Layout | None = None, model_sha256: str = "ab" * 32
) -> tuple[zarr.Group, Grid, Layout]:
    """An empty store, or the one that is there."""
    layout = layout or layout_of()
    grid = grid_of(region, layout)
    attributes = attributes_of(region, grid, layout, model_sha256)
    return create_field(url, grid, layout, attributes), grid, layout


def job_of(
    url: Any,
    grid: Grid,
    layout: Layout,
    encoder: ShardEncoder,
    region: Region = GULF,
    **options: Any,
) -> RasterJob:
    """A job whose processes all use one encoder and the land of this module."""
    open_equipment = partial(Equipment, encoder, land)
    job: dict[str, Any] = {"open_equipment": open_equipment, "batch": 300} | options
    return RasterJob(url=str(url), region=region, grid=grid, layout=layout, **job)


def opened(job: RasterJob) -> OpenedJob:
    """A job opened in this process."""
    return OpenedJob(job, job.open_equipment())


def fill(
    group: zarr.Group,
    grid: Grid,
    layout: Layout,
    region: Region = GULF,
    encode: Encode | None = None,
    batch: int = 300,
) -> RasterReport:
    function = FunctionEncoder(encode or encoder(layout.bands))
    job = job_of(group.store, grid, layout, function, region, batch=batch)
    return rasterize(group, opened(job), progress=False)


def filled(path: Path) -> zarr.Group:
    """A field with all of its shards that says which inputs they are of, before publication."""
    layout = layout_of()
    grid = grid_of(GULF, layout)
    attributes = attributes_of(GULF, grid, layout)
    attributes["unigeo"]["observations"]["modalities"] = {"aerial": {"inputs": [{"sha256": "one"}]}}
    group = create_field(path, grid, layout, attributes)
    fill(group, grid, layout)
    return group


def build_searched(url: Any) -> zarr.Group:
    """A published field with the group `search`: a wide modality and a narrow one, and concepts."""
    layout = layout_of(bands=WIDE + 4, widths={"coordinate": 8})
    group, grid, layout = begin(url, layout=layout)
    rng = np.random.default_rng(0)
    turns, phases = rng.normal(0, 9, (2, WIDE + 4)), rng.uniform(0, 6, WIDE + 4)
    fade = np.exp(-np.arange(WIDE + 4) / 20)  # as of real vectors: few directions hold most

    def encode(modality: str, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        width = layout.width(modality)
        waves = np.sin(np.radians(lonlat) @ turns[:, :width] + phases[:width]) * fade[:width]
        unit = waves / np.linalg.norm(waves, axis=1, keepdims=True)
        return unit.astype(np.float32), lonlat[:, 0] < 15

    fill(group, grid, layout, encode=encode)
    phrases = tuple(f"phrase number {k}" for k in range(LEAST_CENTRED))
    told = (fade + 0.3 * rng.normal(size=(len(phrases), WIDE + 4)) * fade).astype(np.float32)
    return publish(group, concepts=ConceptVectors(phrases, quantize(told)))


def build(
    url: Any,
    region: Region = GULF,
    layout: Layout | None = None,
    encode: Encode | None = None,
    batch: int = 300,
) -> zarr.Group:
    """A whole published store; as it is where it is one already."""
    group, grid, layout = begin(url, region, layout)
    if is_published(group):
        return group
    fill(group, grid, layout, region, encode, batch)
    return publish(group, encoder=WEIGHTS, encoder_settings=ENCODER)


def of_widths(modality: str, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each modality in its own width; the others than `coordinate` are not observed everywhere."""
    vectors, observed = encoder(WIDTHS[modality])("coordinate", lonlat)
    if modality != "coordinate":
        observed = lonlat[:, 0] + lonlat[:, 1] < 25.0
    return np.where(observed[:, None], vectors, np.nan), observed


def covariates_at(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """Numbers of the wide store by row and column: no rain east of column 40."""
    height = np.where(row < 32, 100.0 * row + col, np.nan)
    rain = np.where((row < 32) & (col < 40), row / (1.0 + col), np.nan)
    crop = np.where(row < 32, (row + col) % 3, np.nan)
    return np.stack([height, rain, crop], axis=-1).astype(np.float32)


def write_covariates(group: zarr.Group, grid: Grid, layout: Layout) -> None:
    """Shards of covariates in the north half of the field, statuses everywhere."""
    committer = ShardCommitter(group, None)
    rowcol = np.indices((layout.shard,) * 2).reshape(2, -1)
    for window in grid.windows(layout.shard):
        row, col = rowcol + np.array([[window.row], [window.col]])
        numbers = covariates_at(row, col)
        valid = ~np.isnan(numbers).all(axis=1)
        content = VectorObject(layout, len(COVARIATES), dtype=layout.dtype("covariates"))
        content.put(np.flatnonzero(valid), numbers[valid])
        codes = np.where(valid, Status.VALID, Status.NO_OBSERVATION).astype(np.uint8)
        status = status_object(codes.reshape(layout.shard, -1), layout)
        task = Task("covariates", window.row // layout.shard, window.col // layout.shard)
        done = EncodedTask(task, content.finish(), status, Counter(), Counter(), ())
        committer.write(done)


def build_wide(path: Path) -> zarr.Group:
    """Modalities of three widths and of other names than the paper's, and covariates."""
    names = tuple(one.name for one in COVARIATES)
    layout = layout_of(tuple(WIDTHS), widths=WIDTHS, covariates=names)
    grid = grid_of(GULF, layout)
    attributes = attributes_of(GULF, grid, layout)
    group = create_field(path, grid, layout, attributes, covariates=COVARIATES)
    write_covariates(group, grid, layout)
    fill(group, grid, layout, encode=of_widths)
    phrases = ("dense forest", "open water", "a town by the sea")
    vectors = quantize(np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32))
    return publish(group, concepts=ConceptVectors(phrases, vectors))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
