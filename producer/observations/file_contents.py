"""Which bytes a file holds, told by its size and a hash: whole, or of pieces spread over it.

The time of a file alone says nothing: copies have another one, and an older file put in the place
of a newer one may keep its own.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unigeo.schemas.errors import ObservationsError

WHOLE_BYTES = 1 << 30
"""Files up to this size are hashed whole, larger ones by `PIECES` pieces of `PIECE_BYTES`."""
PIECES = 64
PIECE_BYTES = 1 << 20
SAMPLES = 16
"""Pieces of a quick look."""
SAMPLE_BYTES = 1 << 16


class ReplacedError(ObservationsError):
    """A file that was replaced between two looks at it."""


def content_identity(path: Path) -> dict[str, Any]:
    """Tell a file for the record: `bytes`, and `sha256` or, of a large one, `sha256_of_pieces`."""
    size = path.stat().st_size
    if size <= WHOLE_BYTES:
        with path.open("rb") as file:
            return {"bytes": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    digest = hashlib.sha256(str(size).encode())
    _read_pieces(path, size, PIECES, PIECE_BYTES, digest.update)
    return {"bytes": size, "sha256_of_pieces": digest.hexdigest()}


def sample_digest(path: Path) -> str:
    """Tell a file quickly: SHA-256 of its size, its first and last bytes and some between."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    if size <= SAMPLES * SAMPLE_BYTES:
        digest.update(path.read_bytes())
    else:
        _read_pieces(path, size, SAMPLES, SAMPLE_BYTES, digest.update)
    return digest.hexdigest()


def _read_pieces(
    path: Path, size: int, pieces: int, piece: int, take: Callable[[bytes], object]
) -> None:
    with path.open("rb") as file:
        for start in np.linspace(0, size - piece, pieces).astype(np.int64).tolist():
            file.seek(start)
            take(file.read(piece))


@dataclass(frozen=True)
class Stamp:
    """A file as it was when it was opened."""

    status: tuple[int, ...]
    """Size, times of content and of status in nanoseconds, and number of the file."""
    sample: str

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Look at a file."""
        return cls(_status(path), sample_digest(path))

    def check(self, path: Path) -> None:
        """Compare a file with what it was; one that was only touched, or moved, is the same.

        Raises:
            ReplacedError: it is another one, or gone.
        """
        try:
            if _status(path) == self.status or sample_digest(path) == self.sample:
                return
            now = f"has {path.stat().st_size:,} bytes now and had {self.status[0]:,}"
        except OSError as error:
            now = f"cannot be read any more ({error.strerror})"
        raise ReplacedError(
            f"{path} was replaced while it was in use: it {now}. What was made of the old file is "
            "kept, and would be mixed with the new one. Put the old file back and run the same "
            "command again, or make everything of the new one under another name."
        )


def _status(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
