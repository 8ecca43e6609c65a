"""Covariates and fused vectors, which follow from a shard's other tasks, whoever makes them."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from support import small_rasters, stores
from support.small_rasters import begin, produce
from zarr.storage import LocalStore, WrapperStore

from unigeo import client
from unigeo.producer.publishing.publish import publish
from unigeo.producer.publishing.releases import take_over
from unigeo.producer.raster.dask_worker import _JobWorker
from unigeo.producer.raster.encoding import ModelEncoder
from unigeo.producer.raster.planning import plan
from unigeo.producer.raster.redone_shards import touched
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.status import Status

HERE = Path(__file__).parent


class Killed(BaseException):
    """The process ends here."""


class Mortal(WrapperStore[Any]):
    """A local store whose process is killed before it writes a shard's status of an array."""

    array = "aerial"
    for_real = False

    async def set(self, key: str, value: Any) -> None:
        if key.startswith(f"{self.array}_status/c/"):
            if self.for_real:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Killed(key)
        await super().set(key, value)


def mortal(url: Path, array: str, *, for_real: bool = False) -> Mortal:
    store = Mortal(LocalStore(url))
    store.array, store.for_real = array, for_real
    return store


@pytest.fixture(scope="module")
def encoder(small_folder: Path) -> ModelEncoder:
    return small_rasters.encoder_for(small_rasters.observe(small_folder))


ARRAYS = ("aerial", "covariates", "fused")


@pytest.mark.parametrize("array", ARRAYS)
def test_killed_before_the_first_shard_of_an_array_the_next_run_ends_with_the_same_bytes(
    encoder: ModelEncoder, small_product: Path, tmp_path: Path, array: str
) -> None:
    url = tmp_path / "paris.zarr"
    with pytest.raises(Killed):
        produce(url, encoder, store=mortal(url, array))
    assert not list(url.glob(f"{array}_status/c/*/*"))
    produce(url, encoder)
    assert stores.tree(url) == stores.tree(small_product)
    assert not url.with_name("paris.zarr.run").exists()


CHILD = """
import sys
from pathlib import Path
from support import small_rasters
from test_derived_shards import mortal

folder, url = map(Path, sys.argv[1:3])
encoder = small_rasters.encoder_for(small_rasters.observe(folder))
small_rasters.produce(url, encoder, store=mortal(url, sys.argv[3], for_real=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("array", ARRAYS)
def test_a_process_killed_at_the_first_shard_of_an_array_is_gone_on_with(
    small_folder: Path, encoder: ModelEncoder, small_product: Path, tmp_path: Path, array: str
) -> None:
    url = tmp_path / "paris.zarr"
    ended = subprocess.run([sys.executable, "-c", CHILD, small_folder, url, array], cwd=HERE)
    assert ended.returncode == -signal.SIGKILL
    produce(url, encoder)
    assert stores.tree(url) == stores.tree(small_product)


@pytest.mark.parametrize("lost", ["covariates", "others", "all", "statuses"])
def test_whoever_cuts_the_patches_the_bytes_are_the_same(
    encoder: ModelEncoder, small_product: Path, tmp_path: Path, lost: str
) -> None:
    """A run that was killed anywhere, another process, or one that keeps no numbers."""
    path = tmp_path / "paris.zarr"
    shutil.copytree(small_product, path)
    rng = np.random.default_rng(3)
    for file in sorted(path.rglob("c/*")):
        name = file.relative_to(path).parts[0]
        own = name.startswith("covariates")
        gone = {
            "covariates": own,
            "others": rng.random() < 0.5 and "status" in name,
            "all": True,
            "statuses": "status" in name,
        }[lost]
        if gone and name not in ("x", "y", "band", "name"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    produce(path, encoder)
    assert stores.tree(path) == stores.tree(small_product)


def test_a_worker_that_did_no_other_task_makes_the_same_shard(
    encoder: ModelEncoder, small_product: Path, tmp_path: Path
) -> None:
    """Tasks in any order, those of `fused` last, each by a worker of its own."""
    path = tmp_path / "paris.zarr"
    group, job = begin(path, encoder)
    tasks = plan(group, job.job.grid, job.job.layout)
    tasks = sorted(tasks, key=lambda task: (task.modality == "fused", task.modality[::-1]))
    workers = [_JobWorker(job.job) for _ in range(2)]
    for number, task in enumerate(tasks):
        outcome = workers[number % 2].do(task, redo=False, last=True)
        assert outcome.state == "written" and not outcome.failures
    ours, theirs = stores.tree(path), stores.tree(small_product)
    ours, theirs = ({k: v for k, v in t.items() if ".run/" not in k} for t in (ours, theirs))
    assert ours == theirs


@pytest.fixture
def damaged(small_folder: Path, tmp_path: Path) -> Path:
    """The folder, with colours of which one file cannot be read."""
    shutil.copytree(small_folder, tmp_path / "data")
    small_rasters.tear(tmp_path / "data/west.tif")
    return tmp_path / "data"


def failed_cells(url: Path, array: str) -> np.ndarray:
    group: Any = zarr.open_group(url, mode="r", use_consolidated=False)
    return np.asarray(group[f"{array}_status"][...] == Status.FAILED)


def test_a_file_that_cannot_be_read_fails_cells_until_it_is_mended(
    damaged: Path, small_folder: Path, small_product: Path, tmp_path: Path
) -> None:
    """Numbers and fused vectors of them, too; what is redone may be killed on its way."""
    url, torn = tmp_path / "f.zarr", small_rasters.observe(damaged)
    report = produce(url, small_rasters.encoder_for(torn))
    assert any("covariates: aerial: cannot read west.tif" in text for text in report.failures)
    assert not list(url.glob("fused_status/c/*/*")), "made of vectors that are still to come"
    report = produce(url, small_rasters.encoder_for(torn), accept_failures=True)
    assert any("fused: failed in aerial" in text for text in report.failures)
    group: Any = zarr.open_group(url, mode="r", use_consolidated=False)
    whole: Any = zarr.open_group(small_product, mode="r", use_consolidated=False)
    failed = failed_cells(url, "aerial")
    assert 0.2 < failed.sum() / (whole["aerial_status"][...] == Status.VALID).sum() < 0.9
    for array in ("fused", "covariates"):
        lost = failed_cells(url, array)
        assert lost[failed].all() and (array == "covariates" or np.array_equal(lost, failed))
        ours, theirs = (np.float32(one[array][...][~lost]) for one in (group, whole))
        # Other batches of cells may round a vector to the next integer.
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1 if array == "fused" else 1e-5)
        assert np.all(group[array][...][lost] == -128) or np.isnan(group[array][...][lost]).all()

    shutil.copy(small_folder / "west.tif", damaged / "west.tif")
    mended = small_rasters.encoder_for(small_rasters.observe(damaged))
    with pytest.raises(Killed):
        produce(url, mended, store=mortal(url, "fused"))
    assert not produce(url, mended).failures
    assert stores.tree(url) == stores.tree(small_product)


def test_shards_with_failed_cells_are_not_taken_over(damaged: Path, tmp_path: Path) -> None:
    torn = small_rasters.observe(damaged)
    encoder = small_rasters.encoder_for(torn)
    url = tmp_path / "f.zarr"
    produce(url, encoder, accept_failures=True)
    publish(zarr.open_group(url, mode="r+", use_consolidated=False))
    group, job = begin(tmp_path / "next.zarr", encoder)
    take_over(str(url), group, small_rasters.WHERE, torn.land)
    left = plan(group, job.job.grid, job.job.layout)
    assert {task.modality for task in left} == {"aerial", "covariates", "fused"}
    for task in left:
        rows, cols = task.window(job.job.layout.shard).slices
        assert failed_cells(url, task.modality)[rows, cols].any()


def test_all_that_is_made_of_a_replaced_file_is_made_again(small_folder: Path) -> None:
    observations = small_rasters.observe(small_folder)
    _, job = begin(small_folder / "unused.zarr", small_rasters.encoder_for(observations))
    redone = touched(observations, {"dsm.tif"}, job.job.grid, job.job.layout)
    assert {task.modality for task in redone} == {"dsm", "covariates", "fused"}


def test_fused_vectors_are_not_made_where_others_were_lost(
    encoder: ModelEncoder, small_product: Path, tmp_path: Path
) -> None:
    url = tmp_path / "paris.zarr"
    shutil.copytree(small_product, url)
    shutil.rmtree(url / "fused_status/c")
    lost = next(url.glob("dsm/c/*/*/0"))
    lost.unlink()
    name = lost.relative_to(url).as_posix()
    with pytest.raises(LayoutError, match=f"{name}: .*another status than valid"):
        produce(url, encoder)
    row, col = name.split("/")[2:4]
    (url / f"dsm_status/c/{row}/{col}").unlink()
    produce(url, encoder)
    assert stores.tree(url) == stores.tree(small_product)


def test_a_published_store_is_read_and_its_shards_are_taken_over(
    encoder: ModelEncoder, small_product: Path, tmp_path: Path
) -> None:
    path = tmp_path / "paris.zarr"
    shutil.copytree(small_product, path)
    publish(zarr.open_group(path, mode="r+", use_consolidated=False))
    field = client.open_field(path)
    assert field.verify().ok
    lonlat = np.array([[2.2, 48.75]])
    ((height,),) = field.sample(lonlat, [], covariates="dsm_point", as_="numpy")["covariates"]
    row, col = field.grid.cells(lonlat)[0]
    number = field.layout.covariates.index("dsm_point")
    assert (
        height == field.read("covariates", slice(row, row + 1), slice(col, col + 1))[0, 0, number]
    )
    group, job = begin(tmp_path / "next.zarr", encoder)
    copied = take_over(str(path), group, small_rasters.WHERE, encoder.observations.land)
    tasks = plan(group, job.job.grid, job.job.layout)
    layout = job.job.layout
    assert not len(tasks) and copied == len(layout.arrays) * np.prod(layout.shards(job.job.grid))
    assert stores.tree(tmp_path / "next.zarr") == stores.tree(small_product)
