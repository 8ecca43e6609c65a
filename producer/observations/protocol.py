"""What training and rasterization ask of observations, wherever they come from."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Shaped

IMAGE_MODALITIES = ("aerial", "street", "dsm")
"""Modalities observed as patches of pixels."""

ImageModality = Literal["aerial", "street", "dsm"]


class Gap(IntEnum):
    """Why a patch has no data."""

    NONE = 0
    OUTSIDE = 1
    NODATA = 2
    UNREADABLE = 3


GAP_NAMES = {Gap.OUTSIDE: "outside raster", Gap.NODATA: "nodata", Gap.UNREADABLE: "unreadable"}


@dataclass(frozen=True)
class Patches:
    """One patch of pixels per point, north up or as the camera saw it."""

    values: Shaped[np.ndarray, "point channel row col"]
    """uint8 for pictures; float32 metres for the surface model."""
    valid: Bool[np.ndarray, " point"]
    """Whether enough of the patch was observed to encode it; other patches hold no meaning."""
    unreadable: Bool[np.ndarray, " point"] | None = None
    """Which invalid patches lie where a file could not be read; None where none does."""
    damaged: tuple[str, ...] = ()
    """Those files."""


@runtime_checkable
class Observations(Protocol):
    """The world as seen: a function from location to what is observed there."""

    @property
    def name(self) -> str:
        """Short name, for logs and the model card."""
        ...

    @property
    def modalities(self) -> tuple[str, ...]:
        """Observed modalities, `coordinate` first."""
        ...

    def shape(self, modality: ImageModality) -> tuple[int, int, int]:
        """Channels, rows and columns of the modality's patches."""
        ...

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """Draw places on land to learn from, in WGS 84 degrees, longitude first."""
        ...

    def land(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Whether each point is on land."""
        ...

    def patches(self, modality: ImageModality, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Observe one patch round each point."""
        ...

    def texts(self, lonlat: Float[np.ndarray, "point 2"]) -> list[str | None]:
        """Describe each point in words; None where nothing is said."""
        ...

    def gaps(self) -> dict[str, dict[str, int]]:
        """How many observations asked for so far were missing, by modality and reason."""
        ...

    def provenance(self) -> dict[str, Any]:
        """JSON: sources, patch sizes in metres, dates, licences, hashes of the inputs."""
        ...
