"""Identity of a file by its content: its size and a hash of all its bytes, or of parts of them.

A folder, such as a Zarr store, is identified by the names of its files and their bytes, as if they
were one file. The modification time alone is not enough: a copy has another time, and an older file
that replaces a newer one may keep its own.
"""

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unigeo.schemas.errors import ObservationsError

WHOLE_BYTES = 1 << 30
"""Files up to this size are hashed whole, larger ones by `PIECES` parts of `PIECE_BYTES`."""
PIECES = 64
PIECE_BYTES = 1 << 20
SAMPLES = 16
"""Number of parts that a quick check hashes, each of `SAMPLE_BYTES`."""
SAMPLE_BYTES = 1 << 16


class ReplacedError(ObservationsError):
    """A file or an image of a catalogue that was replaced while it was in use."""


def stored_bytes(path: Path) -> int:
    """Return the size of a file, or of all files in a folder."""
    return sum(status.st_size for _, status in _members(path))


def content_identity(path: Path) -> dict[str, Any]:
    """Return a file's `bytes`, and its `sha256` or, for a large file, `sha256_of_pieces`."""
    size = stored_bytes(path)
    if size > WHOLE_BYTES:
        digest = hashlib.sha256(str(size).encode())
        _read_pieces(path, size, PIECES, PIECE_BYTES, digest.update)
        return {"bytes": size, "sha256_of_pieces": digest.hexdigest()}
    if path.is_file():
        with path.open("rb") as file:
            return {"bytes": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    digest = hashlib.sha256(_listing(path))
    for member, _ in _members(path):
        digest.update(member.read_bytes())
    return {"bytes": size, "sha256": digest.hexdigest()}


def sample_digest(path: Path) -> str:
    """Return SHA-256 of a file's size, its first and last bytes, and some between."""
    size = stored_bytes(path)
    digest = hashlib.sha256(str(size).encode() + _listing(path))
    if size > SAMPLES * SAMPLE_BYTES:
        _read_pieces(path, size, SAMPLES, SAMPLE_BYTES, digest.update)
        return digest.hexdigest()
    for member, _ in _members(path):
        digest.update(member.read_bytes())
    return digest.hexdigest()


def _members(path: Path) -> list[tuple[Path, os.stat_result]]:
    """List a file, or the files in a folder and below in a fixed order, with their status.

    Each is asked for once: a store may have thousands, and is compared whenever it is opened.
    """
    if not path.is_dir():
        return [(path, path.stat())]
    members = []
    for one in sorted(path.rglob("*")):
        with suppress(FileNotFoundError):  # a link that leads nowhere
            members.append((one, one.stat()))
    return [(one, status) for one, status in members if stat.S_ISREG(status.st_mode)]


def _listing(path: Path) -> bytes:
    """Return the names and sizes of a folder's files; nothing for a file."""
    if not path.is_dir():
        return b""
    lines = [
        f"{file.relative_to(path).as_posix()} {status.st_size}" for file, status in _members(path)
    ]
    return "\n".join(lines).encode()


def _read_pieces(
    path: Path, size: int, pieces: int, piece_bytes: int, update: Callable[[bytes], object]
) -> None:
    """Pass parts of a file, spread evenly over it, to `update`."""
    members = _members(path)
    ends = np.cumsum([status.st_size for _, status in members])
    for start in np.linspace(0, size - piece_bytes, pieces).astype(np.int64).tolist():
        number = int(np.searchsorted(ends, start, side="right"))
        member, length = members[number][0], members[number][1].st_size
        with member.open("rb") as file:
            file.seek(start - int(ends[number] - length))
            update(file.read(piece_bytes))


@dataclass(frozen=True)
class Stamp:
    """State of a file when it was opened."""

    status: tuple[int, ...]
    """Size, times of modification and of status change in nanoseconds, and inode number."""
    sample: str
    """Result of `sample_digest`."""

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Record the state of a file."""
        return cls(_status(path), sample_digest(path))

    def check(self, path: Path) -> None:
        """Compare a file with its recorded state; touching or moving it does not change it.

        Raises:
            ReplacedError: the file was replaced or removed.
        """
        try:
            # The status is cheap; bytes are compared only if it changed, as after a `touch`.
            if _status(path) == self.status or sample_digest(path) == self.sample:
                return
            now = f"has {stored_bytes(path):,} bytes now and had {self.status[0]:,}"
        except OSError as error:
            now = f"cannot be read any more ({error.strerror})"
        raise ReplacedError(
            f"{path} was replaced while it was in use: it {now}. What was made of the old file is "
            "kept, and would be mixed with the new one. Put the old file back and run the same "
            "command again, or make everything of the new one under another name."
        )


def _status(path: Path) -> tuple[int, ...]:
    status = path.stat()
    if not path.is_dir():
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    inside = [one for _, one in _members(path)]
    newest = max((max(one.st_mtime_ns, one.st_ctime_ns) for one in inside), default=0)
    return sum(one.st_size for one in inside), newest, len(inside), status.st_ino
