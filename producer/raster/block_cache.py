"""Blocks of rasters on the device, and the patches that are cut out of them.

A patch is given by 5 x 5 nodes, whose positions in a raster are known, and by a table of the cache
slots that hold the blocks round it. Its pixels are located, interpolated and filled by the same
sums, in the same order, as `raster_patches.cut` does it on the CPU patch by patch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, Shaped, UInt8
from torch import Tensor

from unigeo.producer.observations.patches import Gap

BLOCK = 256
"""Read pixels per side of a block; a power of two, so that block and pixel are bits of an index."""
_BITS, _LOW_BITS = 8, BLOCK - 1
"""An index shifted by `_BITS` is that of the block; its `_LOW_BITS` are the pixel in the block."""
EMPTY = 0
"""Slot of a block without data, for all that lies off the raster."""
NODES = 5
"""Nodes per side of a patch."""
FULL = 1 - 1e-6
"""Weight from which a pixel needs no further raster."""


@dataclass(frozen=True, eq=False)
class RasterPart:
    """What one raster may contribute to some patches, read at one decimation."""

    view: int
    """Frame of the patches, counted from 0."""
    members: Int[np.ndarray, " member"]
    """Patches of the batch."""
    nodes: Float64[np.ndarray, "member node node 2"]
    """Row and column of their nodes, in raster pixels."""
    exact: dict[int, Float[np.ndarray, "row col 2"]]
    """Row and column of every pixel, by index in `members`, where nodes are not enough."""
    decimation: tuple[int, int]
    """Raster pixels per read pixel along rows and columns."""
    shape: tuple[int, int]
    """Rows and columns of the raster."""
    sizes: tuple[int, ...]
    """Rows and columns of the decimated raster."""
    origin: tuple[int, int]
    """Row and column of the first block of `slots`."""
    slots: Int[np.ndarray, "block_row block_col"]
    """Cache slots of the blocks that the patches touch."""


@dataclass(frozen=True, eq=False)
class BlockUpload:
    """A block on its way to the device; at a raster's edge it is smaller than `BLOCK`."""

    slot: int
    values: Shaped[np.ndarray, "band row col"]
    data: Bool[np.ndarray, "row col"]
    """Whether each pixel has data."""


