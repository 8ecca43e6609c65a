"""Contrastive loss between modalities, over the places of one process or of many."""

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
from unigeo.producer.training.loss.positives import Relations, relate
from unigeo.producer.training.loss.tiled_loss import tiled_loss
from unigeo.schemas.errors import ModelError

PAPER = ContrastSettings()
"""All pairs, negatives from the whole batch, each place the target of itself alone."""


def contrastive_loss(
    embeddings: Mapping[str, Float[Tensor, "place dimension"]],
    present: Mapping[str, Bool[Tensor, " place"]],
    scale: Float[Tensor, "*pair"],
    settings: ContrastSettings = PAPER,
    *,
    lonlat: Float64[Tensor, "place 2"] | None = None,
    panorama: Int64[Tensor, " place"] | None = None,
    group: ProcessGroup | None = None,
    backend: Literal["tiles", "plain"] = "tiles",
) -> Float[Tensor, ""]:
    """Average InfoNCE over ordered pairs of modalities, with negatives from the batch.

    For each pair only the places where both were observed take part; a pair without any has no
    share in the mean. A pair of two modalities gives two terms, a self pair one. The targets of a
    place are itself and, if the settings say so, places near it or of its panorama: their weights
    are those of `neighbours.relate`, over the sum of the places that take part. With prefixes the
    loss is the mean of the losses of each prefix, at unit length, and of the whole vectors.

    Products are in the precision of the embeddings, or of autocast where it is on; logits and
    their sums in float32, or float64 for float64 embeddings. Memory grows with the batch and not
    with its square.

    Args:
        embeddings: unit vectors of this process's places by modality.
        present: whether each place was observed; the vectors of others are not read.
        scale: inverse temperature, one for all or one per pair in the order of
            `settings.selected(tuple(embeddings))`.
        settings: what is contrasted with what.
        lonlat: degrees, longitude first; `exclusion_m` and `soft_m` need it.
        panorama: number of each place's panorama, negative for none; `same_panorama` needs it.
        group: processes that share the batch, each with as many places; None: this one alone.
        backend: "plain" keeps every matrix of logits, for comparison.

    Returns:
        The loss of the whole batch, the same on each rank. The gradient of the embeddings is that
        of this value; the gradient of `scale` is this rank's share of it, so that a sum over ranks
        gives the gradient of every weight.

    Raises:
        ModelError: if the settings ask for what is not given, or ranks differ in places.

    Source: Astruc et al., UniGeoCLIP, arXiv 2604.11668; prefixes: Kusupati et al. (2022),
    "Matryoshka Representation Learning".
    """
    if backend == "plain" and group is not None:
        raise ModelError("the plain contrastive loss runs in one process; use backend='tiles'")
    batch = ContrastBatch.of(
        embeddings, present, scale, settings, lonlat, panorama, Collectives(group)
    )
    scales = scale.expand(len(batch.pairs))
    loss = tiled_loss if backend == "tiles" else _plain_loss
    cut = _prefixes(embeddings, present, settings.prefixes)
    return torch.stack([loss(vectors, scales, batch) for vectors in (embeddings, *cut)]).mean()


def _prefixes(
    embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor], sizes: tuple[int, ...]
) -> Iterator[dict[str, Tensor]]:
    """Leading dimensions at unit length; vectors of places not observed become zero."""
    for size in sizes:
        yield {
            name: normalize(vectors[:, :size].where(present[name][:, None], 0), dim=1)
            for name, vectors in embeddings.items()
        }


def _plain_loss(embeddings: Mapping[str, Tensor], scales: Tensor, batch: ContrastBatch) -> Tensor:
    """The loss by whole matrices of logits, which autograd keeps for the backward pass."""
    total = 0.0 * scales.sum()
    for index, share in batch.shares().items():
        first, second = batch.pairs[index]
        rows = batch.places[index].rows
        taking = slice(None) if rows is None else rows
        product = (
            embeddings[first][taking].to(batch.product_dtype)
            @ embeddings[second][taking].to(batch.product_dtype).T
        )
        logits = scales[index].to(batch.logit_dtype) * product.to(batch.logit_dtype)
        total = total + share * _both_ways(logits, batch.near[taking])
    return total


def _both_ways(logits: Float[Tensor, "place place"], near: Relations) -> Float[Tensor, ""]:
    """Cross entropy of rows and of columns, summed over places."""
    weight, excluded = relate(near, near, 0, logits.dtype)
    kept = logits if excluded is None else logits.masked_fill(excluded, -math.inf)
    if weight is None:
        own = torch.arange(len(logits), device=logits.device)
        return cross_entropy(kept, own, reduction="sum") + cross_entropy(
            kept.T, own, reduction="sum"
        )
    pulled = logits * weight * (1 / weight.sum(1, keepdim=True) + 1 / weight.sum(0, keepdim=True))
    return kept.logsumexp(1).sum() + kept.logsumexp(0).sum() - pulled.sum()
