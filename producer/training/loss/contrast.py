"""The contrastive loss between modalities, in one process or many."""

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn.functional import cross_entropy, normalize

from unigeo.producer.training.loss.collectives import Collectives
from unigeo.producer.training.loss.contrast_batch import ContrastBatch
from unigeo.producer.training.loss.contrast_settings import ContrastSettings
from unigeo.producer.training.loss.positives import SampleLocations, targets_and_exclusions
from unigeo.producer.training.loss.tiled_loss import tiled_loss
from unigeo.schemas.errors import ModelError

PAPER = ContrastSettings()
"""The paper's loss: all pairs, all other samples as negatives, one positive per sample."""


def contrastive_loss(
    embeddings: Mapping[str, Float[Tensor, "sample dimension"]],
    present: Mapping[str, Bool[Tensor, " sample"]],
    scale: Float[Tensor, "*pair"],
    settings: ContrastSettings = PAPER,
    *,
    lonlat: Float64[Tensor, "sample 2"] | None = None,
    panorama: Int64[Tensor, " sample"] | None = None,
    group: ProcessGroup | None = None,
    backend: Literal["tiles", "plain"] = "tiles",
) -> Float[Tensor, ""]:
    """Average InfoNCE over ordered pairs of modalities, with negatives from the batch.

    Each pair uses the samples where both modalities were observed; a pair without any is left out
    of the mean. A pair of two modalities gives two terms, a self pair one. The target of a sample
    is the sample itself and, if the settings say so, samples near it or of its panorama, with the
    weights of `positives.targets_and_exclusions`, normalized to sum to 1. With prefixes the loss is
    the mean of the losses of each prefix, at unit length, and of the full vectors.

    Products are in the precision of the embeddings, or of autocast where it is on; logits and
    their sums in float32, or float64 for float64 embeddings. Memory is linear in the batch.

    Args:
        embeddings: unit vectors of this process's samples by modality.
        present: whether each sample was observed; the vectors of others are ignored.
        scale: inverse temperature, one for all pairs or one per pair in the order of
            `settings.selected(tuple(embeddings))`.
        settings: pairs, negatives and positives.
        lonlat: degrees, longitude first; `exclusion_m` and `soft_m` need it.
        panorama: number of each sample's panorama, negative for none; `same_panorama` needs it.
        group: processes that share the batch, with the same number of samples each; None for this
            process alone.
        backend: "plain" keeps every matrix of logits, for comparison.

    Returns:
        The loss of the whole batch, the same on each rank. The gradient of the embeddings is that
        of this value; the gradient of `scale` is this rank's share of it, so that a sum over ranks
        gives the gradient of every weight.

    Raises:
        ModelError: if the settings need an argument that is missing, or ranks differ in their
            number of samples.

    Source: Astruc et al., UniGeoCLIP, arXiv 2604.11668; prefixes: Kusupati et al. (2022),
    "Matryoshka Representation Learning".
    """
    if backend == "plain" and group is not None:
        raise ModelError("the plain contrastive loss runs in one process; use backend='tiles'")
    batch = ContrastBatch.gather(
        embeddings, present, scale, settings, lonlat, panorama, Collectives(group)
    )
    scales = scale.expand(len(batch.pairs))
    loss = tiled_loss if backend == "tiles" else _plain_loss
    prefixes = _prefixes(embeddings, present, settings.prefixes)
    return torch.stack([loss(vectors, scales, batch) for vectors in (embeddings, *prefixes)]).mean()


def _prefixes(
    embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor], sizes: tuple[int, ...]
) -> Iterator[dict[str, Tensor]]:
    """Yield the leading dimensions of all vectors, at unit length."""
    for size in sizes:
        yield {
            # Absent vectors may be NaN, and `normalize` passes NaN back even for a zero gradient.
            name: normalize(vectors[:, :size].where(present[name][:, None], 0), dim=1)
            for name, vectors in embeddings.items()
        }


def _plain_loss(embeddings: Mapping[str, Tensor], scales: Tensor, batch: ContrastBatch) -> Tensor:
    """Compute the loss from full logit matrices, which autograd keeps for the backward pass."""
    total = 0.0 * scales.sum()  # a zero that is part of the graph, should no pair have a sample
    for index, weight in batch.pair_weights().items():
        first, second = batch.pairs[index]
        rows = batch.masks[index].rows
        selected = slice(None) if rows is None else rows
        product = (
            embeddings[first][selected].to(batch.product_dtype)
            @ embeddings[second][selected].to(batch.product_dtype).T
        )
        logits = scales[index].to(batch.logit_dtype) * product.to(batch.logit_dtype)
        total = total + weight * _symmetric_loss(logits, batch.locations[selected])
    return total


def _symmetric_loss(
    logits: Float[Tensor, "sample sample"], locations: SampleLocations
) -> Float[Tensor, ""]:
    """Sum the cross entropy of rows and of columns over samples."""
    weight, excluded = targets_and_exclusions(locations, locations, 0, logits.dtype)
    kept = logits if excluded is None else logits.masked_fill(excluded, -math.inf)
    if weight is None:
        target = torch.arange(len(logits), device=logits.device)
        return cross_entropy(kept, target, reduction="sum") + cross_entropy(
            kept.T, target, reduction="sum"
        )
    # Excluded pairs have weight 0, but an infinite logit: the target term takes unmasked logits.
    targets = logits * weight * (1 / weight.sum(1, keepdim=True) + 1 / weight.sum(0, keepdim=True))
    return kept.logsumexp(1).sum() + kept.logsumexp(0).sum() - targets.sum()
