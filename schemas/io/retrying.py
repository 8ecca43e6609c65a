"""Which failures of a store or web service are tried again, how often, and after which wait.

One policy for every kind of client. obstore and GDAL repeat requests themselves, by the same
numbers; this module repeats what they give up, and the requests of clients that never repeat one.
"""

import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from unigeo.schemas.errors import UnigeoError
from unigeo.schemas.io.durations import format_duration
from unigeo.schemas.io.store_errors import (
    describe_error,
    http_status,
    is_denied,
    unreachable_errors,
)

TRIES = 6
"""Times that a request is made by a program that nobody waits for."""
READER_TRIES = 3
"""Times that a request is made while a reader waits."""
CLIENT_RETRIES = 4
"""Times that obstore repeats a request within one try."""
FIRST_WAIT_S = 0.5
"""Longest wait before the second try, in seconds; each later one is twice as long."""

LONGEST_WAIT_S = 15.0
"""Longest wait of a patient process between two tries, in seconds."""
PATIENCE_S = 600.0
"""Seconds of an outage that a production run waits out."""
_SILENCE_S = 30.0
"""Seconds after which a process that waits says so again."""

_patience_s: list[float] = []
_said_s = [-math.inf]
_saying = threading.Lock()
_JITTER = random.Random()
"""Random numbers of its own: the caller's `random` draws the same with and without retries."""
_FINAL = {
    "FileNotFoundError",
    "NotFoundError",
    "AlreadyExistsError",
    "PreconditionError",
    "NotImplementedError",
    "NotSupportedError",
    "InvalidPathError",
}
"""Classes of errors, of Python and obstore, that come again however often one asks."""
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "RequestExpired", "InvalidAccessKeyId")
"""Codes of S3 in an answer 400 that new credentials alone mend."""


def waits_s(tries: int = TRIES, first_wait_s: float = FIRST_WAIT_S) -> Iterator[float]:
    """Yield the seconds to wait before each further try.

    They double, and each is cut by up to a half at random, so that many clients of one server do
    not come back in the same moment.

    >>> len(list(waits_s(tries=3)))
    2
    """
    for number in range(tries - 1):
        yield first_wait_s * 2**number * _JITTER.uniform(0.5, 1.0)


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Have this process wait out outages of so many seconds, and say on stderr that it waits.

    Without it a request is made `TRIES` times.
    """
    _patience_s.append(seconds)
    try:
        yield
    finally:
        _patience_s.pop()


def outage_waits_s(first_wait_s: float = FIRST_WAIT_S) -> Iterator[float]:
    """Yield the seconds to wait before each further try, until the patience is at its end."""
    if not _patience_s:
        yield from waits_s(first_wait_s=first_wait_s)
        return
    patience_s = _patience_s[-1]
    end, longest_s = time.monotonic() + patience_s, FIRST_WAIT_S
    while (left_s := end - time.monotonic()) > 0:
        yield min(left_s, longest_s * _JITTER.uniform(0.5, 1.0))
        longest_s = min(2 * longest_s, LONGEST_WAIT_S)


def say_waiting(error: BaseException | str) -> None:
    """Say on stderr why a patient process waits; once for many requests of one outage."""
    now = time.monotonic()
    with _saying:
        if not _patience_s or now - _said_s[-1] < _SILENCE_S:
            return
        _said_s[:] = [now]
    what = error if isinstance(error, str) else describe_error(error)
    print(
        f"\nwaiting       {what[:200]}: asked again for {format_duration(_patience_s[-1])}",
        file=sys.stderr,
    )


def is_transient_status(status: int) -> bool:
    """Return whether the request may succeed later: 408, 425, 429, and any fault of the server."""
    return status >= 500 or status in (408, 425, 429)


def is_transient(error: BaseException) -> bool:
    """Return whether the request that raised an error may succeed later.

    Args:
        error: of obstore, fsspec, aiohttp, requests, urllib, or the operating system.
    """
    if isinstance(error, UnigeoError):
        return False
    status = http_status(error)
    if status is not None:
        return is_transient_status(status)
    names = {kind.__name__ for kind in type(error).__mro__}
    return not (is_denied(error) or names & _FINAL) and not any(
        code in str(error) for code in _EXPIRED
    )


def client_retries(timeout_s: float) -> dict[str, Any]:
    """Return how obstore repeats requests itself: its `retry_config`.

    Args:
        timeout_s: seconds of one request without an answer.
    """
    return {"max_retries": CLIENT_RETRIES, "retry_timeout": timedelta(seconds=3 * timeout_s)}


def gave_up(error: BaseException) -> bool:
    """Return whether obstore has repeated the request itself until its own limit."""
    return "max_retries" in str(error)


def with_retries[T](ask: Callable[[], T], again: bool = True) -> T:
    """Call `ask`, and call it again after an error of a store that may pass.

    Args:
        ask: makes the request.
        again: whether to repeat it at all.
    """
    waits = outage_waits_s() if again else iter(())
    while True:
        try:
            return ask()
        except unreachable_errors() as error:
            wait_s = next(waits, None)
            if wait_s is None or not is_transient(error):
                raise
            say_waiting(error)
        time.sleep(wait_s)
