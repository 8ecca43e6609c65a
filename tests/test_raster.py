import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from support import servers, stores
from support.children import child
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore, WrapperStore

from unigeo import client
from unigeo.producer.publishing.publish import publish
from unigeo.producer.raster.planning import Task, plan
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.errors import StoreError
from unigeo.schemas.store.status import Status

HERE = Path(__file__).parent


class Killed(BaseException):
    """The process ends here."""


class Mortal(WrapperStore[Any]):
    """A store whose process is killed at its n-th write."""

    left = 10**9

    async def set(self, key: str, value: Any) -> None:
        self._count(key)
        await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        self._count(key)
        await super().set_if_not_exists(key, value)

    def _count(self, key: str) -> None:
        if self.left <= 0:
            raise Killed(key)
        self.left -= 1


def build_in(folder: Path, writes: int) -> int:
    """Build with that many writes allowed; how many are left over."""
    store = Mortal(LocalStore(folder))
    store.left = writes
    stores.build(store)
    return store.left


@pytest.mark.slow
def test_a_run_killed_before_any_of_its_writes_goes_on_to_the_same_bytes(
    gulf: Path, tmp_path: Path
) -> None:
    whole = stores.tree(gulf)
    writes = 10**6 - build_in(tmp_path / "count", 10**6)
    assert writes >= len(whole)
    for number in range(0, writes, 5):
        folder = tmp_path / f"{number}"
        with pytest.raises(Killed):
            build_in(folder, number)
        with pytest.raises(StoreError):
            client.open_field(folder)  # never half a product
        stores.build(folder)
        assert stores.tree(folder) == whole, number


def test_a_store_killed_twice_ends_the_same(gulf: Path, tmp_path: Path) -> None:
    for writes in (13, 9):
        with pytest.raises(Killed):
            build_in(tmp_path / "f", writes)
    stores.build(tmp_path / "f")
    assert stores.tree(tmp_path / "f") == stores.tree(gulf)


HELD = """
import sys, time
from support import stores

def encode(modality, lonlat):
    if modality == "aerial" and lonlat[:, 0].max() > 15 and lonlat[:, 1].min() < -10:
        time.sleep(1e6)  # in the last shard, so that it never ends before it is killed
    return stores.encoder(wait_s=0.05)(modality, lonlat)

stores.build(sys.argv[1], encode=encode)
"""


@pytest.mark.parametrize("shards", [1, 5])
def test_sigkill_in_the_middle_then_again_is_the_unbroken_run(
    gulf: Path, tmp_path: Path, shards: int
) -> None:
    folder = tmp_path / "field.zarr"
    with child([sys.executable, "-c", HELD, folder], cwd=HERE) as process:
        while len(list(folder.glob("*_status/c/*/*"))) < shards:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert len(list(folder.glob("*_status/c/*/*"))) < 8
    (folder / "aerial/c/0/0").mkdir(parents=True, exist_ok=True)
    (folder / "aerial/c/0/0/0.abc123.partial").write_bytes(b"torn")  # as a killed write leaves
    stores.build(folder)
    assert stores.tree(folder) == stores.tree(gulf)


