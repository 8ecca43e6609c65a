"""Coordination of several runs on one store, in a folder beside it: `<store>.run/`.

    owners/<id>                        one per running process, renewed every few seconds
    claims/<modality>/<row>.<col>/<n>  the n-th owner of a task; the highest n holds it
    failed/<modality>/<row>.<col>      the failures of a task, until it is done again

An object can serve as a claim because it can be created only once (conditional create: S3, GCS,
Azure and local disks have it). The claim of a dead owner is taken over by creating the next number,
again only once. An owner is dead when its object is removed, when its process no longer runs on
this machine, or when its object has not changed for `EXPIRY_S` by the clock of the process that
waits: clocks of different machines are never compared.

Claims only save work: a shard written twice has the same bytes. When all is done nothing is left of
this folder, and it is never inside the store.
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
from unigeo.producer.storage.object_io import explaining
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.io.retrying import with_retries
from unigeo.schemas.io.store_errors import unreachable_errors
from unigeo.schemas.io.stores import open_store

EXPIRY_S = 60.0
"""Seconds without a heartbeat after which an owner counts as dead."""
SUFFIX = ".run"
PUBLISH = "publish"
"""Claim of the run that publishes."""


class Leases:
    """One process's view of the folder; as a context it keeps the heartbeat of its owner object."""

    def __init__(self, store: Any, expiry_s: float = EXPIRY_S) -> None:
        """Take the folder as an obstore store; see `open_leases`."""
        self._store = store
        self.expiry_s = expiry_s
        self.owner = uuid.uuid4().hex
        self._seen: dict[str, tuple[bytes, float]] = {}
        """Last content of each other owner's object, and when this process first saw it."""
        self._held: dict[str, int] = {}
        """Number of each claim that is held."""
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
        """Take a claim, or take it over from a dead owner; return whether this process holds it."""
        number = 0
        while True:
            if self._create(f"claims/{name}/{number}", self.owner.encode()):
                break
            holder = self._get(f"claims/{name}/{number}")
            if holder is None:
                continue  # released between the two requests: try to create it again
            if holder == self.owner.encode():  # ours: the first answer was lost
                break
            if not self._is_stale(holder.decode()):
                return False
            number += 1
        with self._lock:
            self._held[name] = number
        return True

    def release(self, name: str) -> None:
        """Remove a claim, and those of the dead owners before."""
        with self._lock:
            number = self._held.pop(name, 0)
        for old in range(number + 1):
            self._remove(f"claims/{name}/{old}")

    @contextmanager
    def wait_for(self, name: str, poll_s: float = 0.5) -> Iterator[None]:
        """Hold a claim, once its present holder has released it or died."""
        while not self.claim(name):
            time.sleep(poll_s)
        try:
            yield
        finally:
            self.release(name)

    def note_failed(self, task: Task, about: dict[str, Any]) -> None:
        """Record the failures of a task, before it is written with cells of status `failed`."""
        self._put(f"failed/{claim_name(task)}", json.dumps(about, sort_keys=True).encode())

    def clear_failure(self, task: Task) -> None:
        """Remove the record of a task that is done now."""
        self._remove(f"failed/{claim_name(task)}")

    def failed(self) -> dict[Task, dict[str, Any]]:
        """Return the tasks that ended with failed cells, and their records."""
        records = {}
        for key in self._keys("failed"):
            content = self._get(key)
            if content is not None:
                modality, rowcol = key.split("/")[-2:]
                row, col = rowcol.split(".")
                records[Task(modality, int(row), int(col))] = load_json(content)
        return records

    def has_failed(self, task: Task) -> bool:
        """Return whether a task is among those that failed."""
        return self._get(f"failed/{claim_name(task)}") is not None

    def others(self) -> bool:
        """Return whether another run works on the store, as far as can be seen from here."""
        owners = (key.split("/")[-1] for key in self._keys("owners"))
        return any(owner != self.owner and not self._is_stale(owner) for owner in owners)

    def sweep(self) -> None:
        """Remove claims and owners of dead processes; for the holder of `PUBLISH`."""
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
        if not _runs(load_json(content)["process"]):
            return True
        # Its heartbeats are numbered, so an object that does not change for `expiry_s` of this
        # process's clock has missed several: dead, or cut off for long enough.
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
        """Create an object; False where it exists."""
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
    return explaining(f"use {key} of the folder {SUFFIX} beside the store, where runs meet")


def open_leases(url: Any, expiry_s: float = EXPIRY_S) -> Leases | None:
    """Open the folder of the store at a URL; None where it has no conditional create."""
    if not isinstance(url, str | Path):
        return None
    store = open_store(f"{str(url).rstrip('/')}{SUFFIX}", read_only=False)
    if isinstance(store, LocalStore):
        root = store.root.absolute()
        local = obstore.store.LocalStore(root, automatic_cleanup=True, mkdir=True)
        return Leases(local, expiry_s)
    return Leases(store.store, expiry_s) if isinstance(store, ObjectStore) else None


def remove_empty_folder(url: Any) -> None:
    """Remove a local run folder without files; an object store has no folders."""
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
    """Name of the claim of a task."""
    return f"{task.modality}/{task.shard_row}.{task.shard_col}"


def _this_process() -> dict[str, Any]:
    return {"machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def _runs(process: dict[str, Any]) -> bool:
    """Return whether a process runs; True for one of another machine, which cannot be seen."""
    if process["machine"] != _machine():
        return True
    return bool(_started(process["pid"]) == process["started"])


def _machine() -> str:
    """Name this machine since its boot, and its process namespace: containers have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux: only missed heartbeats tell
        return uuid.uuid4().hex


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks since boot; None where it does not run."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may itself hold spaces and parentheses; state and start follow it.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
