"""Time rasterization: planning, writing, growth, memory and workers.

    python -m benchmarks.producer.raster plan      # CONUS at 100 m, the land of the globe at 250 m
    python -m benchmarks.producer.raster write     # against a plain sequential write, same disk
    python -m benchmarks.producer.raster growth    # cost per cell from 10^4 to 10^7 cells
    python -m benchmarks.producer.raster growth --encoder tiny    # that of encoding included
    python -m benchmarks.producer.raster memory    # a worker's peak, in shards
    python -m benchmarks.producer.raster publish   # seconds and memory of publication per shard
    python -m benchmarks.producer.raster workers   # two dask workers against one

Each prints one JSON line. Paired figures come from the same run, their order alternating, and are
medians; `--repeat` says of how many.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from unigeo.producer.observations.forms import default_forms
from unigeo.producer.publishing.publish import publish
from unigeo.producer.raster.cell_status import Land
from unigeo.producer.raster.local_executor import rasterize
from unigeo.producer.raster.planning import planned
from unigeo.producer.raster.raster_job import Equipment, RasterJob
from unigeo.producer.raster.run_log import RunLog
from unigeo.producer.raster.shard_encoder import Codes, FunctionEncoder, ObservedCells, ShardEncoder
from unigeo.producer.raster.shard_extent import ShardExtent
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.storage.field_store import create_field
from unigeo.producer.storage.shard_codec import Buffers
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region, region, region_of_bbox
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.attributes import root_attributes
from unigeo.schemas.store.layout import Layout

WHOLE = region_of_bbox((-89.0, -44.0, 89.0, 44.0), "whole")
"""So large that grids within it are all inside."""


class Constant(ShardEncoder):
    """An encoder that costs nothing: what is left is the pipeline."""

    def __init__(self, bands: int) -> None:
        self._codes = np.random.default_rng(0).integers(-127, 128, (2048, bands)).astype(np.int8)

    def batch(self, modality: str) -> int:
        """Cells at once."""
        return 2048

    def observe(self, modality: str, lonlat: np.ndarray) -> ObservedCells:
        """Nothing to read."""
        return ObservedCells(lonlat, np.ones(len(lonlat), bool))

    def codes(self, modality: str, seen: ObservedCells) -> Codes:
        """Always the same vectors."""
        codes = self._codes[: len(seen.valid)]
        return lambda: (codes, seen.valid)


def everywhere(lonlat: np.ndarray) -> np.ndarray:
    """All is land."""
    return np.ones(len(lonlat), bool)


def opened(
    url: Any,
    grid: Grid,
    layout: Layout,
    encoder: ShardEncoder,
    where: Region = WHOLE,
    land: Land = everywhere,
    open_equipment: Callable[[], Equipment] | None = None,
) -> OpenedJob:
    """A job in this process, with workers that open the same or something else."""
    equipment = Equipment(encoder, land)
    job = RasterJob(
        url=str(url),
        region=where,
        grid=grid,
        layout=layout,
        open_equipment=open_equipment or partial(Equipment, encoder, land),
    )
    return OpenedJob(job, equipment)


def attributes(where: Region, grid: Grid, layout: Layout) -> dict[str, Any]:
    return root_attributes(
        region=where.name,
        grid=grid,
        layout=layout,
        model_name="none",
        model_sha256="00" * 32,
        model_settings={},
        observations={"name": "none"},
        seed=0,
        code_version="0",
    )


def begin(folder: Path, grid: Grid, layout: Layout) -> zarr.Group:
    shutil.rmtree(folder, ignore_errors=True)
    return create_field(folder, grid, layout, attributes(WHOLE, grid, layout))


def plan_of(options: argparse.Namespace) -> dict[str, Any]:
    """Plan and estimate without a store; land is a test of one comparison."""
    from unigeo.producer.raster.cost_estimate import estimate

    conus = region("conus")
    globe = region_of_bbox((-180.0, -60.0, 179.999, 84.0), "globe", "EPSG:8857")
    found: dict[str, Any] = {}
    for where, resolution_m, share in ((conus, 100.0, 1.0), (globe, 250.0, 0.3)):
        begin_s = time.perf_counter()
        layout = Layout(modalities=("coordinate", "aerial", "dsm"), bands=768)
        grid = where.grid(resolution_m)
        tasks = planned(Path(options.folder) / "nothing.zarr", grid, layout)
        job = opened("", grid, layout, Constant(768), where, partial(_some, share))
        plans = estimate(job, tasks)
        first, last = tasks[0], tasks[-1]
        spent = time.perf_counter() - begin_s
        found[f"{where.name} {resolution_m:g} m"] = {
            "cells": grid.shape[0] * grid.shape[1],
            "tasks": len(tasks),
            "to encode": plans[0].cells,
            "bytes": sum(each.bytes for each in plans),
            "shards inside": int((job.extent == ShardExtent.INSIDE).sum()),
            "seconds": round(spent, 2),
            "peak_gb": round(peak_bytes() / 1e9, 2),
            "ends": [str(first), str(last)],
        }
    return found


def _some(share: float, lonlat: np.ndarray) -> np.ndarray:
    found: np.ndarray = (np.abs(lonlat[:, 0] * 7.3 + lonlat[:, 1] * 3.1) % 1.0) < share
    return found


def publish_of(options: argparse.Namespace) -> dict[str, Any]:
    """Publication of 4, 16 and 64 shards of 48 MiB: megabytes of vectors per second, and the peak.

    Each in a process of its own; the peak is that above the same process before it begins.
    """
    code = "from benchmarks.producer.raster import publication_of; publication_of({at!r})"
    found: dict[str, Any] = {}
    for side in (2, 4, 8):
        url = Path(options.folder) / "p.zarr"
        layout = Layout(modalities=("coordinate",), bands=768)
        grid = Grid("EPSG:8857", 1000.0, -side * 256, 0, (side * 256, side * 256))
        group = begin(url, grid, layout)
        rasterize(group, opened(url, grid, layout, Constant(768)), progress=False)
        done = subprocess.run(
            [sys.executable, "-c", code.format(at=str(url))],
            capture_output=True,
            text=True,
            check=True,
        )
        seconds, peak = json.loads(done.stdout)
        found[f"mb_s_{side * side}"] = round(side * side * 48 * 2**20 / seconds / 1e6)
        found[f"peak_in_shards_{side * side}"] = round(peak / (48 << 20), 2)
        shutil.rmtree(url)
    return found


def publication_of(folder: str) -> None:
    """Publish a field; print the seconds, and the bytes of the peak above what was held before."""
    group = open_group(folder, read_only=False, consolidated=False)
    before, start = peak_bytes(), time.perf_counter()
    publish(group)
    print(json.dumps([time.perf_counter() - start, peak_bytes() - before]))


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_of(options: argparse.Namespace) -> dict[str, Any]:
    """Shards of 768 bands through the pipeline, and as many bytes in one file, in turns.

    All end when the disk has everything: the pipeline syncs each object, the file is synced once.
    The file is written through the system's cache (`plain`) and past it (`direct`): where memory is
    scarce, or lent by a host, the first waits for pages.
    """
    layout = Layout(modalities=("coordinate",), bands=768)
    grid = Grid("EPSG:8857", 1000.0, -1024, -512, (1024, 512 * options.times))
    folder, encoder = Path(options.folder), Constant(768)

    def pipeline() -> tuple[float, int]:
        group = begin(folder / "w.zarr", grid, layout)
        start = time.perf_counter()
        rasterize(group, opened(group.store, grid, layout, encoder), progress=False)
        spent = time.perf_counter() - start
        size = sum(p.stat().st_size for p in (folder / "w.zarr").rglob("*") if p.is_file())
        shutil.rmtree(folder / "w.zarr")
        return spent, size

    ways = {
        "pipeline": pipeline,
        "plain": partial(one_file, folder / "one", 8 * options.times, 0),
        "direct": partial(one_file, folder / "one", 8 * options.times, os.O_DIRECT),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.repeat):
        turn = number % len(ways)
        for name in [*ways, *ways][turn : turn + len(ways)]:
            spent, size = ways[name]()
            rates[name].append(size / spent / 1e6)
    return {f"{name}_mb_s": [round(rate) for rate in each] for name, each in rates.items()} | {
        f"share_of_{name}": round(
            statistics.median(a / b for a, b in zip(rates["pipeline"], rates[name], strict=True)), 3
        )
        for name in ("plain", "direct")
    }


def one_file(path: Path, blocks: int, flags: int) -> tuple[float, int]:
    """Seconds to write so many blocks of 48 MiB one after the other, and their bytes."""
    block = Buffers().take(48 << 20)
    block[:] = np.random.default_rng(0).integers(0, 255, len(block), np.uint8)
    start = time.perf_counter()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | flags)
    for _ in range(blocks):
        left = memoryview(block)
        while left:
            left = left[os.write(file, left) :]
    os.fsync(file)
    os.close(file)
    spent = time.perf_counter() - start
    path.unlink()
    return spent, blocks * len(block)


def tiny_encoder() -> Any:
    """The coordinate encoder of `--preset tiny`, its weights drawn at random."""
    import torch

    from unigeo.producer.encoders import presets
    from unigeo.producer.encoders.model import UniGeoCLIP
    from unigeo.producer.encoders.model_settings import ModelSettings
    from unigeo.producer.observations.synthetic.world import World
    from unigeo.producer.raster.encoding import encoder_of

    settings = presets.tiny(default_forms({}))
    model = UniGeoCLIP(
        ModelSettings(dimension=settings.dimension, towers={"coordinate": settings.coordinate})
    )
    return encoder_of(model, World(), torch.device("cpu"))


def growth_of(options: argparse.Namespace) -> dict[str, Any]:
    """Processor seconds per cell, in shards of 64 cells and 16 bands, for more and more cells.

    Where the encoder costs nothing, this is the whole cost of everything else; a first run is not
    counted.
    """
    encoder: Any = Constant(16) if options.encoder == "constant" else tiny_encoder()
    bands = 16 if options.encoder == "constant" else encoder.model.settings.dimension
    layout = Layout(modalities=("coordinate",), bands=bands, shard=64, chunk=16)
    found: dict[str, list[float]] = {}
    for number in range(-1, options.repeat):
        for side in (2, 5, 16, 50) if number >= 0 else (2,):  # shards
            cells = (side * 64) ** 2
            grid = Grid("EPSG:8857", 1000.0, -side * 64, 0, (side * 64, side * 64))
            group = begin(Path(options.folder) / "g.zarr", grid, layout)
            start = time.process_time()
            rasterize(group, opened(group.store, grid, layout, encoder), progress=False)
            spent = time.process_time() - start
            if number >= 0:
                found.setdefault(f"{cells}", []).append(1e6 * spent / cells)
    return {f"us_per_cell_{cells}": round(min(us), 2) for cells, us in found.items()}


def memory_of(options: argparse.Namespace) -> dict[str, Any]:
    """Peak over that before the first shard, for 4 and for 16 shards of 48 MiB."""
    code = "from benchmarks.producer.raster import peak_of; peak_of({side}, {folder!r})"
    found = {}
    for side in (2, 4):
        done = subprocess.run(
            [sys.executable, "-c", code.format(side=side, folder=options.folder)],
            capture_output=True,
            text=True,
            check=True,
        )
        found[f"peak_in_shards_{side * side}"] = float(done.stdout)
    return found


def peak_of(side: int, folder: str) -> None:
    layout = Layout(modalities=("coordinate",), bands=768)
    grid = Grid("EPSG:8857", 1000.0, -side * 256, 0, (side * 256, side * 256))
    group = begin(Path(folder) / "m.zarr", grid, layout)
    encoder = Constant(768)
    first = planned(Path(folder) / "m.zarr", grid, layout)[0]
    for batch in opened(group.store, grid, layout, encoder).read(first):
        encoder.codes("coordinate", batch.observed)()  # type: ignore[arg-type]
    before = peak_bytes()
    rasterize(group, opened(group.store, grid, layout, encoder), progress=False)
    print(round((peak_bytes() - before) / (48 << 20), 2))
    shutil.rmtree(Path(folder) / "m.zarr")


def busy(work_s: float, modality: str, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encode by a fixed amount of arithmetic on one core."""
    matrix = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
    vectors = lonlat.astype(np.float32) @ matrix
    for _ in range(round(400 * work_s)):
        vectors = np.tanh(vectors) + 1e-3
    return vectors, np.ones(len(lonlat), bool)


