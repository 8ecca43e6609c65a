"""Observations cached in files, so that the trials of an ablation observe each location once.

Observing the locations of a `tiny` run takes about as long as training on them.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.wrapping import ObservationsWrapper
from unigeo.schemas.io.atomic_files import file_beside
from unigeo.schemas.io.json_text import load_json


class CachedObservations(ObservationsWrapper):
    """Observations with a cache on disk, which processes share.

    Results are equal to those of the wrapped observations, bit for bit. `gaps` counts only what is
    not read from the cache. Nothing is evicted: training that draws new locations for every pass
    fills the disk.
    """

    def __init__(self, inner: Observations, folder: Path) -> None:
        super().__init__(inner)
        self._folder = folder / _hash(inner.provenance())

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """Draw locations on land for training, in WGS 84 degrees, longitude first."""
        path = self._folder / f"locations-{count}-{seed}.npy"
        if not path.exists():
            lonlat = self.inner.locations(count, seed)
            self._write(path, lambda temporary: _save(temporary, lonlat))
        return _load(path)

    def patches(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Observe one patch around each point."""
        stem = f"{modality}-{_hash(lonlat)}"
        values, valid = (self._folder / f"{stem}-{part}.npy" for part in ("values", "valid"))
        if not (values.exists() and valid.exists()):
            patches = self.inner.patches(modality, lonlat)
            self._write(values, lambda temporary: _save(temporary, patches.values))
            self._write(valid, lambda temporary: _save(temporary, patches.valid))
        return Patches(_load(values), _load(valid))

    def texts(
        self, lonlat: Float[np.ndarray, "point 2"], modality: str = "text"
    ) -> list[str | None]:
        """Describe each point by a text, or None."""
        path = self._folder / f"text-{_hash(lonlat)}.json"
        if not path.exists():
            content = json.dumps(self.inner.texts(lonlat))
            self._write(path, lambda temporary: temporary.write_text(content, encoding="utf-8"))
        texts: list[str | None] = load_json(path.read_text(encoding="utf-8"))
        return texts

    def _write(self, path: Path, write: Callable[[Path], Any]) -> None:
        """Write a file; two processes that write the same one write the same bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_beside(path, unique=True) as part:
            write(part)


def _save(path: Path, values: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, values)


def _load(path: Path) -> np.ndarray:
    """Map a file into memory, shared between processes, copied on write ("c")."""
    values: np.ndarray = np.load(path, mmap_mode="c")
    return values


def _hash(value: Any) -> str:
    """Return sixteen hexadecimal digits that identify an array or a JSON value."""
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value, np.float64).tobytes()
    else:
        content = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]
