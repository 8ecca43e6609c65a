"""Which places and modalities are contrasted with which."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from unigeo.schemas.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class ContrastSettings:
    """The contrastive loss of a batch; the defaults are the paper's."""

    pairs: str = "all"
    """Modalities compared: "all" with all; "pivot:aerial", one with each other; or a list,
    "coordinate-aerial,aerial-street". Each pair counts in both directions."""
    self_pairs: bool = False
    """Also contrast each modality with itself, in one direction. A place is its own positive at
    cosine 1, so what is left to learn is to stand apart from the other places."""
    exclusion_m: float = 0.0
    """Places nearer than this along the great circle are no negatives of each other. Positives
    stay: the place itself, its panorama, and places within three `soft_m`."""
    soft_m: float = 0.0
    """Share the target among places by a Gaussian of their great-circle distance with this
    standard deviation; 0 leaves it all to the place itself."""
    same_panorama: bool = False
    """Places of one panorama are positives of each other, as if at distance zero."""
    prefixes: tuple[int, ...] = ()
    """Leading dimensions that are to serve alone. The loss is the plain mean over these and the
    whole vector, each at unit length."""
    tile: int | None = None
    """Side of the tiles in which logits are computed, in places; does not change the result.
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
        """Unordered pairs of a model's modalities, in the order of its temperatures.

        Self pairs come last.

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
    """Read `pairs` as a pivot, or a list of pairs; neither for all."""
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
