"""The vectors of several modalities side by side: which modalities take part."""

from collections.abc import Sequence

from unigeo.schemas.store.layout import FUSED

JOINED = "joined"
"""Name of the set of features that has the vectors of several modalities side by side."""


def joined_modalities(modalities: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities that `joined` has side by side, in their order.

    `fused` is made of the others, and says nothing new beside two of them or more.

    >>> joined_modalities(("aerial", "dsm", "fused"))
    ('aerial', 'dsm')
    """
    others = tuple(name for name in modalities if name != FUSED)
    return others if len(others) > 1 else tuple(modalities)
