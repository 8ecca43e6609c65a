"""Wrappers of observations: a base class that delegates every call, and a choice of modalities."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.producer.observations.forms import Form
from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.raster_files.modality_rasters import ModalityRasters
from unigeo.schemas.errors import ObservationsError

if TYPE_CHECKING:
    import pandas as pd


class ObservationsWrapper(Observations):
    """Observations that delegate every member to `inner`; subclasses override some."""

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

    def shape(self, modality: str) -> tuple[int, int, int]:
        """Return channels, rows and columns of the modality's patches."""
        return self.inner.shape(modality)

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """Draw locations on land to learn from, in WGS 84 degrees, longitude first."""
        return self.inner.locations(count, seed)

    def land(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Return whether each point is on land."""
        return self.inner.land(lonlat)

    def patches(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Observe one patch round each point."""
        return self.inner.patches(modality, lonlat)

    def texts(
        self, lonlat: Float[np.ndarray, "point 2"], modality: str = "text"
    ) -> list[str | None]:
        """Describe each point by a text; None where there is none."""
        return self.inner.texts(lonlat, modality)

    def gaps(self) -> dict[str, dict[str, int]]:
        """Count the requested observations that were missing so far, by modality and reason."""
        return self.inner.gaps()

    def provenance(self) -> dict[str, Any]:
        """Return, as JSON, sources, patch sizes in metres, dates, licences and input hashes."""
        return self.inner.provenance()

    def identity(self) -> dict[str, Any]:
        """Return JSON that machines compare before they fill one store."""
        return self.inner.identity()

    def form(self, modality: str) -> Form:
        """Return which encoder takes a modality's observations, and what they look like."""
        return self.inner.form(modality)

    def covers_land(self, modality: str) -> bool:
        """Return whether a modality is observed everywhere on land."""
        return self.inner.covers_land(modality)

    def rasters_of(self, modality: str) -> ModalityRasters | None:
        """Return the rasters that the patches of a modality are cut from."""
        return self.inner.rasters_of(modality)

    def panoramas(self, lonlat: Float[np.ndarray, "point 2"]) -> Int[np.ndarray, " point"] | None:
        """Return the number of the panorama that each street image was cut from, -1 for none."""
        return self.inner.panoramas(lonlat)

    @property
    def data_folder(self) -> Path | None:
        """Folder of the input files."""
        return self.inner.data_folder

    def target_table(self, count: int, seed: int) -> "pd.DataFrame | None":
        """Draw locations with targets to predict."""
        return self.inner.target_table(count, seed)


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
    """Restrict observations to some of their modalities.

    Raises:
        ObservationsError: a modality is not observed.
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
