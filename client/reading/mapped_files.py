"""Bytes of stored objects that are local files, mapped into memory."""

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
    changed,
    identity_of_file,
)
from unigeo.client.reading.range_requests import Body, Span, Take, in_threads
from unigeo.schemas.errors import DamagedError, StoreError

MOST_MAPPED = 64
"""Files; each keeps a file descriptor."""
_MOST_RESIDENT_BYTES = 2**30
"""Of mapped files, of one store: more is let go of, the longest unread first. It is the system's
cache and no memory of our own, but tools that add up a process's pages count it."""
_CAN_TELL = hasattr(os, "RWF_NOWAIT")
"""Whether the system tells what it has in its cache (Linux does)."""


@dataclass(eq=False)
class MappedFile:
    """A file in memory."""

    path: Path
    memory: mmap.mmap
    identity: ObjectVersion
    """Of the file as it was mapped."""
    resident_bytes: int = 0
    """At most so much of it counts as the process's memory."""

    @property
    def body(self) -> Body:
        """Its bytes."""
        return np.frombuffer(self.memory, np.uint8)


class MappedFiles:
    """Objects that are files: mapped into memory, a bounded number at a time.

    A mapped page is the system's cache, not a copy: it is taken back whenever memory is short.
    A page that lies beyond the end of its file kills the process that touches it, so each file is
    looked at before its bytes are copied, and after. One that is cut short between the two, while
    they are copied, still does.
    """

    most_gap_bytes = 16 * 1024

    def __init__(self, root: Path, generation: Generation | None = None) -> None:
        self.root = root
        self._generation = generation
        self._maps: OrderedDict[str, MappedFile] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(self, spans: Sequence[Span], take: Take) -> None:
        """Hand over each span as a view of its file, from several threads."""

        def one(number: int) -> None:
            span = spans[number]
            opened = self.open(span.key)
            if opened is None:
                take(number, None)
                return
            body = _cut(opened.body, span)
            first = len(opened.memory) + span.start if span.start < 0 else span.start
            self.read_ahead(opened, np.array([first]), len(body))
            take(number, body)
            self.confirm([opened])
            self.count(opened, len(body))

        in_threads(one, len(spans))

    def open(self, key: str) -> MappedFile | None:
        """A file in memory; None if there is none. It stays so while somebody holds it.

        Raises:
            DamagedError: if it is empty, or another than when the field was opened.
            StoreError: if it cannot be read.
        """
        path = self.root / key
        with self._lock:
            opened = self._maps.get(key)
        if opened is not None:
            if self._as_mapped(opened):
                with self._lock:
                    if key in self._maps:
                        self._maps.move_to_end(key)
                return opened
            with self._lock:
                self._maps.pop(key, None)
        try:
            with path.open("rb") as file:
                identity = identity_of_file(os.fstat(file.fileno()))
                if not identity.size_bytes:  # an empty file cannot be mapped
                    raise DamagedError(f"{path} is empty: it is damaged. Copy it anew.")
                memory = mmap.mmap(file.fileno(), identity.size_bytes, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(f"cannot read {path}: {error}") from error
        self._see(key, identity)
        # What is not cached is asked for in one go before it is touched; what the system would read
        # along by its own guess is waited for in vain.
        if _CAN_TELL:
            memory.madvise(mmap.MADV_RANDOM)
        opened = MappedFile(path, memory, identity)
        with self._lock:
            self._maps[key] = opened
            while len(self._maps) > MOST_MAPPED:
                self._maps.popitem(last=False)
        return opened

    def confirm(self, files: Sequence[MappedFile]) -> None:
        """Make sure that files did not change while they were read.

        Raises:
            DamagedError: if one did, or the store's root is another than when it was opened.
        """
        for opened in files:
            if not self._as_mapped(opened):
                raise changed(opened.path.relative_to(self.root).as_posix())
        if self._generation is not None and self._generation.unsettled:
            self._generation.unsettled = False
            try:
                root = identity_of_file((self.root / ROOT).stat())
            except OSError:
                raise changed(ROOT) from None
            self._see(ROOT, root)

    def _as_mapped(self, opened: MappedFile) -> bool:
        try:
            return opened.identity.same(identity_of_file(opened.path.stat()))
        except OSError:
            return False

    def _see(self, key: str, identity: ObjectVersion) -> None:
        """Refuse an object that is another than when the field was opened."""
        from zarr.core.sync import sync

        if self._generation is not None and not self._generation.knows(key, identity):
            sync(self._generation.prove(key))
            if not self._generation.knows(key, identity):
                raise changed(key)

    def count(self, opened: MappedFile, touched_bytes: int) -> None:
        """Say that so much of a file was read; let go of older ones when much is held."""
        with self._lock:
            opened.resident_bytes = min(opened.resident_bytes + touched_bytes, len(opened.memory))
            held = sum(one.resident_bytes for one in self._maps.values())
            for one in list(self._maps.values()):
                if held <= _MOST_RESIDENT_BYTES:
                    break
                held -= one.resident_bytes
                one.resident_bytes = 0
                if hasattr(mmap, "MADV_DONTNEED"):
                    one.memory.madvise(mmap.MADV_DONTNEED)

    def read_ahead(self, opened: MappedFile, start: Int[np.ndarray, " cell"], width: int) -> None:
        """Ask the system for bytes that it does not hold yet, all of them at once.

        A map alone would wait for each page.
        """
        if not _CAN_TELL:
            return
        file = os.open(opened.path, os.O_RDONLY)
        try:
            if not _cold(file, start):
                return
            start = np.sort(start)
            wide = np.diff(start) > self.most_gap_bytes + width
            last = np.append(np.flatnonzero(wide), len(start) - 1)
            first = np.append(0, last[:-1] + 1)
            for low, high in zip(start[first].tolist(), start[last].tolist(), strict=True):
                os.posix_fadvise(file, low, high + width - low, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)


def addresses(
    files: Sequence[MappedFile], width: int
) -> tuple[Int[np.ndarray, " file"], np.ndarray]:
    """Several files as one array of items of `width` bytes, one at each address.

    Returns:
        The number of the item that begins where each file does; and the items. Only those that lie
        within a file may be read, and only while the files are held.
    """
    bodies = [file.body for file in files]
    base = np.array([body.ctypes.data for body in bodies], np.int64)
    lowest = int(base.argmin())
    count = int(max(b + len(body) for b, body in zip(base.tolist(), bodies, strict=True)))
    count -= int(base[lowest]) + width - 1
    whole = np.lib.stride_tricks.as_strided(
        bodies[lowest], (count + width - 1,), (1,), writeable=False
    )
    items = np.ndarray((count,), np.dtype((np.void, width)), whole, strides=(1,))
    return base - base[lowest], items


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


def _cut(view: Body, span: Span) -> Body:
    body = view[span.start :] if span.stop is None else view[span.start : span.stop]
    if span.size is not None and len(body) != span.size:
        raise DamagedError(
            f"{span.key} holds {len(view)} bytes and ends before byte {span.stop or span.size}: it "
            "is cut off. Copy it anew."
        )
    return body
