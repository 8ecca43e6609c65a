"""How many threads the numerical libraries may use."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """Keep BLAS and trees to one thread: their many small steps wait for each other otherwise.

    The standard suite of probes took 6 times as long on two busy cores with two threads as with
    one. Without threadpoolctl (`unigeo[probe]`) nothing is changed.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits
