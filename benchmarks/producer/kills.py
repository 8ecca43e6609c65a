"""Kill production with `kill -9` at random moments, start it again, and compare every byte.

    python -m benchmarks.producer.kills --moments 30                       # local disk
    python -m benchmarks.producer.kills --moments 30 --store s3            # a moto server
    python -m benchmarks.producer.kills --moments 30 --store azure         # Azurite, if on PATH
    python -m benchmarks.producer.kills --moments 30 --store gcs     # tests/support/gcs_server.py
    python -m benchmarks.producer.kills --moments 30 --victim worker
    python -m benchmarks.producer.kills --moments 30 --victim scheduler

Every production is a real process (and dask's workers and scheduler are): it makes a field of 2 x 2
shards and two modalities with a cheap encoder that waits a while for each batch. After each kill
the same command is run again. Prints how many kills there were, whether all bytes are those of the
unbroken run, and how many shards were written twice.
"""

import argparse
import base64
import hmac
import json
import logging
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from unigeo.producer.publishing.publish import publish
from unigeo.producer.raster.planning import plan
from unigeo.producer.raster.raster_job import Equipment, RasterJob
from unigeo.producer.raster.run import ExecutionOptions, fill
from unigeo.producer.raster.shard_encoder import FunctionEncoder
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.raster.store_lease import lease_store
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.geo.regions import region_of_bbox
from unigeo.schemas.io.stores import open_store
from unigeo.schemas.store.attributes import root_attributes
from unigeo.schemas.store.layout import Layout

ROOT = Path(__file__).parents[2]
REGION = region_of_bbox((-20.0, -15.0, 25.0, 18.0), "gulf")
LAYOUT = Layout(modalities=("coordinate", "aerial"), bands=8, shard=32, chunk=8)
GRID = REGION.grid(80_000.0, LAYOUT.shard)
BATCH = 300


def land(lonlat: np.ndarray) -> np.ndarray:
    """Everything but a round lake."""
    away: np.ndarray = np.hypot(lonlat[:, 0] - 5.0, lonlat[:, 1] - 5.0) > 4.0
    return away


