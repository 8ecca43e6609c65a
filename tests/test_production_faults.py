"""What goes wrong in a long night: named, survived where it can be, and mended by a rerun."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from obstore.exceptions import PermissionDeniedError
from support import servers, stores
from support.faulty_proxy import FaultyProxy
from zarr.storage import LocalStore, WrapperStore

from benchmarks.producer import kills
from unigeo.producer.publishing.derive import NOTES
from unigeo.producer.publishing.publish import publish
from unigeo.producer.raster.dask_cluster import ANY_PORT
from unigeo.producer.raster.leases import PUBLISH, Leases, open_leases, remove_empty_folder
from unigeo.producer.raster.local_executor import RasterReport, rasterize
from unigeo.producer.raster.planning import Task, plan
from unigeo.producer.raster.run import ExecutionOptions, refuse_failures
from unigeo.producer.raster.run_log import RunLog
from unigeo.producer.raster.shard_encoder import FunctionEncoder
from unigeo.producer.raster.store_lease import lease_store
from unigeo.producer.storage.field_store import sweep
from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.stores import open_store
from unigeo.schemas.store.status import Status

GIVEN_UP_S = 2.0
"""A request without an answer is tried again after so long: much longer than any server takes."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with servers.object_store(monkeypatch) as url:
        yield url


def rasterize_gulf(url: Any, leases: Leases | None, encode: Any = None) -> RasterReport:
    group, grid, layout = stores.begin(url)
    job = stores.job_of(url, grid, layout, FunctionEncoder(encode or stores.encoder()))
    return rasterize(group, stores.opened(job), progress=False, leases=leases)


