"""Everything the contrastive loss needs of a batch besides its vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from unigeo.producer.training.loss.collectives import Collectives
from unigeo.producer.training.loss.contrast_settings import ContrastSettings
from unigeo.producer.training.loss.positives import SampleLocations, unit_sphere
from unigeo.schemas.errors import ModelError

_TILE_IN_CACHE = 1024  # 4 MB of float32; 512 to 1024 are equally fast on a core with 2 MB of cache
_TILE_ON_DEVICE = 4096


@dataclass(frozen=True)
class PairMask:
    """The samples at which both modalities of a pair were observed."""

    rows: Int64[Tensor, " row"] | None
    """Indices into this rank's samples; None for all of them."""
    cols: Int64[Tensor, " col"] | None
    """Indices into the samples of all ranks; None for all of them."""
    diagonal: int
    """Column of this rank's first row: the number of observed samples on earlier ranks."""
    count: int
    """Number of observed samples on all ranks."""


@dataclass(frozen=True)
class ContrastBatch:
    """A batch without its vectors; it is the same for the full vectors and for each prefix."""

    pairs: tuple[tuple[str, str], ...]
    masks: tuple[PairMask, ...]
    """Observed samples of each pair."""
    locations: SampleLocations
    """Locations of this rank's samples."""
    all_locations: SampleLocations
    """Locations of the samples of all ranks."""
    product_dtype: torch.dtype
    logit_dtype: torch.dtype
    tile: int
    collectives: Collectives

    @classmethod
    def gather(
        cls,
        embeddings: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        scale: Tensor,
        settings: ContrastSettings,
        lonlat: Tensor | None,
        panorama: Tensor | None,
        collectives: Collectives,
    ) -> "ContrastBatch":
        """Check the arguments of `contrastive_loss`, and gather locations from all ranks."""
        pairs = settings.selected(tuple(embeddings))
        vectors = next(iter(embeddings.values()))
        _check(settings, len(pairs), scale, vectors.shape[1], lonlat, panorama)
        collectives.check_equal(len(vectors), vectors.device)
        located = lonlat is not None and (settings.exclusion_m > 0 or settings.soft_m > 0)
        position = unit_sphere(lonlat) if located and lonlat is not None else None
        panorama = panorama if settings.same_panorama else None
        product_dtype, logit_dtype = _precision(embeddings)
        return cls(
            pairs,
            _pair_masks(present, pairs, collectives),
            SampleLocations(settings, position, panorama),
            SampleLocations(
                settings,
                None if position is None else collectives.all_gather(position),
                None if panorama is None else collectives.all_gather(panorama),
            ),
            product_dtype,
            logit_dtype,
            settings.tile or (_TILE_IN_CACHE if vectors.is_cpu else _TILE_ON_DEVICE),
            collectives,
        )

    def pair_weights(self) -> dict[int, float]:
        """Return the factor of each pair's summed loss, by index of the pair.

        The sum runs over the pair's samples in both directions. Pairs without samples are left out.
        """
        # The rows and columns of a self pair are the same loss, so that it counts as one term.
        terms = {
            index: 1 if first == second else 2
            for index, (first, second) in enumerate(self.pairs)
            if self.masks[index].count > 0
        }
        total = sum(terms.values())
        return {
            index: count / (2 * total * self.masks[index].count) for index, count in terms.items()
        }


def _pair_masks(
    present: Mapping[str, Bool[Tensor, " sample"]],
    pairs: tuple[tuple[str, str], ...],
    collectives: Collectives,
) -> tuple[PairMask, ...]:
    """Find the observed samples of each pair, on this rank and on all."""
    names = tuple(present)
    local = torch.stack([present[name] for name in names], dim=1)
    gathered = collectives.all_gather(local)
    samples, total = len(local), len(gathered)
    first = collectives.rank * samples
    if bool(gathered.all()):  # the common case: no index tensors, hence no copies of vectors
        return (PairMask(None, None, first, total),) * len(pairs)
    masks: list[PairMask] = []
    for pair in pairs:
        both = gathered[:, [names.index(name) for name in pair]].all(dim=1)
        cols = both.nonzero()[:, 0]
        rows = both[first : first + samples].nonzero()[:, 0]
        diagonal = int(both[:first].sum())
        masks.append(PairMask(rows, cols, diagonal, len(cols)))
    return tuple(masks)


def _precision(embeddings: Mapping[str, Tensor]) -> tuple[torch.dtype, torch.dtype]:
    """Return the types of products, and of logits and their sums."""
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
