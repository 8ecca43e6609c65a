"""Settings of the contrastive loss: modality pairs, negatives and positives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from unigeo.schemas.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class ContrastSettings:
    """Settings of the contrastive loss; the defaults are the paper's."""

    pairs: str = "all"
    """Pairs of modalities: "all"; "pivot:aerial", one modality with each other one; or a list such
    as "coordinate-aerial,aerial-street". Each pair counts in both directions."""
    self_pairs: bool = False
    """Whether to contrast each modality with itself too, in one direction. A sample is its own
    positive at cosine 1, so that only the distance to the negatives is left to learn."""
    exclusion_m: float = 0.0
    """Great-circle distance within which samples are not negatives of each other. Positives stay:
    the sample itself, samples of its panorama, and samples within three `soft_m`."""
    soft_m: float = 0.0
    """Standard deviation of the Gaussian of great-circle distance by which the target is shared
    among samples; 0 makes each sample its own only target."""
    same_panorama: bool = False
    """Whether samples of one panorama are positives of each other, as if at distance zero."""
    prefixes: tuple[int, ...] = ()
    """Numbers of leading dimensions that must be usable alone. The loss is the unweighted mean over
    these prefixes and the full vectors, each at unit length."""
    tile: int | None = None
    """Side of the tiles in which logits are computed, in samples; it does not change the result.
    None: 1024 on a CPU, where a tile stays in its cache, 4096 elsewhere."""

    def __post_init__(self) -> None:
        _parse(self.pairs)
        for name in ("exclusion_m", "soft_m"):
            metres = getattr(self, name)
            if not (math.isfinite(metres) and metres >= 0):
                raise ModelError(f"contrast: {name} must be 0 or a distance, not {metres}")
        if any(size <= 0 for size in self.prefixes) or any(
            first >= second for first, second in pairwise(self.prefixes)
        ):
            raise ModelError(
                f"contrast: prefixes must be positive and rising, as 64,128,256, not "
                f"{','.join(map(str, self.prefixes))}"
            )
        if self.tile is not None and self.tile <= 0:
            raise ModelError(f"contrast: tile must be positive, not {self.tile}")

    def selected(self, modalities: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Return the unordered pairs among a model's modalities, self pairs last.

        Temperatures per pair have this order.

        Raises:
            ModelError: if `pairs` names a modality that is not among them.
        """
        pivot, listed = _parse(self.pairs)
        named = {pivot} if pivot else {name for pair in listed for name in pair}
        unknown = sorted(named - set(modalities))
        if unknown:
            raise ModelError(
                f"contrast: pairs={self.pairs!r} names {', '.join(unknown)}, which the model does "
                f"not encode; it has {', '.join(modalities)}"
            )
        pairs = listed or [
            pair for pair in combinations(modalities, 2) if not pivot or pivot in pair
        ]
        return (*pairs, *((name, name) for name in modalities if self.self_pairs))


def _parse(pairs: str) -> tuple[str | None, list[tuple[str, str]]]:
    """Parse `pairs` into a pivot or a list of pairs; both are empty for "all"."""
    if pairs == "all":
        return None, []
    kind, _, pivot = pairs.partition(":")
    if kind == "pivot" and pivot:
        return pivot, []
    listed: list[tuple[str, str]] = []
    for part in pairs.split(","):
        first, _, second = part.strip().partition("-")
        if not first or not second or "-" in second:
            raise ModelError(
                f"contrast: pairs must be 'all', 'pivot:aerial' or a list as "
                f"'coordinate-aerial,aerial-street', not {pairs!r}"
            )
        if first == second:
            raise ModelError(f"contrast: {part.strip()!r} is a self pair; set self_pairs instead")
        if {first, second} in map(set, listed):
            raise ModelError(f"contrast: pairs={pairs!r} names {part.strip()!r} twice")
        listed.append((first, second))
    return None, listed