@pytest.mark.parametrize("seed", range(int(os.environ.get("UNIGEO_FAULT_SEEDS", "1"))))
@pytest.mark.slow
def test_a_store_written_through_a_bad_network_has_the_same_bytes(
    seed: int, bucket: str, gulf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What befalls whom differs with the seed; `UNIGEO_FAULT_SEEDS=100` tries so many."""
    target, url = os.environ["AWS_ENDPOINT_URL"], f"{bucket}/{seed}.zarr"
    with FaultyProxy(target, share=0.1, stall_s=3 * GIVEN_UP_S, seed=seed) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        store = open_store(url, read_only=False, timeout_s=GIVEN_UP_S)
        beside = open_store(f"{url}.run", read_only=False, timeout_s=GIVEN_UP_S)
        with Leases(beside.store) as run:
            assert rasterize_gulf(store, run).shards == 8
        group, proxy.share = stores.begin(store)[0], 0.05
        publish(group, encoder=stores.WEIGHTS, encoder_settings=stores.ENCODER)
        assert sum(proxy.counts.values()) - proxy.counts["none"] >= 3, proxy.counts
    monkeypatch.setenv("AWS_ENDPOINT_URL", target)
    found = kills.objects(url)
    # A note whose writing was given up may be written after all once the notes are removed.
    late = {key for key in found if key.startswith(f"{NOTES}/")}
    assert {key: body for key, body in found.items() if key not in late} == stores.tree(gulf)


def test_credentials_that_expire_end_the_run_and_a_rerun_goes_on(tmp_path: Path) -> None:
    """The store refuses after some writes; the same call later writes what is left."""

    class Expiring(WrapperStore[Any]):
        left = 18

        async def set(self, key: str, value: Any) -> None:
            self.left -= 1
            if self.left < 0:
                raise PermissionDeniedError("the token has expired")
            await super().set(key, value)

    with pytest.raises(StoreError, match=r"cannot write shard .* expired.*run the same command"):
        rasterize_gulf(Expiring(LocalStore(tmp_path)), None)
    assert 0 < rasterize_gulf(LocalStore(tmp_path), None).shards < 8


def test_credentials_that_expire_at_the_server_are_named_and_a_rerun_goes_on(
    bucket: str, gulf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server itself says no, to shards and to claims, from some request on."""
    url, target = f"{bucket}/expiring.zarr", os.environ["AWS_ENDPOINT_URL"]
    with FaultyProxy(target, share=0.0, stall_s=0.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        stores.begin(url)
        proxy.expires_after = proxy.counts.total() + 40
        run = open_leases(url, expiry_s=3.0)
        assert run is not None
        with pytest.raises(StoreError, match=r"Access is denied.*run the same command"), run:
            rasterize_gulf(url, run)
        assert 1 <= proxy.counts["expired"] < 50, "nobody asks on and on"
        proxy.expires_after = None
        again = open_leases(url, expiry_s=3.0)
        assert again is not None
        with again:
            assert 0 < rasterize_gulf(url, again).shards < 8
            again.sweep()
    monkeypatch.setenv("AWS_ENDPOINT_URL", target)
    local, found = stores.tree(gulf), kills.objects(url)
    shards = [key for key in local if key.startswith(("coordinate", "aerial")) and "/c/" in key]
    assert len(shards) >= 8
    assert {key: found.get(key) for key in shards} == {key: local[key] for key in shards}


def test_a_full_file_system_is_named_and_with_room_the_rerun_finishes(
    gulf: Path, tmp_path: Path
) -> None:
    """A real file system of a few hundred kilobytes, shards and claims on it alike."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        url = str(small / "f.zarr")
        stores.begin(url)
        full, resized = os.statvfs(small), ["mount", "-o", "remount,size={}k", str(small)]
        used_kb = (full.f_blocks - full.f_bfree) * full.f_bsize // 1024
        subprocess.run([part.format(used_kb + 40) for part in resized], check=True)
        with (
            pytest.raises(StoreError, match=r"No space left on device.*run the same command"),
            lease_store(url) as lease,
        ):
            rasterize_gulf(url, lease.leases)
        assert not list(small.rglob("*.partial"))
        done = len(list(small.glob("f.zarr/*_status/c/*/*")))
        assert done < 8
        subprocess.run([part.format(4096) for part in resized], check=True)
        with lease_store(url) as lease:
            assert rasterize_gulf(url, lease.leases).shards == 8 - done
        stores.build(url)
        assert stores.tree(small / "f.zarr") == stores.tree(gulf)
        assert [path.name for path in small.iterdir()] == ["f.zarr"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_claims_are_exclusive_and_pass_on_when_their_owner_is_gone(tmp_path: Path) -> None:
    url = str(tmp_path / "f.zarr")
    first, second = open_leases(url), open_leases(url, expiry_s=0.2)
    assert first is not None and second is not None
    with second:
        first._heartbeat()  # shows itself once, and then no more
        assert first.claim("a/0.0") and first.claim("a/0.0")
        assert not second.claim("a/0.0") and second.claim("a/0.1")
        time.sleep(0.3)
        assert second.claim("a/0.0")  # its clock has seen no sign of life for long enough
        second.release("a/0.0")
        second.release("a/0.1")
        second.sweep()
        first._remove(f"owners/{first.owner}")
    remove_empty_folder(url)
    assert list(tmp_path.iterdir()) == []


def test_a_claim_of_a_dead_process_passes_on_at_once(tmp_path: Path) -> None:
    url = str(tmp_path / "f.zarr")
    code = (
        "import sys, os; from unigeo.producer.raster.leases import open_leases as o;"
        "r = o(sys.argv[1]); r._heartbeat(); print(r.claim('a/0.0'), flush=True); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True)
    assert done.stdout.strip() == "True", done.stderr
    run = open_leases(url)
    assert run is not None
    with run:
        assert run.claim("a/0.0")


def test_what_fails_is_tried_again_then_named_and_a_rerun_mends_it(tmp_path: Path) -> None:
    calls: list[str] = []

    def encode(broken: bool, modality: str, lonlat: np.ndarray) -> Any:
        if modality == "aerial" and lonlat[:, 1].min() < -10:
            calls.append(modality)
            if broken:
                raise ValueError("a torn picture")
        return stores.encoder()(modality, lonlat)

    url = str(tmp_path / "f.zarr")
    with lease_store(url) as lease:
        report = rasterize_gulf(url, lease.leases, partial(encode, True))
        assert set(report.failures) == {"aerial: a torn picture"}
        assert report.cells[Status.FAILED] == report.failures.total() > 0
        tried, failed = len(calls), len(report.failed)
        with pytest.raises(StoreError, match=f"{failed} shards of .* --accept-failures"):
            refuse_failures(url, report, lease, ExecutionOptions())
        refuse_failures(url, report, lease, ExecutionOptions(accept_failures=True))
    calls.clear()
    with lease_store(url) as lease:
        again = rasterize_gulf(url, lease.leases, partial(encode, False))
        assert (again.shards, again.failures.total()) == (failed, 0)
        assert len(calls) * 2 == tried  # twice where it failed, once where it did not
        refuse_failures(url, again, lease, ExecutionOptions())
    stores.build(tmp_path / "whole.zarr")
    assert stores.build(url) is not None
    assert stores.tree(tmp_path / "f.zarr") == stores.tree(tmp_path / "whole.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.zarr", "whole.zarr"]


def test_on_dask_a_task_that_raises_is_named_and_the_rest_is_done(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    from unigeo.producer.raster.dask_executor import rasterize_on

    def encode(broken: bool, modality: str, lonlat: np.ndarray) -> Any:
        if broken and modality == "aerial" and lonlat[:, 1].min() < -10:
            raise KeyError("a mistake of the program")
        return stores.encoder()(modality, lonlat)

    url = str(tmp_path / "f.zarr")
    cluster = distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address=None,
        scheduler_kwargs=ANY_PORT,
    )
    with cluster:
        for broken in (True, False):
            group, grid, layout = stores.begin(url)
            job = stores.job_of(url, grid, layout, FunctionEncoder(partial(encode, broken)))
            with lease_store(url) as lease:
                report = rasterize_on(
                    lambda: distributed.Client(cluster), group, stores.opened(job), lease.leases,
                    progress=False,
                )  # fmt: skip
                assert len(plan(group, grid, layout)) == 0
            if broken:
                failed = len(report.failed)
                assert failed > 0 and report.cells[Status.FAILED] > 0
                assert all("KeyError" in words for words in report.failures)
                assert report.shards == 8
            else:
                assert (report.shards, report.failures.total()) == (failed, 0)
    sweep(group)
    stores.build(url)
    stores.build(tmp_path / "whole.zarr")
    assert stores.tree(tmp_path / "f.zarr") == stores.tree(tmp_path / "whole.zarr")


def test_what_a_run_left_that_was_killed_once_all_was_published_is_removed(tmp_path: Path) -> None:
    url = str(tmp_path / "f.zarr")
    kills.build(url, ExecutionOptions(progress=False), 0.0)
    killed = (
        "import os, sys; from unigeo.producer.raster.leases import open_leases\n"
        "run = open_leases(sys.argv[1]); run.__enter__(); run.claim('publish'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", killed, url]).returncode == 9
    assert [key.split("/")[0] for key in kills.leftovers(url)] == ["claims", "owners"]
    assert kills.build(url, ExecutionOptions(progress=False), 0.0) == 0
    assert kills.leftovers(url) == []
    assert not (tmp_path / "f.zarr.run").exists()


def test_names_of_claims_are_paths(tmp_path: Path) -> None:
    run = open_leases(str(tmp_path / "f.zarr"))
    assert run is not None
    with run:
        run.note_failed(Task("dsm", 3, 4), {"failures": {"x": 1}, "damaged": []})
        assert run.failed() == {Task("dsm", 3, 4): {"failures": {"x": 1}, "damaged": []}}
        assert run.has_failed(Task("dsm", 3, 4)) and not run.others()
        run.clear_failure(Task("dsm", 3, 4))
        assert run.failed() == {}
        with run.wait_for(PUBLISH):
            assert run._keys("claims") == ["claims/publish/0"]
        assert run._keys("claims") == []


TWO_HAVE_COME = threading.Event()


def watch(cluster: Any) -> None:
    while len(cluster.scheduler.workers) < 2:
        time.sleep(0.01)
    TWO_HAVE_COME.set()


def encode_once_two_have_come(modality: str, lonlat: np.ndarray) -> Any:
    """However slow the second worker is to start; in vain it is waited for a while only."""
    TWO_HAVE_COME.wait(300)
    return stores.encoder(wait_s=0.05)(modality, lonlat)


def test_on_dask_workers_come_and_go_as_there_is_work(tmp_path: Path) -> None:
    """A cluster that adapts begins without any worker, and is left by one in the middle."""
    distributed = pytest.importorskip("distributed")
    from unigeo.producer.raster.dask_executor import rasterize_on

    url = str(tmp_path / "f.zarr")
    group, grid, layout = stores.begin(url)
    job = stores.job_of(url, grid, layout, FunctionEncoder(encode_once_two_have_come))
    TWO_HAVE_COME.clear()
    seen: list[int] = []
    with (
        distributed.LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            scheduler_kwargs=ANY_PORT,
        ) as cluster,
        lease_store(url) as lease,
    ):
        cluster.adapt(minimum=0, maximum=2, interval="50ms", target_duration="50ms")
        watching = threading.Thread(target=watch, args=(cluster,), daemon=True)
        watching.start()

        class Watched(RunLog):
            def __call__(self, event: str, **about: Any) -> None:
                if event != "shard":
                    return
                seen.append(len(cluster.scheduler.workers))
                if len(seen) == 3:
                    leaver = next(iter(cluster.scheduler.workers))
                    cluster.sync(cluster.scheduler.retire_workers, workers=[leaver])

        report = rasterize_on(
            lambda: distributed.Client(cluster), group, stores.opened(job), lease.leases,
            log=Watched(), progress=False,
        )  # fmt: skip
    assert report.shards == 8 and not report.failures
    assert max(seen) == 2
    stores.build(url)
    stores.build(tmp_path / "whole.zarr")
    assert stores.tree(tmp_path / "f.zarr") == stores.tree(tmp_path / "whole.zarr")


def test_a_run_on_workers_takes_no_port_that_another_may_have() -> None:
    """A warning of distributed would fail this test: warnings are errors."""
    pytest.importorskip("distributed")
    import socket

    from unigeo.producer.raster.dask_cluster import local_workers

    with socket.socket() as taken:
        with suppress(OSError):  # by another run of this test
            taken.bind(("127.0.0.1", 8787))
        taken.listen()
        with local_workers(1) as connect, connect() as client:
            assert len(client.scheduler_info()["workers"]) == 1
