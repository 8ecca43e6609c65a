"""Runs of bytes of objects in one SQLite file: checked, bounded, and shared by processes.

An object is named by 32 bytes that depend on its content, so that nothing stored ever goes stale.
Runs are split at multiples of `BLOCK_BYTES` of their object, and each piece has a CRC-32C over its
content and its position. SQLite makes each change whole or not at all, also where the process is
killed. Where the file cannot be used, the cache is turned off in this process, as one warning says.
"""

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c

from unigeo.schemas.errors import CacheWarning

BLOCK_BYTES = 1 << 16
"""Most bytes of a piece."""
MOST_BYTES = 2_000_000_000
"""Default size of the file, beyond which the pieces used longest ago are dropped."""
_FILE = "ranges-1.sqlite"
"""Name of the file; the number is that of its tables."""
_USED_PRECISION_S = 3600
"""Seconds within which a second use of a piece is not recorded: each is a write."""
_WAIT_S = 5.0
"""Seconds to wait for another process that writes."""
_JOURNAL_BYTES = 1 << 24
"""Size to which SQLite cuts its journal beside the file."""
_TABLES = """
CREATE TABLE IF NOT EXISTS objects (name BLOB PRIMARY KEY, size INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pieces (
    id INTEGER PRIMARY KEY,
    name BLOB, start INTEGER, stop INTEGER, crc INTEGER, used INTEGER, body BLOB
);
CREATE UNIQUE INDEX IF NOT EXISTS by_range ON pieces (name, start, stop);
CREATE INDEX IF NOT EXISTS by_use ON pieces (used);
CREATE TABLE IF NOT EXISTS roots (
    name BLOB PRIMARY KEY, tag TEXT, changed_ns INTEGER, crc INTEGER, body BLOB
) WITHOUT ROWID;
"""


class Run(NamedTuple):
    """A run of bytes of an object."""

    name: bytes
    """Name of the object."""
    size_bytes: int
    """Size of the whole object."""
    start: int
    """Offset of the first byte in the object."""
    body: bytes


class Root(NamedTuple):
    """The root metadata of a store, and what a server says of it."""

    tag: str
    """Entity tag."""
    changed_ns: int
    """Time of the last change, nanoseconds since 1970; 0 if unknown."""
    body: bytes


