"""The rasters that the patches of one modality are cut from, and how they are cut."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from unigeo.producer.observations.raster_files.patch_frames import Frame
from unigeo.producer.observations.raster_files.raster_source import RasterSource


@dataclass(frozen=True, eq=False)
class ModalityRasters:
    """The rasters of a modality, and how its patches are cut from them."""

    sources: Sequence[RasterSource]
    """Rasters; where they overlap, the first one with data is used."""
    frames: Sequence[Frame]
    """Frame of each view of a patch."""
    dtype: type[np.generic]
    """Type of the patches: uint8, or float32 for surface models."""
    min_valid: float
    """Share of a patch's pixels that must hold data."""
    count_gaps: Callable[[UInt8[np.ndarray, " point"]], None]
    """Called with the `Gap` of each patch that was cut."""
    file_name: Callable[[Path | str], str] = str
    """Returns the name of a source's path in the provenance."""
    nearest: bool = False
    """Whether a pixel is the nearest of the raster's, as classes need, rather than a mean."""
