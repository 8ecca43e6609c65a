"""Connections to dask schedulers: workers started on this machine, or a scheduler's address."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from unigeo.schemas.errors import MissingExtraError, StoreError
from unigeo.schemas.io.durations import format_duration

THREADS = 2
"""Tasks at once in a worker: while one is encoded the other reads or writes."""
_RETRY_S = 1.0
"""Seconds between two attempts to connect."""
ANY_PORT = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
"""Options of a scheduler without a dashboard, whose HTTP server takes a free port: distributed asks
for 8787, and warns where another run has it."""


@contextmanager
def local_workers(count: int, threads: int = THREADS) -> Iterator[Callable[[], Any]]:
    """Start `count` workers on this machine, each with a GPU of its own where there are several."""
    dask, distributed = _imported()
    settings = {
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.scheduler.allowed-failures": 2,
        "distributed.comm.timeouts.connect": "60s",
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=threads,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_kwargs=ANY_PORT,
            memory_limit=None,
            silence_logs=50,
        ) as cluster,
    ):
        yield lambda: distributed.Client(cluster)


def scheduler_at(address: str) -> Callable[[], Any]:
    """Connect to a scheduler by its address, such as tcp://HOST:8786."""
    _, distributed = _imported()
    return lambda: distributed.Client(address, timeout=10)


def connect_in_time(connect: Callable[[], Any], patience_s: float) -> Any:
    """Connect, again and again while the scheduler is away.

    Raises:
        StoreError: if there is none after `patience_s`.
    """
    end = time.monotonic() + patience_s
    told = False
    while True:
        try:
            return connect()
        except (OSError, TimeoutError) as error:
            if time.monotonic() > end:
                raise StoreError(
                    "no dask scheduler answered, and the patience of "
                    f"{format_duration(patience_s)} is over: {' '.join(str(error).split())}. What "
                    "was written is kept; start one and run the same command again."
                ) from error
            if not told:
                print(
                    f"\nwaiting       no dask scheduler answers ({' '.join(str(error).split())}): "
                    f"asked again for {format_duration(patience_s)}",
                    file=sys.stderr,
                )
            told = True
            time.sleep(_RETRY_S)


def _imported() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise MissingExtraError(
            'many workers need dask.distributed: pip install "unigeo[cluster]"'
        ) from error
    return dask, distributed
