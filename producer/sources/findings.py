"""What a source finds at places: one value or one reason each, with where it comes from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where one observation comes from."""

    item: str = ""
    """The catalogue's name of the image, or the file's."""
    date: str = ""
    """When it was observed, ISO 8601."""
    licence: str = ""
    credit: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What else is kept of it, by name with its unit: `cover`, `heading_deg`, `ground_m`."""
    panorama: int = -1
    """Number of the panorama that it was cut from; -1 for none."""


@dataclass(frozen=True)
class Finding:
    """One observation of one place, or why there is none."""

    value: Any = None
    """Pixels (uint8 channel row col; float32 row col metres, NaN where void), or words."""
    origin: Origin = Origin()
    reason: str = ""
    """Why there is no value."""


@dataclass(frozen=True)
class SourceFindings:
    """What a source finds at some places."""

    findings: list[Finding]
    """One per place."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Images of the catalogue that were passed over, and why each."""
    items: Mapping[str, str] = field(default_factory=dict)
    """Images of the catalogue that something was cut from, and a hash that tells each."""


@runtime_checkable
class ObservationSource(Protocol):
    """A source of one modality."""

    @property
    def reach_m(self) -> float:
        """How far from a place its observations look, in metres."""
        ...

    def observe(self, lonlat: Float[np.ndarray, "location 2"]) -> SourceFindings:
        """Observe each place; what is found of one does not depend on the others."""
        ...

    def provenance(self) -> dict[str, Any]:
        """JSON: what the source is, and how it was asked."""
        ...


@runtime_checkable
class ItemSource(Protocol):
    """A source that cuts from images of a catalogue, which may change there."""

    def current_items(self, names: Sequence[str]) -> Mapping[str, str]:
        """What the catalogue has under names that an earlier run cut from, and a hash of each.

        Raises:
            ObservationsError: it refuses the question.
            StoreError: it cannot be reached.
        """
        ...
