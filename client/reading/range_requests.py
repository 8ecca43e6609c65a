"""Reads spans of bytes of stored objects, by many concurrent requests."""

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
    changed_error,
    version_of_file,
    version_of_meta,
)
from unigeo.schemas.errors import DamagedError, StoreError, UnigeoError
from unigeo.schemas.io.retrying import READER_TRIES, gave_up, is_transient, waits_s
from unigeo.schemas.io.store_errors import describe_error, range_ignored_error
from unigeo.schemas.io.stores import check_process

if TYPE_CHECKING:
    from zarr.abc.store import Store
    from zarr.core.buffer import Buffer

Body = UInt8[np.ndarray, " _"]
OnBody = Callable[[int, Body | None], None]
"""Called with a span's number and its bytes (None if the object does not exist), from several
threads and in any order."""

_MOST_READS = 3
"""Times that an object is read while it changes during each read."""
THREADS = min(8, os.cpu_count() or 1)
"""Threads that copy and decode."""


@dataclass(frozen=True, slots=True)
class Span:
    """A run of bytes of one object."""

    key: str
    start: int = 0
    """First byte; if negative, counted from the object's end."""
    stop: int | None = None
    """Byte after the last; None reads up to the end."""

    @property
    def size(self) -> int | None:
        """Bytes in the span; None if that depends on the object's size."""
        if self.start < 0 and self.stop is None:
            return -self.start
        return None if self.stop is None else self.stop - self.start


@runtime_checkable
class ObjectSource(Protocol):
    """Where the objects of a store are read from."""

    most_gap_bytes: int
    """Two spans with a gap below this cost less as one read."""

    def fetch(self, spans: Sequence[Span], on_body: OnBody) -> None:
        """Read spans, and call `on_body` with the bytes of each.

        Raises:
            StoreError: if a span cannot be read, or the object ends before it.
        """


@runtime_checkable
class CachingStore(Protocol):
    """A Zarr store that reads through a cache and knows the versions of what it requests."""

    async def read(self, key: str, byte_range: Any) -> "tuple[Buffer | None, ObjectVersion | None]":
        """Read bytes of an object, and its version; that is None of bytes from the cache."""

    async def version(self, key: str) -> ObjectVersion | None:
        """Return an object's version by the server."""


class Requests:
    """Objects of any Zarr store, read by concurrent range requests.

    The gap below which two ranges are read as one is what the link moves in a request's time,
    divided among the requests in flight: 50 MB/s x 30 ms / 128.
    """

    def __init__(
        self,
        store: "Store",
        *,
        most_in_flight: int = 128,
        tries: int = READER_TRIES,
        most_gap_bytes: int = 12_000,
        generation: Generation | None = None,
    ) -> None:
        self.store = store
        self.generation = generation
        self.most_in_flight = most_in_flight
        self.tries = tries
        self.most_gap_bytes = most_gap_bytes

    def fetch(self, spans: Sequence[Span], on_body: OnBody) -> None:
        """Request every span, and retry what failed for a passing reason."""
        from zarr.core.sync import sync

        check_process(self.store)
        stopped = threading.Event()
        try:
            sync(self._fetch(spans, on_body, stopped))
        except UnigeoError:
            raise
        except BaseException:
            # Ctrl-C reaches this thread, not Zarr's event loop: tell its tasks to stop.
            stopped.set()
            raise

    async def _fetch(
        self, spans: Sequence[Span], on_body: OnBody, stopped: threading.Event
    ) -> None:
        # All tasks draw from one iterator; on one event loop that needs no lock.
        remaining = iter(enumerate(spans))
        checked = _first_and_last(spans)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(THREADS) as pool:

            async def work() -> None:
                for number, span in remaining:
                    if stopped.is_set():
                        return
                    body = await self.request(span, number in checked)
                    # Copying and decoding would block the event loop, so threads do it.
                    await loop.run_in_executor(pool, on_body, number, body)

            tasks = [
                asyncio.ensure_future(work()) for _ in range(min(self.most_in_flight, len(spans)))
            ]
            if self.generation is not None and self.generation.root_unchecked:
                # Concurrent with the others, so that it costs no round trip of its own.
                tasks.append(asyncio.ensure_future(self.generation.check_root()))
            try:
                await asyncio.gather(*tasks)
            except BaseException:
                stopped.set()
                for task in tasks:
                    task.cancel()
                # Leave the pool only after every task has ended, lest one submits to it later.
                await asyncio.gather(*tasks, return_exceptions=True)
                raise

    async def request(self, span: Span, check_version: bool = True) -> Body | None:
        """Request one span; return None if the object does not exist.

        Args:
            span: the bytes to read.
            check_version: compare the object's version with the one that was first seen. That takes
                a second step of the event loop, so `fetch` does not do it for every span.

        Raises:
            StoreError: as `fetch`.
        """
        waits = waits_s(self.tries)
        while True:
            try:
                return await self._get(span, self.generation if check_version else None)
            except UnigeoError:
                raise
            except Exception as error:
                wait_s = next(waits, None)
                if wait_s is None or not _is_worth_a_try(error):
                    raise StoreError(f"cannot read {span.key}: {describe_error(error)}") from error
            await asyncio.sleep(wait_s)

    async def _get(self, span: Span, generation: Generation | None) -> Body | None:
        from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
        from zarr.core.buffer import default_buffer_prototype

        byte_range: Any = None
        if span.start < 0:
            byte_range = SuffixByteRequest(-span.start)
        elif span.stop is not None:
            byte_range = RangeByteRequest(span.start, span.stop)
        elif span.start:
            byte_range = OffsetByteRequest(span.start)
        if generation is not None:
            buffer = await get_checked(self.store, span.key, byte_range, generation)
        else:
            buffer = await self.store.get(span.key, default_buffer_prototype(), byte_range)
        if buffer is None:
            return None
        body = np.asarray(buffer.as_numpy_array()).view(np.uint8)
        if span.size is not None and len(body) > span.size:
            raise range_ignored_error(span.key)
        if span.size is not None and len(body) < span.size:
            raise DamagedError(
                f"asked for {span.size} bytes of {span.key} and got {len(body)}: the object is cut "
                "off. Copy it anew."
            )
        return body


