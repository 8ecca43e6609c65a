"""One pair of modalities, tile by tile: softmax statistics forward, gradients backward.

A tile of logits serves both directions: its rows go from the first modality to the second, its
columns back. Nothing of the size of the whole matrix is kept; the backward pass computes each tile
again. Source of the online log-sum-exp: Milakov & Gimelshein (2018), arXiv 1805.02867.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unigeo.producer.training.loss.positives import Relations, relate

_HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class VectorPair:
    """Two sets of vectors to compare, and how their places relate."""

    rows: Float[Tensor, "row dimension"]
    cols: Float[Tensor, "col dimension"]
    scale: Float[Tensor, ""]
    """Inverse temperature, in the precision of the logits."""
    near_rows: Relations
    near_cols: Relations
    own: int
    """Column that holds the place of row 0; those of the next rows follow it."""
    tile: int

    def tiles(self) -> Iterator["Tile"]:
        """Cover the logits; column by column, so that a strip of columns stays in the cache."""
        for left in range(0, len(self.cols), self.tile):
            cols = slice(left, min(left + self.tile, len(self.cols)))
            for top in range(0, len(self.rows), self.tile):
                yield self._tile(slice(top, min(top + self.tile, len(self.rows))), cols)

    def _tile(self, rows: slice, cols: slice) -> "Tile":
        own = self.own + rows.start - cols.start
        cosine = product(self.rows[rows], self.cols[cols].T)
        near_rows, near_cols = self.near_rows[rows], self.near_cols[cols]
        weight, excluded = relate(near_rows, near_cols, own, cosine.dtype)
        return Tile(rows, cols, own, cosine, weight, excluded)


@dataclass(frozen=True)
class Tile:
    """A part of the logits."""

    rows: slice
    cols: slice
    own: int
    """Diagonal of places with themselves, which may lie outside."""
    cosine: Float[Tensor, "row col"]
    weight: Float[Tensor, "row col"] | None
    """Targets before they are normalised; None: each place itself."""
    excluded: Bool[Tensor, "row col"] | None


class Softmax:
    """Running statistics of the softmax of each place over one axis of the logits."""

    def __init__(self, count: int, like: Tensor) -> None:
        self.highest = like.new_full((count,), torch.finfo(like.dtype).min)
        """Largest logit so far."""
        self.sums = like.new_zeros(3, count)
        """Of exponentials, less the largest; of logits by weight of target; of these weights."""

    def add(self, part: slice, logits: Float[Tensor, "row col"], axis: int) -> None:
        """Take in a tile, whose exponentials are summed over `axis`."""
        before = self.highest[part]
        highest = torch.maximum(before, logits.amax(axis))
        exponentials = (logits - highest.unsqueeze(axis)).exp_().sum(axis)
        self.sums[0, part] *= (before - highest).exp_()
        self.sums[0, part] += exponentials
        self.highest[part] = highest

    def add_targets(self, part: slice, pulled: Tensor, weight: Tensor | float) -> None:
        """Take in logits by weight of target, and the weights."""
        self.sums[1, part] += pulled
        self.sums[2, part] += weight

    def normalizer(self) -> Float[Tensor, " place"]:
        """Log-sum-exp of the logits."""
        return self.highest + self.sums[0].log()

    def target_rate(self) -> Float[Tensor, " place"]:
        """What a weight of 1 is of a place's target, which sums to one."""
        return 1 / self.sums[2]

    def loss(self) -> Float[Tensor, ""]:
        """Cross entropy, summed over places."""
        return (self.normalizer() - self.sums[1] * self.target_rate()).sum()


def statistics(pair: VectorPair) -> tuple[Softmax, Softmax]:
    """Statistics of rows and of columns."""
    rows, cols = Softmax(len(pair.rows), pair.scale), Softmax(len(pair.cols), pair.scale)
    for tile in pair.tiles():
        logits = tile.cosine.mul_(pair.scale)
        if tile.weight is None:
            pulled = logits.diagonal(tile.own)
            top, left = tile.rows.start + max(0, -tile.own), tile.cols.start + max(0, tile.own)
            rows.add_targets(slice(top, top + len(pulled)), pulled, 1.0)
            cols.add_targets(slice(left, left + len(pulled)), pulled, 1.0)
        else:
            weighted = tile.weight * logits
            rows.add_targets(tile.rows, weighted.sum(1), tile.weight.sum(1))
            cols.add_targets(tile.cols, weighted.sum(0), tile.weight.sum(0))
        if tile.excluded is not None:
            logits.masked_fill_(tile.excluded, -torch.inf)
        rows.add(tile.rows, logits, axis=1)
        cols.add(tile.cols, logits, axis=0)
    return rows, cols


def add_gradients(
    pair: VectorPair,
    statistics: tuple[Softmax, Softmax],
    share: Float[Tensor, ""],
    row_gradient: Float[Tensor, "row dimension"],
    col_gradient: Float[Tensor, "col dimension"],
) -> Float[Tensor, ""]:
    """Add the gradients of a pair's loss, summed over places and directions, times `share`.

    Args:
        pair: as in the forward pass.
        statistics: of rows and columns, over the whole batch.
        share: what a sum over places counts in the loss.
        row_gradient: of the row vectors, added to.
        col_gradient: of the column vectors, added to.

    Returns:
        The gradient of the scale.
    """
    rows, cols = statistics
    row_normalizer, col_normalizer = rows.normalizer(), cols.normalizer()
    row_rate, col_rate = rows.target_rate(), cols.target_rate()
    scale_gradient = torch.zeros_like(pair.scale)
    for tile in pair.tiles():
        logits = tile.cosine * pair.scale
        if tile.excluded is not None:
            logits.masked_fill_(tile.excluded, -torch.inf)
        gradient = (logits - row_normalizer[tile.rows, None]).exp_()
        gradient += logits.sub_(col_normalizer[tile.cols]).exp_()
        if tile.weight is None:
            gradient.diagonal(tile.own).sub_(2)
        else:
            rate = row_rate[tile.rows, None] + col_rate[tile.cols]
            gradient -= rate.mul_(tile.weight)
        gradient *= share
        scale_gradient += torch.dot(gradient.flatten(), tile.cosine.flatten())
        gradient *= pair.scale
        add_product(row_gradient[tile.rows], gradient, pair.cols[tile.cols])
        add_product(col_gradient[tile.cols], gradient.T, pair.rows[tile.rows])
    return scale_gradient


def operand(vectors: Tensor, dtype: torch.dtype) -> Tensor:
    """Round vectors to the precision of products.

    On a CPU, halves are widened again: a float32 product of rounded numbers is the half product
    with float32 sums, and where there are no matrix units (AMX) it takes half the time.
    """
    rounded = vectors.to(dtype)
    return rounded.float() if rounded.is_cpu and dtype in _HALVES else rounded


def product(first: Float[Tensor, "m k"], second: Float[Tensor, "k n"]) -> Float[Tensor, "m n"]:
    """Multiply matrices; halves are summed and returned in float32."""
    if first.dtype in _HALVES:
        return torch.mm(first, second, out_dtype=torch.float32)
    return torch.mm(first, second)


def add_product(
    total: Float[Tensor, "m n"], first: Float[Tensor, "m k"], second: Float[Tensor, "k n"]
) -> None:
    """Add a product to `total`; the first factor takes the precision of the second."""
    if second.dtype in _HALVES:
        total += product(first.to(second.dtype), second)
    else:
        total.addmm_(first, second)
