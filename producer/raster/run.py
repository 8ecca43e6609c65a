"""Fill a store: in this process or on a dask cluster, alone or beside other runs."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import zarr

from unigeo.producer.raster.local_executor import RasterReport, rasterize
from unigeo.producer.raster.planning import Task
from unigeo.producer.raster.run_log import RunLog
from unigeo.producer.raster.shard_task import OpenedJob
from unigeo.producer.raster.store_lease import StoreLease
from unigeo.producer.raster.task_queue import TRIES
from unigeo.schemas.errors import ModelError, StoreError
from unigeo.schemas.io.retrying import PATIENCE_S

_ADDRESS = re.compile(r"(?:(?:tcp|tls|ws|wss|ucx|ucxx|inproc)://\S+|[^\s/:]+:\d+)")
"""Addresses that dask.distributed connects to: a protocol and an address, or HOST:PORT."""


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """How a run is executed; the bytes that it writes are the same in every way."""

    workers: int | None = None
    """Number of processes of a dask cluster on this machine; None for this process alone."""
    scheduler: str | None = None
    """Address of a dask scheduler instead."""
    observations: str | None = None
    """Observations that workers open, as `open_named` takes them."""
    data: str | None = None
    """Folder of the observations' files."""
    log: str | None = None
    """File of JSON lines; beside a local store by default."""
    tries: int = TRIES
    """Times that a task is begun before it is written with its failures."""
    accept_failures: bool = False
    """Publish a store some of whose cells failed."""
    progress: bool = True
    """Show bars on stderr."""
    patience_s: float = PATIENCE_S
    """Seconds that a store or a scheduler may not answer before the run ends."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.scheduler is not None:
            raise ModelError("--workers starts workers here, --scheduler uses others; name one")
        if self.workers is not None and self.workers < 1:
            raise ModelError(f"--workers must be 1 or more, not {self.workers}")
        if self.scheduler is not None and not _ADDRESS.fullmatch(self.scheduler):
            raise ModelError(
                "--scheduler takes the address of a dask scheduler, such as tcp://HOST:8786, not "
                f"{self.scheduler!r}"
            )
        if not self.patience_s >= 0:
            raise ModelError(f"--patience must be 0 seconds or more, not {self.patience_s:g}")
        if self.tries < 1:
            raise ModelError(f"--tries must be 1 or more, not {self.tries}")


def fill(
    group: zarr.Group, opened: OpenedJob, options: ExecutionOptions, lease: StoreLease
) -> RasterReport:
    """Write every shard that is missing; those that are made of stored vectors last.

    The latter are left out if cells of others failed and the options do not accept that.

    Args:
        group: the root of the store.
        opened: the job, with its equipment in this process.
        options: where the tasks are done.
        lease: coordination with other runs.

    Raises:
        StoreError: if the store cannot be written, the scheduler does not answer, or a worker would
            write other vectors.
    """
    log = RunLog(options.log or _default_log(opened.job.url))
    layout, derived = opened.job.layout, opened.equipment.encoder.derived
    first = tuple(array for array in layout.arrays if array not in derived)
    last = tuple(array for array in layout.arrays if array in derived)
    try:
        with _executor(group, opened, options, lease, log) as execute:
            report = execute(first)
            failed = any(task.modality in first for task in _failed(report, lease))
            if last and (options.accept_failures or not failed):
                fused = execute(last)
                report.extend(fused)
                report.derived_seconds = fused.seconds
            return report
    finally:
        log.close()


@contextmanager
def _executor(
    group: zarr.Group,
    opened: OpenedJob,
    options: ExecutionOptions,
    lease: StoreLease,
    log: RunLog,
) -> Iterator[Callable[[tuple[str, ...]], RasterReport]]:
    """Yield the function that does the tasks of some arrays."""
    common: dict[str, Any] = {"tries": options.tries, "log": log, "progress": options.progress}
    if options.workers is None and options.scheduler is None:
        yield lambda arrays: rasterize(group, opened, leases=lease.leases, arrays=arrays, **common)
        return
    from unigeo.producer.raster.dask_executor import rasterize_on

    with _cluster(options) as connect:
        yield lambda arrays: rasterize_on(
            connect,
            group,
            opened,
            lease.leases,
            arrays=arrays,
            patience_s=options.patience_s,
            **common,
        )


def _failed(report: RasterReport, lease: StoreLease) -> list[Task]:
    """Return the tasks with failed cells, of this run and of others on the store."""
    failed = lease.leases.failed() if lease.leases is not None else {}
    return list(failed) or report.failed


def _cluster(options: ExecutionOptions) -> AbstractContextManager[Any]:
    from unigeo.producer.raster.dask_cluster import local_workers, scheduler_at

    if options.scheduler is not None:
        return nullcontext(scheduler_at(options.scheduler))
    return local_workers(options.workers or 1)


def refuse_failures(
    url: str, report: RasterReport, lease: StoreLease, options: ExecutionOptions
) -> None:
    """Refuse to publish a store with failed cells, unless the options accept them.

    Raises:
        StoreError: saying how many shards failed and what to do.
    """
    count = len(_failed(report, lease))
    if count and not options.accept_failures:
        raise StoreError(
            f"{count} shards of {url} hold cells that failed, for the reasons above; everything "
            "else is written and kept. Mend the cause and run the same command again, which does "
            "these shards anew, or publish it as it is with --accept-failures."
        )


def _default_log(url: str) -> str | None:
    return None if "://" in url else f"{url.rstrip('/')}.log.jsonl"
