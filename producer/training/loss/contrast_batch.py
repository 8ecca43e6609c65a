"""What a contrastive loss knows of a batch beside its vectors: who takes part, and where it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from unigeo.producer.training.loss.collectives import Collectives
from unigeo.producer.training.loss.contrast_settings import ContrastSettings
from unigeo.producer.training.loss.positives import Relations, unit_sphere
from unigeo.schemas.errors import ModelError

_TILE_IN_CACHE = 1024  # 4 MB of float32; 512 to 1024 are equally fast on a core with 2 MB of cache
_TILE_ON_DEVICE = 4096


@dataclass(frozen=True)
class PairMask:
    """The places of a pair of modalities at which both were observed."""

    rows: Int64[Tensor, " row"] | None
    """Among this rank's places; None: all."""
    cols: Int64[Tensor, " col"] | None
    """Among the places of all ranks; None: all."""
    own: int
    """How many places of earlier ranks take part: the column of this rank's first row."""
    count: int
    """How many take part on all ranks."""


@dataclass(frozen=True)
class ContrastBatch:
    """A batch without its vectors; the same for each prefix of them."""

    pairs: tuple[tuple[str, str], ...]
    places: tuple[PairMask, ...]
    """By pair."""
    near: Relations
    """This rank's places."""
    near_all: Relations
    """The places of all ranks."""
    product_dtype: torch.dtype
    logit_dtype: torch.dtype
    tile: int
    ranks: Collectives

    @classmethod
    def of(
        cls,
        embeddings: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        scale: Tensor,
        settings: ContrastSettings,
        lonlat: Tensor | None,
        panorama: Tensor | None,
        ranks: Collectives,
    ) -> "ContrastBatch":
        """Check what was given, and gather from all ranks where their places are."""
        pairs = settings.selected(tuple(embeddings))
        vectors = next(iter(embeddings.values()))
        _check(settings, len(pairs), scale, vectors.shape[1], lonlat, panorama)
        ranks.check_equal(len(vectors), vectors.device)
        located = lonlat is not None and (settings.exclusion_m > 0 or settings.soft_m > 0)
        position = unit_sphere(lonlat) if located and lonlat is not None else None
        panorama = panorama if settings.same_panorama else None
        product_dtype, logit_dtype = _precision(embeddings)
        return cls(
            pairs,
            _taking_part(present, pairs, ranks),
            Relations(settings, position, panorama),
            Relations(
                settings,
                None if position is None else ranks.gather(position),
                None if panorama is None else ranks.gather(panorama),
            ),
            product_dtype,
            logit_dtype,
            settings.tile or (_TILE_IN_CACHE if vectors.is_cpu else _TILE_ON_DEVICE),
            ranks,
        )

    def shares(self) -> dict[int, float]:
        """By pair with any place: what a sum over its places, rows and columns, counts.

        A self pair has one direction: its rows and its columns are the same half of it.
        """
        terms = {
            index: 1 if first == second else 2
            for index, (first, second) in enumerate(self.pairs)
            if self.places[index].count > 0
        }
        total = sum(terms.values())
        return {
            index: count / (2 * total * self.places[index].count) for index, count in terms.items()
        }


def _taking_part(
    present: Mapping[str, Bool[Tensor, " place"]],
    pairs: tuple[tuple[str, str], ...],
    ranks: Collectives,
) -> tuple[PairMask, ...]:
    """Find the places of each pair."""
    names = tuple(present)
    here = torch.stack([present[name] for name in names], dim=1)
    everywhere = ranks.gather(here)
    places, total = len(here), len(everywhere)
    first = ranks.rank * places
    if bool(everywhere.all()):
        return (PairMask(None, None, first, total),) * len(pairs)
    parts: list[PairMask] = []
    for pair in pairs:
        both = everywhere[:, [names.index(name) for name in pair]].all(dim=1)
        cols = both.nonzero()[:, 0]
        rows = both[first : first + places].nonzero()[:, 0]
        own = int(both[:first].sum())
        parts.append(PairMask(rows, cols, own, len(cols)))
    return tuple(parts)


def _precision(embeddings: Mapping[str, Tensor]) -> tuple[torch.dtype, torch.dtype]:
    """Precision of products, and of logits and their sums."""
    dtype = reduce(torch.promote_types, [vectors.dtype for vectors in embeddings.values()])
    if dtype == torch.float64:
        return dtype, dtype
    device = next(iter(embeddings.values())).device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    return dtype, torch.float32


def _check(
    settings: ContrastSettings,
    pairs: int,
    scale: Tensor,
    dimension: int,
    lonlat: Tensor | None,
    panorama: Tensor | None,
) -> None:
    if pairs == 0:
        raise ModelError("contrast: one modality alone has no pair; add another, or self_pairs")
    if scale.ndim > 1 or scale.numel() not in (1, pairs):
        raise ModelError(
            f"contrast: {scale.numel()} temperatures for {pairs} pairs; give one for all, or one "
            "per pair"
        )
    if lonlat is None and (settings.exclusion_m > 0 or settings.soft_m > 0):
        raise ModelError("contrast: exclusion_m and soft_m need the lonlat of each place")
    if panorama is None and settings.same_panorama:
        raise ModelError("contrast: same_panorama needs the panorama of each place")
    if settings.prefixes and settings.prefixes[-1] >= dimension:
        raise ModelError(
            f"contrast: prefix {settings.prefixes[-1]} is not shorter than the vectors, which "
            f"have {dimension} numbers"
        )
