"""What a raster file declares about its bands, and what observations state where it does not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unigeo.schemas.errors import ObservationsError

Encoder = Literal["image", "surface", "classes"]
"""What reads the patches: numbers of any bands, heights in metres, or codes of classes."""


class MeaningError(ObservationsError):
    """Pixels that do not mean what they are taken for."""


@dataclass(frozen=True)
class BandFacts:
    """What a file declares about its bands, in the form of rasterio's datasets."""

    dtypes: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    units: tuple[str, ...]
    nodatavals: tuple[float | None, ...]
    descriptions: tuple[str, ...]
    """Name of each band; empty without one."""

    @classmethod
    def of(cls, dataset: Any) -> "BandFacts":
        """Collect them from an open dataset of rasterio."""
        return cls(
            dtypes=tuple(dataset.dtypes),
            scales=tuple(map(float, dataset.scales)),
            offsets=tuple(map(float, dataset.offsets)),
            units=tuple(unit or "" for unit in dataset.units),
            nodatavals=tuple(dataset.nodatavals),
            descriptions=tuple(name or "" for name in dataset.descriptions),
        )


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What the observations state about raster files, beside the files' own metadata."""

    encoder: Encoder = "image"
    table: str = "a modality"
    """Table of the description, for messages."""
    scale: float | None = None
    offset: float | None = None
    """A value is scale x number + offset, where the file does not declare it itself."""
    band_names: tuple[str, ...] = ()
    """Name of each band that is read; empty where the file's own are taken."""
    variable: str = ""
    """Variable of a NetCDF file or array of a Zarr store, where it holds several."""
    crs: str = ""
    """Coordinate reference system, where the file declares none."""
    root: Path | None = None
    """Folder that the file, and whatever it names, must lie in; None: what it names must lie in
    the file's own folder."""
    addresses: frozenset[str] = frozenset()
    """Addresses that a virtual raster may read, as the description names them."""


def scale_and_offset(
    facts: BandFacts,
    band: int,
    scale: float | None,
    offset: float | None,
    table: str,
    label: str,
) -> tuple[float, float]:
    """Return scale and offset of a band: those of the file, or else those that the table states.

    Raises:
        MeaningError: they contradict each other, or make every value the same.
    """
    file = facts.scales[band - 1], facts.offsets[band - 1]
    stated = (1.0 if scale is None else scale, 0.0 if offset is None else offset)
    if not np.isfinite(file).all() or file[0] == 0:
        raise MeaningError(
            f"{label}, band {band}, declares scale {file[0]:g} and offset {file[1]:g}, which make "
            "every value the same or none. Write it again."
        )
    if (scale, offset) == (None, None) or file == stated:
        return file
    if file != (1.0, 0.0):
        raise MeaningError(
            f"{label} declares scale {file[0]:g} and offset {file[1]:g}, table [{table}] "
            f"scale {stated[0]:g} and offset {stated[1]:g}. Leave out `scale` and `offset`: what "
            "the file declares is applied."
        )
    return stated


def number_kind(facts: BandFacts, band: int) -> str:
    """Return numpy's letter for the kind of a band's numbers: i, u, f, or c for complex ones."""
    # Rasterio calls complex integers "complex_int16", which numpy does not know.
    return np.dtype(facts.dtypes[band - 1].replace("_int", "")).kind
