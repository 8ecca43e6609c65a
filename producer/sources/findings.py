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
class KeptValue:
    """An encoded patch in an archive of an earlier set."""

    archive: str
    start: int
    """Offset of its first byte."""
    size: int
    """Number of its bytes."""
    offset_m: float | None = None
    scale_m: float | None = None
    """Height of code 1 and step between codes, of heights alone."""


@dataclass(frozen=True)
class Finding:
    """One observation of one location, or why there is none."""

    value: Any = None
    """Pixels (uint8, channel row col; or float32 metres, row col, NaN at voids), a text, or a
    `KeptValue`."""
    origin: Origin = Origin()
    reason: str = ""
    """Why there is no value; empty if there is one."""
    kept: bool = False
    """Whether the value is taken over from an earlier set."""


@dataclass(frozen=True, kw_only=True)
class KeptFinding:
    """What an earlier set holds of a modality at a location."""

    value: KeptValue | str | None
    """The encoded patch, or the text; None where there was nothing to say."""
    item: str
    """Names of the images that the patch was cut from, with `+` between."""
    numbers: Mapping[str, float]
    """Numbers of its origin."""


@dataclass(frozen=True, eq=False)
class KeptModality:
    """The observations of one modality that may be taken over from an earlier set."""

    findings: Mapping[tuple[float, float], KeptFinding]
    """By longitude and latitude."""
    items: Mapping[str, str]
    """Hash that identifies each image of a catalogue, by name."""
    unchanged: frozenset[str]
    """Names, without folders, of the files that are the same now."""

    def find(self, lonlat: Float[np.ndarray, " 2"]) -> KeptFinding | None:
        """Return what was found at a location; None if it was not observed."""
        return self.findings.get((float(lonlat[0]), float(lonlat[1])))

    def find_cut(
        self, lonlat: Float[np.ndarray, " 2"], digests: Mapping[str, str]
    ) -> KeptFinding | None:
        """Return what was found at a location if it was cut from the same images.

        Args:
            lonlat: the location, WGS 84 degrees.
            digests: hash that identifies each image now, by name; empty for one of a file.
        """
        found = self.find(lonlat)
        if found is None or found.item != "+".join(digests):
            return None
        same = (
            self.items.get(name) == digest if digest else name in self.unchanged
            for name, digest in digests.items()
        )
        return found if all(same) else None


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
