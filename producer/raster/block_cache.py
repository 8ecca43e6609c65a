"""Blocks of rasters on the device, and patches cut out of them.

A patch is 5 x 5 anchors in a raster and a table of where the blocks round it lie. Its pixels are
found, mixed of four and filled by the same sums, in the same order, as `raster_patches.cut`
does it for patches one by one.
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
"""Read pixels per side of a block; a pixel's block is found by the bits of its number."""
EMPTY = 0
"""Place of what no raster holds."""
NODES = 5
"""Anchors per side of a patch."""
FULL = 1 - 1e-6
"""Weight from which a pixel needs no further raster."""


@dataclass(frozen=True, eq=False)
class RasterPart:
    """What one raster may hold of some patches, at one decimation."""

    view: int
    members: Int[np.ndarray, " member"]
    nodes: Float64[np.ndarray, "member node node 2"]
    exact: dict[int, Float[np.ndarray, "row col 2"]]
    """By position in `members`."""
    decimation: tuple[int, int]
    shape: tuple[int, int]
    """Of the raster."""
    sizes: tuple[int, ...]
    """Of the decimated raster."""
    origin: tuple[int, int]
    """Row and column of the first block of `table`."""
    table: Int[np.ndarray, "block_row block_col"]
    """Places in the pool."""


@dataclass(frozen=True, eq=False)
class BlockUpload:
    """A block on its way to the device; at a raster's edge it is smaller."""

    place: int
    values: Shaped[np.ndarray, "band row col"]
    data: Bool[np.ndarray, "row col"]


class BlockCache:
    """Blocks of the same number of bands, each at a place by number."""

    def __init__(self, bands: int, kind: torch.dtype, device: torch.device) -> None:
        """Begin with nothing but the empty place."""
        self.device = device
        self._values = torch.zeros(bands, 1, BLOCK**2, dtype=kind, device=device)
        self._data = torch.zeros(1, BLOCK**2, dtype=torch.bool, device=device)

    @property
    def places(self) -> int:
        """How many there are."""
        return self._values.shape[1]

    def put(self, pages: Sequence[BlockUpload], room: int) -> None:
        """Take blocks in, after making so many places where there are fewer."""
        bands, places, _ = self._values.shape
        if places < room:
            values = self._values.new_zeros(bands, room, BLOCK**2)
            data = self._data.new_zeros(room, BLOCK**2)
            values[:, :places], data[:places] = self._values, self._data
            self._values, self._data = values, data
        for page in pages:
            height, width = page.data.shape
            values = self._values[:, page.place].view(-1, BLOCK, BLOCK)
            data = self._data[page.place].view(BLOCK, BLOCK)
            if (height, width) != (BLOCK, BLOCK):
                values.zero_()
                data.zero_()
            values[:, :height, :width] = torch.from_numpy(page.values).to(self.device)
            data[:height, :width] = torch.from_numpy(page.data).to(self.device)

    def cut(
        self,
        pieces: Sequence[RasterPart],
        weights: Float64[np.ndarray, "col node"],
        start: int,
        stop: int,
        min_valid: float,
    ) -> tuple[Float[Tensor, "point band row col"], UInt8[Tensor, " point"]]:
        """Cut a range of patches of one size.

        Args:
            pieces: of each raster, the first with data first.
            weights: of the anchors at each column of a patch.
            start: number of the first patch.
            stop: number after the last.
            min_valid: share of a patch's pixels that must hold data.

        Returns:
            Their pixels, and a `Gap` each.
        """
        count, size = stop - start, len(weights)
        total = torch.zeros(count, len(self._values), size, size, device=self.device)
        weight = torch.zeros(count, size, size, device=self.device)
        inside = torch.zeros(count, dtype=torch.bool, device=self.device)
        for piece in pieces:
            chosen = np.flatnonzero((piece.members >= start) & (piece.members < stop))
            if not len(chosen):
                continue
            at = torch.from_numpy(piece.members[chosen] - start).to(self.device)
            values, share, touching = self._gather(piece, weights, chosen)
            room = torch.minimum(share, 1 - weight[at])
            used = torch.where(room < share, room / share, 1.0)
            total[at] += values * used[:, None]
            weight[at] += room
            inside[at] |= touching
        seen = weight >= 0.5 - 1e-6
        partly = seen & (weight < FULL)
        total = torch.where(partly[:, None], total / weight[:, None], total)
        valid = seen.double().mean(dim=(1, 2)) >= min_valid
        known = seen[:, None]
        mean = torch.where(known, total, 0.0).double().sum(dim=(2, 3)) / known.sum(dim=(2, 3))
        total = torch.where(known, total, mean.float()[:, :, None, None])
        total = torch.where(valid[:, None, None, None], total, 0.0)
        lost = torch.where(inside, int(Gap.NODATA), int(Gap.OUTSIDE))
        return total, torch.where(valid, int(Gap.NONE), lost).to(torch.uint8)

    def _gather(
        self,
        piece: RasterPart,
        weights: Float64[np.ndarray, "col node"],
        chosen: Int[np.ndarray, " chosen"],
    ) -> tuple[
        Float[Tensor, "chosen band row col"],
        Float[Tensor, "chosen row col"],
        Bool[Tensor, " chosen"],
    ]:
        """Weigh the four read pixels round each patch pixel."""
        nodes = torch.from_numpy(piece.nodes[chosen]).to(self.device)
        at_pixels = torch.from_numpy(weights).to(self.device)
        positions = [_quartic(nodes[..., axis], at_pixels) for axis in (0, 1)]
        for position, number in enumerate(chosen.tolist()):
            if number in piece.exact:
                own = torch.from_numpy(piece.exact[number]).to(self.device)
                positions[0][position], positions[1][position] = own[..., 0], own[..., 1]
        touching = torch.ones(len(chosen), dtype=torch.bool, device=self.device)
        known = torch.ones_like(positions[0], dtype=torch.bool)
        before, after = [], []
        for place, factor, size, read in zip(
            positions, piece.decimation, piece.shape, piece.sizes, strict=True
        ):
            touching &= ((place > -0.5) & (place < size - 0.5)).any(dim=2).any(dim=1)
            known &= place.isfinite()
            at = ((place + 0.5) / factor - 0.5).nan_to_num(nan=-1.0).clamp(-1, read)
            floor = at.floor()
            before.append(floor.long())
            after.append((at - floor).float())
        known &= touching[:, None, None]  # a patch just off the raster takes nothing of its edge
        below, right = after
        table = torch.from_numpy(piece.table).to(self.device)
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
            row, col = before[0] + down, before[1] + across
            block_row = ((row >> 8) - piece.origin[0]).clamp(0, len(table) - 1)
            block_col = ((col >> 8) - piece.origin[1]).clamp(0, table.shape[1] - 1)
            here = table[block_row, block_col] * BLOCK**2 + ((row & 255) << 8) + (col & 255)
            for band in range(len(self._values)):
                values[:, band] += tap * planes[band][here]
            there = data[here]
            share += tap * there
            complete &= there | (tap == 0)
        share = torch.where(complete, 1.0, share) * known
        return values * known[:, None], share, touching


def _quartic(
    nodes: Float64[Tensor, "point node node"], weights: Float64[Tensor, "place node"]
) -> Float64[Tensor, "point place place"]:
    """`patch_frames._interpolate`, sum by sum."""
    rows: Any = sum(weights[:, k, None] * nodes[:, None, k] for k in range(NODES))
    both: Any = sum(rows[:, :, None, k] * weights[None, None, :, k] for k in range(NODES))
    found: Tensor = both
    return found
