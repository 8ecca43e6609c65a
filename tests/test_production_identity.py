"""All processes that fill a store have its model, its observations and its code, or are refused."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support import stores

import unigeo.client
import unigeo.producer
import unigeo.schemas
from unigeo.producer.commands.cli import produce
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.encoders.saved_models import model_hash, save_model
from unigeo.producer.observations.forms import default_forms
from unigeo.producer.publishing.publish import publish
from unigeo.producer.raster.dask_cluster import ANY_PORT
from unigeo.producer.raster.identity import VectorIdentity
from unigeo.producer.raster.planning import plan
from unigeo.producer.raster.raster_job import Equipment
from unigeo.producer.raster.shard_encoder import FunctionEncoder
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.storage.code_identity import OtherIdentityError, RoundingWarning, code_sha256
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.io.stores import open_group

FOLDERS = (unigeo.client, unigeo.producer, unigeo.schemas)
HERE = "/proc/self/cwd"
"""The folder that a process was started in: one path that means another place for each."""
needs_proc = pytest.mark.skipif(not Path(HERE).exists(), reason="needs Linux's /proc")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders, with models of one shape and other weights at `model`."""
    made = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp(f"machine{seed}")
        model = UniGeoCLIP(tiny(default_forms({}, text=False), seed=seed))
        save_model(model, None, folder / "model", {"metrics.json": '{"run": "none"}'})
        made.append(folder)
    return made[0], made[1]


@contextmanager
def cluster(folder: Path, name: str, sources: Path | None = None) -> Iterator[str]:
    """A scheduler and one worker, real processes; the worker is started in a folder.

    `sources` is where it finds unigeo, if not where this process does.
    """
    from benchmarks.producer.kills import _free_port

    port = _free_port()
    own = os.environ.get("PYTHONPATH", "")
    path = own if sources is None else f"{sources}{os.pathsep}{own}"
    host = ["--host", "127.0.0.1"]
    scheduler = ["scheduler", *host, "--port", str(port), "--no-dashboard"]
    worker = ["worker", f"tcp://127.0.0.1:{port}", *host, "--nthreads", "1", "--name", name]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *command], cwd=folder, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": paths},
        )
        for command, paths in ((scheduler, own), ([*worker, "--no-nanny", "--no-dashboard"], path))
    ]  # fmt: skip
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        for process in started:
            process.kill()
            process.wait()


def command(out: Path, *options: str) -> Any:
    """Produce coordinates round Denver with the model of this process's folder."""
    words = f"--bbox -106 38 -102 41 --resolution 20000 --modalities coordinate --out {out}"
    words += " --observations world"
    return CliRunner().invoke(produce, [*words.split(), "--model", f"{HERE}/model", *options])


@needs_proc
@pytest.mark.slow
def test_a_worker_with_another_model_at_the_same_path_is_refused_before_its_first_task(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders[0])
    out = tmp_path / "far.zarr"
    with cluster(folders[1], "stale") as address:
        refused = command(out, "--scheduler", address)
    said = str(refused.exception)
    assert isinstance(refused.exception, OtherIdentityError), (refused.output, said)
    for words in (
        "dask worker stale at tcp://127.0.0.1:", model_hash(folders[0] / "model")[:12],
        model_hash(folders[1] / "model")[:12], "Copy the model",
    ):  # fmt: skip
        assert words in said
    assert not list(out.glob("coordinate*/c/**/*")), "nothing was written"
    with cluster(folders[0], "good") as address:
        done = command(out, "--scheduler", address)
    assert done.exit_code == 0, (done.output, done.exception)
    alone = command(tmp_path / "one.zarr")
    assert alone.exit_code == 0, (alone.output, alone.exception)
    assert stores.tree(out) == stores.tree(tmp_path / "one.zarr")
    (run,) = open_group(out)["manifest"].attrs["runs"]  # type: ignore[misc]
    assert run["model_sha256"] == model_hash(folders[0] / "model")
    assert run["code_sha256"] == code_sha256()
    assert len(run["settings_sha256"]) == len(run["observations_sha256"]) == 64


@needs_proc
@pytest.mark.slow
def test_a_worker_of_an_edited_checkout_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders[0])
    for module in FOLDERS:
        (folder,) = module.__path__
        shutil.copytree(folder, tmp_path / "edited/unigeo" / module.__name__.split(".")[1])
    with (tmp_path / "edited/unigeo/producer/encoders/layer_depths.py").open("a") as file:
        file.write("\nEDITED = True\n")
    with cluster(folders[0], "edited", tmp_path / "edited") as address:
        refused = command(tmp_path / "far.zarr", "--scheduler", address)
    said = str(refused.exception)
    assert isinstance(refused.exception, OtherIdentityError), (refused.output, said)
    assert "dask worker edited" in said and code_sha256()[:12] in said and "without edits" in said


