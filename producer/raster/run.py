"""How a store is filled: here or on many machines, alone or beside other runs."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr

from unigeo.producer.observations.protocol import Observations
from unigeo.producer.raster.identity import Equipment, VectorIdentity, identity_of
from unigeo.producer.raster.leases import PUBLISH, Leases, open_run_folder, tidy
from unigeo.producer.raster.local_executor import RasterReport, rasterize
from unigeo.producer.raster.run_log import RunLog
from unigeo.producer.raster.shard_task import RasterJob
from unigeo.producer.raster.task_queue import TRIES
from unigeo.producer.storage.field_store import is_published, sweep
from unigeo.schemas.errors import ModelError, StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.layout import Layout

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from unigeo.producer.encoders.model import UniGeoCLIP

Source = Callable[[], Equipment]
"""Opens an encoder and the land, and says what they are."""


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """How to run; says nothing of what is made, which is the same bytes in every way."""

    workers: int | None = None
    """Processes of a dask cluster on this machine; without it this process does all."""
    scheduler: str | None = None
    """Address of a dask scheduler instead."""
    observations: str | None = None
    """The description that workers open, if not the embedded world."""
    data: str | None = None
    log: str | None = None
    """File of JSON lines; beside a local store by default."""
    tries: int = TRIES
    """Times that a task is begun before what fails is named."""
    accept_failures: bool = False
    """Publish a store some of whose cells failed."""
    progress: bool = True

    def __post_init__(self) -> None:
        if self.workers is not None and self.scheduler is not None:
            raise ModelError("--workers starts workers here, --scheduler uses others; name one")
        if self.workers is not None and self.workers < 1:
            raise ModelError(f"--workers must be 1 or more, not {self.workers}")
        if self.tries < 1:
            raise ModelError(f"--tries must be 1 or more, not {self.tries}")


class StoreLease:
    """What this run shares with others on the same store; nothing until it is asked for."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        """Note the store."""
        self._url, self._stack = url, stack
        self._folder = open_run_folder(url)
        self._entered = False

    @property
    def folder(self) -> Leases | None:
        """The run folder, ours from now on; None where the store cannot have one."""
        if self._folder is not None and not self._entered:
            self._entered = True
            self._stack.callback(tidy, self._url)
            self._stack.enter_context(self._folder)
        return self._folder

    def damaged(self) -> frozenset[str]:
        """Input files that earlier runs could not read."""
        if self._folder is None:
            return frozenset()
        return frozenset(
            name for about in self._folder.failed().values() for name in about["damaged"]
        )

    def note_again(
        self, observations: Observations, grid: Grid, layout: Layout, files: list[str]
    ) -> None:
        """Have the shards made again that may show files which were replaced."""
        from unigeo.producer.raster.redone_shards import note_again

        if self.folder is not None:
            note_again(self.folder, self._url, observations, files, grid, layout)

    def tidy_up(self) -> None:
        """Remove what a run left that was killed once all was published."""
        if self._folder is not None:
            self._folder.sweep()
            tidy(self._url)

    def my_turn_to_publish(self, group: zarr.Group) -> bool:
        """Wait until nobody else publishes, and tidy up; False where it has been done."""
        if self.folder is not None:
            self._stack.enter_context(self.folder.wait_for(PUBLISH))
            self.folder.sweep()
            if is_published(group):
                return False
        sweep(group)
        return True


@contextmanager
def sharing(url: str) -> Iterator[StoreLease]:
    """Meet other runs on a store."""
    with ExitStack() as stack:
        yield StoreLease(url, stack)


def fill(
    group: zarr.Group,
    work: RasterJob,
    url: str,
    source: Source,
    running: ExecutionOptions,
    shared: StoreLease,
    identity: VectorIdentity | None = None,
) -> RasterReport:
    """Write every shard that is missing.

    Args:
        group: the root of the store.
        work: grid, layout, region, land and encoder.
        url: the store, as workers open it.
        source: how workers open the encoder and the land.
        running: how.
        shared: with other runs.
        identity: what the store's vectors are made by, which workers must have too; this code alone
            without it.

    Raises:
        StoreError: if the store cannot be written, the scheduler does not answer, or a worker would
            write other vectors.
    """
    log = RunLog(running.log or _default_log(url))
    try:
        if running.workers is None and running.scheduler is None:
            return rasterize(
                group,
                work.grid,
                work.layout,
                work.region,
                work.land,
                work.encode,
                batch=work.batch,
                progress=running.progress,
                run=shared.folder,
                log=log,
                tries=running.tries,
            )
        from unigeo.producer.raster.dask_executor import local_workers, rasterize_on, scheduler_at
        from unigeo.producer.raster.dask_worker import Job

        there = url if "://" in url else str(Path(url).absolute())
        job = Job(
            there, work.region, work.grid, work.layout, source, work.batch,
            identity=identity or VectorIdentity(),
        )  # fmt: skip
        workers: Any
        if running.scheduler is not None:
            workers = nullcontext(scheduler_at(running.scheduler))
        else:
            workers = local_workers(running.workers or 1)
        with workers as connect:
            return rasterize_on(
                connect,
                group,
                job,
                work,
                shared.folder,
                tries=running.tries,
                log=log,
                progress=running.progress,
            )
    finally:
        log.close()


def model_source(model: Path, running: ExecutionOptions, interpolate: int = 1) -> Source:
    """What workers encode with, opened by paths, which must mean the same on their machines."""
    return partial(
        _open_model,
        str(model.absolute()),
        running.observations,
        running.data,
        running.workers,
        interpolate,
    )


def _open_model(
    model: str,
    description: str | None,
    data: str | None,
    sharing_cores: int | None,
    interpolate: int,
) -> Equipment:
    import torch

    from unigeo.producer.observations.opening import open_named
    from unigeo.producer.raster.encoding import encoder_of

    if sharing_cores is not None:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // sharing_cores))
    observations = open_named(description, data)
    opened, _, weights = open_model(Path(model))
    device = _worker_device()
    identity = identity_of(weights, opened.settings, observations, interpolate)
    encoder = encoder_of(opened, observations, device, interpolate)
    return Equipment(encoder, observations.land, identity.computed_on(device))


def open_model(folder: Path) -> tuple["UniGeoCLIP", "Tokenizer | None", str]:
    """Load a model; its encoders, its tokenizer, and the SHA-256 of its weights.

    Raises:
        ModelError: if it is no whole model, or another one is put in its place meanwhile.
    """
    from unigeo.producer.encoders.model import load_model, model_hash

    weights = model_hash(folder)
    model, tokenizer = load_model(folder)
    if model_hash(folder) != weights:
        raise ModelError(f"{folder} was replaced while it was read; run the same command again")
    return model, tokenizer, weights


def _worker_device() -> Any:
    """The GPU of this worker: those of one machine are dealt out by the workers' names."""
    import torch
    from distributed import get_worker

    from unigeo.producer.training.processes import default_device

    device = default_device()
    if device.type != "cuda":
        return device
    name = str(get_worker().name)
    number = int(name) if name.isdigit() else 0
    return torch.device("cuda", number % torch.cuda.device_count())


def refuse_failures(
    url: str, report: RasterReport, shared: StoreLease, running: ExecutionOptions
) -> None:
    """Do not publish what holds failed cells, unless that is accepted.

    Raises:
        StoreError: saying how many shards failed and what to do.
    """
    failed = shared.folder.failed() if shared.folder is not None else {}
    count = len(failed) or len(report.failed)
    if count and not running.accept_failures:
        raise StoreError(
            f"{count} shards of {url} hold cells that failed, for the reasons above; everything "
            "else is written and kept. Mend the cause and run the same command again, which does "
            "these shards anew, or publish it as it is with --accept-failures."
        )


def _default_log(url: str) -> str | None:
    return None if "://" in url else f"{url.rstrip('/')}.log.jsonl"
