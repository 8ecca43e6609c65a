"""Softmax cross entropy of one pair of modalities, tile by tile, forward and backward.

A tile of logits serves both directions: its rows go from the first modality to the second, its
columns back. No matrix of the batch's size is kept; the backward pass computes each tile again.
Source of the online log-sum-exp: Milakov & Gimelshein (2018), arXiv 1805.02867.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unigeo.producer.training.loss.positives import SampleLocations, targets_and_exclusions

_HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class VectorPair:
    """Vectors of two modalities to compare, with the locations of their samples."""

    rows: Float[Tensor, "row dimension"]
    cols: Float[Tensor, "col dimension"]
    scale: Float[Tensor, ""]
    """Inverse temperature, in the precision of the logits."""
    row_locations: SampleLocations
    col_locations: SampleLocations
    diagonal: int
    """Column that holds the sample of row 0; the samples of the next rows follow it."""
    tile: int
    """Side of a tile."""

    def tiles(self) -> Iterator["Tile"]:
        """Compute the cosines tile by tile, one strip of columns (which stays cached) at a time."""
        for left in range(0, len(self.cols), self.tile):
            cols = slice(left, min(left + self.tile, len(self.cols)))
            for top in range(0, len(self.rows), self.tile):
                yield self._tile(slice(top, min(top + self.tile, len(self.rows))), cols)

    def _tile(self, rows: slice, cols: slice) -> "Tile":
        diagonal = self.diagonal + rows.start - cols.start
        cosine = matmul(self.rows[rows], self.cols[cols].T)
        weight, excluded = targets_and_exclusions(
            self.row_locations[rows], self.col_locations[cols], diagonal, cosine.dtype
        )
        return Tile(rows, cols, diagonal, cosine, weight, excluded)


@dataclass(frozen=True)
class Tile:
    """A rectangle of the matrix of cosines."""

    rows: slice
    cols: slice
    diagonal: int
    """Offset of the diagonal of samples with themselves, which may lie outside the tile."""
    cosine: Float[Tensor, "row col"]
    weight: Float[Tensor, "row col"] | None
    """Unnormalized target weights; None if each sample is its own only target."""
    excluded: Bool[Tensor, "row col"] | None
    """Pairs that are left out of the softmax; None if there are none."""


class SoftmaxStatistics:
    """Running statistics of each sample's softmax along one axis of the logits."""

    def __init__(self, count: int, like: Tensor) -> None:
        """Start from no logits, for `count` samples, in the type and device of `like`."""
        # Not -inf: the difference of two of them, in `add_logits`, would be NaN.
        self.highest = like.new_full((count,), torch.finfo(like.dtype).min)
        """Largest logit so far."""
        self.sums = like.new_zeros(3, count)
        """Sums of exp(logit - highest), of target weight times logit, and of target weights; one
        tensor, so that ranks add them up in one collective."""

    def add_logits(self, part: slice, logits: Float[Tensor, "row col"], axis: int) -> None:
        """Add a tile's exponentials, summed over `axis`, to the samples of `part`."""
        before = self.highest[part]
        highest = torch.maximum(before, logits.amax(axis))
        exponentials = (logits - highest.unsqueeze(axis)).exp_().sum(axis)
        # The old sum was relative to the old maximum: rescale it to the new one.
        self.sums[0, part] *= (before - highest).exp_()
        self.sums[0, part] += exponentials
        self.highest[part] = highest

    def add_targets(self, part: slice, weighted_logits: Tensor, weight: Tensor | float) -> None:
        """Add sums of target weight times logit, and of target weights."""
        self.sums[1, part] += weighted_logits
        self.sums[2, part] += weight

    def logsumexp(self) -> Float[Tensor, " sample"]:
        """Return each sample's log-sum-exp of the logits."""
        return self.highest + self.sums[0].log()

    def target_normalizer(self) -> Float[Tensor, " sample"]:
        """Return the factor that makes each sample's target weights sum to 1."""
        return 1 / self.sums[2]

    def loss(self) -> Float[Tensor, ""]:
        """Return the cross entropy, summed over samples."""
        return (self.logsumexp() - self.sums[1] * self.target_normalizer()).sum()