class BlockCache:
    """Blocks of one number of bands, in numbered slots of one tensor."""

    def __init__(
        self, bands: int, kind: torch.dtype, device: torch.device, *, nearest: bool = False
    ) -> None:
        """Begin with the slot `EMPTY` alone; `nearest` takes pixels instead of interpolating."""
        self.device, self._nearest = device, nearest
        self._values = torch.zeros(bands, 1, BLOCK**2, dtype=kind, device=device)
        self._data = torch.zeros(1, BLOCK**2, dtype=torch.bool, device=device)

    @property
    def slots(self) -> int:
        """Number of slots."""
        return self._values.shape[1]

    def put(self, uploads: Sequence[BlockUpload], slots: int) -> None:
        """Copy blocks to their slots, of which there are at least `slots` from now on."""
        bands, old_slots, _ = self._values.shape
        if old_slots < slots:
            values = self._values.new_zeros(bands, slots, BLOCK**2)
            data = self._data.new_zeros(slots, BLOCK**2)
            values[:, :old_slots], data[:old_slots] = self._values, self._data
            self._values, self._data = values, data
        for upload in uploads:
            height, width = upload.data.shape
            values = self._values[:, upload.slot].view(-1, BLOCK, BLOCK)
            data = self._data[upload.slot].view(BLOCK, BLOCK)
            if (height, width) != (BLOCK, BLOCK):  # the slot may hold an older, larger block
                values.zero_()
                data.zero_()
            values[:, :height, :width] = torch.from_numpy(upload.values).to(self.device)
            data[:height, :width] = torch.from_numpy(upload.data).to(self.device)

    def cut(
        self,
        parts: Sequence[RasterPart],
        weights: Float64[np.ndarray, "col node"],
        start: int,
        stop: int,
        min_valid: float,
    ) -> tuple[Float[Tensor, "point band row col"], UInt8[Tensor, " point"]]:
        """Cut a range of patches of one frame.

        Args:
            parts: contributions of rasters; where several have data, the first wins.
            weights: Lagrange weights of the nodes at each column of a patch, and at each row.
            start: first patch.
            stop: patch after the last.
            min_valid: share of a patch's pixels that must hold data.

        Returns:
            Their pixels, and a `Gap` each.
        """
        count, size = stop - start, len(weights)
        total = torch.zeros(count, len(self._values), size, size, device=self.device)
        weight = torch.zeros(count, size, size, device=self.device)
        inside = torch.zeros(count, dtype=torch.bool, device=self.device)
        for part in parts:
            chosen = np.flatnonzero((part.members >= start) & (part.members < stop))
            if not len(chosen):
                continue
            patch = torch.from_numpy(part.members[chosen] - start).to(self.device)
            values, share, touching = self._interpolate(part, weights, chosen)
            # Each pixel has a weight of 1 to give away: a raster takes its share of what those
            # before it left, so that an overlap is not counted twice.
            taken = torch.minimum(share, 1 - weight[patch])
            scale = torch.where(taken < share, taken / share, 1.0)
            total[patch] += values * scale[:, None]
            weight[patch] += taken
            inside[patch] |= touching
        # A pixel with data for half of its weight is the mean of these data; the other pixels of a
        # valid patch get the mean of the patch. The steps are those of the CPU in float32, and the
        # patch's mean in float64.
        seen = weight >= 0.5 - 1e-6
        partly = seen & (weight < FULL)
        total = torch.where(partly[:, None], total / weight[:, None], total)
        valid = seen.double().mean(dim=(1, 2)) >= min_valid
        known = seen[:, None]
        mean = torch.where(known, total, 0.0).double().sum(dim=(2, 3)) / known.sum(dim=(2, 3))
        filling = torch.zeros_like(mean) if self._nearest else mean
        total = torch.where(known, total, filling.float()[:, :, None, None])
        total = torch.where(valid[:, None, None, None], total, 0.0)
        gap = torch.where(inside, int(Gap.NODATA), int(Gap.OUTSIDE))
        return total, torch.where(valid, int(Gap.NONE), gap).to(torch.uint8)

    def _interpolate(
        self,
        part: RasterPart,
        weights: Float64[np.ndarray, "col node"],
        chosen: Int[np.ndarray, " chosen"],
    ) -> tuple[
        Float[Tensor, "chosen band row col"],
        Float[Tensor, "chosen row col"],
        Bool[Tensor, " chosen"],
    ]:
        """Interpolate a raster bilinearly at every pixel of some members.

        Returns:
            The weighted sum of the pixels with data, the sum of their weights, and whether the
            patch touches the raster.
        """
        nodes = torch.from_numpy(part.nodes[chosen]).to(self.device)
        at_pixels = torch.from_numpy(weights).to(self.device)
        positions = [_quartic(nodes[..., axis], at_pixels) for axis in (0, 1)]
        for k, member in enumerate(chosen.tolist()):
            if member in part.exact:
                exact = torch.from_numpy(part.exact[member]).to(self.device)
                positions[0][k], positions[1][k] = exact[..., 0], exact[..., 1]
        touching = torch.ones(len(chosen), dtype=torch.bool, device=self.device)
        known = torch.ones_like(positions[0], dtype=torch.bool)
        floors, fractions = [], []
        for position, factor, size, read_size in zip(
            positions, part.decimation, part.shape, part.sizes, strict=True
        ):
            touching &= ((position > -0.5) & (position < size - 0.5)).any(dim=2).any(dim=1)
            known &= position.isfinite()
            # Pixel centres are at integers, so a position moves by half a pixel before and after it
            # is divided. Off the raster it is clamped to just beyond the edge, where blocks are
            # empty; NaN, whose weight is set to 0 below, goes there too.
            read = (position + 0.5) / factor - 0.5
            read = read.nan_to_num(nan=-1.0).clamp(-1, read_size)
            floor = read.floor()
            floors.append(floor.long())
            fractions.append((read - floor).float())
        known &= touching[:, None, None]  # a patch just off the raster takes nothing of its edge
        if self._nearest:  # all the weight on one of the four pixels
            fractions = [fraction.round() for fraction in fractions]
        below, right = fractions
        slots = torch.from_numpy(part.slots).to(self.device)
        shape = (len(chosen), len(self._values), *below.shape[1:])
        values = torch.zeros(shape, device=self.device)
        share, complete = torch.zeros_like(below), torch.ones_like(known)
        taps = (
            (0, 0, (1 - below) * (1 - right)),
            (0, 1, (1 - below) * right),
            (1, 0, below * (1 - right)),
            (1, 1, below * right),
        )
        data, planes = self._data.view(-1), self._values.flatten(1)
        for down, across, tap in taps:
            row, col = floors[0] + down, floors[1] + across
            # The block of each read pixel, the slot of the block, and the pixel's offset in the
            # flat cache. Only pixels of unknown position and taps of weight 0 lie beyond the table;
            # clamped to its edge they gather any value.
            block_row = ((row >> _BITS) - part.origin[0]).clamp(0, len(slots) - 1)
            block_col = ((col >> _BITS) - part.origin[1]).clamp(0, slots.shape[1] - 1)
            in_block = ((row & _LOW_BITS) << _BITS) + (col & _LOW_BITS)
            offset = slots[block_row, block_col] * BLOCK**2 + in_block
            for band in range(len(self._values)):  # one by one: the gathered copy stays small
                values[:, band] += tap * planes[band][offset]
            has_data = data[offset]
            share += tap * has_data
            complete &= has_data | (tap == 0)
        # The four weights need not sum to exactly 1 in float32; where nothing is missing they count
        # as 1, as on the CPU where a window has no holes.
        share = torch.where(complete, 1.0, share) * known
        return values * known[:, None], share, touching


def _quartic(
    nodes: Float64[Tensor, "point node node"], weights: Float64[Tensor, "col node"]
) -> Float64[Tensor, "point row col"]:
    """Evaluate the quartic through the nodes at every pixel: `patch_frames`' sums, one by one.

    They are written out because a matrix product may add in another order.
    """
    rows: Any = sum(weights[:, k, None] * nodes[:, None, k] for k in range(NODES))
    both: Any = sum(rows[:, :, None, k] * weights[None, None, :, k] for k in range(NODES))
    positions: Tensor = both
    return positions
