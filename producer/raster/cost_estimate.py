"""What a run will cost: cells, bytes, operations, seconds and money, before any of it is spent."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch.utils.flop_counter import FlopCounterMode

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.raster.planning import Task, Tasks
from unigeo.producer.raster.shard_encoder import FAILURES, Observe, ObservedCells
from unigeo.producer.raster.shard_extent import ShardExtent
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.raster.stored_cells import VectorsToFuse, fused_from
from unigeo.schemas.geo.grid import from_wgs84
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.layout import COVARIATES, FUSED, Layout
from unigeo.schemas.store.sharding import CRC_BYTES, index_bytes

SAMPLES = 60_000
"""Number of points, about, at which region and land are looked up to estimate their shares."""
CALIBRATION_S = 1.0
"""Seconds of encoding over which the speed of a modality is measured."""


@dataclass(frozen=True)
class ModalityPlan:
    """What is left to do of one modality."""

    modality: str
    shards: int
    """Number of shards to be written, those of water or outside the region included."""
    cells: int
    """Approximate number of cells to be encoded."""
    bytes: int
    """Approximate number of bytes to be written."""


def estimate(opened: OpenedJob, tasks: Tasks) -> list[ModalityPlan]:
    """Estimate cells and bytes; a pure function of grid, region, land and what is stored.

    Land is looked up on a lattice of at most about `SAMPLES` points, so the relative error of the
    number of cells is about 1 / sqrt(points on land).
    """
    share = land_share(opened)
    return [
        _plan_modality(opened.job.layout, name, missing, share)
        for name, missing in zip(tasks.modalities, tasks.missing, strict=True)
    ]


def land_share(opened: OpenedJob) -> Float[np.ndarray, "shard_row shard_col"]:
    """Estimate the share of each shard's cells in the region and on land, from a lattice."""
    job, extent = opened.job, opened.extent
    shard = job.layout.shard
    touched = np.argwhere(extent != ShardExtent.OUTSIDE)
    side = 1
    while side * 2 <= shard and (2 * side) ** 2 * len(touched) <= SAMPLES:
        side *= 2
    lattice = job.grid.coarsen(shard).refine(side)  # side x side points in each shard
    share = np.zeros(extent.shape)
    for row in np.unique(touched[:, 0]):
        cols = touched[touched[:, 0] == row, 1]
        centres = lattice.centres(Window(int(row) * side, 0, side, lattice.shape[1]))
        lonlat = centres.reshape(side, -1, side, 2)[:, cols].reshape(-1, 2)  # NaN off the globe
        on_land = job.region.contains(lonlat)
        on_land[on_land] = opened.equipment.land(lonlat[on_land])
        share[row, cols] = on_land.reshape(side, len(cols), side).mean(axis=(0, 2))
    return share


def _plan_modality(
    layout: Layout, name: str, missing: np.ndarray, share: np.ndarray
) -> ModalityPlan:
    in_shard = layout.shard**2
    cells = float(share[missing].sum()) * in_shard
    side = layout.shard // layout.chunk
    with_vectors = int((share[missing] > 0).sum())
    cell_bytes = layout.width(name) * layout.dtype(name).itemsize
    vectors = cells * (cell_bytes + CRC_BYTES / layout.chunk**2)
    indices = with_vectors * index_bytes((side, side))
    status = int(missing.sum()) * layout.status_bytes
    return ModalityPlan(name, int(missing.sum()), round(cells), round(vectors + indices + status))


def cell_flops(model: UniGeoCLIP, modality: str) -> int:
    """Count the floating-point operations of one cell; multiply and add are two."""
    if modality == FUSED:  # a mean
        return len(model.modalities) * model.settings.dimension
    shape = (1, *model.settings.shape(modality))
    kind = getattr(torch, model.settings.number_type(modality))
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.encode(modality, torch.zeros(shape, dtype=kind, device=device))
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class ProcessSpeed:
    """Cells per second of one process."""

    read: float
    """Cells observed per second."""
    encode: float
    """Cells encoded and quantized per second."""
    overlap: bool
    """Whether both proceed at once, as on a GPU."""

    @property
    def cells(self) -> float:
        """Cells per second through both stages."""
        if self.overlap:
            return min(self.read, self.encode)
        return 1 / (1 / self.read + 1 / self.encode)


