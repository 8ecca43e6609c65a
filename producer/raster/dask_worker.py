"""What a dask worker does: opens model and observations once, and then one task after another.

Before its first task it compares what it has opened, and its own code, with what the store's
vectors are made by; every result says what made it.
"""

import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from unigeo.producer.raster.identity import Equipment, VectorIdentity
from unigeo.producer.raster.leases import EXPIRY_S, claim_name, open_run_folder
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.shard_commit import ShardCommitter
from unigeo.producer.raster.shard_task import RasterJob, ShardBuilder
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.layout import Layout


@dataclass(frozen=True, eq=False)
class Job:
    """What a worker needs to do tasks of one store; small, sent along with each."""

    url: str
    region: Region
    grid: Grid
    layout: Layout
    source: Callable[[], Equipment]
    """Opens the encoder and the land; called once in each worker, so paths must mean the same
    there."""
    batch: int = 2048
    expiry_s: float = EXPIRY_S
    identity: VectorIdentity = field(default_factory=VectorIdentity)
    """What the store's vectors are made by."""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class Outcome:
    """What became of a task."""

    task: Task
    identity: VectorIdentity
    """What made it."""
    state: str
    """written, there, again (cells failed; not written), claimed (by another run)."""
    cells: dict[int, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    encode_seconds: float = 0.0


class _Opened:
    """A job in a worker."""

    def __init__(self, job: Job) -> None:
        me, own = this_worker(), VectorIdentity()
        code_alone = replace(job.identity, version=own.version, code=own.code)
        job.identity.check(code_alone, me)  # before other code opens anything
        equipment = job.source()
        job.identity.check(equipment.identity, me)
        self.identity = equipment.identity
        encode, land = equipment.encode, equipment.land
        self.work = RasterJob(job.grid, job.layout, job.region, land, encode, job.batch)
        self.run = open_run_folder(job.url, job.expiry_s)
        if self.run is not None:
            self.run.__enter__()
        self.finisher = ShardCommitter(
            open_group(job.url, read_only=False, consolidated=False), self.run
        )
        self.device = threading.Lock()

    def do(self, task: Task, redo: bool, last: bool) -> Outcome:
        if self._over(task, redo):
            return Outcome(task, self.identity, "there")
        if self.run is not None and not self.run.claim(claim_name(task)):
            return Outcome(task, self.identity, "claimed")
        try:
            if self._over(task, redo):
                return Outcome(task, self.identity, "there")
            return self._make(task, redo, last)
        finally:
            if self.run is not None:
                self.run.release(claim_name(task))

    def _make(self, task: Task, redo: bool, last: bool) -> Outcome:
        filling = ShardBuilder(self.work, task)
        spent = 0.0
        for batch in self.work.read(task):
            with self.device:
                begin = time.monotonic()
                filling.add(batch)
                spent += time.monotonic() - begin
        done = filling.finish()
        again = bool(done.failures) and not last
        if not again:
            self.finisher.finish(done, replaces=redo)
        filling.release()
        cells = {int(code): count for code, count in done.cells.items()}
        state = "again" if again else "written"
        return Outcome(task, self.identity, state, cells, dict(done.failures), spent)

    def _over(self, task: Task, redo: bool) -> bool:
        if redo and self.run is not None:
            return not self.run.has_failed(task)
        return self.finisher.finished(task)


def this_worker() -> str:
    """How messages name this worker."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # no dask worker's thread
        return f"A worker on {socket.gethostname()}"
    return f"The dask worker {worker.name} at {worker.address} on {socket.gethostname()}"


_opened: dict[str, _Opened] = {}
_opening = threading.Lock()


def perform(job: Job, task: Task, redo: bool, last: bool) -> Outcome:
    """Do one task in a worker.

    Args:
        job: of which store.
        task: what to do.
        redo: whether it replaces what failed in an earlier run.
        last: whether it is written even if cells of it fail.

    Raises:
        OtherIdentityError: if this worker would write other vectors; nothing is written.
    """
    with _opening:
        if job.key not in _opened:
            for key in list(_opened):
                close_job(key)
            _opened[job.key] = _Opened(job)
        opened = _opened[job.key]
    return opened.do(task, redo, last)


def close_job(key: str) -> None:
    """Let go of what a worker holds for a job."""
    opened = _opened.pop(key, None)
    if opened is not None and opened.run is not None:
        opened.run.__exit__(None, None, None)