def waves(wait_s: float, modality: str, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encode points as waves over the globe, after a while."""
    time.sleep(wait_s)
    number = np.arange(1, LAYOUT.bands + 1) + (0.5 if modality == "aerial" else 0.0)
    lon, lat = np.radians(lonlat).T
    vectors = np.sin(lon[:, None] * number * 3.0) + np.cos(lat[:, None] * number * 2.0 + number)
    observed = np.ones(len(lonlat), bool)
    if modality == "aerial":
        observed = lonlat[:, 0] + lonlat[:, 1] < 30.0
    return vectors.astype(np.float32), observed


def source(wait_s: float) -> Equipment:
    """What a worker encodes with."""
    return Equipment(FunctionEncoder(partial(waves, wait_s)), land)


def build(url: str, running: ExecutionOptions, wait_s: float) -> int:
    """Produce and publish, as `unigeo-produce` does; how many shards this run wrote."""
    attributes = root_attributes(
        region=REGION.name,
        grid=GRID,
        layout=LAYOUT,
        model_name="waves",
        model_sha256="ab" * 32,
        model_settings={"kind": "waves"},
        observations={"name": "nothing", "licence": "CC0-1.0", "citation": "Nobody (2026)"},
        seed=0,
        code_version="0",
    )
    with lease_store(url) as lease:
        group = create_field(url, GRID, LAYOUT, attributes)
        if group.attrs["unigeo"]["state"] == "published" and not plan(group, GRID, LAYOUT):  # type: ignore[index,call-overload]
            lease.clean_up()
            return 0
        print("begin", flush=True)
        job = RasterJob(
            url=url,
            region=REGION,
            grid=GRID,
            layout=LAYOUT,
            open_equipment=partial(source, wait_s),
            batch=BATCH,
        )
        report = fill(group, OpenedJob(job, source(wait_s)), running, lease)
        if lease.wait_to_publish(group):
            publish(group, encoder={"matrix": np.eye(2, dtype=np.float32)})
    return report.shards


def command(url: str, *options: str) -> list[str]:
    """The command line that builds a store."""
    return [sys.executable, "-m", "benchmarks.producer.kills", "--build", url, *options]


def started(url: str, *options: str) -> "subprocess.Popen[str]":
    """A production that has begun."""
    process = subprocess.Popen(
        command(url, *options), cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def finish(process: "subprocess.Popen[str]") -> int:
    """Wait for a production to end well; return how many shards it wrote."""
    output, _ = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"a production ended with exit code {process.returncode}")
    return int((output.split() or ["0"])[-1])


def objects(url: str) -> dict[str, bytes]:
    """Every object of a store."""
    import obstore
    from zarr.storage import LocalStore, ObjectStore

    store = open_store(url)
    if isinstance(store, LocalStore):
        files = (path for path in store.root.rglob("*") if path.is_file())
        return {path.relative_to(store.root).as_posix(): path.read_bytes() for path in files}
    assert isinstance(store, ObjectStore)
    keys = [entry["path"] for part in obstore.list(store.store) for entry in part]
    return {key: bytes(obstore.get(store.store, key).bytes()) for key in keys}


def leftovers(url: str) -> list[str]:
    """What is left of the folder in which runs meet."""
    return sorted(objects(f"{url}.run"))


def kill_producer(url: str, kills: int, wait_s: float, length_s: float, log: Path) -> None:
    """Kill a production so often on its way, then let it end."""
    options = ("--wait", str(wait_s), "--log", str(log))
    for _ in range(kills):
        process = started(url, *options)
        time.sleep(random.uniform(0, length_s))
        process.kill()
        process.communicate()
    finish(started(url, *options))


def kill_worker(url: str, kills: int, wait_s: float, length_s: float, log: Path) -> None:
    """Kill workers of one production on its way."""
    process = started(url, "--wait", str(wait_s), "--workers", "2", "--log", str(log))
    _wait_for(lambda: log.exists() and '"start"' in log.read_text())
    for _ in range(kills):
        time.sleep(random.uniform(0, length_s / 2))
        workers = _workers_of(process.pid)
        if workers:
            random.choice(workers).kill()
    finish(process)


def kill_scheduler(url: str, kills: int, wait_s: float, length_s: float, log: Path) -> None:
    """Kill the scheduler of one production on its way, and start it and a worker anew.

    The worker before notices by itself that its scheduler is gone.
    """
    port = _free_port()
    scheduler, *workers = _cluster(port)
    address = f"tcp://127.0.0.1:{port}"
    process = started(url, "--wait", str(wait_s), "--scheduler", address, "--log", str(log))
    try:
        for _ in range(kills):
            time.sleep(1 + random.uniform(0, length_s))
            scheduler.kill()
            scheduler.wait()
            scheduler, worker = _cluster(port)
            workers.append(worker)
        finish(process)
    finally:
        for part in (scheduler, *workers, process):
            part.kill()
            part.wait()


KILL = {"producer": kill_producer, "worker": kill_worker, "scheduler": kill_scheduler}


def written_twice(log: Path) -> int:
    """How many shards were written again, as the log of all runs on a store tells."""
    events = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    written = Counter(
        (event["modality"], event["row"], event["col"])
        for event in events
        if event["event"] == "shard" and event.get("state", "written") == "written"
    )
    return sum(count - 1 for count in written.values())


def lost(unbroken: Mapping[str, bytes], killed: Mapping[str, bytes]) -> int:
    """Count the tasks of the unbroken store whose status shard another store lacks."""
    return sum("_status/c/" in key and key not in killed for key in unbroken)


def _cluster(port: int) -> list["subprocess.Popen[bytes]"]:
    quiet: dict[str, Any] = {
        "cwd": ROOT,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "env": os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    }
    dask = [sys.executable, "-m", "dask"]
    host = ["--host", "127.0.0.1"]
    scheduler = [*dask, "scheduler", *host, "--port", str(port), "--no-dashboard"]
    worker = [*dask, "worker", f"tcp://127.0.0.1:{port}", *host, "--nthreads", "2", "--no-nanny"]
    return [subprocess.Popen(scheduler, **quiet), subprocess.Popen(worker, **quiet)]


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _workers_of(pid: int) -> list[psutil.Process]:
    """Dask's workers among a process's children: what its nannies spawned."""
    workers = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                workers.append(child)
        except psutil.Error:
            continue
    return workers


def _wait_for(happened: Any, limit_s: float = 300.0) -> None:
    end = time.monotonic() + limit_s
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError("the production did not start")
        time.sleep(0.02)


@contextmanager
def store_root(kind: str) -> Iterator[str]:
    """A folder, or a bucket of an object store's server on this machine."""
    if kind == "local":
        with tempfile.TemporaryDirectory() as folder:
            yield folder
        return
    before = dict(os.environ)
    try:
        with {"s3": _s3, "azure": _azure, "gcs": _gcs}[kind]() as url:
            yield url
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _s3() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    request = urllib.request.Request(f"http://{host}:{port}/kills", method="PUT")
    urllib.request.urlopen(request).close()
    try:
        yield "s3://kills"
    finally:
        server.stop()


@contextmanager
def _gcs() -> Iterator[str]:
    """A bucket of a server of Google's protocol."""
    script = [sys.executable, str(ROOT / "tests/support/gcs_server.py")]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address, token, bucket = (server.stdout.readline().strip() for _ in range(3))
            os.environ |= {"GOOGLE_BASE_URL": address, "GOOGLE_BEARER_TOKEN": token}
            yield bucket
        finally:
            server.terminate()


ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""Key of the account that every Azurite has, as in its documentation."""


@contextmanager
def _azure() -> Iterator[str]:
    """A container of Azurite, Microsoft's own server of Azure's protocol (npm)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = ["azurite-blob", "--blobPort", str(port), "--location", folder, "--silent"]
        command += ["--skipApiVersionCheck", "--disableTelemetry"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            try:
                url = f"http://127.0.0.1:{port}"
                _make_container(url, "kills")
                os.environ |= {
                    "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
                    "AZURE_STORAGE_USE_EMULATOR": "true",
                    "AZURITE_BLOB_STORAGE_URL": url,
                }
                yield "az://kills"
            finally:
                server.terminate()


def _make_container(url: str, name: str) -> None:
    """Ask for a container, signed by the account's key; wait for the server to come up."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    signed = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
    text = f"PUT{chr(10) * 12}{signed}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    mac = hmac.digest(base64.b64decode(AZURITE_KEY), text.encode(), "sha256")
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(mac).decode()}"
    request = urllib.request.Request(
        f"{url}/{ACCOUNT}/{name}?restype=container", method="PUT", headers=headers
    )
    for left in reversed(range(100)):
        try:
            urllib.request.urlopen(request).close()
        except urllib.error.HTTPError:
            raise
        except OSError:
            if not left:
                raise
            time.sleep(0.2)
        else:
            return


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--store", choices=("local", "s3", "azure", "gcs"), default="local")
    parser.add_argument("--victim", choices=KILL, default="producer")
    parser.add_argument("--each", type=int, default=3, help="kills per store")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wait", type=float, default=0.05, help="seconds for each batch")
    parser.add_argument("--build", metavar="URL", help="build one store; the other way to call it")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--scheduler")
    parser.add_argument("--log")
    options = parser.parse_args()
    if options.build:
        running = ExecutionOptions(
            workers=options.workers,
            scheduler=options.scheduler,
            log=options.log or os.devnull,
            progress=False,
        )
        print(build(options.build, running, options.wait), flush=True)
        return
    random.seed(options.seed)
    with store_root(options.store) as base, tempfile.TemporaryDirectory() as logs:
        begin = time.monotonic()
        unbroken = started(f"{base}/unbroken.zarr", "--wait", str(options.wait))
        begin = time.monotonic()
        finish(unbroken)
        length_s = time.monotonic() - begin
        expected = objects(f"{base}/unbroken.zarr")
        kills = equal = stores = twice = left = gone = 0
        while kills < options.moments:
            url, now = f"{base}/{stores}.zarr", min(options.each, options.moments - kills)
            log = Path(logs) / f"{stores}.jsonl"
            KILL[options.victim](url, now, options.wait, length_s, log)
            actual = objects(url)
            equal += actual == expected
            gone += lost(expected, actual)
            left += len(leftovers(url))
            twice += written_twice(log)
            kills, stores = kills + now, stores + 1
        print(f"{options.store}, {options.victim} killed {kills} times on {stores} stores:")
        print(f"{equal} of {stores} stores equal the unbroken run's {len(expected)} objects,")
        print(f"{gone} tasks lost, {twice} shards written twice, {left} objects left beside them")
        sys.exit(equal < stores or left > 0)


if __name__ == "__main__":
    main()
