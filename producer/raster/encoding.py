"""A trained model and its observations as one function from places to vectors."""

import numpy as np
import torch
from jaxtyping import Bool, Float

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.raster.rasterizing import Encode
from unigeo.schemas.errors import ModelError


def encoder_of(model: UniGeoCLIP, observations: Observations, device: torch.device) -> Encode:
    """Look at places and encode what is seen.

    Raises:
        ModelError: if the observations lack a modality or give patches of another shape.
    """
    model = model.to(device).eval()

    def encode(
        modality: str, lonlat: Float[np.ndarray, "point 2"]
    ) -> tuple[Float[np.ndarray, "point band"], Bool[np.ndarray, " point"]]:
        if modality == "coordinate":
            inputs = torch.from_numpy(np.asarray(lonlat, np.float64))
            observed = np.ones(len(lonlat), bool)
        else:
            patches = observations.patches(modality, lonlat)  # type: ignore[arg-type]
            inputs, observed = torch.from_numpy(patches.values), patches.valid
        vectors = np.full((len(lonlat), model.settings.dimension), np.nan, np.float32)
        if observed.any():
            with torch.inference_mode():
                encoded = model.encode(modality, inputs[torch.from_numpy(observed)].to(device))
            vectors[observed] = encoded.float().cpu().numpy()
        return vectors, observed

    return encode


def check_fit(model: UniGeoCLIP, observations: Observations, modalities: tuple[str, ...]) -> None:
    """Refuse a model that cannot encode what is observed.

    Raises:
        ModelError: naming the modality.
    """
    for modality in modalities:
        if modality not in model.modalities:
            raise ModelError(
                f"the model has no {modality} encoder; it has {', '.join(model.modalities)}"
            )
        if modality == "coordinate":
            continue
        if modality not in observations.modalities:
            raise ModelError(
                f"the observations {observations.name!r} have no {modality}; they have "
                f"{', '.join(observations.modalities)}"
            )
        seen = tuple(observations.shape(modality))  # type: ignore[arg-type]
        if seen != tuple(model.settings.shape(modality)):
            raise ModelError(
                f"the model takes {modality} of shape {model.settings.shape(modality)}, the "
                f"observations give {seen}; train a model on them"
            )
