"""Patches of pixels cut from georeferenced rasters.

Every pixel of a patch is found in the raster (`frames`) and gets the value of the four pixels round
that place. The raster is read at the decimation whose pixel is nearest below a patch pixel, so that
nothing finer than the patch aliases into it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from unigeo.producer.observations.folder.geotiff_source import GeotiffSource
from unigeo.producer.observations.folder.patch_frames import Frame, PixelLocations, locate
from unigeo.producer.observations.folder.raster_blocks import CACHE_BLOCKS, BlockReader, ReadWindow
from unigeo.producer.observations.protocol import Gap, Patches
from unigeo.schemas.geo.great_circle import METRES_PER_DEGREE, degree_margins

TILE = 256
"""Patches whose centres share a tile of so many decimated pixels are gathered together."""
SLAB = 1024
"""Patches at work at once."""
OPEN_FILES = 32
"""Rasters kept open."""
FULL = 1 - 1e-6
"""Weight from which a pixel needs no further raster."""


@dataclass(frozen=True, eq=False)
class CutPatches:
    """Patches, and why some have no data."""

    patches: Patches
    gaps: UInt8[np.ndarray, " point"]
    """A `Gap` per point."""
    seen: Bool[np.ndarray, "point row col"]
    """Which pixels were observed, not filled."""
    damaged: frozenset[Path | str] = frozenset()
    """Files of which some part could not be read."""


def cut(
    sources: Sequence[GeotiffSource],
    lonlat: Float[np.ndarray, "point 2"],
    frame: Frame,
    dtype: type[np.generic] = np.float32,
    min_valid: float = 0.5,
) -> CutPatches:
    """Cut one patch round each point from a mosaic of rasters.

    Where several rasters hold a place the first with data wins. Pixels without data inside a valid
    patch get the mean of those with data. A patch does not depend on the others cut with it.

    Args:
        sources: rasters of the same number of bands.
        lonlat: WGS 84 degrees, finite.
        frame: size of the patches.
        dtype: of the values returned; integers are rounded.
        min_valid: share of a patch's pixels that must hold data.

    Raises:
        ReplacedError: a file is another than the one that was opened as a source.
    """
    size, bands = frame.patch_px, len(sources[0].bands)
    values = np.zeros((len(lonlat), bands, size, size), dtype)
    gaps = np.zeros(len(lonlat), np.uint8)
    observed = np.zeros((len(lonlat), size, size), bool)
    reach = np.array([source.reach for source in sources])
    opened = OpenRasters(sources)
    damaged: set[Path | str] = set()
    try:
        for part in _slabs(lonlat, frame):
            mosaic = _Mosaic.empty(len(part), bands, size)
            for number in in_reach(reach, lonlat[part], frame.patch_m):
                located = locate(sources[number], lonlat[part], frame)
                for group in _groups(located, sources[number].shape):
                    if (mosaic.weight[group] < FULL).any():
                        piece = _gather(opened.blocks(number), located, group)
                        mosaic.add(group, piece)
                        if piece.unreadable.any():
                            damaged.add(sources[number].path)
            seen = mosaic.weight >= 0.5 - 1e-6
            observed[part] = seen
            found, gaps[part] = mosaic.finish(seen, min_valid)
            values[part] = np.rint(found) if np.issubdtype(dtype, np.integer) else found
        opened.check()
    finally:
        opened.close()
    return CutPatches(Patches(values, gaps == Gap.NONE), gaps, observed, frozenset(damaged))


@dataclass(frozen=True, eq=False)
class _Part:
    """What one raster holds of some patches."""

    values: Float[np.ndarray, "member band row col"]
    """Weighted sum of the read pixels with data."""
    share: Float[np.ndarray, "member row col"]
    """Sum of their weights, at most 1."""
    unreadable: Bool[np.ndarray, " member"]
    """Whether the patch touches a block that could not be read."""


@dataclass(frozen=True, eq=False)
class _Mosaic:
    """Patches as they fill up from one raster after another."""

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

    def add(self, group: Int[np.ndarray, " member"], part: _Part) -> None:
        """Take from a raster what those before it left open."""
        room = np.minimum(part.share, 1 - self.weight[group])
        used = np.ones_like(room)
        np.divide(room, part.share, out=used, where=room < part.share)
        self.total[group] += part.values * used[:, None]
        self.weight[group] += room
        self.inside[group] = True
        self.unreadable[group] |= part.unreadable

    def finish(
        self, seen: Bool[np.ndarray, "point row col"], min_valid: float
    ) -> tuple[Float[np.ndarray, "point band row col"], UInt8[np.ndarray, " point"]]:
        """Turn sums into means, fill small holes, and say why a patch has no data."""
        partly = (seen & (self.weight < FULL))[:, None]
        np.divide(self.total, self.weight[:, None], out=self.total, where=partly)
        valid = seen.mean(axis=(1, 2)) >= min_valid
        for point in np.flatnonzero(valid & ~seen.all(axis=(1, 2))):
            for band in self.total[point]:
                band[~seen[point]] = band[seen[point]].mean(dtype=np.float64)
        self.total[~valid] = 0
        lost = np.where(self.inside, Gap.NODATA, Gap.OUTSIDE)
        lost[self.unreadable] = Gap.UNREADABLE
        return self.total, np.where(valid, Gap.NONE, lost).astype(np.uint8)


class OpenRasters:
    """The rasters used last, open."""

    def __init__(self, sources: Sequence[GeotiffSource], keep: int = CACHE_BLOCKS) -> None:
        """Open none yet; each keeps so many blocks."""
        self._sources, self._keep = sources, keep
        self._blocks: OrderedDict[int, BlockReader] = OrderedDict()
        self._decoded = 0

    @property
    def decoded(self) -> int:
        """Blocks read so far."""
        return self._decoded + sum(blocks.decoded for blocks in self._blocks.values())

    def blocks(self, number: int) -> BlockReader:
        """A raster by its number."""
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
        """Compare the files that are open with what they were, now that they were read.

        Raises:
            ReplacedError: one is another.
        """
        for blocks in self._blocks.values():
            blocks.check()

    def close(self) -> None:
        """Close them all."""
        for blocks in self._blocks.values():
            blocks.close()


def _slabs(lonlat: Float[np.ndarray, "point 2"], frame: Frame) -> list[Int[np.ndarray, " member"]]:
    """Split points into neighbourhoods, so that each block of a raster is read few times."""
    cell = np.floor(lonlat / (8 * frame.patch_m / METRES_PER_DEGREE))
    order = np.lexsort((cell[:, 0], cell[:, 1]))
    return [order[start : start + SLAB] for start in range(0, len(order), SLAB)]


def in_reach(
    reach: Float[np.ndarray, "source 4"], lonlat: Float[np.ndarray, "point 2"], patch_m: float
) -> list[int]:
    """Find the rasters whose west, south, east and north may take in a patch of some point."""
    wide, high = degree_margins(patch_m, np.abs(lonlat[:, 1]).max())
    (west, south), (east, north) = lonlat.min(axis=0), lonlat.max(axis=0)
    near = (reach[:, 0] - wide <= east) & (reach[:, 2] + wide >= west)
    near &= (reach[:, 1] - high <= north) & (reach[:, 3] + high >= south)
    return [int(number) for number in np.flatnonzero(near)]


def _groups(located: PixelLocations, shape: tuple[int, int]) -> list[Int[np.ndarray, " member"]]:
    """Gather the patches that touch the raster by tile and decimation."""
    touching = np.isfinite(located.centre).all(axis=1)
    for positions, size in zip((located.row, located.col), shape, strict=True):
        touching &= ((positions > -0.5) & (positions < size - 0.5)).any(axis=(1, 2))
    members = np.flatnonzero(touching)
    if not len(members):
        return []
    tile = np.floor(located.centre[members] / (located.decimation[members] * TILE))
    keys = np.concatenate([located.decimation[members], tile.astype(np.int64)], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    by_group = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[by_group])) + 1
    return list(np.split(members[by_group], cuts))


def _gather(
    blocks: BlockReader, located: PixelLocations, group: Int[np.ndarray, " member"]
) -> _Part:
    """Weigh the four read pixels round each patch pixel."""
    decimation = tuple(int(k) for k in located.decimation[group[0]])
    sizes = blocks.sizes(decimation)
    rows, below = _neighbours(located.row[group], decimation[0], sizes[0])
    cols, right = _neighbours(located.col[group], decimation[1], sizes[1])
    first, last = (rows.min(), cols.min()), (rows.max() + 2, cols.max() + 2)
    window = blocks.window(decimation, (int(first[0]), int(last[0])), (int(first[1]), int(last[1])))
    width = window.data.shape[1]
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
        here = index + np.int32(offset)
        for band, plane in enumerate(planes):
            values[:, band] += tap * plane[here]
    share, unreadable = _shares(window, index, taps)
    known = np.isfinite(located.row[group]) & np.isfinite(located.col[group])
    if not known.all():
        share *= known
        values *= known[:, None]
    return _Part(values, share, unreadable)


def _neighbours(
    positions: Float[np.ndarray, "member row col"], factor: int, size: int
) -> tuple[Int[np.ndarray, "member row col"], Float[np.ndarray, "member row col"]]:
    """Number of the read pixel at or before each position, and the weight of the one after it.

    Positions off the raster fall on the pixels without data just beyond its edges.
    """
    at = (positions + 0.5) / factor - 0.5
    at = np.clip(np.where(np.isnan(at), np.nanmin(at), at), -1, size)
    floor = np.floor(at)
    return floor.astype(np.int32), (at - floor).astype(np.float32)


def _shares(
    window: ReadWindow,
    index: Int[np.ndarray, "member row col"],
    taps: Sequence[tuple[int, Float[np.ndarray, "member row col"]]],
) -> tuple[Float[np.ndarray, "member row col"], Bool[np.ndarray, " member"]]:
    """Sum the weights of read pixels with data, and find the patches that touch unreadable ones."""
    if window.data.all():
        return np.ones(index.shape, np.float32), np.zeros(len(index), bool)
    data, lost = window.data.ravel(), window.unreadable.ravel()
    share = np.zeros(index.shape, np.float32)
    complete = np.ones(index.shape, bool)
    unreadable = np.zeros(len(index), bool)
    for offset, tap in taps:
        here = index + np.int32(offset)
        share += tap * data[here]
        complete &= data[here] | (tap == 0)
        unreadable |= (lost[here] & (tap > 0)).any(axis=(1, 2))
    share[complete] = 1  # exactly, as where nothing is masked
    return share, unreadable