def _first_and_last(spans: Sequence[Span]) -> set[int]:
    """Return the numbers of the first and the last span of each object.

    Checking these two is enough to notice an object that is replaced between them. One that is
    replaced after them is noticed by the next fetch.
    """
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for number, span in enumerate(spans):
        first.setdefault(span.key, number)
        last[span.key] = number
    return {*first.values(), *last.values()}


async def get_checked(
    store: "Store", key: str, byte_range: Any, generation: Generation | None
) -> "Buffer | None":
    """Read bytes of an object that has not changed since the field was opened.

    Returns:
        None if the object does not exist.

    Raises:
        DamagedError: if the object has changed.
    """
    for _ in range(_MOST_READS):
        body, version = await get_with_version(store, key, byte_range)
        if generation is None or version is None or generation.accepts(key, version):
            return body
        # The bytes may be older than the version that is accepted now, so read them again.
        await generation.check_content(key)
    raise changed_error(key)


async def get_with_version(
    store: "Store", key: str, byte_range: Any = None
) -> "tuple[Buffer | None, ObjectVersion | None]":
    """Read bytes of an object, and its version if the store reports one.

    Args:
        store: any.
        key: of the object.
        byte_range: one of Zarr's byte requests; the whole object by default.
    """
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import LocalStore, ObjectStore

    prototype = default_buffer_prototype()
    if isinstance(store, CachingStore):
        return await store.read(key, byte_range)
    if isinstance(store, ObjectStore):
        import obstore
        from obstore.exceptions import NotSupportedError

        try:
            result = await obstore.get_async(store.store, key, options=_options(byte_range))
            version = version_of_meta(result.meta)
            return prototype.buffer.from_bytes(await result.bytes_async()), version  # type: ignore[arg-type]
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None, None
        except NotSupportedError:  # Azure has no suffix requests; Zarr's `get` works around that
            return await store.get(key, prototype, byte_range), None
    if not isinstance(store, LocalStore):
        return await store.get(key, prototype, byte_range), None
    # A file's version is read apart from its bytes: they belong together if it did not change.
    for _ in range(_MOST_READS):
        before = await object_version(store, key)
        body = await store.get(key, prototype, byte_range)
        after = await object_version(store, key)
        if before == after:
            return body, after
    raise changed_error(key)


async def object_version(store: "Store", key: str) -> ObjectVersion | None:
    """Return an object's version; None if it does not exist, or the store reports none."""
    from zarr.storage import LocalStore, ObjectStore

    if isinstance(store, LocalStore):
        try:
            return version_of_file((store.root / key).stat())
        except OSError:
            return None
    if isinstance(store, CachingStore):
        return await store.version(key)
    if isinstance(store, ObjectStore):
        import obstore

        try:
            return version_of_meta(await obstore.head_async(store.store, key))
        except Exception as error:
            if isinstance(error, FileNotFoundError) or not _is_worth_a_try(error):
                return None  # a server that does not answer HEAD requests
            raise StoreError(f"cannot read {key}: {describe_error(error)}") from error
    return None


def _options(byte_range: Any) -> Any:
    """Convert one of Zarr's byte requests to obstore's options."""
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest

    if byte_range is None:
        return None
    if isinstance(byte_range, RangeByteRequest):
        return {"range": (byte_range.start, byte_range.end)}
    if isinstance(byte_range, OffsetByteRequest):
        return {"range": {"offset": byte_range.offset}}
    return {"range": {"suffix": byte_range.suffix}}


def run_in_threads(work: Callable[[int], None], count: int) -> None:
    """Call `work` with 0 to `count - 1` from several threads; the first failure stops the rest."""
    if count <= 1 or THREADS == 1:
        for number in range(count):
            work(number)
        return
    with ThreadPoolExecutor(min(THREADS, count)) as pool:
        numbers = iter(range(count))
        lock = threading.Lock()
        failed = threading.Event()

        def work_in_turn() -> None:
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

        tasks = [pool.submit(work_in_turn) for _ in range(min(THREADS, count))]
        try:
            for task in tasks:
                task.result()
        except BaseException:  # Ctrl-C too, which only this thread gets
            failed.set()
            raise


def _is_worth_a_try(error: BaseException) -> bool:
    """Return whether to repeat a request while a reader waits: not what obstore has repeated."""
    return is_transient(error) and not gave_up(error)
