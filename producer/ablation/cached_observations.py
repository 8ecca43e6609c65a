"""Observed places, kept in files: rows of a table look at the same places, and looking takes time.

Observing the places of a `tiny` run takes about as long as training on them.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.producer.observations.protocol import ImageModality, Observations, Patches
from unigeo.producer.observations.wrapping import ObservationsWrapper


class CachedObservations(ObservationsWrapper):
    """Observations that answer a question twice from files, whichever process asked first.

    The answers are those of the observations, bit for bit. `gaps` counts what was looked at anew.
    Nothing is ever forgotten: training that draws new places for every pass fills the disk.
    """

    def __init__(self, inner: Observations, folder: Path) -> None:
        super().__init__(inner)
        self._folder = folder / _hash(inner.provenance())

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """Draw places on land to learn from, in WGS 84 degrees, longitude first."""
        path = self._folder / f"locations-{count}-{seed}.npy"
        return self._array(path, lambda: self.inner.locations(count, seed))

    def patches(self, modality: ImageModality, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Observe one patch round each point."""
        stem = f"{modality}-{_hash(lonlat)}"
        values, valid = (self._folder / f"{stem}-{part}.npy" for part in ("values", "valid"))
        if not (values.exists() and valid.exists()):
            patches = self.inner.patches(modality, lonlat)
            self._write(values, lambda path: _save(path, patches.values))
            self._write(valid, lambda path: _save(path, patches.valid))
        return Patches(_load(values), _load(valid))

    def texts(self, lonlat: Float[np.ndarray, "point 2"]) -> list[str | None]:
        """Describe each point in words; None where nothing is said."""
        path = self._folder / f"text-{_hash(lonlat)}.json"
        if not path.exists():
            said = json.dumps(self.inner.texts(lonlat))
            self._write(path, lambda part: part.write_text(said, encoding="utf-8"))
        texts: list[str | None] = json.loads(path.read_text(encoding="utf-8"))
        return texts

    def _array(self, path: Path, look: Callable[[], np.ndarray]) -> np.ndarray:
        if not path.exists():
            values = look()
            self._write(path, lambda part: _save(part, values))
        return _load(path)

    def _write(self, path: Path, write: Callable[[Path], Any]) -> None:
        """Write a file whole or not at all, also where two processes write the same."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}")
        write(part)
        part.replace(path)


def _save(path: Path, values: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, values)


def _load(path: Path) -> np.ndarray:
    """Map a file into memory, where processes share it; what one writes stays its own."""
    values: np.ndarray = np.load(path, mmap_mode="c")
    return values


def _hash(value: Any) -> str:
    """Sixteen hexadecimal digits of an array or of JSON."""
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value, np.float64).tobytes()
    else:
        content = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]
