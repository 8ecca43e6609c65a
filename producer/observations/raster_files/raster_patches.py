"""Patches cut from georeferenced rasters, and a mosaic of the rasters where they overlap.

Every pixel of a patch is located in the raster (`patch_frames`) and interpolated bilinearly between
the four raster pixels round it. The raster is read at the decimation whose pixels are the largest
not above a patch pixel, so that detail finer than the patch does not alias into it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from unigeo.producer.observations.patches import Gap, Patches
from unigeo.producer.observations.raster_files.decimated_pixels import ReadWindow
from unigeo.producer.observations.raster_files.patch_frames import Frame, PixelLocations, locate
from unigeo.producer.observations.raster_files.raster_blocks import CACHE_BLOCKS, BlockReader
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.schemas.geo.great_circle import METRES_PER_DEGREE, degree_margins

TILE = 256
"""Side, in decimated pixels, of the tiles by which patches are grouped: one window is read for all
patches of a tile."""
SLAB = 1024
"""Number of patches whose arrays are in memory at once."""
OPEN_FILES = 32
"""Number of rasters kept open."""
FULL = 1 - 1e-6
"""Weight from which a pixel needs no further raster."""


@dataclass(frozen=True, eq=False)
class CutPatches:
    """Patches, and why some have no data."""

    patches: Patches
    gaps: UInt8[np.ndarray, " point"]
    """A `Gap` per point."""
    observed: Bool[np.ndarray, "point row col"]
    """Whether each pixel was observed; the others are filled."""
    damaged: frozenset[Path | str] = frozenset()
    """Files of which some part could not be read."""


def cut(
    sources: Sequence[RasterSource],
    lonlat: Float[np.ndarray, "point 2"],
    frame: Frame,
    dtype: type[np.generic] = np.float32,
    min_valid: float = 0.5,
    *,
    nearest: bool = False,
) -> CutPatches:
    """Cut one patch round each point from a mosaic of rasters.

    Where rasters overlap, the first one with data is used. Pixels without data inside a valid patch
    are filled with the mean of the others; a patch with pixels that exist and cannot be read is not
    valid unless another raster has them. A patch does not depend on the others cut with it.

    Args:
        sources: rasters with the same number of bands.
        lonlat: WGS 84 degrees, finite.
        frame: size of the patches.
        dtype: type of the values returned; integers are rounded.
        min_valid: share of a patch's pixels that must hold data.
        nearest: take the nearest raster pixel, as classes need; pixels without data are then 0.

    Raises:
        ReplacedError: a file is not the one that was opened as a source.
    """
    size, bands = frame.patch_px, len(sources[0].bands)
    values = np.zeros((len(lonlat), bands, size, size), dtype)
    gaps = np.zeros(len(lonlat), np.uint8)
    observed = np.zeros((len(lonlat), size, size), bool)
    reach = np.array([source.reach for source in sources])
    opened = OpenRasters(sources)
    damaged: set[Path | str] = set()
    try:
        for slab in _slabs(lonlat, frame):
            mosaic = _Mosaic.empty(len(slab), bands, size)
            for number in in_reach(reach, lonlat[slab], frame.patch_m):
                located = locate(sources[number], lonlat[slab], frame)
                for group in _groups(located, sources[number].shape):
                    # A raster below others is read only where those left something open.
                    if (mosaic.weight[group] < FULL).any():
                        contribution = _interpolate(opened.blocks(number), located, group, nearest)
                        mosaic.add(group, contribution)
                        if contribution.unreadable.any():
                            damaged.add(sources[number].path)
            # Half of the bilinear weight on data makes a pixel observed, up to rounding.
            slab_observed = mosaic.weight >= 0.5 - 1e-6
            observed[slab] = slab_observed
            means, gaps[slab] = mosaic.finish(slab_observed, min_valid, nearest)
            values[slab] = np.rint(means) if np.issubdtype(dtype, np.integer) else means
        opened.check()
    finally:
        opened.close()
    return CutPatches(Patches(values, gaps == Gap.NONE), gaps, observed, frozenset(damaged))


@dataclass(frozen=True, eq=False)
class _Contribution:
    """What one raster contributes to some patches."""

    values: Float[np.ndarray, "member band row col"]
    """Weighted sum of the read pixels that have data."""
    weight: Float[np.ndarray, "member row col"]
    """Sum of their weights, at most 1."""
    unreadable: Bool[np.ndarray, " member"]
    """Whether the patch touches a block that could not be read."""


@dataclass(frozen=True, eq=False)
class _Mosaic:
    """Patches that are filled from one raster after another."""

    total: Float[np.ndarray, "point band row col"]
    weight: Float[np.ndarray, "point row col"]
    inside: Bool[np.ndarray, " point"]
    unreadable: Bool[np.ndarray, " point"]

    @classmethod
    def empty(cls, count: int, bands: int, size: int) -> "_Mosaic":
        return cls(
            np.zeros((count, bands, size, size), np.float32),
            np.zeros((count, size, size), np.float32),
            np.zeros(count, bool),
            np.zeros(count, bool),
        )

    def add(self, group: Int[np.ndarray, " member"], contribution: _Contribution) -> None:
        """Add from a raster what those before it left open."""
        room = np.minimum(contribution.weight, 1 - self.weight[group])
        # Scale by room / weight only where the weight does not fit: elsewhere the factor is exactly
        # 1, and 0 / 0 is not computed where the raster has no data.
        used = np.ones_like(room)
        np.divide(room, contribution.weight, out=used, where=room < contribution.weight)
        self.total[group] += contribution.values * used[:, None]
        self.weight[group] += room
        self.inside[group] = True
        self.unreadable[group] |= contribution.unreadable

    def finish(
        self, observed: Bool[np.ndarray, "point row col"], min_valid: float, nearest: bool
    ) -> tuple[Float[np.ndarray, "point band row col"], UInt8[np.ndarray, " point"]]:
        """Turn sums into means, fill holes, and say why a patch has no data."""
        partly = (observed & (self.weight < FULL))[:, None]
        np.divide(self.total, self.weight[:, None], out=self.total, where=partly)
        valid = observed.mean(axis=(1, 2)) >= min_valid
        valid &= ~self.unreadable | observed.all(axis=(1, 2))
        for point in np.flatnonzero(valid & ~observed.all(axis=(1, 2))):
            for band in self.total[point]:
                known = band[observed[point]]
                band[~observed[point]] = 0 if nearest else known.mean(dtype=np.float64)
        self.total[~valid] = 0
        reasons = np.where(self.inside, Gap.NODATA, Gap.OUTSIDE)
        reasons[self.unreadable] = Gap.UNREADABLE
        return self.total, np.where(valid, Gap.NONE, reasons).astype(np.uint8)


class OpenRasters:
    """The rasters used last, kept open."""

    def __init__(self, sources: Sequence[RasterSource], keep: int = CACHE_BLOCKS) -> None:
        """Open none yet; each raster will cache `keep` blocks."""
        self._sources, self._keep = sources, keep
        self._blocks: OrderedDict[int, BlockReader] = OrderedDict()
        self._decoded = 0

    @property
    def decoded(self) -> int:
        """Number of blocks read so far."""
        return self._decoded + sum(blocks.decoded for blocks in self._blocks.values())

    def blocks(self, number: int) -> BlockReader:
        """Return the reader of a raster, opened if it is not."""
        if number not in self._blocks:
            self._blocks[number] = BlockReader(self._sources[number], self._keep)
            if len(self._blocks) > OPEN_FILES:
                oldest = self._blocks.popitem(last=False)[1]
                oldest.check()
                self._decoded += oldest.decoded
                oldest.close()
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def check(self) -> None:
        """Compare the open files with what they were; call it after they were read.

        Raises:
            ReplacedError: a file was replaced.
        """
        for blocks in self._blocks.values():
            blocks.check()

    def close(self) -> None:
        """Close all files."""
        for blocks in self._blocks.values():
            blocks.close()


def _slabs(lonlat: Float[np.ndarray, "point 2"], frame: Frame) -> list[Int[np.ndarray, " member"]]:
    """Split points into slabs of neighbours, so that a block of a raster is rarely read twice."""
    # Sorted by squares of about eight patches' width, row by row.
    cell = np.floor(lonlat / (8 * frame.patch_m / METRES_PER_DEGREE))
    order = np.lexsort((cell[:, 0], cell[:, 1]))
    return [order[start : start + SLAB] for start in range(0, len(order), SLAB)]


def in_reach(
    reach: Float[np.ndarray, "source 4"], lonlat: Float[np.ndarray, "point 2"], patch_m: float
) -> list[int]:
    """Find the rasters that may overlap a patch round some point.

    Args:
        reach: west, south, east and north of each raster, in degrees.
        lonlat: centres of the patches.
        patch_m: side of a patch.
    """
    wide, high = degree_margins(patch_m, np.abs(lonlat[:, 1]).max())
    (west, south), (east, north) = lonlat.min(axis=0), lonlat.max(axis=0)
    near = (reach[:, 0] - wide <= east) & (reach[:, 2] + wide >= west)
    near &= (reach[:, 1] - high <= north) & (reach[:, 3] + high >= south)
    return [int(number) for number in np.flatnonzero(near)]


def _groups(located: PixelLocations, shape: tuple[int, int]) -> list[Int[np.ndarray, " member"]]:
    """Group the patches that touch the raster by decimation and tile."""
    touching = np.isfinite(located.centre).all(axis=1)
    for positions, size in zip((located.row, located.col), shape, strict=True):
        touching &= ((positions > -0.5) & (positions < size - 0.5)).any(axis=(1, 2))
    members = np.flatnonzero(touching)
    if not len(members):
        return []
    # A group has one decimation and lies in one tile, so that one window serves all its patches.
    tile = np.floor(located.centre[members] / (located.decimation[members] * TILE))
    keys = np.concatenate([located.decimation[members], tile.astype(np.int64)], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    # Split the members, sorted by group, wherever the group changes.
    by_group = np.argsort(group, kind="stable")
    boundaries = np.flatnonzero(np.diff(group[by_group])) + 1
    return list(np.split(members[by_group], boundaries))


def _interpolate(
    blocks: BlockReader,
    located: PixelLocations,
    group: Int[np.ndarray, " member"],
    nearest: bool,
) -> _Contribution:
    """Interpolate a raster bilinearly, or by its nearest pixel, in a group of patches."""
    decimation = tuple(int(k) for k in located.decimation[group[0]])
    sizes = blocks.sizes(decimation)
    rows, below = _bilinear_axis(located.row[group], decimation[0], sizes[0])
    cols, right = _bilinear_axis(located.col[group], decimation[1], sizes[1])
    if nearest:  # all the weight on one of the four pixels
        below, right = np.rint(below), np.rint(right)
    first, last = (rows.min(), cols.min()), (rows.max() + 2, cols.max() + 2)
    window = blocks.window(decimation, (int(first[0]), int(last[0])), (int(first[1]), int(last[1])))
    width = window.data.shape[1]
    # Flat index of the upper left of the four pixels; the others are at fixed offsets from it.
    index = (rows - first[0]) * np.int32(width) + (cols - first[1])
    taps = (
        (0, (1 - below) * (1 - right)),
        (1, (1 - below) * right),
        (width, below * (1 - right)),
        (width + 1, below * right),
    )
    planes = window.values.reshape(len(window.values), -1)
    values = np.zeros((len(group), len(planes), *index.shape[1:]), np.float32)
    for offset, tap in taps:
        pixel = index + np.int32(offset)
        # One band at a time keeps the gathered temporary small.
        for band, plane in enumerate(planes):
            values[:, band] += tap * plane[pixel]
    weight, unreadable = _weigh_data(window, index, taps)
    known = np.isfinite(located.row[group]) & np.isfinite(located.col[group])
    if not known.all():
        weight *= known
        values *= known[:, None]
    return _Contribution(values, weight, unreadable)


def _bilinear_axis(
    positions: Float[np.ndarray, "member row col"], factor: int, size: int
) -> tuple[Int[np.ndarray, "member row col"], Float[np.ndarray, "member row col"]]:
    """Return the read pixel at or before each position, and the weight of the pixel after it.

    Args:
        positions: along one axis of the raster, in its own pixels, the first centre at 0.
        factor: raster pixels per read pixel.
        size: read pixels along the axis.
    """
    read = (positions + 0.5) / factor - 0.5
    # Positions off the raster move to the pixels just beyond its edges, which have no data, so that
    # the window read stays small. NaN (masked by the caller) takes any index inside that window.
    read = np.clip(np.where(np.isnan(read), np.nanmin(read), read), -1, size)
    floor = np.floor(read)
    return floor.astype(np.int32), (read - floor).astype(np.float32)


def _weigh_data(
    window: ReadWindow,
    index: Int[np.ndarray, "member row col"],
    taps: Sequence[tuple[int, Float[np.ndarray, "member row col"]]],
) -> tuple[Float[np.ndarray, "member row col"], Bool[np.ndarray, " member"]]:
    """Sum the weights of read pixels with data, and find the patches that touch unreadable ones."""
    if window.data.all():
        return np.ones(index.shape, np.float32), np.zeros(len(index), bool)
    data, lost = window.data.ravel(), window.unreadable.ravel()
    weight = np.zeros(index.shape, np.float32)
    complete = np.ones(index.shape, bool)
    unreadable = np.zeros(len(index), bool)
    for offset, tap in taps:
        pixel = index + np.int32(offset)
        weight += tap * data[pixel]
        complete &= data[pixel] | (tap == 0)
        unreadable |= (lost[pixel] & (tap > 0)).any(axis=(1, 2))
    # The four weights may sum to 1 less one bit; a patch must not depend on whether its window
    # holds a gap elsewhere, so the sum is exactly 1, as in the early return.
    weight[complete] = 1
    return weight, unreadable
