"""Reads bytes of stored objects that are local files, mapped into memory."""

import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from unigeo.client.reading.generations import (
    ROOT,
    Generation,
    ObjectVersion,
    changed_error,
    version_of_file,
)
from unigeo.client.reading.range_requests import Body, OnBody, Span, run_in_threads
from unigeo.schemas.errors import DamagedError, StoreError

MOST_MAPPED = 64
"""Files that stay mapped; each keeps a file descriptor."""
_MOST_RESIDENT_BYTES = 2**30
"""Bytes of one store's mapped files that may count as the process's memory.

Beyond it the least recently used files are released. Their pages are the system's cache and no
memory of our own, but tools that add up a process's pages count them."""
_REPORTS_CACHE = hasattr(os, "RWF_NOWAIT")
"""Whether the system reports what is in its page cache (Linux does)."""


@dataclass(eq=False)
class MappedFile:
    """A file that is mapped into memory."""

    path: Path
    memory: mmap.mmap
    version: ObjectVersion
    """The file's version when it was mapped."""
    resident_bytes: int = 0
    """Upper bound of the bytes that count as the process's memory."""

    @property
    def body(self) -> Body:
        """The file's bytes."""
        return np.frombuffer(self.memory, np.uint8)


class MappedFiles:
    """Objects that are files, of which a bounded number is mapped into memory.

    A mapped page is the system's cache, not a copy: the system drops it when memory is short.
    A page beyond the end of its file kills the process that touches it, so each file's version is
    checked before and after its bytes are copied. A file that is truncated while they are copied
    still kills the process.
    """

    most_gap_bytes = 16 * 1024

    def __init__(self, root: Path, generation: Generation | None = None) -> None:
        self.root = root
        self._generation = generation
        self._maps: OrderedDict[str, MappedFile] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(self, spans: Sequence[Span], on_body: OnBody) -> None:
        """Call `on_body` with each span as a view of its file, from several threads."""

        def read(number: int) -> None:
            span = spans[number]
            file = self.open(span.key)
            if file is None:
                on_body(number, None)
                return
            body = _slice(file.body, span)
            first = len(file.memory) + span.start if span.start < 0 else span.start
            self.read_ahead(file, np.array([first]), len(body))
            on_body(number, body)
            self.confirm([file])
            self.count_resident(file, len(body))

        run_in_threads(read, len(spans))

    def open(self, key: str) -> MappedFile | None:
        """Map a file; return None if it does not exist. It stays mapped while it is referenced.

        Raises:
            DamagedError: if it is empty, or changed since the field was opened.
            StoreError: if it cannot be read.
        """
        path = self.root / key
        with self._lock:
            mapped = self._maps.get(key)
        if mapped is not None:
            if self._unchanged(mapped):
                with self._lock:
                    if key in self._maps:
                        self._maps.move_to_end(key)
                return mapped
            with self._lock:
                self._maps.pop(key, None)
        try:
            with path.open("rb") as file:
                version = version_of_file(os.fstat(file.fileno()))
                if not version.size_bytes:  # an empty file cannot be mapped
                    raise DamagedError(f"{path} is empty: it is damaged. Copy it anew.")
                memory = mmap.mmap(file.fileno(), version.size_bytes, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"cannot read {path}: {error}") from error
        self._accept(key, version)
        # `read_ahead` asks for exactly the bytes that are needed. The system's own guess would read
        # neighbouring pages on each fault, which cells in random order do not need.
        if _REPORTS_CACHE:
            memory.madvise(mmap.MADV_RANDOM)
        mapped = MappedFile(path, memory, version)
        with self._lock:
            self._maps[key] = mapped
            # A file is unmapped when nothing refers to it any more, so readers keep theirs.
            while len(self._maps) > MOST_MAPPED:
                self._maps.popitem(last=False)
        return mapped

    def confirm(self, files: Sequence[MappedFile]) -> None:
        """Check that files did not change while they were read.

        Raises:
            DamagedError: if one did, or the store's root changed since it was opened.
        """
        for file in files:
            if not self._unchanged(file):
                raise changed_error(file.path.relative_to(self.root).as_posix())
        if self._generation is not None and self._generation.root_unchecked:
            self._generation.root_unchecked = False
            try:
                root = version_of_file((self.root / ROOT).stat())
            except OSError:
                raise changed_error(ROOT) from None
            self._accept(ROOT, root)

    def _unchanged(self, file: MappedFile) -> bool:
        try:
            return file.version.same(version_of_file(file.path.stat()))
        except OSError:
            return False

    def _accept(self, key: str, version: ObjectVersion) -> None:
        """Raise if an object changed since the field was opened."""
        from zarr.core.sync import sync

        if self._generation is not None and not self._generation.accepts(key, version):
            sync(self._generation.check_content(key))
            # What was compared may be a newer file than the one that is mapped.
            if not self._generation.accepts(key, version):
                raise changed_error(key)

    def count_resident(self, file: MappedFile, touched_bytes: int) -> None:
        """Add bytes that were touched, and release old files when too many are resident."""
        with self._lock:
            file.resident_bytes = min(file.resident_bytes + touched_bytes, len(file.memory))
            resident = sum(one.resident_bytes for one in self._maps.values())
            for one in list(self._maps.values()):
                if resident <= _MOST_RESIDENT_BYTES:
                    break
                resident -= one.resident_bytes
                one.resident_bytes = 0
                if hasattr(mmap, "MADV_DONTNEED"):
                    one.memory.madvise(mmap.MADV_DONTNEED)

    def read_ahead(self, file: MappedFile, start: Int[np.ndarray, " cell"], width: int) -> None:
        """Ask the system to load `width` bytes from each `start`, if they are not in its cache.

        The reads then run concurrently; page faults on the map would wait for one after the other.
        """
        if not _REPORTS_CACHE:
            return
        descriptor = os.open(file.path, os.O_RDONLY)
        try:
            if not _is_cold(descriptor, start):
                return
            start = np.sort(start)
            gap = np.diff(start) > self.most_gap_bytes + width
            last = np.append(np.flatnonzero(gap), len(start) - 1)
            first = np.append(0, last[:-1] + 1)
            for low, high in zip(start[first].tolist(), start[last].tolist(), strict=True):
                os.posix_fadvise(descriptor, low, high + width - low, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


def joined_items(
    files: Sequence[MappedFile], width: int
) -> tuple[Int[np.ndarray, " file"], np.ndarray]:
    """View several files as one array of overlapping items of `width` bytes, one at each byte.

    One call of numpy can then copy cells of all files, in any order.

    Returns:
        The index of the item at each file's first byte; and the items. Only items that lie within
        a file may be read, and only while the files are referenced.
    """
    bodies = [file.body for file in files]
    address = np.array([body.ctypes.data for body in bodies], np.int64)
    lowest = int(address.argmin())
    # The array begins at the file mapped lowest in memory and ends with the last byte of the
    # highest. What lies between the files is not ours: no index may point there.
    count = int(max(a + len(body) for a, body in zip(address.tolist(), bodies, strict=True)))
    count -= int(address[lowest]) + width - 1
    span = np.lib.stride_tricks.as_strided(
        bodies[lowest], (count + width - 1,), (1,), writeable=False
    )
    items = np.ndarray((count,), np.dtype((np.void, width)), span, strides=(1,))
    return address - address[lowest], items


def _is_cold(descriptor: int, start: Int[np.ndarray, " cell"], samples: int = 8) -> bool:
    """Return whether a read of some of the bytes would wait for the disk."""
    byte = [bytearray(1)]
    for offset in start[:: max(1, len(start) // samples)].tolist():
        try:
            os.preadv(descriptor, byte, offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:  # a file system that cannot tell
            return False
    return False


def _slice(view: Body, span: Span) -> Body:
    body = view[span.start :] if span.stop is None else view[span.start : span.stop]
    if span.size is not None and len(body) != span.size:
        raise DamagedError(
            f"{span.key} holds {len(view)} bytes and ends before byte {span.stop or span.size}: it "
            "is cut off. Copy it anew."
        )
    return body
