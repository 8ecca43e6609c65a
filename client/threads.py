"""Limits the threads of numerical libraries, and runs calls in threads of our own."""

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

_LEAST_OPERATIONS = 2e9
"""Floating-point operations below which starting threads costs more than it saves."""
_MOST_BYTES = 2**30
"""Memory of all workers together."""


Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Calls a function with each item, as `map` does; the results are in the order of the items."""


def one_thread(*, scipy: bool = True) -> AbstractContextManager[Any]:
    """Limit BLAS and tree models to one thread, since threads wait for each other in small steps.

    The standard suite of probes took 6 times as long on two busy cores with two threads as with
    one. Without threadpoolctl (`unigeo[probe]`) nothing is changed.

    Args:
        scipy: also limit scipy's BLAS, which loads scipy and takes 0.3 s.
    """
    return _limit_threads(1, scipy)


@contextmanager
def workers(operations: float, worker_bytes: int) -> Iterator[Run]:
    """Yield a `map` that runs calls in threads, each with one BLAS thread, if they are large.

    Large factorizations side by side use the cores better than one after the other with many
    threads each. The results do not depend on the number of threads.

    Args:
        operations: floating-point operations of all calls together.
        worker_bytes: memory that one call needs.
    """
    cores = available_cores()
    count = min(cores, max(1, _MOST_BYTES // max(worker_bytes, 1)))
    # Calls that fit into memory only one at a time get all the cores for their BLAS.
    blas_threads = cores if count == 1 else 1
    small = operations < _LEAST_OPERATIONS
    limits = nullcontext() if small else _limit_threads(blas_threads)
    with limits:
        # Without threadpoolctl `limits` is null too: threads of BLAS within threads are slower.
        if count == 1 or isinstance(limits, nullcontext):
            yield map
        else:
            with ThreadPoolExecutor(count) as pool:
                yield pool.map


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _limit_threads(count: int, scipy: bool = True) -> AbstractContextManager[Any]:
    """Limit the threads of BLAS and OpenMP; without threadpoolctl do nothing."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    if scipy:
        with suppress(ImportError):
            # threadpoolctl limits only libraries that are loaded already.
            importlib.import_module("scipy.linalg")
    limits: AbstractContextManager[Any] = threadpool_limits(count)
    return limits