def softmax_statistics(pair: VectorPair) -> tuple[SoftmaxStatistics, SoftmaxStatistics]:
    """Compute the statistics of rows and of columns."""
    rows = SoftmaxStatistics(len(pair.rows), pair.scale)
    cols = SoftmaxStatistics(len(pair.cols), pair.scale)
    for tile in pair.tiles():
        logits = tile.cosine.mul_(pair.scale)
        # Targets come first, as they need the logits before the mask: 0 * -inf would be NaN.
        if tile.weight is None:
            target_logits = logits.diagonal(tile.diagonal)
            # The diagonal starts in row -offset below the main one, in column +offset above it.
            top = tile.rows.start + max(0, -tile.diagonal)
            left = tile.cols.start + max(0, tile.diagonal)
            rows.add_targets(slice(top, top + len(target_logits)), target_logits, 1.0)
            cols.add_targets(slice(left, left + len(target_logits)), target_logits, 1.0)
        else:
            weighted = tile.weight * logits
            rows.add_targets(tile.rows, weighted.sum(1), tile.weight.sum(1))
            cols.add_targets(tile.cols, weighted.sum(0), tile.weight.sum(0))
        if tile.excluded is not None:
            logits.masked_fill_(tile.excluded, -torch.inf)
        rows.add_logits(tile.rows, logits, axis=1)
        cols.add_logits(tile.cols, logits, axis=0)
    return rows, cols


def accumulate_gradients(
    pair: VectorPair,
    statistics: tuple[SoftmaxStatistics, SoftmaxStatistics],
    weight: Float[Tensor, ""],
    row_grad: Float[Tensor, "row dimension"],
    col_grad: Float[Tensor, "col dimension"],
) -> Float[Tensor, ""]:
    """Add `weight` times the gradients of a pair's loss, summed over samples and directions.

    Args:
        pair: as in the forward pass.
        statistics: of rows and columns, over the whole batch.
        weight: factor of the pair's summed loss.
        row_grad: gradient of the row vectors, added to.
        col_grad: gradient of the column vectors, added to.

    Returns:
        The gradient of the scale.
    """
    rows, cols = statistics
    row_logsumexp, col_logsumexp = rows.logsumexp(), cols.logsumexp()
    row_normalizer, col_normalizer = rows.target_normalizer(), cols.target_normalizer()
    scale_grad = torch.zeros_like(pair.scale)
    for tile in pair.tiles():
        logits = tile.cosine * pair.scale
        if tile.excluded is not None:
            logits.masked_fill_(tile.excluded, -torch.inf)
        # Per logit: its probability in the row and in the column, less its target in both.
        grad = (logits - row_logsumexp[tile.rows, None]).exp_()
        grad += logits.sub_(col_logsumexp[tile.cols]).exp_()
        if tile.weight is None:
            grad.diagonal(tile.diagonal).sub_(2)
        else:
            normalizer = row_normalizer[tile.rows, None] + col_normalizer[tile.cols]
            grad -= normalizer.mul_(tile.weight)
        grad *= weight
        # logit = scale * cosine, so that the same gradient serves the scale and the vectors.
        scale_grad += torch.dot(grad.flatten(), tile.cosine.flatten())
        grad *= pair.scale
        add_matmul(row_grad[tile.rows], grad, pair.cols[tile.cols])
        add_matmul(col_grad[tile.cols], grad.T, pair.rows[tile.rows])
    return scale_grad


def round_operand(vectors: Tensor, dtype: torch.dtype) -> Tensor:
    """Round vectors to the precision of products.

    On a CPU, halves are widened again: a float32 product of rounded numbers is the half product
    with float32 sums, and where there are no matrix units (AMX) it takes half the time.
    """
    rounded = vectors.to(dtype)
    return rounded.float() if rounded.is_cpu and dtype in _HALVES else rounded


def matmul(first: Float[Tensor, "m k"], second: Float[Tensor, "k n"]) -> Float[Tensor, "m n"]:
    """Multiply matrices; halves are summed and returned in float32."""
    if first.dtype in _HALVES:
        return torch.mm(first, second, out_dtype=torch.float32)
    return torch.mm(first, second)


def add_matmul(
    total: Float[Tensor, "m n"], first: Float[Tensor, "m k"], second: Float[Tensor, "k n"]
) -> None:
    """Add a matrix product to `total`; the first factor is cast to the type of the second."""
    if second.dtype in _HALVES:
        total += matmul(first.to(second.dtype), second)
    else:
        total.addmm_(first, second)