def calibrate(
    opened: OpenedJob,
    modality: str,
    *,
    overlap: bool,
    seconds: float = CALIBRATION_S,
    gain: float = 1.0,
) -> ProcessSpeed | None:
    """Measure the speed on cells of one shard; None where they cannot be encoded.

    Args:
        opened: the job and its equipment.
        modality: modality to encode.
        overlap: whether this process observes and encodes at once.
        seconds: time to measure for.
        gain: cells written per cell encoded, more than 1 where cells are interpolated.
    """
    encoder = opened.equipment.encoder
    task = _sample_shard(opened, modality)
    lonlat, cells = opened.cells_to_encode(task)
    size = min(opened.job.batch, encoder.batch(modality), len(cells))
    if size == 0:
        return None
    spent = {"read": 0.0, "encode": 0.0}
    done = 0
    stack = ExitStack()
    try:
        observe: Observe = lambda part: encoder.observe(modality, lonlat[part])  # noqa: E731
        # Coordinates are measured one by one: in an opened shard the first batch would encode the
        # nodes of all its interpolated cells, and the others none.
        if modality in encoder.derived:  # the store holds nothing yet
            observe = partial(_any_vectors, opened)
        elif modality != COORDINATE:
            observe = stack.enter_context(opened.open_shard(task, lonlat, cells))
        for number in range(-1, 1000):  # batch -1 warms up, unless it takes all the time there is
            first = max(number, 0) * size % (len(cells) - size + 1)
            begin = time.perf_counter()
            observed = observe(cells[first : first + size])
            middle = time.perf_counter()
            encoder.codes(modality, observed)()
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
    rates = {stage: done / max(spent_s, 1e-9) for stage, spent_s in spent.items()}
    return ProcessSpeed(gain * rates["read"], gain * rates["encode"], overlap)


def looking_seconds(opened: OpenedJob, tasks: Tasks) -> float:
    """Return the seconds in which all tasks find the cells that they encode."""
    inside = opened.extent != ShardExtent.OUTSIDE
    start = time.perf_counter()
    opened.cells_to_encode(_sample_shard(opened, opened.job.layout.modalities[0]))
    return (time.perf_counter() - start) * int((tasks.missing & inside).sum())


def _any_vectors(opened: OpenedJob, cells: Int[np.ndarray, " cell"]) -> ObservedCells:
    """Return stored vectors as they might be, to measure how fast they are fused."""
    layout = opened.job.layout
    modalities = opened.equipment.encoder.fused_of(fused_from(layout))
    shape = (len(cells), len(modalities), layout.bands)
    codes = np.random.default_rng(0).integers(-127, 128, shape, np.int8)
    return ObservedCells(VectorsToFuse(modalities, codes), np.ones(len(cells), bool))


def _sample_shard(opened: OpenedJob, modality: str) -> Task:
    """Return the task of the shard with the most land."""
    share = land_share(opened)
    row, col = np.unravel_index(int(share.argmax()), share.shape)
    return Task(modality, int(row), int(col))


def sample_cells(opened: OpenedJob, count: int) -> Int[np.ndarray, "cell 2"]:
    """Draw rows and columns of cells to be encoded, over the whole grid; the same every time."""
    job = opened.job
    rng = np.random.default_rng(0)
    chosen = np.empty((0, 2), np.int64)
    for _ in range(100):
        rowcol = rng.integers(0, job.grid.shape, (4 * count, 2))
        eastings, northings = job.grid.x[rowcol[:, 1]], job.grid.y[rowcol[:, 0]]
        lon, lat = from_wgs84(job.grid.crs).transform(eastings, northings, direction="INVERSE")
        lonlat = np.stack([lon, lat], axis=-1)
        # Off the globe the inverse gives places beyond the antimeridian, which other cells hold.
        on_land = np.isfinite(lonlat).all(axis=1)
        cells, inside = job.grid.locate(lonlat[on_land])
        on_land[on_land] = inside & (cells == rowcol[on_land]).all(axis=1)
        on_land[on_land] = job.region.contains(lonlat[on_land])
        on_land[on_land] = opened.equipment.land(lonlat[on_land])
        chosen = np.concatenate([chosen, rowcol[on_land]])
        if len(chosen) >= count:
            break
    return chosen[:count]


def format_estimate(
    plans: list[ModalityPlan],
    flops: Mapping[str, int],
    speeds: Mapping[str, ProcessSpeed | None],
) -> Iterator[str]:
    """Write what is left to be rasterized, line by line.

    Args:
        plans: what is left to do, by modality.
        flops: floating-point operations of one cell, by modality.
        speeds: measured speed of one process, by modality that is to be encoded; None where it is
            unknown.
    """
    for each in plans:
        if each.shards == 0:
            yield f"{each.modality:13} no shard to write"
            continue
        if each.modality == COVARIATES:
            yield (
                f"{each.modality:13} {each.shards:,} shards to write, about {each.cells:,} cells, "
                f"{size(each.bytes)}; computed with the patches of the other arrays"
            )
            continue
        operations = each.cells * flops[each.modality]
        line = (
            f"{each.modality:13} {each.shards:,} shards to write, about {each.cells:,} cells to "
            f"encode, {size(each.bytes)}, {operations:.2g} FLOP "
            f"({flops[each.modality]:.3g} per cell)"
        )
        if each.cells:
            speed = speeds[each.modality]
            line += "; " + (
                "speed unknown" if speed is None else f"{speed.cells:,.0f} cells/s here"
            )
        yield line


def size(count: float) -> str:
    """Write a number of bytes with its unit."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = min(int(np.log10(max(count, 1)) // 3), len(units) - 1)
    return f"{count / 1000**power:.3g} {units[power]}"
