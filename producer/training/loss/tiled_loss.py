"""The contrastive loss as an autograd function, in memory linear in the batch.

Each rank compares its own samples, as rows, with those of all ranks, as columns. Ranks exchange
vectors, statistics of columns and gradients of columns, but never logits.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unigeo.producer.training.loss.collectives import Collectives
from unigeo.producer.training.loss.contrast_batch import ContrastBatch
from unigeo.producer.training.loss.positives import SampleLocations
from unigeo.producer.training.loss.tile_softmax import (
    SoftmaxStatistics,
    VectorPair,
    accumulate_gradients,
    round_operand,
    softmax_statistics,
)


def tiled_loss(embeddings: Mapping[str, Tensor], scales: Tensor, batch: ContrastBatch) -> Tensor:
    """Compute the loss of the full vectors or of one prefix.

    Args:
        embeddings: this rank's vectors by modality.
        scales: inverse temperature of each pair.
        batch: pairs, observed samples and their locations.
    """
    # Autograd tracks tensors that are arguments themselves, not those inside a dict.
    loss: Tensor = _TiledLoss.apply(scales, batch, tuple(embeddings), *embeddings.values())
    return loss


class _TiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scales: Tensor, batch: ContrastBatch, names: tuple[str, ...], *vectors: Tensor
    ) -> Tensor:
        local = dict(zip(names, vectors, strict=True))
        gathered = _all_gather(local, batch)
        row_loss = scales.new_zeros((), dtype=batch.logit_dtype)
        col_loss = torch.zeros_like(row_loss)
        # Tiles choose their own precision; autocast would round sums as well.
        with torch.autocast(scales.device.type, enabled=False):
            statistics = {
                index: softmax_statistics(_vector_pair(index, scales, local, gathered, batch))
                for index in batch.pair_weights()
            }
            _reduce_columns([cols for _, cols in statistics.values()], batch.collectives)
            for index, weight in batch.pair_weights().items():
                rows, cols = statistics[index]
                row_loss += weight * rows.loss()
                col_loss += weight * cols.loss()
        ctx.save_for_backward(scales, *vectors)
        ctx.batch, ctx.names, ctx.statistics = batch, names, statistics
        ctx.gathered = None if gathered is local else gathered
        # Rows are split over ranks; columns are complete on every rank after the reduction.
        return batch.collectives.all_reduce_sum(row_loss) + col_loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        scales, *vectors = ctx.saved_tensors
        batch: ContrastBatch = ctx.batch
        local = dict(zip(ctx.names, vectors, strict=True))
        gathered = local if ctx.gathered is None else ctx.gathered
        row_grads = _zeros(local, batch)
        # Alone, rows and columns are the same vectors, and their gradients one sum.
        col_grads = row_grads if gathered is local else _zeros(gathered, batch)
        scale_grads = torch.zeros_like(scales, dtype=batch.logit_dtype)
        with torch.autocast(scales.device.type, enabled=False):
            for index, weight in batch.pair_weights().items():
                first, second = batch.pairs[index]
                mask = batch.masks[index]
                row_grad = _grad_buffer(row_grads[first], mask.rows)
                col_grad = _grad_buffer(col_grads[second], mask.cols)
                scale_grads[index] = accumulate_gradients(
                    _vector_pair(index, scales, local, gathered, batch),
                    ctx.statistics[index],
                    grad_output.to(batch.logit_dtype) * weight,
                    row_grad,
                    col_grad,
                )
                _scatter_add(row_grads[first], mask.rows, row_grad)
                _scatter_add(col_grads[second], mask.cols, col_grad)
        if gathered is not local:
            for name, row_grad in row_grads.items():
                row_grad += batch.collectives.reduce_scatter(col_grads[name])
        vector_grads = (row_grads[name].to(values.dtype) for name, values in local.items())
        return scale_grads.to(scales.dtype), None, None, *vector_grads


def _all_gather(local: dict[str, Tensor], batch: ContrastBatch) -> dict[str, Tensor]:
    """Gather the vectors of all ranks, in the precision of products."""
    if batch.collectives.size == 1:
        return local
    return {
        name: batch.collectives.all_gather(vectors.to(batch.product_dtype))
        for name, vectors in local.items()
    }


def _vector_pair(
    index: int,
    scales: Tensor,
    local: Mapping[str, Tensor],
    gathered: Mapping[str, Tensor],
    batch: ContrastBatch,
) -> VectorPair:
    first, second = batch.pairs[index]
    mask = batch.masks[index]
    return VectorPair(
        round_operand(_select(local[first], mask.rows), batch.product_dtype),
        round_operand(_select(gathered[second], mask.cols), batch.product_dtype),
        scales[index].to(batch.logit_dtype),
        _select(batch.locations, mask.rows),
        _select(batch.all_locations, mask.cols),
        mask.diagonal,
        batch.tile,
    )


def _select[T: (Tensor, SampleLocations)](values: T, rows: Tensor | None) -> T:
    return values if rows is None else values[rows]


def _reduce_columns(statistics: list[SoftmaxStatistics], collectives: Collectives) -> None:
    """Complete the statistics of columns, to which each rank has added its own rows."""
    if collectives.size == 1 or not statistics:
        return
    # All pairs share two collectives: small messages cost latency rather than bandwidth.
    sizes = [len(softmax.highest) for softmax in statistics]
    local_highest = torch.cat([softmax.highest for softmax in statistics])
    sums = torch.cat([softmax.sums for softmax in statistics], dim=1)
    highest = collectives.all_reduce_max(local_highest)
    # Only the exponentials are relative to the maximum.
    sums[0] *= (local_highest - highest).exp()
    collectives.all_reduce_sum(sums)
    for softmax, pair_highest, pair_sums in zip(
        statistics, highest.split(sizes), sums.split(sizes, dim=1), strict=True
    ):
        softmax.highest, softmax.sums = pair_highest, pair_sums


def _zeros(vectors: Mapping[str, Tensor], batch: ContrastBatch) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(values, dtype=batch.logit_dtype) for name, values in vectors.items()
    }


def _grad_buffer(grad: Tensor, rows: Tensor | None) -> Tensor:
    """Return the tensor that collects the gradient of `rows`: `grad` itself for all of them."""
    return grad if rows is None else grad.new_zeros(len(rows), grad.shape[1])


def _scatter_add(grad: Tensor, rows: Tensor | None, buffer: Tensor) -> None:
    if rows is not None:
        grad.index_add_(0, rows, buffer)
