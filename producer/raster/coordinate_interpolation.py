"""The coordinate field from a coarser lattice: nodes are encoded, cells interpolated between them.

A node is the centre of a square of `factor` x `factor` cells of the lattice that the grid is part
of, so every shard has the same nodes. A cell is mixed from the sixteen nodes round it by a
Catmull-Rom spline, as the client's `method="bicubic"` does. Where one of them is off the globe, or
on the other side of the antimeridian, where the encoder's plane has its seam, the cell itself is
encoded.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from torch import Tensor

from unigeo.producer.encoders.folded import CellEncoder
from unigeo.producer.raster.coordinate_detail import MAX_FACTOR
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.splines import catmull_rom
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.quantization import dequantize, quantize

SAMPLES = 48
"""Number of cells on which the error is measured."""


@dataclass(frozen=True, eq=False)
class MixedCells:
    """Cells of a shard as mixtures of nodes."""

    nodes: Int[np.ndarray, "cell 16"]
    """Rows of `NodeVectors.lonlat`; -1 throughout where the cell itself is encoded."""
    weights: Float32[np.ndarray, "cell 16"]
    """Weights of the nodes; they sum to 1."""
    lonlat: Float64[np.ndarray, "cell 2"]
    """Centres of the cells."""


class NodeVectors:
    """Nodes round some cells of a window; encoded once, when their vectors are first needed."""

    def __init__(
        self,
        grid: Grid,
        window: Window,
        factor: int,
        lonlat: Float[np.ndarray, "window_cell 2"],
        cells: Int[np.ndarray, " cell"],
    ) -> None:
        """Find the nodes.

        Args:
            grid: grid of the field.
            window: cells of a shard; `factor` divides its position and size.
            factor: side of a node's square, in cells.
            lonlat: centres of all cells of the window, row by row.
            cells: cells of the window that are interpolated.
        """
        self._factor, self._width, self._centres = factor, window.width, lonlat
        # The spline of a cell at the window's edge takes nodes up to two beyond it.
        lattice = grid.crop(window).coarsen(factor).pad(2)
        self._across = lattice.shape[1]
        lattice_lonlat = lattice.centres().reshape(-1, 2)
        around = self._around(cells)[0]
        lon = lattice_lonlat[around, 0]
        # Longitudes that span 180 degrees cross the antimeridian; they are NaN off the globe, which
        # the negated comparison catches too.
        with np.errstate(invalid="ignore"):
            self._exact = np.zeros(window.height * window.width, bool)
            self._exact[cells] = ~(np.ptp(lon, axis=1) < 180)
        # Only nodes that some cell needs are encoded; `_row` maps lattice nodes to their rows.
        needed = np.zeros(len(lattice_lonlat), bool)
        needed[around[~self._exact[cells]]] = True
        self._row = np.cumsum(needed) - 1
        self.lonlat = lattice_lonlat[needed]
        self._vectors: Tensor | None = None

    def mixed(self, cells: Int[np.ndarray, " cell"]) -> MixedCells:
        """Return cells as mixtures of nodes."""
        around, weights = self._around(cells)
        nodes = np.where(self._exact[cells, None], -1, self._row[around])
        return MixedCells(nodes, weights, self._centres[cells])

    def vectors(
        self, mixed: MixedCells, encode: CellEncoder, device: torch.device
    ) -> Float[Tensor, "cell band"]:
        """Interpolate or encode cells; the vectors have about unit length."""
        exact = mixed.nodes[:, 0] < 0
        encoded = encode(torch.from_numpy(mixed.lonlat[exact])) if exact.any() else None
        if exact.all():
            assert encoded is not None
            return encoded
        if self._vectors is None:
            self._vectors = encode(torch.from_numpy(self.lonlat))
        # Cells without nodes take the first one, and are overwritten afterwards.
        nodes = torch.from_numpy(np.maximum(mixed.nodes, 0)).to(device)
        weights = torch.from_numpy(mixed.weights).to(device)
        vectors = torch.einsum("cn,cnb->cb", weights, self._vectors[nodes])
        if encoded is not None:
            vectors[torch.from_numpy(exact).to(device)] = encoded
        return vectors

    def _around(
        self, cells: Int[np.ndarray, " cell"]
    ) -> tuple[Int[np.ndarray, "cell 16"], Float32[np.ndarray, "cell 16"]]:
        """Return the sixteen lattice nodes round each cell, and their weights."""
        rowcol = np.stack(np.divmod(cells, self._width), axis=-1)
        # Positions in node spacings: cell centres lie at half cells, nodes at half squares.
        position = (rowcol + 0.5) / self._factor - 0.5
        before = np.floor(position)
        # The spline takes nodes -1, 0, 1, 2 from the one before; the lattice begins two earlier.
        row, col = ((before[:, axis, None] + np.arange(1, 5)).astype(np.int64) for axis in (0, 1))
        down, right = np.moveaxis(catmull_rom(position - before), 1, 0)
        around = row[:, :, None] * self._across + col[:, None, :]
        weights = down[:, :, None] * right[:, None, :]
        return around.reshape(-1, 16), weights.reshape(-1, 16).astype(np.float32)


@dataclass(frozen=True)
class InterpolationErrors:
    """Root mean square errors of vectors, relative to their length."""

    interpolation: float
    """Error of interpolated cells."""
    quantization: float
    """Error of int8."""

    def __str__(self) -> str:
        return (
            f"{100 * self.interpolation:.2g} % by interpolation, {100 * self.quantization:.2g} % "
            "by int8"
        )


def cells_per_node(factor: int, shard: int) -> float:
    """Return the cells per encoded node of a shard that is all land."""
    return 1.0 if factor == 1 else float(shard**2 / (shard / factor + 3) ** 2)


def check_factor(factor: int, shard: int) -> None:
    """Refuse a factor that does not divide a shard.

    Raises:
        ModelError: naming the factors that do.
    """
    possible = [k for k in range(2, MAX_FACTOR + 1) if shard % k == 0]
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
        device: its device.
        grid: grid of the field.
        factor: side of a node's square, in cells.
        rowcol: cells to compare.
    """
    exact, interpolated = [], []
    for row, col in rowcol:
        corner = (int(row) // factor * factor, int(col) // factor * factor)
        window = Window(*corner, factor, factor)
        lonlat = grid.centres(window).reshape(-1, 2)
        cell = np.array([(row - corner[0]) * factor + col - corner[1]])
        nodes = NodeVectors(grid, window, factor, lonlat, cell)
        interpolated.append(nodes.vectors(nodes.mixed(cell), encode, device))
        exact.append(encode(torch.from_numpy(lonlat[cell])))
    true, mixed = (torch.cat(vectors).float().cpu().numpy() for vectors in (exact, interpolated))
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    stored = dequantize(quantize(true))
    return InterpolationErrors(*(_rms(other - true) for other in (mixed, stored)))


def check_errors(errors: InterpolationErrors, factor: int) -> None:
    """Refuse to interpolate where the loss shows beside that of int8.

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
