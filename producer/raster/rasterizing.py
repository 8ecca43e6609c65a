"""Write one vector per cell: shard by shard, each whole, each once.

A task reads nothing but its own window and writes two objects: the vectors, then the status, whose
presence says that the shard is done. Killed anywhere, the same call goes on with what is left and
ends with the same bytes.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import zarr
from jaxtyping import Bool, Float, Int8, UInt8
from tqdm import tqdm

from unigeo.producer.raster.planning import Task, plan
from unigeo.schemas.errors import StoreError, UnigeoError
from unigeo.schemas.grid import Grid
from unigeo.schemas.layout import Layout, status_name
from unigeo.schemas.quantization import FILL, quantize
from unigeo.schemas.regions import Region
from unigeo.schemas.status import Status
from unigeo.schemas.stores import unreachable_errors

Encode = Callable[
    [str, Float[np.ndarray, "point 2"]],
    tuple[Float[np.ndarray, "point band"], Bool[np.ndarray, " point"]],
]
"""From modality and lonlat to unit vectors, and whether anything was observed there."""
Land = Callable[[Float[np.ndarray, "point 2"]], Bool[np.ndarray, " point"]]


@dataclass
class Report:
    """What a run of rasterization did."""

    cells: Counter[Status] = field(default_factory=Counter)
    """Cells by status, over the shards written in this run."""
    failures: Counter[str] = field(default_factory=Counter)
    """Cells whose encoding failed, by message."""
    shards: int = 0
    seconds: float = 0.0

    @property
    def valid_cells_per_second(self) -> float:
        """Speed of the run."""
        return self.cells[Status.VALID] / self.seconds if self.seconds else 0.0


def rasterize(
    group: zarr.Group,
    grid: Grid,
    layout: Layout,
    region: Region,
    land: Land,
    encode: Encode,
    *,
    batch: int = 2048,
    progress: bool = True,
) -> Report:
    """Do every task that the store lacks.

    Args:
        group: the store's root, from `create_field`.
        grid: its cells.
        layout: its arrays.
        region: cells whose centre lies outside are not encoded.
        land: cells whose centre is not on land are not encoded.
        encode: the model and its observations.
        batch: cells encoded at once; the vectors do not depend on it.
        progress: show a bar on stderr.

    Raises:
        StoreError: if a shard cannot be written; what was written stays, and the same call goes on.
    """
    report = Report()
    start = time.monotonic()
    tasks = plan(group, grid, layout)
    with tqdm(total=len(tasks), unit="shard", desc="rasterize", disable=not progress) as bar:
        for task in tasks:
            bar.set_postfix_str(task.modality)
            vectors, status = encode_shard(
                task, grid, layout, region, land, encode, batch=batch, report=report
            )
            _write(group, task, layout, vectors, status)
            report.shards += 1
            bar.update()
    report.seconds = time.monotonic() - start
    return report


def encode_shard(
    task: Task,
    grid: Grid,
    layout: Layout,
    region: Region,
    land: Land,
    encode: Encode,
    *,
    batch: int,
    report: Report,
) -> tuple[Int8[np.ndarray, "row col band"], UInt8[np.ndarray, "row col"]]:
    """The quantized vectors of one shard, and why each cell has or lacks one."""
    window = task.window(layout.shard)
    lonlat = grid.centres(window).reshape(-1, 2)
    status = np.full(len(lonlat), Status.OUTSIDE_REGION, np.uint8)
    inside = np.flatnonzero(region.contains(lonlat))
    dry = land(lonlat[inside]) if len(inside) else np.empty(0, bool)
    status[inside[~dry]] = Status.WATER
    vectors = np.full((len(lonlat), layout.bands), FILL, np.int8)
    cells = inside[dry]
    for first in range(0, len(cells), batch):
        part = cells[first : first + batch]
        try:
            encoded, observed = encode(task.modality, lonlat[part])
        except (UnigeoError, ValueError, RuntimeError) as error:
            status[part] = Status.FAILED
            report.failures[f"{task.modality}: {error}"] += len(part)
            continue
        status[part] = np.where(observed, Status.VALID, Status.NO_OBSERVATION)
        vectors[part[observed]] = quantize(encoded[observed])
    for code, count in zip(*np.unique(status, return_counts=True), strict=True):
        report.cells[Status(int(code))] += int(count)
    shape = (window.height, window.width)
    return vectors.reshape(*shape, layout.bands), status.reshape(shape)


def _write(
    group: zarr.Group,
    task: Task,
    layout: Layout,
    vectors: Int8[np.ndarray, "row col band"],
    status: UInt8[np.ndarray, "row col"],
) -> None:
    slices = task.window(layout.shard).slices
    try:
        if (status == Status.VALID).any():
            group[task.modality][slices] = vectors  # type: ignore[index]
        group[status_name(task.modality)][slices] = status  # type: ignore[index]
    except unreachable_errors() as error:
        raise StoreError(
            f"cannot write shard ({task.shard_row}, {task.shard_col}) of {task.modality}: {error}. "
            "What was written before is kept; make room or mend the connection and run the same "
            "command again, it goes on from there."
        ) from error
