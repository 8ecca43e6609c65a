"""Patches of a shard cut on the device, out of blocks of rasters that lie there once.

The reader decodes the blocks that a batch of cells touches for the first time; they go to a cache
on the device, where overlapping patches share them. On a CPU the patches are those of
`raster_patches.cut` bit for bit; only the mean that fills a hole may differ in its last bit.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from unigeo.producer.observations.patches import Gap
from unigeo.producer.observations.raster_files import patch_frames, raster_blocks, raster_patches
from unigeo.producer.observations.raster_files.modality_rasters import ModalityRasters
from unigeo.producer.observations.raster_files.patch_frames import AnchoredFrames, anchor
from unigeo.producer.observations.raster_files.raster_blocks import BlockReader
from unigeo.producer.observations.raster_files.raster_patches import OpenRasters, in_reach
from unigeo.producer.raster.block_cache import (
    BLOCK,
    EMPTY,
    FULL,
    NODES,
    BlockCache,
    BlockUpload,
    RasterPart,
)

CACHE_BYTES = {"cuda": 2 << 30, "cpu": 96 << 20}
"""Size of the cache, by kind of device; it grows where one batch needs more."""
PIXELS = {"cuda": 1 << 24, "cpu": 1 << 20}
"""Largest number of pixels of patches cut at once, by kind of device."""
_KEEP = 4
"""Blocks that an open raster keeps in memory; few, as the cache on the device has them."""
Key = tuple[int, int, int, int, int]
"""Number of a raster, decimation along rows and columns, and the block's row and column."""


class UnreadableError(Exception):
    """A block of a raster is damaged."""


# `block_cache` and the benchmarks of it do without GDAL, so it repeats these numbers.
assert (raster_blocks.BLOCK, patch_frames.NODES, raster_patches.FULL) == (BLOCK, NODES, FULL)


@dataclass(frozen=True, eq=False)
class MosaicBatch:
    """A batch of patches, ready to be cut."""

    count: int
    """Number of patches."""
    parts: list[RasterPart]
    """Contributions of rasters, the first with data first."""
    uploads: list[BlockUpload]
    """Blocks that are not in the cache yet."""
    slots: int
    """Number of slots that the cache must have."""


