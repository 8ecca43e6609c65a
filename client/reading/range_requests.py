"""Bytes of stored objects, fetched by many requests at once."""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from unigeo.client.reading.generations import (
    Generation,
    ObjectVersion,
    changed,
    identity_of_file,
    identity_of_meta,
)
from unigeo.schemas.errors import DamagedError, StoreError, UnigeoError
from unigeo.schemas.io.stores import check_process, explained, ignores_ranges

if TYPE_CHECKING:
    from zarr.abc.store import Store
    from zarr.core.buffer import Buffer

Body = UInt8[np.ndarray, " _"]
Take = Callable[[int, Body | None], None]
"""Called with a span's number and its bytes (None where there is no such object); it may be called
from several threads, in any order."""

_LOOKS = 3
"""Times that an object is read while it changes under the reading."""
THREADS = min(8, os.cpu_count() or 1)
"""Threads that copy and decode."""


@dataclass(frozen=True, slots=True)
class Span:
    """A run of bytes of one object."""

    key: str
    start: int = 0
    """Negative: counted from the object's end."""
    stop: int | None = None
    """None: up to the end."""

    @property
    def size(self) -> int | None:
        """Bytes in the span, if it does not depend on the object's size."""
        if self.start < 0 and self.stop is None:
            return -self.start
        return None if self.stop is None else self.stop - self.start


@runtime_checkable
class ObjectSource(Protocol):
    """Where the objects of a store are read from."""

    most_gap_bytes: int
    """Two spans nearer than this are cheaper read as one."""

    def fetch(self, spans: Sequence[Span], take: Take) -> None:
        """Read spans and hand over their bytes.

        Raises:
            StoreError: if a span cannot be read, or the object ends before it.
        """


class Requests:
    """Objects behind a Zarr store of any kind: ranges of bytes, many requests in flight.

    The gap below which two ranges are read as one is what the link moves in a request's time,
    divided among the requests in flight: 50 MB/s x 30 ms / 128.
    """

    def __init__(
        self,
        store: "Store",
        *,
        most_in_flight: int = 128,
        tries: int = 3,
        most_gap_bytes: int = 12_000,
        generation: Generation | None = None,
    ) -> None:
        self.store = store
        self.generation = generation
        self.most_in_flight = most_in_flight
        self.tries = tries
        self.most_gap_bytes = most_gap_bytes

    def fetch(self, spans: Sequence[Span], take: Take) -> None:
        """Request every span; failures that may pass are tried again."""
        from zarr.core.sync import sync

        check_process(self.store)
        stopped = threading.Event()
        try:
            sync(self._fetch(spans, take, stopped))
        except UnigeoError:
            raise
        except BaseException:
            stopped.set()  # Ctrl-C: what is not yet asked for is not asked for any more
            raise

    async def _fetch(self, spans: Sequence[Span], take: Take, stopped: threading.Event) -> None:
        waiting = iter(enumerate(spans))
        watched = _first_and_last(spans)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(THREADS) as pool:

            async def work() -> None:
                for number, span in waiting:
                    if stopped.is_set():
                        return
                    body = await self.one(span, number in watched)
                    await loop.run_in_executor(pool, take, number, body)

            workers = [
                asyncio.ensure_future(work()) for _ in range(min(self.most_in_flight, len(spans)))
            ]
            if self.generation is not None and self.generation.unsettled:
                # Beside the others, so that nobody waits for it.
                workers.append(asyncio.ensure_future(self.generation.settle()))
            try:
                await asyncio.gather(*workers)
            except BaseException:
                stopped.set()
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
                raise

    async def one(self, span: Span, watched: bool = True) -> Body | None:
        """Request one span; None where there is no such object.

        Args:
            span: of an object.
            watched: compare the object's identity with that which was seen first. It takes a second
                step of the event loop, so many spans of one object are not all watched.

        Raises:
            StoreError: as `fetch`.
        """
        for attempt in range(1, self.tries + 1):
            try:
                return await self._get(span, self.generation if watched else None)
            except Exception as error:
                if isinstance(error, UnigeoError):
                    raise
                if attempt == self.tries or not may_pass(error):
                    raise StoreError(f"cannot read {span.key}: {explained(error)}") from error
                await asyncio.sleep(0.2 * 2**attempt)
        raise AssertionError("the loop returns or raises")

    async def _get(self, span: Span, generation: Generation | None) -> Body | None:
        from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
        from zarr.core.buffer import default_buffer_prototype

        wanted: Any = None
        if span.start < 0:
            wanted = SuffixByteRequest(-span.start)
        elif span.stop is not None:
            wanted = RangeByteRequest(span.start, span.stop)
        elif span.start:
            wanted = OffsetByteRequest(span.start)
        if generation is not None:
            body = await get_watched(self.store, span.key, wanted, generation)
        else:
            body = await self.store.get(span.key, default_buffer_prototype(), wanted)
        if body is None:
            return None
        got = np.asarray(body.as_numpy_array()).view(np.uint8)
        if span.size is not None and len(got) > span.size:
            raise ignores_ranges(span.key)
        if span.size is not None and len(got) < span.size:
            raise DamagedError(
                f"asked for {span.size} bytes of {span.key} and got {len(got)}: the object is cut "
                "off. Copy it anew."
            )
        return got


