"""How many threads the numerical libraries may use, and work shared among threads of our own."""

import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

_LEAST_WORK = 2e9
"""Floating-point operations: fewer take less time than starting threads is worth."""
_MOST_BYTES = 2**30
"""Of all workers together, in what each of them needs for itself."""


Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
"""Calls a function with each item; gives the results in the order of the items."""


def one_thread(*, scipy: bool = True) -> AbstractContextManager[Any]:
    """Keep BLAS and trees to one thread: their many small steps wait for each other otherwise.

    The standard suite of probes took 6 times as long on two busy cores with two threads as with
    one. Without threadpoolctl (`unigeo[probe]`) nothing is changed.

    Args:
        scipy: whether its BLAS is limited too; it is loaded for that, which takes 0.3 s.
    """
    return _threads(1, scipy)


@contextmanager
def workers(operations: float, worker_bytes: int) -> Iterator[Run]:
    """Share calls among threads, each with one thread of BLAS, where the work is worth it.

    Large factorizations side by side use the cores better than one after the other with many
    threads each. The results do not depend on the number of threads.

    Args:
        operations: of all calls together, in floating point.
        worker_bytes: memory that one call needs.
    """
    cores = available_cores()
    count = min(cores, max(1, _MOST_BYTES // max(worker_bytes, 1)))
    limits = nullcontext() if operations < _LEAST_WORK else _threads(cores if count == 1 else 1)
    with limits:
        if count == 1 or isinstance(limits, nullcontext):
            yield map
        else:
            with ThreadPoolExecutor(count) as pool:
                yield pool.map


def available_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _threads(count: int, scipy: bool = True) -> AbstractContextManager[Any]:
    """Threads of BLAS and of OpenMP."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    if scipy:
        with suppress(ImportError):
            importlib.import_module("scipy.linalg")  # its BLAS is limited where it is loaded by now
    limits: AbstractContextManager[Any] = threadpool_limits(count)
    return limits
