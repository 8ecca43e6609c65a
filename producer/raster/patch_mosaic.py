"""Patches of a shard cut on the device, out of blocks of rasters that lie there once.

The reader decodes the blocks that a batch of cells touches and has not seen yet; they go to a pool
on the device, where neighbouring patches share them. On a CPU patches are those of
`raster_patches.cut` bit for bit; only the mean that fills a hole may differ in its last bit.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from unigeo.producer.observations.geotiff import patch_frames, raster_patches
from unigeo.producer.observations.geotiff import raster_blocks as blocks_of
from unigeo.producer.observations.geotiff.modality_rasters import ModalityRasters
from unigeo.producer.observations.geotiff.patch_frames import AnchoredFrames, anchor
from unigeo.producer.observations.geotiff.raster_blocks import BlockReader
from unigeo.producer.observations.geotiff.raster_patches import OpenRasters, in_reach
from unigeo.producer.observations.patches import Gap
from unigeo.producer.raster.block_cache import (
    BLOCK,
    EMPTY,
    FULL,
    NODES,
    BlockCache,
    BlockUpload,
    RasterPart,
)

POOL_BYTES = {"cuda": 2 << 30, "cpu": 96 << 20}
"""Of blocks on the device; more where one batch needs more."""
PIXELS = {"cuda": 1 << 24, "cpu": 1 << 20}
"""Of patches cut at once."""
_KEPT = 4
"""Blocks that an open raster keeps itself: those here are on the device."""
Key = tuple[int, int, int, int, int]
"""Number of a raster, decimation along rows and columns, and the block's row and column."""


class UnreadableError(Exception):
    """A block of a raster is damaged."""


# The pool knows no raster, and so does not import them.
assert (blocks_of.BLOCK, patch_frames.NODES, raster_patches.FULL) == (BLOCK, NODES, FULL)


@dataclass(frozen=True, eq=False)
class MosaicBatch:
    """A batch of patches, ready to be cut."""

    count: int
    pieces: list[RasterPart]
    pages: list[BlockUpload]
    """Blocks that are new."""
    places: int
    """That the pool must have."""