class RangeDatabase:
    """The runs of bytes that a folder keeps."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.folder, self.most_bytes = folder, most_bytes
        self.off = False
        """Whether the cache was turned off since its file cannot be used."""
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def __reduce__(self) -> Any:
        return type(self), (self.folder, self.most_bytes)

    def find(self, name: bytes, start: int, stop: int | None) -> bytes | None:
        """Return bytes of an object; None if not all of them are kept.

        Args:
            name: of the object.
            start: offset of the first byte; if negative, counted from the end.
            stop: offset after the last byte; None is the end.
        """
        found: bytes | None = self._do(self._find, name, start, stop)
        return found

    def keep(self, runs: Iterable[Run]) -> None:
        """Keep runs of bytes."""
        self._do(self._keep, list(runs))

    def root(self, name: bytes) -> Root | None:
        """Return the root metadata of a store, if they are kept."""
        row = self._do(
            self._row, "SELECT tag, changed_ns, body, crc FROM roots WHERE name = ?", name
        )
        if row is None or row[3] != _crc(name, 0, len(row[2]), row[2]):
            return None
        return Root(*row[:3])

    def keep_root(self, name: bytes, root: Root) -> None:
        """Keep the root metadata of a store in place of earlier ones."""
        crc = _crc(name, 0, len(root.body), root.body)
        self._do(self._replace_root, (name, root.tag, root.changed_ns, crc, root.body))

    def _find(
        self, connection: sqlite3.Connection, name: bytes, start: int, stop: int | None
    ) -> bytes | None:
        if start < 0 or stop is None:
            row = self._row(connection, "SELECT size FROM objects WHERE name = ?", name)
            if row is None:
                return None
            start = max(row[0] + start, 0) if start < 0 else start
            stop = row[0] if stop is None else stop
        parts, reused, now = [], [], int(time.time())
        while start < stop:
            row = self._row(
                connection,
                "SELECT start, stop, body, crc, id, used FROM pieces WHERE name = ? AND "
                "start BETWEEN ? AND ? AND stop > ? ORDER BY stop DESC LIMIT 1",
                name, start - BLOCK_BYTES + 1, start, start,
            )  # fmt: skip
            if row is None:
                return None
            first, last, body, crc, number, used = row
            if crc != _crc(name, first, last, body):
                with connection:
                    connection.execute("DELETE FROM pieces WHERE id = ?", (number,))
                return None
            parts.append(body[start - first : min(last, stop) - first])
            start = last
            if now - used > _USED_PRECISION_S:
                reused.append((now, number))
        if reused:
            with connection:
                connection.executemany("UPDATE pieces SET used = ? WHERE id = ?", reused)
        return b"".join(parts)

    def _keep(self, connection: sqlite3.Connection, runs: list[Run]) -> None:
        now = int(time.time())
        with connection:
            for run in runs:
                connection.execute(
                    "INSERT OR REPLACE INTO objects VALUES (?, ?)", (run.name, run.size_bytes)
                )
                connection.executemany(
                    "INSERT OR IGNORE INTO pieces (name, start, stop, crc, used, body) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (run.name, start, stop, _crc(run.name, start, stop, body), now, body)
                        for start, stop, body in _pieces(run)
                    ],
                )
        self._drop_oldest(connection)

    def _drop_oldest(self, connection: sqlite3.Connection) -> None:
        """Drop pieces until the file is smaller than it may be, with a tenth to spare."""
        if _size_bytes(connection) <= self.most_bytes:
            return
        with connection:
            while _size_bytes(connection) > 0.9 * self.most_bytes:
                (count,) = connection.execute("SELECT count(*) FROM pieces").fetchone()
                if not count:
                    break
                connection.execute(
                    "DELETE FROM pieces WHERE id IN "
                    "(SELECT id FROM pieces ORDER BY used, id LIMIT ?)",
                    (count // 10 + 1,),
                )
            connection.execute("DELETE FROM objects WHERE name NOT IN (SELECT name FROM pieces)")
        connection.execute("PRAGMA incremental_vacuum").fetchall()

    def _replace_root(self, connection: sqlite3.Connection, row: tuple[Any, ...]) -> None:
        with connection:
            connection.execute("INSERT OR REPLACE INTO roots VALUES (?, ?, ?, ?, ?)", row)

    def _row(self, connection: sqlite3.Connection, query: str, *values: Any) -> Any:
        return connection.execute(query, values).fetchone()

    def _do(self, work: Any, *values: Any) -> Any:
        """Call `work` with the connection; None where the cache is off, busy or emptied."""
        if self.off:
            return None
        with self._lock:
            try:
                return work(self._open(), *values)
            except (sqlite3.Error, OSError) as error:
                return self._give_up(error)

    def _open(self) -> sqlite3.Connection:
        # A connection must not be used by a process that was forked from the one that opened it.
        if self._connection is None or self._process != os.getpid():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._process = os.getpid()
            self._connection = sqlite3.connect(
                self.folder / _FILE, timeout=_WAIT_S, check_same_thread=False
            )
            self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
            self._connection.executescript(_TABLES)
        return self._connection

    def _give_up(self, error: Exception) -> None:
        """Do without the cache this time, anew, or for good, as the error says."""
        code = getattr(error, "sqlite_errorcode", None)
        code = None if code is None else code & 0xFF  # without what details it
        self._close()
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            try:
                for ending in ("", "-wal", "-shm"):
                    (self.folder / f"{_FILE}{ending}").unlink(missing_ok=True)
                return
            except OSError as failure:
                error = failure
        self.off = True
        warnings.warn(
            f"the cache in {self.folder} is off: {error}. Free space there, or name another folder "
            "by UNIGEO_CACHE",
            CacheWarning,
            stacklevel=2,
        )

    def _close(self) -> None:
        if self._connection is not None and self._process == os.getpid():
            self._connection.close()
        self._connection = None

    def __del__(self) -> None:
        self._close()


def _pieces(run: Run) -> Iterable[tuple[int, int, bytes]]:
    """Yield offsets and bytes of the pieces of a run."""
    start, stop = run.start, run.start + len(run.body)
    while start < stop:
        end = min((start // BLOCK_BYTES + 1) * BLOCK_BYTES, stop)
        yield start, end, run.body[start - run.start : end - run.start]
        start = end


def _crc(name: bytes, start: int, stop: int, body: bytes) -> int:
    crc: int = google_crc32c.extend(google_crc32c.value(name + b"%d %d" % (start, stop)), body)
    return crc


def _size_bytes(connection: sqlite3.Connection) -> int:
    """Return the bytes of the file that are in use."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
