"""The encoder as rasterization sees it: cells are observed on the CPU and encoded on the device."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Int8

from unigeo.schemas.errors import UnigeoError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.quantization import quantize

if TYPE_CHECKING:
    from unigeo.producer.raster.covariate_columns import ModalityColumns

Encode = Callable[
    [str, Float[np.ndarray, "point 2"]],
    tuple[Float[np.ndarray, "point band"], Bool[np.ndarray, " point"]],
]
"""Returns unit vectors of a modality at points, and whether anything was observed there."""
Codes = Callable[[], tuple[Int8[np.ndarray, "observed band"], Bool[np.ndarray, " point"]]]
"""Waits for the device; returns quantized vectors of the observed points, and which these are."""
Numbers = Callable[[], tuple[Float[np.ndarray, "observed statistic"], Bool[np.ndarray, " point"]]]
"""Waits for the device; returns statistics of the observed points, and which these are."""
FAILURES = (UnigeoError, ValueError, RuntimeError)
"""Errors that make cells fail; other errors are mistakes of the program."""


@dataclass(frozen=True, eq=False)
class ObservedCells:
    """Inputs of the encoder for a batch of cells."""

    inputs: Any
    """One row per cell, in a form that the encoder knows."""
    valid: Bool[np.ndarray, " point"]
    """Whether anything was observed."""
    unreadable: Bool[np.ndarray, " point"] | None = None
    """Which invalid cells lie where their input could not be read; None where none does."""
    damaged: tuple[str, ...] = ()
    """Names of the files that could not be read."""
    cause: str = ""
    """Why cells are unreadable, where it is not for `damaged` files."""


Observe = Callable[[Int[np.ndarray, " cell"]], ObservedCells]
"""Observes cells of a shard, which are counted row by row."""


@runtime_checkable
class ShardEncoder(Protocol):
    """An encoder in two stages, so that one batch is observed while another is encoded.

    Implementations inherit from this class. `FunctionEncoder` makes one of a plain function.
    """

    def batch(self, modality: str) -> int:
        """Return the largest number of cells in a batch."""
        ...

    def observe(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> ObservedCells:
        """Observe points; on the CPU, from any thread."""
        ...

    def open_shard(
        self,
        modality: str,
        grid: Grid,
        window: Window,
        lonlat: Float[np.ndarray, "window_cell 2"],
        cells: Int[np.ndarray, " cell"],
    ) -> AbstractContextManager[Observe]:
        """Open what the batches of a shard share; by default they share nothing.

        Args:
            modality: modality to observe.
            grid: grid of the field.
            window: cells of the shard on the grid.
            lonlat: centres of all cells of the window, row by row.
            cells: cells of the window that will be observed.
        """
        return nullcontext(lambda part: self.observe(modality, lonlat[part]))

    def codes(self, modality: str, seen: ObservedCells) -> Codes:
        """Encode and quantize, from one thread; the result waits for the device."""
        ...

    @property
    def derived(self) -> frozenset[str]:
        """Modalities that are made of the stored vectors of others; by default there are none."""
        return frozenset()

    def fused_of(self, modalities: tuple[str, ...]) -> tuple[str, ...]:
        """Return which of the stored modalities fused vectors are made of; by default all are."""
        return modalities

    def covariates(self, modalities: tuple[str, ...]) -> tuple["ModalityColumns", ...]:
        """Return the covariates of some modalities; by default there are none."""
        return ()

    def numbers(self, modality: str, seen: ObservedCells) -> Numbers:
        """Compute the statistics of observed patches, before or after `codes` of the same cells.

        Called for modalities of `covariates` alone, from the thread that encodes.
        """
        raise NotImplementedError(f"{type(self).__name__} has no covariates of {modality}")


@dataclass(frozen=True)
class FunctionEncoder(ShardEncoder):
    """A function from points to vectors as an encoder: all its work counts as encoding."""

    encode: Encode

    def batch(self, modality: str) -> int:
        """Leave the size of batches to the job."""
        return 1 << 30

    def observe(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> ObservedCells:
        """Hand the points on."""
        return ObservedCells(lonlat, np.ones(len(lonlat), bool))

    def codes(self, modality: str, seen: ObservedCells) -> Codes:
        """Call the function, and quantize what it observed."""
        vectors, observed = self.encode(modality, seen.inputs)
        codes = quantize(vectors[observed])
        return lambda: (codes, observed)
