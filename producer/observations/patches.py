"""Patches of pixels round points, and why some have no data."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Shaped


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
    """Pixels: uint8 of images, float32 metres of the surface model."""
    valid: Bool[np.ndarray, " point"]
    """Whether enough of the patch was observed to encode it; other patches hold no meaning."""
    unreadable: Bool[np.ndarray, " point"] | None = None
    """Whether each invalid patch lies where a file could not be read; None if none does."""
    damaged: tuple[str, ...] = ()
    """Names of the files that could not be read."""
