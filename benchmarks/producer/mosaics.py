"""Noise in blocks on a device, patches on a lattice of cells over it, and a tower for them."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unigeo.producer.encoders import presets
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import ImageSettings
from unigeo.producer.raster.block_cache import BLOCK, NODES, BlockCache, BlockUpload, RasterPart

CELL_PX = 100
"""Pixels from a cell to the next: 100 m at a metre, so that patches of 224 m overlap."""
LEAST_VALID = 0.5
"""Share of a patch that must hold data."""
_PIXELS = 1 << 24
"""Largest number of pixels of patches cut at once."""


@dataclass(frozen=True, eq=False)
class Cutter:
    """A mosaic, and the patches to be cut out of it."""

    pool: BlockCache
    piece: RasterPart
    weights: np.ndarray

    @classmethod
    def of(cls, count: int, side: int, device: torch.device, *, holes: bool = False) -> "Cutter":
        """Make a mosaic for so many patches of so many pixels per side.

        With holes a corner and scattered squares of it hold no data, and the last patch lies
        outside.
        """
        across = int(np.ceil(np.sqrt(count)))
        blocks = (across * CELL_PX + 2 * side) // BLOCK + 2
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 256, (3, BLOCK, BLOCK), np.uint8)
        pages = []
        for number in range(blocks**2):
            data = np.ones((BLOCK, BLOCK), bool)
            if holes:
                row, col = (BLOCK * k for k in divmod(number, blocks))
                data[: max(side + 80 - row, 0), : max(side + 80 - col, 0)] = False
                data[40:60, 30 + number : 50 + number] = False
            values = np.roll(noise, number, 1) * data
            pages.append(BlockUpload(1 + number, values, data))
        pool = BlockCache(3, torch.uint8, device)
        pool.put(pages, 1 + blocks**2)
        centre = side + CELL_PX * np.stack(np.divmod(np.arange(count), across), axis=-1) + 0.37
        along = np.linspace(-(side - 1) / 2, (side - 1) / 2, NODES)
        down, right = np.meshgrid(along, along, indexing="ij")
        turned = np.stack([down + 0.02 * right, right - 0.02 * down], axis=-1)
        nodes = centre[:, None, None] + turned
        if holes:
            nodes[-1] -= 1e6
        size = (blocks * BLOCK, blocks * BLOCK)
        table = 1 + np.arange(blocks**2).reshape(blocks, blocks)
        piece = RasterPart(0, np.arange(count), nodes, {}, (1, 1), size, size, (0, 0), table)
        pixels = np.arange(side) - (side - 1) / 2
        weights = np.ones((side, NODES))
        for k, node in enumerate(along):
            for other in np.delete(along, k):
                weights[:, k] *= (pixels - other) / (node - other)
        return cls(pool, piece, weights)

    def cut(self) -> tuple[Tensor, Tensor]:
        """Cut every patch.

        Returns:
            Their pixels, uint8 (point, band, row, col), and a `Gap` each.
        """
        count, side = len(self.piece.members), len(self.weights)
        step = max(1, _PIXELS // side**2)
        parts, gaps = [], []
        for start in range(0, count, step):
            stop = min(start + step, count)
            values, gap = self.pool.cut([self.piece], self.weights, start, stop, LEAST_VALID)
            parts.append(values.round().to(torch.uint8))
            gaps.append(gap)
        return torch.cat(parts), torch.cat(gaps)


def image_model(size: str, side: int) -> UniGeoCLIP:
    """An aerial tower with random weights: that of `base`, or a tiny one of `side` pixels."""
    settings = presets.base(pretrained=None).towers["aerial"]
    if size == "tiny":
        settings = ImageSettings(rows=side, cols=side, patch=16, width=32, depth=1, heads=2)
    assert settings is not None
    torch.manual_seed(0)
    return UniGeoCLIP(
        ModelSettings(dimension=settings.width, towers={"aerial": settings}), pretrained=False
    )