def busy_source() -> Equipment:
    """What a dask worker of this benchmark encodes with."""
    return Equipment(FunctionEncoder(partial(busy, 1.0)), everywhere)


def workers_of(options: argparse.Namespace) -> dict[str, Any]:
    """The same 16 shards by one worker and by two, of one thread, each with one core's work."""
    from unigeo.producer.raster.dask_cluster import local_workers
    from unigeo.producer.raster.dask_executor import rasterize_on

    layout = Layout(modalities=("coordinate",), bands=64, shard=64, chunk=16)
    grid = Grid("EPSG:8857", 1000.0, -256, 0, (256, 256))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(options.repeat):
        for count in (1, 2):
            folder = Path(options.folder) / "d.zarr"
            group = begin(folder, grid, layout)
            job = opened(folder, grid, layout, Constant(64), open_equipment=busy_source)
            with local_workers(count, threads=1) as connect:
                client = connect()  # workers are up before the clock starts
                client.wait_for_workers(count)
                client.run(busy_source)  # and have imported what they need
                log = RunLog()
                start = time.perf_counter()
                rasterize_on(lambda c=client: c, group, job, None, log=log, progress=False)
                seconds[count].append(time.perf_counter() - start)
    one, two = (statistics.median(seconds[count]) for count in (1, 2))
    return {"one_s": round(one, 2), "two_s": round(two, 2), "times": round(one / two, 2)}


BENCHMARKS = {
    "plan": plan_of,
    "write": write_of,
    "growth": growth_of,
    "memory": memory_of,
    "publish": publish_of,
    "workers": workers_of,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", choices=[*BENCHMARKS, []], default=[])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--times", type=int, default=1, help="so much more to write")
    parser.add_argument("--encoder", choices=["constant", "tiny"], default="constant")
    parser.add_argument("--folder", help="on the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        options.folder = folder
        for name in options.what or BENCHMARKS:
            print(json.dumps({"benchmark": name, **BENCHMARKS[name](options)}), flush=True)


if __name__ == "__main__":
    main()
