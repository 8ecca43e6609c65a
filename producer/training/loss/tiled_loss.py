"""The contrastive loss in memory linear in the batch, on one process or on many.

Each rank compares its own places, as rows, with those of all ranks, as columns. Between ranks go
the vectors, the statistics of columns, and the gradients of columns: never logits.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unigeo.producer.training.loss.collectives import Collectives
from unigeo.producer.training.loss.contrast_batch import ContrastBatch
from unigeo.producer.training.loss.positives import Relations
from unigeo.producer.training.loss.tile_softmax import (
    Softmax,
    VectorPair,
    add_gradients,
    operand,
    statistics,
)


def tiled_loss(embeddings: Mapping[str, Tensor], scales: Tensor, batch: ContrastBatch) -> Tensor:
    """The loss of whole vectors or of one prefix.

    Args:
        embeddings: this rank's vectors by modality.
        scales: inverse temperature of each pair.
        batch: everything else.
    """
    loss: Tensor = _TiledLoss.apply(scales, batch, tuple(embeddings), *embeddings.values())
    return loss


class _TiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scales: Tensor, batch: ContrastBatch, names: tuple[str, ...], *vectors: Tensor
    ) -> Tensor:
        own = dict(zip(names, vectors, strict=True))
        others = _gather(own, batch)
        row_loss = scales.new_zeros((), dtype=batch.logit_dtype)
        col_loss = torch.zeros_like(row_loss)
        with torch.autocast(scales.device.type, enabled=False):
            found = {
                index: statistics(_pair(index, scales, own, others, batch))
                for index in batch.shares()
            }
            _join([cols for _, cols in found.values()], batch.ranks)
            for index, share in batch.shares().items():
                rows, cols = found[index]
                row_loss += share * rows.loss()
                col_loss += share * cols.loss()
        ctx.save_for_backward(scales, *vectors)
        ctx.batch, ctx.names, ctx.found = batch, names, found
        ctx.others = None if others is own else others
        return batch.ranks.total(row_loss) + col_loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scales, *vectors = ctx.saved_tensors
        batch: ContrastBatch = ctx.batch
        own = dict(zip(ctx.names, vectors, strict=True))
        others = own if ctx.others is None else ctx.others
        of_rows = _zeros(own, batch)
        of_cols = of_rows if others is own else _zeros(others, batch)
        of_scales = torch.zeros_like(scales, dtype=batch.logit_dtype)
        with torch.autocast(scales.device.type, enabled=False):
            for index, share in batch.shares().items():
                first, second = batch.pairs[index]
                places = batch.places[index]
                rows = _part(of_rows[first], places.rows)
                cols = _part(of_cols[second], places.cols)
                of_scales[index] = add_gradients(
                    _pair(index, scales, own, others, batch),
                    ctx.found[index],
                    gradient.to(batch.logit_dtype) * share,
                    rows,
                    cols,
                )
                _put_back(of_rows[first], places.rows, rows)
                _put_back(of_cols[second], places.cols, cols)
        if others is not own:
            for name, part in of_rows.items():
                part += batch.ranks.total_part(of_cols[name])
        of_vectors = (of_rows[name].to(part.dtype) for name, part in own.items())
        return of_scales.to(scales.dtype), None, None, *of_vectors


def _gather(own: dict[str, Tensor], batch: ContrastBatch) -> dict[str, Tensor]:
    """Vectors of all ranks, in the precision of products."""
    if batch.ranks.size == 1:
        return own
    return {
        name: batch.ranks.gather(vectors.to(batch.product_dtype)) for name, vectors in own.items()
    }


def _pair(
    index: int,
    scales: Tensor,
    own: Mapping[str, Tensor],
    others: Mapping[str, Tensor],
    batch: ContrastBatch,
) -> VectorPair:
    first, second = batch.pairs[index]
    places = batch.places[index]
    return VectorPair(
        operand(_some(own[first], places.rows), batch.product_dtype),
        operand(_some(others[second], places.cols), batch.product_dtype),
        scales[index].to(batch.logit_dtype),
        _some(batch.near, places.rows),
        _some(batch.near_all, places.cols),
        places.own,
        batch.tile,
    )


def _some[T: (Tensor, Relations)](values: T, places: Tensor | None) -> T:
    return values if places is None else values[places]


def _join(softmaxes: list[Softmax], ranks: Collectives) -> None:
    """Complete the statistics of columns, of which each rank has seen its own rows."""
    if ranks.size == 1 or not softmaxes:
        return
    sizes = [len(softmax.highest) for softmax in softmaxes]
    highest = torch.cat([softmax.highest for softmax in softmaxes])
    sums = torch.cat([softmax.sums for softmax in softmaxes], dim=1)
    everywhere = ranks.highest(highest)
    sums[0] *= (highest - everywhere).exp()
    ranks.total(sums)
    for softmax, most, part in zip(
        softmaxes, everywhere.split(sizes), sums.split(sizes, dim=1), strict=True
    ):
        softmax.highest, softmax.sums = most, part


def _zeros(vectors: Mapping[str, Tensor], batch: ContrastBatch) -> dict[str, Tensor]:
    return {name: torch.zeros_like(part, dtype=batch.logit_dtype) for name, part in vectors.items()}


def _part(gradient: Tensor, places: Tensor | None) -> Tensor:
    """Where the gradients of some places are summed."""
    return gradient if places is None else gradient.new_zeros(len(places), gradient.shape[1])


def _put_back(gradient: Tensor, places: Tensor | None, part: Tensor) -> None:
    if places is not None:
        gradient.index_add_(0, places, part)
