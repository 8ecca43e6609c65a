"""Beside the store, what several runs on one store tell each other: `<store>.run/`.

    owners/<id>                      one per running process, renewed every few seconds
    claims/<modality>/<row>.<col>/<n>  the n-th owner of a task; the highest n holds it
    failed/<modality>/<row>.<col>    what failed there, until it is done again

An object is a claim because it can be created only once (conditional create: S3, GCS, Azure and
local disks have it). A claim whose owner is gone is taken over by creating the next number, again
only once. An owner is gone when its object is removed, when its process no longer runs on this
machine, or when its object has not changed for `EXPIRY_S` by the clock of the one who waits: clocks
of different machines are never compared.

Claims save work, nothing else: a shard written twice has the same bytes. When all is done nothing
of this folder is left, and it is never inside the store.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError
from zarr.storage import LocalStore, ObjectStore

from unigeo.producer.raster.planning import Task
from unigeo.producer.storage.object_io import named
from unigeo.schemas.io.retrying import with_retries
from unigeo.schemas.io.store_errors import unreachable_errors
from unigeo.schemas.io.stores import open_store

EXPIRY_S = 60.0
"""An owner that has not shown itself for so long is taken for dead."""
SUFFIX = ".run"
PUBLISH = "publish"
"""The claim of the one who publishes."""


class Leases:
    """One process's view of the folder; use it as a context, so that its owner object is kept."""

    def __init__(self, store: Any, expiry_s: float = EXPIRY_S) -> None:
        """Take an obstore store; `open_run_folder` finds it."""
        self._store = store
        self.expiry_s = expiry_s
        self.owner = uuid.uuid4().hex
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._held: dict[str, int] = {}
        self._stop = threading.Event()
        self._beats = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Leases":
        self._heartbeat()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(*unreachable_errors()):
            for name in list(self._held):
                self.release(name)
            self._remove(f"owners/{self.owner}")

    def claim(self, name: str) -> bool:
        """Take a claim, or take it over from an owner who is gone; whether it is ours now."""
        number = 0
        while True:
            if self._create(f"claims/{name}/{number}", self.owner.encode()):
                break
            holder = self._get(f"claims/{name}/{number}")
            if holder is None:
                continue  # released meanwhile
            if holder == self.owner.encode():  # an answer was lost, and the request repeated
                break
            if not self._is_stale(holder.decode()):
                return False
            number += 1
        with self._lock:
            self._held[name] = number
        return True

    def release(self, name: str) -> None:
        """Give a claim back, with those of owners before us."""
        with self._lock:
            number = self._held.pop(name, 0)
        for old in range(number + 1):
            self._remove(f"claims/{name}/{old}")

    @contextmanager
    def wait_for(self, name: str, poll_s: float = 0.5) -> Iterator[None]:
        """Hold a claim, once those who hold it now are done or gone."""
        while not self.claim(name):
            time.sleep(poll_s)
        try:
            yield
        finally:
            self.release(name)

    def note_failed(self, task: Task, about: dict[str, Any]) -> None:
        """Write down what failed, before the shard is written with cells of status `failed`."""
        self._put(f"failed/{claim_name(task)}", json.dumps(about, sort_keys=True).encode())

    def clear_failure(self, task: Task) -> None:
        """Strike a task that is done after all."""
        self._remove(f"failed/{claim_name(task)}")

    def failed(self) -> dict[Task, dict[str, Any]]:
        """Tasks that ended with failed cells, and what was wrong."""
        found = {}
        for key in self._keys("failed"):
            content = self._get(key)
            if content is not None:
                modality, place = key.split("/")[-2:]
                row, col = place.split(".")
                found[Task(modality, int(row), int(col))] = json.loads(content)
        return found

    def has_failed(self, task: Task) -> bool:
        """Whether a task is among those that failed."""
        return self._get(f"failed/{claim_name(task)}") is not None

    def others(self) -> bool:
        """Whether another run is at work on the store, as far as can be told."""
        owners = (key.split("/")[-1] for key in self._keys("owners"))
        return any(owner != self.owner and not self._is_stale(owner) for owner in owners)

    def sweep(self) -> None:
        """Remove claims and owners that dead processes left; for the one who holds `PUBLISH`."""
        for key in self._keys("claims"):
            holder = self._get(key)
            if holder is not None and self._is_stale(holder.decode()):
                self._remove(key)
        for key in self._keys("owners"):
            if self._is_stale(key.split("/")[-1]):
                self._remove(key)

    def _is_stale(self, owner: str) -> bool:
        if owner == self.owner:
            return False
        content = self._get(f"owners/{owner}")
        if content is None:
            return True
        if not _runs(json.loads(content)["process"]):
            return True
        now = time.monotonic()
        before = self._seen.get(owner)
        if before is None or before[0] != content:
            self._seen[owner] = (content, now)
            return False
        return now - before[1] > self.expiry_s

    def _heartbeat(self) -> None:
        self._beats += 1
        about = {"process": _this_process(), "beat": self._beats}
        self._put(f"owners/{self.owner}", json.dumps(about).encode())

    def _keep_beating(self) -> None:
        while not self._stop.wait(self.expiry_s / 5):
            with suppress(*unreachable_errors()):
                self._heartbeat()

    def _create(self, key: str, content: bytes) -> bool:
        """Write an object that is not there yet; False where it is."""
        with _named(key):
            try:
                with_retries(lambda: obstore.put(self._store, key, content, mode="create"))
            except AlreadyExistsError:
                return False
            return True

    def _put(self, key: str, content: bytes) -> None:
        with _named(key):
            with_retries(lambda: obstore.put(self._store, key, content))

    def _get(self, key: str) -> bytes | None:
        with _named(key):
            try:
                return bytes(with_retries(lambda: obstore.get(self._store, key).bytes()))
            except FileNotFoundError:
                return None

    def _remove(self, key: str) -> None:
        with _named(key), suppress(FileNotFoundError):
            with_retries(lambda: obstore.delete(self._store, key))

    def _keys(self, prefix: str) -> list[str]:
        def listed() -> list[str]:
            return [
                entry["path"] for part in obstore.list(self._store, prefix=prefix) for entry in part
            ]

        with _named(prefix):
            return with_retries(listed)