def test_finished_shards_are_not_encoded_again(tmp_path: Path) -> None:
    seen: list[str] = []

    def encode(modality: str, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(modality)
        return stores.encoder()(modality, lonlat)

    group, grid, layout = stores.begin(tmp_path / "f")
    assert len(plan(group, grid, layout)) == 8
    first = stores.fill(group, grid, layout, encode=encode)
    assert (first.shards, set(seen)) == (8, {"coordinate", "aerial"})
    assert first.cells[Status.VALID] + first.cells[Status.NO_OBSERVATION] == 5518
    seen.clear()
    assert stores.fill(group, grid, layout, encode=encode).shards == 0
    assert seen == []
    (tmp_path / "f/aerial_status/c/1/0").unlink()
    assert list(plan(group, grid, layout)) == [Task("aerial", 1, 0)]


def test_the_bytes_do_not_depend_on_the_batch(gulf: Path, tmp_path: Path) -> None:
    for batch in (7, 5000):
        stores.build(tmp_path / str(batch), batch=batch)
        assert stores.tree(tmp_path / str(batch)) == stores.tree(gulf)


def test_the_vectors_do_not_depend_on_the_shard(gulf: Path, tmp_path: Path) -> None:
    stores.build(tmp_path / "f", layout=stores.layout_of(shard=64))
    large, small = client.open_field(tmp_path / "f"), client.open_field(gulf)
    assert large.grid.shape == (128, 128)
    places = small.grid.centres().reshape(-1, 2)
    assert large.sample(places).equals(small.sample(places))


def test_the_model_s_vectors_do_not_depend_on_the_company() -> None:
    """A real encoder alone and in company: the stored numbers differ by rounding, if at all."""
    import torch

    from unigeo.producer.encoders.coordinates import CoordinateEncoder
    from unigeo.producer.encoders.tower_settings import CoordinateSettings
    from unigeo.schemas.store.quantization import dequantize, quantize

    torch.manual_seed(0)
    encoder = CoordinateEncoder(CoordinateSettings(width=64, depth=2, heads=4), 32).eval()
    lonlat = torch.from_numpy(np.random.default_rng(0).uniform((-120, 25), (-70, 49), (64, 2)))
    with torch.inference_mode():
        together = encoder(lonlat).numpy()
        alone = np.concatenate([encoder(part).numpy() for part in lonlat.split(7)])
    one, other = quantize(together), quantize(alone)
    assert np.abs(one.astype(int) - other).max() <= 1
    assert (dequantize(one) * dequantize(other)).sum(-1).min() > 0.9999


def test_a_store_in_the_making_opens_only_when_asked_for(tmp_path: Path) -> None:
    group, grid, layout = stores.begin(tmp_path / "f")
    with pytest.raises(StoreError, match="never published"):
        client.open_field(tmp_path / "f")
    field = client.open_field(tmp_path / "f", allow_building=True)
    sampled = field.sample([(0.0, 0.0)], "coordinate")
    assert sampled["coordinate_status"].tolist() == ["not produced"]
    with pytest.raises(StoreError, match="8 shards are not written yet, the first: Task"):
        publish(group)
    stores.fill(group, grid, layout)
    with pytest.raises(StoreError):
        client.open_field(tmp_path / "f")
    publish(group)
    assert client.open_field(tmp_path / "f").attributes.state == "published"


def test_a_published_store_is_not_published_again(tmp_path: Path) -> None:
    group = stores.build(tmp_path / "f")
    before = stores.tree(tmp_path / "f")
    with pytest.raises(StoreError, match=r"never changes.*--update"):
        publish(group)
    assert stores.tree(tmp_path / "f") == before


def test_another_product_is_not_written_over(tmp_path: Path) -> None:
    stores.build(tmp_path / "f")
    before = stores.tree(tmp_path / "f")
    with pytest.raises(
        StoreError, match=r"its model differ.*abababababab there, cdcdcdcdcdcd here"
    ):
        stores.begin(tmp_path / "f", model_sha256="cd" * 32)
    with pytest.raises(StoreError, match=r"its layout differs"):
        stores.begin(tmp_path / "f", layout=stores.layout_of(bands=16))
    with pytest.raises(StoreError, match=r"region, grid.*gulf there, fiji here"):
        stores.begin(tmp_path / "f", stores.FIJI)
    assert stores.tree(tmp_path / "f") == before


def test_what_is_no_field_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(StoreError, match="holds other files"):
        stores.begin(tmp_path)
    zarr.create_group(tmp_path / "g", zarr_format=3)
    with pytest.raises(StoreError, match="Name another --out"):
        stores.begin(tmp_path / "g")
    with pytest.raises(StoreError):
        stores.begin(tmp_path / "letter.txt")
    assert (tmp_path / "letter.txt").read_text() == "dear reader"


def test_cells_that_fail_are_counted_and_named(tmp_path: Path) -> None:
    def encode(modality: str, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if modality == "aerial" and lonlat[:, 1].min() < -10:
            raise ValueError("a torn picture")
        return stores.encoder()(modality, lonlat)

    group, grid, layout = stores.begin(tmp_path / "f")
    report = stores.fill(group, grid, layout, encode=encode)
    assert list(report.failures) == ["aerial: a torn picture"]
    assert report.failures["aerial: a torn picture"] == report.cells[Status.FAILED] > 0
    publish(group)
    field = client.open_field(tmp_path / "f")
    assert field.coverage()["aerial"][Status.FAILED] == report.cells[Status.FAILED]
    assert field.sample([(0.0, -13.0)])["aerial_status"].tolist() == ["failed"]


FULL_DISK = """
import json, resource, sys
from support import stores
from unigeo.schemas.errors import UnigeoError

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    group, grid, layout = stores.begin(sys.argv[1], layout=stores.layout_of(bands=64))
    stores.fill(group, grid, layout)
except UnigeoError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""


def test_a_full_disk_is_one_clear_error_and_the_run_goes_on_later(tmp_path: Path) -> None:
    """A limit on the size of a file stands for the full disk: the write of a shard fails."""
    layout = stores.layout_of(bands=64)
    stores.build(tmp_path / "unbroken", layout=layout)
    folder = tmp_path / "f"
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder), "20000"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    kind, message = json.loads(run.stdout)
    assert kind == "StoreError"
    assert "cannot write shard (0, 0) of coordinate" in message
    assert "goes on from there" in message
    state = json.loads((folder / "zarr.json").read_text())["attributes"]["unigeo"]["state"]
    assert state == "building"
    stores.build(folder, layout=layout)
    assert stores.tree(folder) == stores.tree(tmp_path / "unbroken")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket on a real S3 server on this machine."""
    with servers.object_store(monkeypatch) as url:
        yield url


def test_an_object_store_holds_the_same_field(bucket: str, gulf: Path) -> None:
    url = f"{bucket}/2026/gulf.zarr"
    group, grid, layout = stores.begin(url)
    with pytest.raises(StoreError, match="never published"):
        client.open_field(url)
    stores.fill(group, grid, layout)
    stores.build(url)
    remote, local = client.open_field(url), client.open_field(gulf)
    everywhere = np.s_[:, :]
    for name in ("coordinate", "aerial", "coordinate_status", "aerial_status"):
        assert np.array_equal(remote.read(name, *everywhere), local.read(name, *everywhere))
    dataset = remote.dataset()
    assert np.array_equal(dataset["aerial"], local.dataset()["aerial"])
    assert dataset.unigeo.sample([(0.0, 0.0)]).equals(local.sample([(0.0, 0.0)]))
    with pytest.raises(StoreError, match="another product"):
        stores.begin(url, model_sha256="cd" * 32)


def test_a_bucket_that_is_not_there_is_one_clear_error(bucket: str) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        stores.begin("s3://nowhere/gulf.zarr")
    with pytest.raises(StoreError, match="no Zarr v3 store"):
        client.open_field(f"{bucket}/absent.zarr")


def test_every_object_is_written_once_with_its_last_content_and_none_is_removed() -> None:
    """So a request that an object store carries out late, after its client gave it up, is harmless.

    The root alone changes, when the store is published; it is begun by a conditional write.
    """
    changes: list[tuple[str, str]] = []

    class Noting(WrapperStore[Any]):
        async def set(self, key: str, value: Any) -> None:
            changes.append(("set", key))
            await super().set(key, value)

        async def set_if_not_exists(self, key: str, value: Any) -> None:
            changes.append(("create", key))
            await super().set_if_not_exists(key, value)

        async def delete(self, key: str) -> None:
            changes.append(("delete", key))
            await super().delete(key)

        async def delete_dir(self, prefix: str) -> None:
            changes.append(("delete_dir", prefix))
            await super().delete_dir(prefix)

    stores.build(Noting(MemoryStore()))
    keys = [key for _, key in changes]
    assert [way for way, key in changes if key == "zarr.json"] == ["create", "set"]
    assert [key for key in set(keys) if keys.count(key) > 1] == ["zarr.json"]
    assert [change for change in changes if "delete" in change[0]] == [("delete_dir", "publishing")]
    assert keys[-1] == "zarr.json"
    for modality in ("coordinate", "aerial"):
        for shard in ("0/0", "0/1", "1/0", "1/1"):
            status = keys.index(f"{modality}_status/c/{shard}")
            assert keys.index(f"{modality}/c/{shard}/0") < status  # the status is the log


def test_a_second_product_begun_at_the_same_path_is_refused() -> None:
    """The second looked before the first wrote; its root does not replace the other's."""
    layout = stores.layout_of()
    grid = stores.grid_of(stores.GULF, layout)
    attributes = stores.attributes_of(stores.GULF, grid, layout)
    other = {**attributes, "unigeo": {**attributes["unigeo"], "seed": 7}}
    document = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": other}).encode()

    class Slow(WrapperStore[Any]):
        async def set_if_not_exists(self, key: str, value: Any) -> None:
            await super().set(key, default_buffer_prototype().buffer.from_bytes(document))
            await super().set_if_not_exists(key, value)

    with pytest.raises(StoreError, match="another product: its seed differs"):
        create_field(Slow(MemoryStore()), grid, layout, attributes)
