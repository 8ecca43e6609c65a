"""The pixel of a raster, as it is stored, that holds the centre of each cell."""

from contextlib import closing
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.producer.observations.raster_files.modality_rasters import ModalityRasters
from unigeo.producer.observations.raster_files.raster_blocks import BLOCK
from unigeo.producer.observations.raster_files.raster_patches import OpenRasters, in_reach

_KEEP = 2
"""Blocks that an open raster keeps: each is read once."""
_NATIVE = (1, 1)
"""Decimation of pixels that are read as they are stored."""


@dataclass(frozen=True, eq=False)
class CentrePixels:
    """Pixels at some points."""

    values: Float[np.ndarray, "point band"]
    """Values, the number of a class as files have it; NaN where there is no data."""
    unreadable: Bool[np.ndarray, " point"]
    """Whether the point lies where a file could not be read."""
    damaged: tuple[str, ...]
    """Names of the files that could not be read."""


def centre_pixels(rasters: ModalityRasters, lonlat: Float[np.ndarray, "point 2"]) -> CentrePixels:
    """Read the pixel that holds each point; where rasters overlap, of the first with data.

    Raises:
        ReplacedError: if a file was replaced while it was read.
    """
    values = np.full((len(lonlat), len(rasters.sources[0].bands)), np.nan, np.float32)
    unreadable = np.zeros(len(lonlat), bool)
    damaged: set[str] = set()
    if not len(lonlat):
        return CentrePixels(values, unreadable, ())
    reach = np.array([source.reach for source in rasters.sources])
    with closing(OpenRasters(rasters.sources, _KEEP)) as opened:
        for number in in_reach(reach, lonlat, 1.0):
            source = rasters.sources[number]
            left = np.flatnonzero(np.isnan(values).all(axis=1) & ~unreadable)
            position = source.rowcol(lonlat[left, None], lonlat[left])[:, 0]
            with np.errstate(invalid="ignore"):  # NaN where the CRS does not reach
                within = (position >= -0.5) & (position < np.array(source.shape) - 0.5)
            inside = within.all(axis=1)
            members, pixel = left[inside], np.floor(position[inside] + 0.5).astype(np.int64)
            for block, part in _by_block(pixel):
                read = opened.blocks(number).block(_NATIVE, *block)
                row, col = (pixel[part] - np.array(block) * BLOCK).T
                data = read.data[row, col]
                values[members[part][data]] = read.values[:, row, col].T[data]
                lost = read.unreadable[row, col]
                if lost.any():
                    unreadable[members[part]] |= lost
                    damaged.add(rasters.file_name(source.path))
        opened.check()
    if rasters.sources[0].classes:
        numbers = np.array(rasters.sources[0].classes, np.float32)
        known = ~np.isnan(values)
        values[known] = numbers[values[known].astype(np.int64) - 1]  # counted from 1
    return CentrePixels(values, unreadable, tuple(sorted(damaged)))


def _by_block(
    pixel: Int[np.ndarray, "member 2"],
) -> list[tuple[tuple[int, int], Int[np.ndarray, " part"]]]:
    """Group pixels by the block that holds them."""
    blocks, block_of = np.unique(pixel // BLOCK, axis=0, return_inverse=True)
    order = np.argsort(block_of.ravel(), kind="stable")
    edges = np.searchsorted(block_of.ravel()[order], np.arange(len(blocks) + 1))
    return [
        ((int(row), int(col)), order[edges[k] : edges[k + 1]])
        for k, (row, col) in enumerate(blocks.tolist())
    ]
