"""Bytes of stored objects: mapped from local files, or fetched by many requests at once."""

import asyncio
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from unigeo.schemas.errors import StoreError, UnigeoError

if TYPE_CHECKING:
    from zarr.abc.store import Store

Body = UInt8[np.ndarray, " _"]
Take = Callable[[int, Body | None], None]
"""Called with a span's number and its bytes (None where there is no such object); it may be called
from several threads, in any order."""

THREADS = min(8, os.cpu_count() or 1)
"""Threads that copy and decode."""
_MOST_MAPPED = 64  # files; each keeps a file descriptor
_FAULT_BYTES = 2**16  # about what the system maps when a byte of a file is touched
_KEPT_MAPPED_BYTES = 2**20  # of one file, between two reads


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
class Source(Protocol):
    """Where the objects of a store are read from."""

    most_gap_bytes: int
    """Two spans nearer than this are cheaper read as one."""

    def fetch(self, spans: Sequence[Span], take: Take) -> None:
        """Read spans and hand over their bytes.

        Raises:
            StoreError: if a span cannot be read, or the object ends before it.
        """


def source_of(store: "Store") -> Source:
    """The fastest way to the bytes of a Zarr store."""
    from zarr.storage import LocalStore

    return Files(store.root) if isinstance(store, LocalStore) else Requests(store)


class Files:
    """Objects that are files: mapped into memory, a bounded number at a time."""

    most_gap_bytes = 16 * 1024

    def __init__(self, root: Path) -> None:
        self.root = root
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(self, spans: Sequence[Span], take: Take) -> None:
        """Hand over each span as a view of its file, from several threads."""

        def one(number: int) -> None:
            span = spans[number]
            opened = self._map(span.key)
            body = None if opened is None else np.frombuffer(opened, np.uint8)
            take(number, None if body is None else _cut(body, span))

        in_threads(one, len(spans))

    @contextmanager
    def mapped(
        self, key: str, start: Int[np.ndarray, " cell"], width: int
    ) -> Iterator[Body | None]:
        """A file as memory, None if there is none, to read `width` bytes at each start.

        What is on disk and not in the system's cache is asked for first, all of it at once: a map
        alone would wait for each page. The system keeps what was read; the process lets go of it
        where it is much, so that its own memory stays bounded.
        """
        opened = self._map(key)
        if opened is None:
            yield None
            return
        if hasattr(os, "RWF_NOWAIT"):
            _read_ahead(self.root / key, start, width, self.most_gap_bytes)
        yield np.frombuffer(opened, np.uint8)
        if len(start) * _FAULT_BYTES > _KEPT_MAPPED_BYTES:
            opened.madvise(mmap.MADV_DONTNEED)

    def _map(self, key: str) -> mmap.mmap | None:
        with self._lock:
            if key in self._maps:
                self._maps.move_to_end(key)
                return self._maps[key]
        path = self.root / key
        try:
            with path.open("rb") as file:
                opened = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return None
        except ValueError as error:  # an empty file cannot be mapped
            raise StoreError(f"{path} is empty: it is damaged. Copy it anew.") from error
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error}") from error
        with self._lock:
            self._maps[key] = opened
            while len(self._maps) > _MOST_MAPPED:
                self._maps.popitem(last=False)  # closed when its last reader lets go of it
        return opened


def _read_ahead(path: Path, start: Int[np.ndarray, " cell"], width: int, gap: int) -> None:
    """Ask the system for bytes that it does not hold yet."""
    file = os.open(path, os.O_RDONLY)
    try:
        if not _cold(file, start):
            return
        start = np.sort(start)
        last = np.append(np.flatnonzero(np.diff(start) > gap + width), len(start) - 1)
        first = np.append(0, last[:-1] + 1)
        for low, high in zip(start[first].tolist(), start[last].tolist(), strict=True):
            os.posix_fadvise(file, low, high + width - low, os.POSIX_FADV_WILLNEED)
    finally:
        os.close(file)