def encode_otherwise(*_: Any) -> Any:
    raise AssertionError("a worker that is another encodes nothing")


def produce_on_threads(url: str, identity: VectorIdentity, equipment: Any, count: int = 1) -> Any:
    """Fill a store on a dask cluster of this process."""
    distributed = pytest.importorskip("distributed")
    from unigeo.producer.raster.dask_executor import rasterize_on

    group, grid, layout = stores.begin(url)
    encoder = FunctionEncoder(stores.encoder())
    job = stores.job_of(url, grid, layout, encoder, open_equipment=equipment, identity=identity)
    opened = OpenedJob(job, Equipment(encoder, stores.land))
    with distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        scheduler_kwargs=ANY_PORT,
    ) as cluster:
        return rasterize_on(
            lambda: distributed.Client(cluster), group, opened, None, progress=False
        )


@pytest.mark.parametrize("key", ["weights", "settings", "observations", "code"])
def test_whatever_decides_vectors_is_compared(key: str, tmp_path: Path) -> None:
    expected = VectorIdentity(weights="a" * 64, settings="b" * 64, observations="c" * 64)
    other = replace(expected, **{key: "d" * 64})
    equipment = partial(Equipment, FunctionEncoder(encode_otherwise), stores.land, other)
    with pytest.raises(OtherIdentityError, match=f"{key}.* dddddddddddd.* there, .* here"):
        produce_on_threads(str(tmp_path / "f.zarr"), expected, equipment)


def test_a_result_of_another_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unigeo.producer.raster import dask_worker

    make = dask_worker._JobWorker._make

    def made_by_another(*arguments: Any) -> Any:
        outcome = make(*arguments)
        return replace(outcome, identity=replace(outcome.identity, weights="d" * 64))

    monkeypatch.setattr(dask_worker._JobWorker, "_make", made_by_another)
    equipment = partial(Equipment, FunctionEncoder(stores.encoder()), stores.land)
    url = str(tmp_path / "f.zarr")
    with pytest.raises(OtherIdentityError, match="dddddddddddd there"):
        produce_on_threads(url, VectorIdentity(), equipment)
    monkeypatch.undo()
    group, grid, layout = stores.begin(url)
    assert len(plan(group, grid, layout)) == 8, "what it wrote is made again"


class OneByOne:
    """Gives each worker that opens it another version of numpy."""

    def __init__(self) -> None:
        self.opened = 0

    def __call__(self) -> Equipment:
        self.opened += 1
        told = {"torch": "1", "numpy": str(self.opened), "device": "cpu"}
        identity = VectorIdentity(packages=told)
        return Equipment(FunctionEncoder(stores.encoder()), stores.land, identity)


def test_versions_that_round_differently_are_reported_once_and_not_refused(tmp_path: Path) -> None:
    identity = VectorIdentity(packages={"torch": "1", "numpy": "0"})
    with pytest.warns(RoundingWarning, match="numpy 0 and by numpy 1") as told:
        report = produce_on_threads(str(tmp_path / "f.zarr"), identity, OneByOne())
    assert report.shards == 8
    assert len([one for one in told if one.category is RoundingWarning]) == 1


def test_a_store_is_not_finished_by_other_code(tmp_path: Path) -> None:
    url, layout = tmp_path / "f.zarr", stores.layout_of()
    grid = stores.grid_of(stores.GULF, layout)
    plain = stores.attributes_of(stores.GULF, grid, layout)
    one, other = (VectorIdentity(code=digit * 64) for digit in "12")
    group = create_field(url, grid, layout, one.mark(plain))
    for attributes in (other.mark(plain), plain):
        with pytest.raises(OtherIdentityError, match=r"sources 111111111111.*name another --out"):
            create_field(url, grid, layout, attributes)
    elsewhere = replace(one, packages={**one.packages, "numpy": "0"})
    with pytest.warns(RoundingWarning, match="numpy"):
        create_field(url, grid, layout, elsewhere.mark({**plain, "license": "MIT"}))
    stores.fill(group, grid, layout)
    own: Any = publish(create_field(url, grid, layout, one.mark(plain))).attrs["unigeo"]
    assert own["code_sha256"] == "1" * 64 and own["packages"] == one.packages
    create_field(url, grid, layout, other.mark(plain))  # what is published is what it is
