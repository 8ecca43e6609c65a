"""A dask worker: opens the equipment of a job once, and then does one task after another.

Before its first task it compares what it has opened, and its own code, with the identity of the
store's vectors; every result carries the identity of the process that made it.
"""

import socket
import threading
import time
from dataclasses import dataclass, field, replace

from unigeo.producer.raster.covariate_builder import builder_of
from unigeo.producer.raster.identity import VectorIdentity
from unigeo.producer.raster.leases import claim_name, open_leases
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.raster_job import RasterJob
from unigeo.producer.raster.shard_commit import ShardCommitter
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.schemas.io.retrying import patient
from unigeo.schemas.io.stores import open_group


@dataclass(frozen=True)
class Outcome:
    """The result of a task."""

    task: Task
    identity: VectorIdentity
    """Identity of the worker."""
    state: str
    """written, there (before), again (cells failed; not written), claimed (by another run)."""
    cells: dict[int, int] = field(default_factory=dict)
    """Number of cells by status."""
    failures: dict[str, int] = field(default_factory=dict)
    """Number of failed cells by message."""
    encode_seconds: float = 0.0


class _JobWorker:
    """Does the tasks of one job in one worker; its threads share the equipment."""

    def __init__(self, job: RasterJob) -> None:
        me, here = this_worker(), VectorIdentity()
        code_alone = replace(job.identity, version=here.version, code=here.code)
        job.identity.check(code_alone, me)  # before other code opens anything
        equipment = job.open_equipment()
        job.identity.check(equipment.identity, me)
        self.identity = equipment.identity
        self.opened = OpenedJob(job, equipment)
        self.leases = open_leases(job.url, job.expiry_s)
        if self.leases is not None:
            self.leases.__enter__()  # left by `close_job`
        self.committer = ShardCommitter(
            open_group(job.url, read_only=False, consolidated=False), self.leases
        )
        self.device = threading.Lock()

    def do(self, task: Task, redo: bool, last: bool) -> Outcome:
        if self._is_done(task, redo):
            return Outcome(task, self.identity, "there")
        if self.leases is not None and not self.leases.claim(claim_name(task)):
            return Outcome(task, self.identity, "claimed")
        try:
            if self._is_done(task, redo):  # another run did it before the claim
                return Outcome(task, self.identity, "there")
            return self._make(task, redo, last)
        finally:
            if self.leases is not None:
                self.leases.release(claim_name(task))

    def _make(self, task: Task, redo: bool, last: bool) -> Outcome:
        builder = builder_of(self.opened, task)
        encode_seconds = 0.0
        for batch in self.opened.read(task):
            with self.device:  # one thread encodes while the other observes or writes
                begin = time.monotonic()
                builder.add(batch)
                encode_seconds += time.monotonic() - begin
        done = builder.finish()
        again = bool(done.failures) and not last
        if not again:
            self.committer.write(done, replaces=redo)
        builder.release()
        cells = {int(code): count for code, count in done.cells.items()}
        state = "again" if again else "written"
        return Outcome(task, self.identity, state, cells, dict(done.failures), encode_seconds)

    def _is_done(self, task: Task, redo: bool) -> bool:
        if redo and self.leases is not None:
            return not self.leases.has_failed(task)
        return self.committer.is_written(task)


def this_worker() -> str:
    """How messages name this worker."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # not a thread of a dask worker
        return f"A worker on {socket.gethostname()}"
    return f"The dask worker {worker.name} at {worker.address} on {socket.gethostname()}"


_workers: dict[str, _JobWorker] = {}
"""The job of this process, by its key: at most one, as its model may fill the GPU."""
_opening = threading.Lock()


def perform(job: RasterJob, task: Task, redo: bool, last: bool) -> Outcome:
    """Do one task in a worker.

    Args:
        job: job of the task; opened by the first of its tasks.
        task: the task.
        redo: whether it replaces what failed in an earlier run.
        last: whether it is written even if some of its cells fail.

    Raises:
        OtherIdentityError: if this worker would write other vectors; nothing is written.
    """
    with patient(job.patience_s):
        with _opening:
            if job.key not in _workers:
                for key in list(_workers):
                    close_job(key)
                _workers[job.key] = _JobWorker(job)
            worker = _workers[job.key]
        return worker.do(task, redo, last)


def close_job(key: str) -> None:
    """Close what a worker holds for a job."""
    worker = _workers.pop(key, None)
    if worker is not None and worker.leases is not None:
        worker.leases.__exit__(None, None, None)