def _cold(file: int, start: Int[np.ndarray, " cell"], samples: int = 8) -> bool:
    """Whether a read of some of the bytes would wait for the disk."""
    byte = [bytearray(1)]
    for offset in start[:: max(1, len(start) // samples)].tolist():
        try:
            os.preadv(file, byte, offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:  # a file system that cannot tell
            return False
    return False


class Requests:
    """Objects behind a Zarr store of any kind: ranges of bytes, many requests in flight.

    The gap below which two ranges are read as one is what the link moves in a request's time,
    divided among the requests in flight: 50 MB/s x 30 ms / 64.
    """

    def __init__(
        self,
        store: "Store",
        *,
        most_in_flight: int = 64,
        tries: int = 3,
        most_gap_bytes: int = 23_000,
    ) -> None:
        self.store = store
        self.most_in_flight = most_in_flight
        self.tries = tries
        self.most_gap_bytes = most_gap_bytes

    def fetch(self, spans: Sequence[Span], take: Take) -> None:
        """Request every span; failures that may pass are tried again."""
        from zarr.core.sync import sync

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
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(THREADS) as pool:

            async def work() -> None:
                for number, span in waiting:
                    if stopped.is_set():
                        return
                    body = await self._one(span)
                    await loop.run_in_executor(pool, take, number, body)

            workers = [
                asyncio.ensure_future(work()) for _ in range(min(self.most_in_flight, len(spans)))
            ]
            try:
                await asyncio.gather(*workers)
            except BaseException:
                stopped.set()
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
                raise

    async def _one(self, span: Span) -> Body | None:
        for attempt in range(1, self.tries + 1):
            try:
                return await self._get(span)
            except Exception as error:
                if isinstance(error, UnigeoError):
                    raise
                if attempt == self.tries or not may_pass(error):
                    raise StoreError(f"cannot read {span.key}: {explained(error)}") from error
                await asyncio.sleep(0.2 * 2**attempt)
        raise AssertionError("the loop returns or raises")

    async def _get(self, span: Span) -> Body | None:
        from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
        from zarr.core.buffer import default_buffer_prototype

        wanted: Any = None
        if span.start < 0:
            wanted = SuffixByteRequest(-span.start)
        elif span.stop is not None:
            wanted = RangeByteRequest(span.start, span.stop)
        elif span.start:
            wanted = OffsetByteRequest(span.start)
        body = await self.store.get(span.key, default_buffer_prototype(), wanted)
        if body is None:
            return None
        got = np.asarray(body.as_numpy_array()).view(np.uint8)
        if span.size is not None and len(got) != span.size:
            raise StoreError(
                f"asked for {span.size} bytes of {span.key} and got {len(got)}: the object is cut "
                "off, or the server ignores ranges. Copy the object anew, or serve the store by "
                "one that answers range requests."
            )
        return got


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
    names = {kind.__name__ for kind in type(error).__mro__}
    return not names & {"UnauthenticatedError", "PermissionDeniedError", "NotSupportedError"}


def explained(error: BaseException) -> str:
    """An error's own words on one line, and what to do where that is known."""
    words = " ".join(str(error).split()) or type(error).__name__
    denied = isinstance(error, PermissionError) or any(
        sign in words for sign in ("403", "401", "Unauthenticated", "PermissionDenied")
    )
    if denied:
        return (
            f"{words}. Access is denied: give credentials by the usual environment variables, or "
            "ask the owner to allow reading"
        )
    return words


def _cut(view: Body, span: Span) -> Body:
    body = view[span.start :] if span.stop is None else view[span.start : span.stop]
    if span.size is not None and len(body) != span.size:
        raise StoreError(
            f"{span.key} holds {len(view)} bytes and ends before byte {span.stop or span.size}: it "
            "is cut off. Copy it anew."
        )
    return body
