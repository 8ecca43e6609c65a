"""What a source finds at locations: a value or a reason for each, with its origin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Origin of one observation."""

    item: str = ""
    """Name of the image in its catalogue, or of the file."""
    date: str = ""
    """Date of observation, ISO 8601."""
    licence: str = ""
    credit: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Further properties by name, with the unit in it: `cover`, `heading_deg`, `ground_m`."""
    panorama: int = -1
    """Number of the panorama that the image was cut from; -1 for none."""


@dataclass(frozen=True)
class Finding:
    """One observation of one location, or why there is none."""

    value: Any = None
    """Pixels (uint8, channel row col; or float32 metres, row col, NaN at voids), or a text."""
    origin: Origin = Origin()
    reason: str = ""
    """Why there is no value; empty if there is one."""


@dataclass(frozen=True)
class SourceFindings:
    """What a source finds at some locations."""

    findings: list[Finding]
    """One finding per location."""
    unusable: Mapping[str, str] = field(default_factory=dict)
    """Images of the catalogue that were skipped, and the reason for each."""
    items: Mapping[str, str] = field(default_factory=dict)
    """Images of the catalogue that were used, and a hash that identifies each."""


@runtime_checkable
class ObservationSource(Protocol):
    """A source of observations of one modality."""

    @property
    def reach_m(self) -> float:
        """How far from a location its observations reach, in metres."""
        ...

    def observe(self, lonlat: Float[np.ndarray, "location 2"]) -> SourceFindings:
        """Observe each location; its finding does not depend on the others."""
        ...


@runtime_checkable
class ItemSource(Protocol):
    """A source that uses images of a catalogue, which may be replaced there."""

    def current_items(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return the present hash of images that an earlier run used; removed ones are left out.

        Raises:
            ObservationsError: the catalogue refuses the request.
            StoreError: the catalogue cannot be reached.
        """
        ...
