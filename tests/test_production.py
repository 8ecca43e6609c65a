"""What a run will cost, said before; and the same bytes by every way of running."""

import json
import pickle
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import stores
from zarr.storage import MemoryStore

from unigeo.producer.raster import local_executor, shard_commit
from unigeo.producer.raster.cost_estimate import (
    ProcessSpeed,
    estimate,
    format_estimate,
    land_share,
    sample_cells,
    size,
)
from unigeo.producer.raster.device_transfer import quantize_on_device
from unigeo.producer.raster.local_executor import rasterize
from unigeo.producer.raster.model_equipment import equipment_opener
from unigeo.producer.raster.planning import plan
from unigeo.producer.raster.raster_job import Equipment, RasterJob
from unigeo.producer.raster.run import ExecutionOptions
from unigeo.producer.raster.run_log import RunLog
from unigeo.producer.raster.shard_encoder import FunctionEncoder
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.storage.shard_codec import Buffers, VectorObject
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.regions import region, region_of_bbox
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.quantization import quantize
from unigeo.schemas.store.status import Status


@settings(max_examples=50)
@given(arrays(np.float32, (7, 5), elements=st.floats(-1, 1, width=32)))
def test_the_device_quantizes_as_the_contract_says(vectors: np.ndarray) -> None:
    vectors[(np.abs(vectors) < 1e-30).all(axis=1), 0] = 1.0
    codes, sound = quantize_on_device(torch.from_numpy(vectors))
    assert sound.all() and np.array_equal(codes.numpy(), quantize(vectors))


def test_a_vector_without_direction_is_flagged() -> None:
    bad = torch.tensor([[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0], [0.5, 1.0]])
    assert quantize_on_device(bad)[1].tolist() == [False, False, False, True]


def test_the_estimate_is_near_what_is_written(tmp_path: Path) -> None:
    group, grid, layout = stores.begin(tmp_path / "f")
    job = stores.job_of(tmp_path / "f", grid, layout, FunctionEncoder(stores.encoder()))
    opened = stores.opened(job)
    tasks = plan(group, grid, layout)
    assert land_share(opened).max() <= 1
    before = estimate(opened, tasks)
    report = stores.fill(group, grid, layout)
    done = report.cells[Status.VALID] + report.cells[Status.NO_OBSERVATION]
    assert sum(each.cells for each in before) == pytest.approx(done, rel=0.02)
    objects = (path for path in (tmp_path / "f").glob("coordinate*/c/**/*") if path.is_file())
    coordinate = sum(path.stat().st_size for path in objects)
    assert before[0].bytes == pytest.approx(coordinate, rel=0.3)  # chunks at the edges are whole
    assert [each.cells for each in estimate(opened, plan(group, grid, layout))] == [0, 0]
    flops = {"coordinate": 10, "aerial": 10}
    lines = [
        *format_estimate(
            before, flops, {"coordinate": ProcessSpeed(100, 100, False), "aerial": None}
        )
    ]
    assert "50 cells/s here" in lines[0] and "speed unknown" in lines[1]
    done = estimate(opened, plan(group, grid, layout))
    assert [*format_estimate(done, flops, {})] == [
        f"{name:13} no shard to write" for name in ("coordinate", "aerial")
    ]


def test_nothing_off_the_globe_is_counted(tmp_path: Path) -> None:
    """Beyond the antimeridian the inverse projection gives places that other cells hold."""
    globe, layout = region_of_bbox((-180, -90, 180, 90)), stores.layout_of()
    grid = globe.grid(100_000, layout.shard)
    job = stores.job_of(tmp_path, grid, layout, FunctionEncoder(stores.encoder()), globe)
    opened = OpenedJob(job, Equipment(job.open_equipment().encoder, lambda at: at[:, 0] < 999))
    area_m2 = land_share(opened).sum() * (layout.shard * grid.resolution_m) ** 2
    assert area_m2 == pytest.approx(5.10066e14, rel=0.01)  # of the WGS 84 ellipsoid
    rows, cols = sample_cells(opened, 500).T
    assert np.isfinite(grid.centres()[rows, cols]).all()


