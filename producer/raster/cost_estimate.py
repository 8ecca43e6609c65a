"""What a run will cost: cells, bytes, operations, seconds and money, before any of it is spent."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.utils.flop_counter import FlopCounterMode

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.raster.planning import Task, Tasks
from unigeo.producer.raster.shard_extent import ShardExtent
from unigeo.producer.raster.shard_task import FAILURES, Observe, RasterJob, StagedEncoder
from unigeo.producer.storage.shard_codec import shard_order
from unigeo.schemas.geo.grid import from_wgs84
from unigeo.schemas.io.durations import format_duration
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.sharding import CRC_BYTES, index_bytes
from unigeo.schemas.store.status import Status

SAMPLES = 60_000
"""Places, about, at which land is asked for to estimate how much of it there is."""
CALIBRATION_S = 1.0
"""Seconds of encoding from which a modality's speed is told."""


@dataclass(frozen=True)
class ModalityPlan:
    """What is left to do of one modality."""

    modality: str
    shards: int
    """To be written, of water and what lies outside too."""
    cells: int
    """To be encoded, about."""
    bytes: int
    """To be written, about."""


def estimate(work: RasterJob, tasks: Tasks) -> list[ModalityPlan]:
    """Estimate cells and bytes; a pure function of grid, region, land and what is stored.

    Land is asked for on a lattice of at most about `SAMPLES` places, so the estimate of cells errs
    by about 1 / sqrt(places on land).
    """
    share = land_share(work)
    return [
        _of_modality(work.layout, name, missing, share)
        for name, missing in zip(tasks.modalities, tasks.missing, strict=True)
    ]


def land_share(work: RasterJob) -> Float[np.ndarray, "shard_row shard_col"]:
    """Share of each shard's cells that lie in the region and on land, by a lattice of samples."""
    shard, extent = work.layout.shard, work.extent
    touched = np.argwhere(extent != ShardExtent.OUTSIDE)
    side = 1
    while side * 2 <= shard and (2 * side) ** 2 * len(touched) <= SAMPLES:
        side *= 2
    fine = work.grid.coarsen(shard).refine(side)
    share = np.zeros(extent.shape)
    for row in np.unique(touched[:, 0]):
        cols = touched[touched[:, 0] == row, 1]
        x = fine.x.reshape(-1, side)[cols].ravel()
        y = fine.y[row * side : (row + 1) * side]
        lonlat = _lonlat(fine.crs, x, y)
        dry = work.region.contains(lonlat)
        dry[dry] = work.land(lonlat[dry])
        share[row, cols] = dry.reshape(side, len(cols), side).mean(axis=(0, 2))
    return share


def _lonlat(
    crs: str, x: Float[np.ndarray, " col"], y: Float[np.ndarray, " row"]
) -> Float[np.ndarray, "point 2"]:
    east, north = np.meshgrid(x, y)
    lon, lat = from_wgs84(crs).transform(east.ravel(), north.ravel(), direction="INVERSE")
    return np.stack([lon, lat], axis=-1)


def _of_modality(layout: Layout, name: str, missing: np.ndarray, share: np.ndarray) -> ModalityPlan:
    in_shard = layout.shard**2
    cells = float(share[missing].sum()) * in_shard
    side = layout.shard // layout.chunk
    with_vectors = int((share[missing] > 0).sum())
    vectors = cells * (layout.width(name) + CRC_BYTES / layout.chunk**2)
    indices = with_vectors * index_bytes((side, side))
    status = int(missing.sum()) * layout.status_bytes
    return ModalityPlan(name, int(missing.sum()), round(cells), round(vectors + indices + status))


def cell_flops(model: UniGeoCLIP, modality: str) -> int:
    """Floating-point operations for one cell; a product and its sum are two."""
    shape = (1, *model.settings.shape(modality))
    kind = {"coordinate": torch.float64, "dsm": torch.float32}.get(modality, torch.uint8)
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.encode(modality, torch.zeros(shape, dtype=kind, device=device))
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class ProcessSpeed:
    """What one process does in a second."""

    read: float
    """Cells observed."""
    encode: float
    """Cells encoded and quantized."""
    overlap: bool
    """Whether both go on at once: where there is a GPU."""

    @property
    def cells(self) -> float:
        """Cells in all."""
        if self.overlap:
            return min(self.read, self.encode)
        return 1 / (1 / self.read + 1 / self.encode)