class Mosaic:
    """Rasters round a shard: `look` runs where there is reading, `cut` where there is encoding."""

    def __init__(self, rasters: ModalityRasters, device: torch.device) -> None:
        """Begin with nothing read."""
        self._rasters, self._device = rasters, device
        self._reach = np.array([source.reach for source in rasters.sources])
        self._opened = OpenRasters(rasters.sources, _KEPT)
        self._bands = len(rasters.sources[0].bands)
        small = all(source.small for source in rasters.sources)
        self._kind = np.uint8 if small else np.float32
        block = BLOCK**2 * (self._bands * np.dtype(self._kind).itemsize + 1)
        self._places = POOL_BYTES.get(device.type, POOL_BYTES["cpu"]) // block + 1
        self._place: OrderedDict[Key, int] = OrderedDict()
        self._whole: dict[Key, bool] = {}
        self._used = 1  # the first place is empty
        self._waiting: list[BlockUpload] = []
        kind = torch.uint8 if small else torch.float32
        self._pool = BlockCache(self._bands, kind, device)

    @property
    def decoded(self) -> int:
        """Blocks read so far."""
        return self._opened.decoded

    def check(self) -> None:
        """Compare the files with what they were when they were opened as sources.

        Raises:
            ReplacedError: one is another.
        """
        self._opened.check()

    def close(self) -> None:
        """Close the files."""
        self._opened.close()

    def look(self, lonlat: Float[np.ndarray, "point 2"]) -> MosaicBatch:
        """Read what the patches round some points touch.

        Raises:
            UnreadableError: a block cannot be read; cut these patches one by one.
            ObservationsError: a raster could be read before and cannot be opened now.
        """
        pieces: list[RasterPart] = []
        needed: set[Key] = set()
        for view, frame in enumerate(self._rasters.frames):
            full = np.zeros(len(lonlat), bool)
            for number in in_reach(self._reach, lonlat, frame.patch_m):
                anchored = anchor(self._rasters.sources[number], lonlat, frame)
                for decimation, members in _by_decimation(anchored, full):
                    blocks = self._opened.blocks(number)
                    found = self._piece(view, number, blocks, anchored, decimation, members, needed)
                    if found is not None:
                        pieces.append(found[0])
                        full[found[0].members[found[1]]] = True
        pages, self._waiting = self._waiting, []
        return MosaicBatch(len(lonlat), pieces, pages, self._used)

    def _piece(
        self,
        view: int,
        number: int,
        blocks: BlockReader,
        anchored: AnchoredFrames,
        decimation: tuple[int, int],
        members: Int[np.ndarray, " candidate"],
        needed: set[Key],
    ) -> tuple[RasterPart, Bool[np.ndarray, " member"]] | None:
        """The blocks of patches in one raster, and which patches these fill without a gap."""
        sizes = np.array(blocks.sizes(decimation))
        low, high = _extent(anchored, members, decimation)
        near = ((high > -1) & (low < sizes)).all(axis=1)
        if not near.any():
            return None
        members, low, high = members[near], low[near], high[near]
        # Two pixels of room: a patch's outermost pixels are nodes, and four are mixed.
        first = np.clip(np.floor(low) - 2, -1, sizes).astype(np.int64) // BLOCK
        last = np.clip(np.floor(high) + 3, -1, sizes + 1).astype(np.int64) // BLOCK
        origin, end = first.min(axis=0), last.max(axis=0) + 1
        table = np.full(end - origin, EMPTY, np.int64)
        inside = ((low >= 0.1) & (high <= sizes - 1.1)).all(axis=1)
        inside &= ~np.isin(members, list(anchored.exact))
        count = -(-sizes // BLOCK)
        ranges, of = np.unique(np.concatenate([first, last], axis=1), axis=0, return_inverse=True)
        whole = np.ones(len(ranges), bool)
        for position, (top, left, bottom, right) in enumerate(ranges.tolist()):
            for i in range(max(top, 0), min(bottom + 1, int(count[0]))):
                for j in range(max(left, 0), min(right + 1, int(count[1]))):
                    key = (number, *decimation, i, j)
                    needed.add(key)
                    place = self._find(key, blocks, needed)
                    table[i - origin[0], j - origin[1]] = place
                    whole[position] &= self._whole[key]
        exact = {
            position: anchored.exact[int(member)]
            for position, member in enumerate(members)
            if int(member) in anchored.exact
        }
        source = self._rasters.sources[number]
        corner = (int(origin[0]), int(origin[1]))
        piece = RasterPart(
            view, members, anchored.nodes[members], exact, decimation, source.shape,
            tuple(sizes.tolist()), corner, table,
        )  # fmt: skip
        return piece, inside & whole[of.ravel()]

    def _find(self, key: Key, blocks: BlockReader, needed: set[Key]) -> int:
        """Place of a block in the pool, which it gets now if it has none."""
        if key in self._place:
            self._place.move_to_end(key)
            return self._place[key]
        block = blocks.block(key[1:3], *key[3:])
        if block.unreadable.any():
            raise UnreadableError
        place = self._room(needed)
        self._place[key] = place
        self._whole[key] = bool(block.data.all())
        self._waiting.append(BlockUpload(place, block.values.astype(self._kind), block.data))
        return place

    def _room(self, needed: set[Key]) -> int:
        """A place that no block of this batch has: a new one, or that of the block longest unused.

        Batches are cut in the order in which they were read, so an older one has been cut by then.
        """
        oldest = next(iter(self._place), None)
        if self._used < self._places or oldest is None or oldest in needed:
            self._used += 1
            return self._used - 1
        del self._whole[oldest]
        return self._place.pop(oldest)

    def cut(
        self, look: MosaicBatch
    ) -> tuple[Shaped[Tensor, "point band row col"], UInt8[Tensor, " point"]]:
        """Cut patches on the device.

        Returns:
            Their pixels, and a `Gap` each.
        """
        room = max(look.places, min(self._places, 2 * look.places))
        self._pool.put(look.pages, room if look.places > self._pool.places else 0)
        kind = torch.from_numpy(np.empty(0, self._rasters.dtype)).dtype
        views, gaps = [], []
        for view, frame in enumerate(self._rasters.frames):
            size = frame.patch_px
            shape = (look.count, self._bands, size, size)
            values = torch.zeros(shape, dtype=kind, device=self._device)
            gap = torch.zeros(look.count, dtype=torch.uint8, device=self._device)
            step = max(1, PIXELS.get(self._device.type, PIXELS["cpu"]) // size**2)
            pieces = [piece for piece in look.pieces if piece.view == view]
            for start in range(0, look.count, step):
                stop = min(start + step, look.count)
                found, gap[start:stop] = self._pool.cut(
                    pieces, frame.weights, start, stop, self._rasters.min_valid
                )
                values[start:stop] = found if kind.is_floating_point else found.round().to(kind)
            views.append(values)
            gaps.append(gap)
        return torch.cat(views, dim=1), torch.stack(gaps).amax(dim=0)

    def count_gaps(self, gaps: UInt8[np.ndarray, " point"]) -> Bool[np.ndarray, " point"]:
        """Count the gaps; which patches have none."""
        self._rasters.count_gaps(gaps)
        return np.asarray(gaps == Gap.NONE)


def _by_decimation(
    anchored: AnchoredFrames, full: Bool[np.ndarray, " point"]
) -> Iterator[tuple[tuple[int, int], Int[np.ndarray, " member"]]]:
    """Patches that something is left to find of, by how a raster is read for them."""
    open_ = np.flatnonzero(np.isfinite(anchored.centre).all(axis=1) & ~full)
    kinds, of = np.unique(anchored.decimation[open_], axis=0, return_inverse=True)
    for number, (down, across) in enumerate(kinds.tolist()):
        yield (down, across), open_[of.ravel() == number]


def _extent(
    anchored: AnchoredFrames, members: Int[np.ndarray, " member"], decimation: tuple[int, int]
) -> tuple[Float[np.ndarray, "member 2"], Float[np.ndarray, "member 2"]]:
    """Lowest and highest row and column of patches, in read pixels."""
    corners = anchored.nodes[members].reshape(len(members), NODES**2, 2)
    with np.errstate(invalid="ignore"):
        low, high = corners.min(axis=1), corners.max(axis=1)
    for position, member in enumerate(members.tolist()):
        if member in anchored.exact:
            own = anchored.exact[member].reshape(-1, 2)
            own = own[np.isfinite(own).all(axis=1)]
            nothing = np.full(2, -10.0)
            low[position] = own.min(axis=0) if len(own) else nothing
            high[position] = own.max(axis=0) if len(own) else nothing
    factors = np.array(decimation)
    return (low + 0.5) / factors - 0.5, (high + 0.5) / factors - 0.5