def _first_and_last(spans: Sequence[Span]) -> set[int]:
    """Numbers of the first and the last span of each object.

    An object that is replaced between the two is seen; one that is replaced after them, by the next
    fetch.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for number, span in enumerate(spans):
        first.setdefault(span.key, number)
        last[span.key] = number
    return {*first.values(), *last.values()}


async def get_watched(
    store: "Store", key: str, wanted: Any, generation: Generation | None
) -> "Buffer | None":
    """Bytes of an object in the state in which an open field sees it; None if it is not there.

    Raises:
        DamagedError: if the object has changed since.
    """
    for _ in range(_LOOKS):
        body, identity = await get_object(store, key, wanted)
        if generation is None or identity is None or generation.knows(key, identity):
            return body
        await generation.prove(key)
    raise changed(key)


async def get_object(
    store: "Store", key: str, wanted: Any = None
) -> "tuple[Buffer | None, ObjectVersion | None]":
    """Bytes of an object, and its identity where the store tells one.

    Args:
        store: any.
        key: of the object.
        wanted: one of Zarr's byte requests; all of it by default.
    """
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import LocalStore, ObjectStore

    prototype = default_buffer_prototype()
    if isinstance(store, ObjectStore):
        import obstore
        from obstore.exceptions import NotSupportedError

        try:
            got = await obstore.get_async(store.store, key, options=_options(wanted))
            identity = identity_of_meta(got.meta)
            return prototype.buffer.from_bytes(await got.bytes_async()), identity  # type: ignore[arg-type]
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None, None
        except NotSupportedError:  # Azure knows no suffixes, and Zarr a way round
            return await store.get(key, prototype, wanted), None
    if not isinstance(store, LocalStore):
        return await store.get(key, prototype, wanted), None
    for _ in range(_LOOKS):
        before = await look_at(store, key)
        body = await store.get(key, prototype, wanted)
        after = await look_at(store, key)
        if before == after:
            return body, after
    raise changed(key)


async def look_at(store: "Store", key: str) -> ObjectVersion | None:
    """An object's identity, without its bytes; None if it is not there, or the store tells none."""
    from zarr.storage import LocalStore, ObjectStore

    if isinstance(store, LocalStore):
        try:
            return identity_of_file((store.root / key).stat())
        except OSError:
            return None
    if isinstance(store, ObjectStore):
        import obstore

        try:
            return identity_of_meta(await obstore.head_async(store.store, key))
        except Exception as error:
            if isinstance(error, FileNotFoundError) or not may_pass(error):
                return None  # a server that gives no heads
            raise StoreError(f"cannot read {key}: {explained(error)}") from error
    return None


def _options(wanted: Any) -> Any:
    """One of Zarr's byte requests as obstore takes it."""
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest

    if wanted is None:
        return None
    if isinstance(wanted, RangeByteRequest):
        return {"range": (wanted.start, wanted.end)}
    if isinstance(wanted, OffsetByteRequest):
        return {"range": {"offset": wanted.offset}}
    return {"range": {"suffix": wanted.suffix}}


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Do numbered pieces of work, several at a time; the first failure ends it."""
    if count <= 1 or THREADS == 1:
        for number in range(count):
            work(number)
        return
    with ThreadPoolExecutor(min(THREADS, count)) as pool:
        numbers = iter(range(count))
        lock = threading.Lock()
        failed = threading.Event()

        def several() -> None:
            while not failed.is_set():
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    work(number)
                except BaseException:
                    failed.set()
                    raise

        tasks = [pool.submit(several) for _ in range(min(THREADS, count))]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            failed.set()
            raise


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, PermissionError | FileNotFoundError | NotImplementedError):
        return False
    status = getattr(error, "status", None)  # aiohttp's
    if isinstance(status, int):
        return status >= 500 or status in (408, 425, 429)
    if "max_retries" in str(error):  # obstore's, which has tried again and given up
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    return not names & {"UnauthenticatedError", "PermissionDeniedError", "NotSupportedError"}
