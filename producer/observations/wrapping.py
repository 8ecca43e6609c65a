"""Observations seen through another object: all of them the same, unless a subclass says else."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.producer.observations.protocol import ImageModality, Observations, Patches
from unigeo.schemas.errors import ObservationsError


class ObservationsWrapper:
    """Passes every question on."""

    def __init__(self, inner: Observations) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        """Short name, for logs and the model card."""
        return self.inner.name

    @property
    def modalities(self) -> tuple[str, ...]:
        """Observed modalities, `coordinate` first."""
        return self.inner.modalities

    def shape(self, modality: ImageModality) -> tuple[int, int, int]:
        """Channels, rows and columns of the modality's patches."""
        return self.inner.shape(modality)

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """Draw places on land to learn from, in WGS 84 degrees, longitude first."""
        return self.inner.locations(count, seed)

    def land(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Whether each point is on land."""
        return self.inner.land(lonlat)

    def patches(self, modality: ImageModality, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Observe one patch round each point."""
        return self.inner.patches(modality, lonlat)

    def texts(self, lonlat: Float[np.ndarray, "point 2"]) -> list[str | None]:
        """Describe each point in words; None where nothing is said."""
        return self.inner.texts(lonlat)

    def gaps(self) -> dict[str, dict[str, int]]:
        """How many observations asked for so far were missing, by modality and reason."""
        return self.inner.gaps()

    def provenance(self) -> dict[str, Any]:
        """JSON: sources, patch sizes in metres, dates, licences, hashes of the inputs."""
        return self.inner.provenance()


def innermost(observations: Observations) -> Observations:
    """What is behind all that is wrapped round it."""
    while isinstance(observations, ObservationsWrapper):
        observations = observations.inner
    return observations


class SelectedModalities(ObservationsWrapper):
    """Some of the modalities of other observations."""

    def __init__(self, inner: Observations, modalities: tuple[str, ...]) -> None:
        super().__init__(inner)
        self._modalities = modalities

    @property
    def modalities(self) -> tuple[str, ...]:
        """Observed modalities, `coordinate` first."""
        return self._modalities


def only(observations: Observations, modalities: tuple[str, ...]) -> Observations:
    """Leave out the modalities that are not named.

    Raises:
        ObservationsError: if one that is named is not observed.
    """
    missing = sorted(set(modalities) - set(observations.modalities))
    if missing:
        raise ObservationsError(
            f"{observations.name} has no {', '.join(missing)}; it has "
            f"{', '.join(observations.modalities)}"
        )
    if set(modalities) == set(observations.modalities):
        return observations
    return SelectedModalities(
        observations, tuple(m for m in observations.modalities if m in modalities)
    )