class Mosaic:
    """Rasters round a shard: `look` runs in the reading thread, `cut` in the encoding one.

    Only `look` knows which block is in which slot. It may be some batches ahead of `cut`, which
    does the same uploads in the same order.
    """

    def __init__(self, rasters: ModalityRasters, device: torch.device) -> None:
        """Begin with nothing read."""
        self._rasters, self._device = rasters, device
        self._reach = np.array([source.reach for source in rasters.sources])
        self._opened = OpenRasters(rasters.sources, _KEEP)
        self._bands = len(rasters.sources[0].bands)
        small = all(source.small for source in rasters.sources)
        self._dtype = np.uint8 if small else np.float32
        block_bytes = BLOCK**2 * (self._bands * np.dtype(self._dtype).itemsize + 1)
        self._max_slots = CACHE_BYTES.get(device.type, CACHE_BYTES["cpu"]) // block_bytes + 1
        self._slots: OrderedDict[Key, int] = OrderedDict()
        """Slot of each block in the cache, the block longest unused first."""
        self._complete: dict[Key, bool] = {}
        """Whether each block in the cache has data everywhere."""
        self._used_slots = 1  # slot `EMPTY`
        self._uploads: list[BlockUpload] = []
        kind = torch.uint8 if small else torch.float32
        self._cache = BlockCache(self._bands, kind, device, nearest=rasters.nearest)

    @property
    def decoded(self) -> int:
        """Number of blocks read so far."""
        return self._opened.decoded

    def check(self) -> None:
        """Compare the files with what they were when they were opened as sources.

        Raises:
            ReplacedError: if a file was replaced.
        """
        self._opened.check()

    def close(self) -> None:
        """Close the files."""
        self._opened.close()

    def look(self, lonlat: Float[np.ndarray, "point 2"]) -> MosaicBatch:
        """Read what the patches round some points touch.

        Raises:
            UnreadableError: if a block cannot be read: these patches have to be cut one by one.
            ObservationsError: if a raster could be read before and cannot be opened now.
        """
        parts: list[RasterPart] = []
        needed: set[Key] = set()
        for view, frame in enumerate(self._rasters.frames):
            filled = np.zeros(len(lonlat), bool)
            for number in in_reach(self._reach, lonlat, frame.patch_m):
                anchored = anchor(self._rasters.sources[number], lonlat, frame)
                for decimation, members in _by_decimation(anchored, filled):
                    blocks = self._opened.blocks(number)
                    part, fills = self._part(
                        view, number, blocks, anchored, decimation, members, needed
                    )
                    if part is not None:
                        parts.append(part)
                        filled[part.members[fills]] = True
        uploads, self._uploads = self._uploads, []
        return MosaicBatch(len(lonlat), parts, uploads, self._used_slots)

    def _part(
        self,
        view: int,
        number: int,
        blocks: BlockReader,
        anchored: AnchoredFrames,
        decimation: tuple[int, int],
        members: Int[np.ndarray, " candidate"],
        needed: set[Key],
    ) -> tuple[RasterPart | None, Bool[np.ndarray, " member"]]:
        """Return one raster's part of some patches, and which of them it fills without a gap.

        No patch is near the raster where the part is None.
        """
        sizes = np.array(blocks.sizes(decimation))
        low, high = _extent(anchored, members, decimation)
        near = ((high > -1) & (low < sizes)).all(axis=1)
        members, low, high = members[near], low[near], high[near]
        if not len(members):
            return None, near[near]
        # Blocks of each patch, with room for the pixels that are interpolated from: one before and
        # one after, and as much again as the quartic may overshoot between the nodes.
        first = np.clip(np.floor(low) - 2, -1, sizes).astype(np.int64) // BLOCK
        last = np.clip(np.floor(high) + 3, -1, sizes + 1).astype(np.int64) // BLOCK
        origin, end = first.min(axis=0), last.max(axis=0) + 1
        slots = np.full(end - origin, EMPTY, np.int64)
        inside = ((low >= 0.1) & (high <= sizes - 1.1)).all(axis=1)
        inside &= ~np.isin(members, list(anchored.exact))
        count = -(-sizes // BLOCK)
        # Hundreds of patches touch the same few blocks, so their ranges are visited once each.
        ranges, range_of = np.unique(
            np.concatenate([first, last], axis=1), axis=0, return_inverse=True
        )
        complete = np.ones(len(ranges), bool)
        for k, (top, left, bottom, right) in enumerate(ranges.tolist()):
            for i in range(max(top, 0), min(bottom + 1, int(count[0]))):
                for j in range(max(left, 0), min(right + 1, int(count[1]))):
                    key = (number, *decimation, i, j)
                    needed.add(key)
                    slots[i - origin[0], j - origin[1]] = self._slot(key, blocks, needed)
                    complete[k] &= self._complete[key]
        exact = {
            k: anchored.exact[int(member)]
            for k, member in enumerate(members)
            if int(member) in anchored.exact
        }
        part = RasterPart(
            view=view,
            members=members,
            nodes=anchored.nodes[members],
            exact=exact,
            decimation=decimation,
            shape=self._rasters.sources[number].shape,
            sizes=tuple(sizes.tolist()),
            origin=(int(origin[0]), int(origin[1])),
            slots=slots,
        )
        return part, inside & complete[range_of.ravel()]

    def _slot(self, key: Key, blocks: BlockReader, needed: set[Key]) -> int:
        """Return the slot of a block, which is read and gets one now if it has none."""
        if key in self._slots:
            self._slots.move_to_end(key)
            return self._slots[key]
        block = blocks.block(key[1:3], *key[3:])
        if block.unreadable.any():
            raise UnreadableError
        slot = self._free_slot(needed)
        self._slots[key] = slot
        self._complete[key] = bool(block.data.all())
        self._uploads.append(BlockUpload(slot, block.values.astype(self._dtype), block.data))
        return slot

    def _free_slot(self, needed: set[Key]) -> int:
        """Return a slot that no block of this batch has: a new one, or the one longest unused.

        The block in it may belong to a batch that is not cut yet. That is safe: batches are cut in
        the order in which they were read, and the new block is uploaded with its own batch.
        """
        oldest = next(iter(self._slots), None)
        if self._used_slots < self._max_slots or oldest is None or oldest in needed:
            self._used_slots += 1
            return self._used_slots - 1
        del self._complete[oldest]
        return self._slots.pop(oldest)

    def cut(
        self, batch: MosaicBatch
    ) -> tuple[Shaped[Tensor, "point band row col"], UInt8[Tensor, " point"]]:
        """Cut patches on the device.

        Returns:
            Their pixels, views one after another, and a `Gap` each.
        """
        # Growing copies the whole cache, so it doubles, up to its size.
        slots = max(batch.slots, min(self._max_slots, 2 * batch.slots))
        self._cache.put(batch.uploads, slots if batch.slots > self._cache.slots else 0)
        dtype = torch.from_numpy(np.empty(0, self._rasters.dtype)).dtype
        views, gaps = [], []
        for view, frame in enumerate(self._rasters.frames):
            size = frame.patch_px
            shape = (batch.count, self._bands, size, size)
            values = torch.zeros(shape, dtype=dtype, device=self._device)
            gap = torch.zeros(batch.count, dtype=torch.uint8, device=self._device)
            step = max(1, PIXELS.get(self._device.type, PIXELS["cpu"]) // size**2)
            parts = [part for part in batch.parts if part.view == view]
            for start in range(0, batch.count, step):
                stop = min(start + step, batch.count)
                pixels, gap[start:stop] = self._cache.cut(
                    parts, frame.weights, start, stop, self._rasters.min_valid
                )
                values[start:stop] = pixels if dtype.is_floating_point else pixels.round().to(dtype)
            views.append(values)
            gaps.append(gap)
        return torch.cat(views, dim=1), torch.stack(gaps).amax(dim=0)

    def count_gaps(self, gaps: UInt8[np.ndarray, " point"]) -> Bool[np.ndarray, " point"]:
        """Count the gaps, and return which patches have none."""
        self._rasters.count_gaps(gaps)
        return np.asarray(gaps == Gap.NONE)


def _by_decimation(
    anchored: AnchoredFrames, filled: Bool[np.ndarray, " point"]
) -> Iterator[tuple[tuple[int, int], Int[np.ndarray, " member"]]]:
    """Group the patches that are not filled yet by how a raster is read for them."""
    members = np.flatnonzero(np.isfinite(anchored.centre).all(axis=1) & ~filled)
    kinds, kind_of = np.unique(anchored.decimation[members], axis=0, return_inverse=True)
    for kind, (down, across) in enumerate(kinds.tolist()):
        yield (down, across), members[kind_of.ravel() == kind]


def _extent(
    anchored: AnchoredFrames, members: Int[np.ndarray, " member"], decimation: tuple[int, int]
) -> tuple[Float[np.ndarray, "member 2"], Float[np.ndarray, "member 2"]]:
    """Return the lowest and the highest row and column of patches, in read pixels."""
    nodes = anchored.nodes[members].reshape(len(members), NODES**2, 2)
    with np.errstate(invalid="ignore"):
        low, high = nodes.min(axis=1), nodes.max(axis=1)
    for k, member in enumerate(members.tolist()):
        if member in anchored.exact:
            pixels = anchored.exact[member].reshape(-1, 2)
            pixels = pixels[np.isfinite(pixels).all(axis=1)]
            off_raster = np.full(2, -10.0)
            low[k] = pixels.min(axis=0) if len(pixels) else off_raster
            high[k] = pixels.max(axis=0) if len(pixels) else off_raster
    factors = np.array(decimation)
    return (low + 0.5) / factors - 0.5, (high + 0.5) / factors - 0.5