def calibrate(
    work: RasterJob,
    modality: str,
    *,
    overlap: bool,
    seconds: float = CALIBRATION_S,
    gain: float = 1.0,
) -> ProcessSpeed | None:
    """Measure the speed on cells of one shard; None where it cannot be encoded.

    Of cells that are interpolated, `gain` come with each that is encoded.
    """
    staged: StagedEncoder = work.staged
    task, lonlat, cells = _sample_shard(work, modality)
    size = min(work.batch, staged.batch(modality), len(cells))
    if size == 0:
        return None
    spent = {"read": 0.0, "encode": 0.0}
    done = 0
    stack = ExitStack()
    try:
        observe: Observe = lambda part: staged.observe(modality, lonlat[part])  # noqa: E731
        if modality != "coordinate":  # interpolated ones would all be encoded at once
            observe = stack.enter_context(work.observing(task, lonlat, cells))
        for number in range(-1, 1000):  # the first batch warms up
            first = max(number, 0) * size % (len(cells) - size + 1)
            begin = time.perf_counter()
            seen = observe(cells[first : first + size])
            middle = time.perf_counter()
            staged.codes(modality, seen)()
            end = time.perf_counter()
            if number < 0 and end - begin < seconds:
                continue
            spent["read"] += middle - begin
            spent["encode"] += end - middle
            done += size
            if sum(spent.values()) >= seconds:
                break
    except FAILURES:
        return None
    finally:
        stack.close()
    rates = {stage: done / max(taken, 1e-9) for stage, taken in spent.items()}
    return ProcessSpeed(gain * rates["read"], gain * rates["encode"], overlap)


def _sample_shard(
    work: RasterJob, modality: str
) -> tuple[Task, Float[np.ndarray, "place 2"], Int[np.ndarray, " cell"]]:
    """The shard with the most land: its centres, and its cells in the order of encoding."""
    share = land_share(work)
    row, col = np.unravel_index(int(share.argmax()), share.shape)
    task = Task(modality, int(row), int(col))
    lonlat, status = work.cells(task)
    order = shard_order(work.layout.shard, work.layout.chunk).order
    return task, lonlat, order[status[order] == Status.VALID]


def sample_cells(work: RasterJob, count: int) -> Int[np.ndarray, "cell 2"]:
    """Rows and columns of cells to be encoded, drawn over the grid; the same ones every time."""
    rng = np.random.default_rng(0)
    chosen = np.empty((0, 2), np.int64)
    for _ in range(100):
        rowcol = rng.integers(0, work.grid.shape, (4 * count, 2))
        eastings, northings = work.grid.x[rowcol[:, 1]], work.grid.y[rowcol[:, 0]]
        lon, lat = from_wgs84(work.grid.crs).transform(eastings, northings, direction="INVERSE")
        lonlat = np.stack([lon, lat], axis=-1)
        there = np.isfinite(lonlat).all(axis=1)
        there[there] = work.region.contains(lonlat[there])
        there[there] = work.land(lonlat[there])
        chosen = np.concatenate([chosen, rowcol[there]])
        if len(chosen) >= count:
            break
    return chosen[:count]


def format_estimate(
    plans: list[ModalityPlan],
    flops: Mapping[str, int],
    speeds: Mapping[str, ProcessSpeed | None],
    *,
    workers: int = 1,
    price_per_hour: float | None = None,
) -> Iterator[str]:
    """What the run will cost, in lines."""
    total_s: float | None = 0.0
    for each in plans:
        speed = speeds.get(each.modality)
        work = each.cells * flops[each.modality]
        line = (
            f"{each.modality:13} {each.shards:,} shards to write, about {each.cells:,} cells to "
            f"encode, {size(each.bytes)}, {work:.2g} FLOP ({flops[each.modality]:.3g} per cell)"
        )
        if speed is None:
            line += "; speed unknown"
            total_s = total_s if each.cells == 0 else None
        else:
            line += f"; {speed.cells:,.0f} cells/s here"
            if total_s is not None:
                total_s += each.cells / speed.cells / workers
        yield line
    if total_s is None:
        yield "time          unknown"
        return
    many = f" with {workers} workers like this" if workers > 1 else ""
    yield f"time          about {format_duration(total_s)}{many}, by a short measurement"
    if price_per_hour is not None:
        yield f"cost          about {total_s * workers / 3600 * price_per_hour:,.2f}"


def size(count: float) -> str:
    """Bytes in words."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = min(int(np.log10(max(count, 1)) // 3), len(units) - 1)
    return f"{count / 1000**power:.3g} {units[power]}"
