"""The coordinate field from a coarser lattice: nodes are encoded, cells interpolated between them.

A node is the centre of a square of `factor` x `factor` cells of the lattice of which the grid is a
part, so it is the same place for every shard. A cell is mixed from the sixteen nodes round it by a
Catmull-Rom spline, the client's `method="bicubic"`. Where one of them is off the globe, or on the
other side of the antimeridian, where the encoder's plane has its seam, the cell is encoded itself.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from torch import Tensor

from unigeo.producer.encoders.folded import CellEncoder
from unigeo.producer.raster.coordinate_detail import MOST
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.splines import catmull_rom
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.quantization import dequantize, quantize

SAMPLES = 48
"""Cells on which the error is measured."""


@dataclass(frozen=True, eq=False)
class MixedCells:
    """Cells of a shard as mixtures of nodes."""

    nodes: Int[np.ndarray, "cell 16"]
    """Numbers of `NodeVectors.lonlat`; -1 throughout where the cell is encoded itself."""
    weights: Float32[np.ndarray, "cell 16"]
    lonlat: Float64[np.ndarray, "cell 2"]


class NodeVectors:
    """Nodes round some cells of a window; encoded once, when they are first asked for."""

    def __init__(
        self,
        grid: Grid,
        window: Window,
        factor: int,
        lonlat: Float[np.ndarray, "place 2"],
        cells: Int[np.ndarray, " cell"],
    ) -> None:
        """Find the nodes.

        Args:
            grid: of the field.
            window: of a shard; `factor` divides its place and size.
            factor: side of a node's square, in cells.
            lonlat: centres of all cells of the window, row by row.
            cells: numbers of those to be interpolated.
        """
        self._factor, self._width, self._places = factor, window.width, lonlat
        # The spline of a cell at the window's edge takes nodes up to two beyond it.
        lattice = grid.crop(window).coarsen(factor).pad(2)
        self._across = lattice.shape[1]
        places = lattice.centres().reshape(-1, 2)
        around = self._around(cells)[0]
        lon = places[around, 0]
        with np.errstate(invalid="ignore"):
            self._exact = np.zeros(window.height * window.width, bool)
            self._exact[cells] = ~(np.ptp(lon, axis=1) < 180)  # NaN off the globe
        needed = np.zeros(len(places), bool)
        needed[around[~self._exact[cells]]] = True
        self._number = np.cumsum(needed) - 1
        self.lonlat = places[needed]
        self._vectors: Tensor | None = None

    def mixed(self, cells: Int[np.ndarray, " cell"]) -> MixedCells:
        """Cells as mixtures."""
        around, weights = self._around(cells)
        nodes = np.where(self._exact[cells, None], -1, self._number[around])
        return MixedCells(nodes, weights, self._places[cells])

    def vectors(
        self, mixed: MixedCells, encode: CellEncoder, device: torch.device
    ) -> Float[Tensor, "cell band"]:
        """Vectors of cells, of about unit length."""
        exact = mixed.nodes[:, 0] < 0
        found = encode(torch.from_numpy(mixed.lonlat[exact])) if exact.any() else None
        if exact.all():
            assert found is not None
            return found
        if self._vectors is None:
            self._vectors = encode(torch.from_numpy(self.lonlat))
        nodes = torch.from_numpy(np.maximum(mixed.nodes, 0)).to(device)
        weights = torch.from_numpy(mixed.weights).to(device)
        vectors = torch.einsum("cn,cnb->cb", weights, self._vectors[nodes])
        if found is not None:
            vectors[torch.from_numpy(exact).to(device)] = found
        return vectors

    def _around(
        self, cells: Int[np.ndarray, " cell"]
    ) -> tuple[Int[np.ndarray, "cell 16"], Float32[np.ndarray, "cell 16"]]:
        """Numbers on the lattice of the nodes round each cell, and their weights."""
        rowcol = np.stack(np.divmod(cells, self._width), axis=-1)
        position = (rowcol + 0.5) / self._factor - 0.5
        before = np.floor(position)
        row, col = ((before[:, axis, None] + np.arange(1, 5)).astype(np.int64) for axis in (0, 1))
        down, right = np.moveaxis(catmull_rom(position - before), 1, 0)
        around = row[:, :, None] * self._across + col[:, None, :]
        weights = down[:, :, None] * right[:, None, :]
        return around.reshape(-1, 16), weights.reshape(-1, 16).astype(np.float32)


@dataclass(frozen=True)
class InterpolationErrors:
    """Of interpolated cells, relative to a vector's length."""

    interpolation: float
    quantization: float

    def __str__(self) -> str:
        return (
            f"{100 * self.interpolation:.2g} % by interpolation, {100 * self.quantization:.2g} % "
            "by int8"
        )


def cells_per_node(factor: int, shard: int) -> float:
    """Cells of a shard on land per node to be encoded."""
    return 1.0 if factor == 1 else float(shard**2 / (shard / factor + 3) ** 2)


def check_factor(factor: int, shard: int) -> None:
    """Refuse a factor that does not divide a shard.

    Raises:
        ModelError: naming those that do.
    """
    possible = [k for k in range(2, MOST + 1) if shard % k == 0]
    if factor != 1 and factor not in possible:
        raise ModelError(
            f"--interpolate {factor} does not divide a shard of {shard} cells; "
            f"{', '.join(map(str, possible))} do"
        )


@torch.inference_mode()
def measured_errors(
    encode: CellEncoder,
    device: torch.device,
    grid: Grid,
    factor: int,
    rowcol: Int[np.ndarray, "cell 2"],
) -> InterpolationErrors:
    """Compare interpolated cells with encoded ones, and these with int8.

    Args:
        encode: the coordinate encoder.
        device: that it is on.
        grid: of the field.
        factor: side of a node's square, in cells.
        rowcol: cells to compare.
    """
    exact, between = [], []
    for row, col in rowcol:
        corner = (int(row) // factor * factor, int(col) // factor * factor)
        window = Window(*corner, factor, factor)
        places = grid.centres(window).reshape(-1, 2)
        cell = np.array([(row - corner[0]) * factor + col - corner[1]])
        nodes = NodeVectors(grid, window, factor, places, cell)
        between.append(nodes.vectors(nodes.mixed(cell), encode, device))
        exact.append(encode(torch.from_numpy(places[cell])))
    true, mixed = (torch.cat(vectors).float().cpu().numpy() for vectors in (exact, between))
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    stored = dequantize(quantize(true))
    return InterpolationErrors(*(_rms(other - true) for other in (mixed, stored)))


def check_errors(errors: InterpolationErrors, factor: int) -> None:
    """Refuse to interpolate where it shows.

    Raises:
        ModelError: saying what to do.
    """
    if not errors.interpolation <= errors.quantization / 2:
        raise ModelError(
            f"--interpolate {factor} errs by {errors}; the first may be half of the second. Take a "
            "smaller factor, or leave it out: every cell is then encoded"
        )


def _rms(difference: Bool[np.ndarray, "cell band"] | Float[np.ndarray, "cell band"]) -> float:
    return float(np.sqrt((difference**2).sum(axis=1).mean()))