def test_stages_that_overlap_are_as_fast_as_the_slower() -> None:
    assert ProcessSpeed(300, 100, overlap=True).cells == 100
    assert ProcessSpeed(300, 100, overlap=False).cells == pytest.approx(75)
    assert (size(999), size(48e6), size(2e15)) == ("999 bytes", "48 MB", "2 PB")


def test_the_log_has_a_line_for_every_shard(tmp_path: Path) -> None:
    group, grid, layout = stores.begin(MemoryStore())
    log = RunLog(tmp_path / "logs/run.jsonl")
    job = stores.job_of(group.store, grid, layout, FunctionEncoder(stores.encoder()))
    rasterize(group, stores.opened(job), progress=False, log=log)
    log.close()
    events = [json.loads(line) for line in (tmp_path / "logs/run.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", *["shard"] * 8, "end"]
    assert (
        sum(event.get("cells", {}).get("valid", 0) for event in events)
        == (events[-1]["valid_cells"])
    )


def test_no_more_shards_are_in_memory_than_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk: objects that are filled or wait to be written are counted."""
    bodies: list[weakref.ref[np.ndarray]] = []
    most = []
    write, begin = shard_commit.put, VectorObject.__init__

    def counted(self: VectorObject, layout: Layout, width: int, buffers: Buffers) -> None:
        begin(self, layout, width, buffers)
        bodies.append(weakref.ref(self._body))

    def slow(*arguments: Any) -> None:
        time.sleep(0.02)
        most.append(len({id(body()) for body in bodies if body() is not None}))
        write(*arguments)

    monkeypatch.setattr(VectorObject, "__init__", counted)
    monkeypatch.setattr(shard_commit, "put", slow)
    group, grid, layout = stores.begin(MemoryStore())
    stores.fill(group, grid, layout)
    assert len(bodies) == 8 and 0 < max(most) <= local_executor.SHARDS


def test_a_job_is_small_enough_to_be_sent_with_every_task() -> None:
    """Also once this process has opened it: what is opened stays here."""
    conus = region("conus")
    job = RasterJob(
        url="s3://bucket/conus.zarr",
        region=conus,
        grid=conus.grid(1000.0),
        layout=Layout(modalities=("coordinate", "aerial"), bands=768),
        open_equipment=equipment_opener(Path("model"), None, None),
    )
    opened = OpenedJob(job, Equipment(FunctionEncoder(stores.encoder()), stores.land))
    assert opened.extent.any() and len(pickle.dumps(opened.job)) < 50_000
    again = pickle.loads(pickle.dumps(job))
    assert (again.key, again.grid, again.layout) == (job.key, job.grid, job.layout)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 2, "scheduler": "tcp://x:1"}, "name one"),
        ({"workers": 0}, "--workers must be"),
        ({"tries": 0}, "--tries must be"),
    ],
)
def test_ways_of_running_that_make_no_sense_are_refused(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        ExecutionOptions(**options)


def test_a_dry_run_says_what_it_costs_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unigeo.producer.commands.cli import main

    monkeypatch.chdir(tmp_path)
    box = ["--bbox", "-106", "38", "-102", "41", "--resolution", "20000", "--dry-run"]
    box += ["--modalities", "coordinate", "--steps", "20"]
    for change in ("batch=16", "locations=300", "gallery=16", "warmup=1", "numbers=1"):
        box += ["--set", f"training.{change}"]
    box += ["--observations", "world"]
    monkeypatch.setattr(
        sys,
        "argv",
        ["unigeo-produce", *box, "--workers", "2", "--price-per-hour", "3"],
    )
    stopped = SimpleNamespace(code=0)
    try:
        main()
    except SystemExit as end:
        stopped = end
    said = capsys.readouterr().err
    assert not stopped.code, said
    for words in ("cells to encode", "FLOP", "cells/s here", "with 2 workers", "cost  "):
        assert words in said, said
    assert list(tmp_path.iterdir()) == []