def _named(key: str) -> AbstractContextManager[None]:
    return named(f"use {key} of the folder {SUFFIX} beside the store, where runs meet")


def open_run_folder(url: Any, expiry_s: float = EXPIRY_S) -> Leases | None:
    """The run folder of the store at a URL; None where the store has no conditional create."""
    if not isinstance(url, str | Path):
        return None
    store = open_store(f"{str(url).rstrip('/')}{SUFFIX}", read_only=False)
    if isinstance(store, LocalStore):
        root = store.root.absolute()
        local = obstore.store.LocalStore(root, automatic_cleanup=True, mkdir=True)
        return Leases(local, expiry_s)
    return Leases(store.store, expiry_s) if isinstance(store, ObjectStore) else None


def tidy(url: Any) -> None:
    """Remove a local run folder that holds nothing any more; an object store has no folders."""
    if not isinstance(url, str | Path):
        return
    store = open_store(f"{str(url).rstrip('/')}{SUFFIX}")
    if isinstance(store, LocalStore) and store.root.is_dir():
        for folder in sorted((p for p in store.root.rglob("*") if p.is_dir()), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        with suppress(OSError):
            store.root.rmdir()


def claim_name(task: Task) -> str:
    """How the claim of a task is called."""
    return f"{task.modality}/{task.shard_row}.{task.shard_col}"


def _this_process() -> dict[str, Any]:
    return {"machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def _runs(process: dict[str, Any]) -> bool:
    """Whether a process runs, as far as can be told from here."""
    if process["machine"] != _machine():
        return True
    return bool(_started(process["pid"]) == process["started"])


def _machine() -> str:
    """Name this machine since its start, and its table of processes: containers have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux: only time tells
        return uuid.uuid4().hex


def _started(pid: int) -> str | None:
    """When a process started, in ticks since the machine did; None where it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
