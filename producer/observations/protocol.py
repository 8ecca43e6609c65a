"""The interface through which training, rasterization and evaluation use observations."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.producer.observations.forms import (
    COVERING,
    DEFAULT_ENCODERS,
    PIXEL_ENCODERS,
    Form,
    Forms,
    default_form,
)
from unigeo.producer.observations.patches import Patches
from unigeo.schemas.errors import ObservationsError

if TYPE_CHECKING:  # GDAL and PROJ need not be there: a machine with a GPU may only train
    import pandas as pd

    from unigeo.producer.observations.raster_files.modality_rasters import ModalityRasters


@runtime_checkable
class Observations(Protocol):
    """The world as observed: a function from location to what is observed there.

    Implementations inherit from this class. The members from `form` on have a default: the paper's
    modalities, and nothing else.
    """

    @property
    def name(self) -> str:
        """Short name, for logs and the model card."""
        ...

    @property
    def modalities(self) -> tuple[str, ...]:
        """Observed modalities, `coordinate` first."""
        ...

    def shape(self, modality: str) -> tuple[int, int, int]:
        """Return channels, rows and columns of the patches of a modality of pixels."""
        ...

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """Draw locations on land to learn from, in WGS 84 degrees, longitude first."""
        ...

    def land(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Return whether each point is on land."""
        ...

    def patches(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Observe one patch round each point."""
        ...

    def texts(
        self, lonlat: Float[np.ndarray, "point 2"], modality: str = "text"
    ) -> list[str | None]:
        """Describe each point by a text; None where there is none."""
        ...

    def gaps(self) -> dict[str, dict[str, int]]:
        """Count the requested observations that were missing so far, by modality and reason."""
        ...

    def provenance(self) -> dict[str, Any]:
        """Return, as JSON, sources, patch sizes in metres, dates, licences and input hashes."""
        ...

    def identity(self) -> dict[str, Any]:
        """Return JSON that machines compare before they fill one store: the provenance, or less."""
        return self.provenance()

    def form(self, modality: str) -> Form:
        """Return which encoder takes a modality's observations, and what they look like.

        Raises:
            ObservationsError: if there is no such modality, or it is not one of the paper's and an
                implementation does not say its form.
        """
        encoder = DEFAULT_ENCODERS.get(modality)
        if modality not in self.modalities:
            raise ObservationsError(
                f"{self.name} has no {modality}; it has {', '.join(self.modalities)}"
            )
        if encoder is None:
            raise ObservationsError(
                f"{self.name} does not say which encoder takes {modality}: its method `form` has "
                "to return a Form of it"
            )
        return default_form(modality, self.shape(modality) if encoder in PIXEL_ENCODERS else None)

    def covers_land(self, modality: str) -> bool:
        """Return whether a modality is observed everywhere on land, so that it makes a field."""
        return modality in COVERING or self.rasters_of(modality) is not None

    def rasters_of(self, modality: str) -> "ModalityRasters | None":
        """Return the rasters that the patches of a modality are cut from; None without rasters.

        Rasterization cuts patches of whole shards from them instead of calling `patches`: an
        implementation that changes the patches of other observations has to return None.
        """
        return None

    def panoramas(self, lonlat: Float[np.ndarray, "point 2"]) -> Int[np.ndarray, " point"] | None:
        """Return the number of the panorama that each street image was cut from, -1 for none.

        Returns None if the observations do not know the panoramas.
        """
        return None

    @property
    def data_folder(self) -> Path | None:
        """Folder of the input files, where the tables of a suite lie too; None without one."""
        return None

    def target_table(self, count: int, seed: int) -> "pd.DataFrame | None":
        """Draw locations with targets to predict; None where the observations have no targets.

        Returns:
            A table with the columns lon, lat and one per target.
        """
        return None


def forms_of(observations: Observations) -> Forms:
    """Return the form of each observed modality."""
    return {modality: observations.form(modality) for modality in observations.modalities}
