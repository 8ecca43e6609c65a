"""The coordinate encoder of a model as a store holds it, so that a reader can encode any point."""

from typing import Any

import numpy as np

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import to_json


def coordinate_weights(model: UniGeoCLIP) -> dict[str, np.ndarray]:
    """Return the coordinate encoder and the rotation after it, as arrays by name."""
    weights = {
        name: value.detach().cpu().numpy()
        for name, value in model.encoders["coordinate"].state_dict().items()
    }
    return weights | {"rotation": model.rotation.detach().cpu().numpy()}


def coordinate_settings(model: UniGeoCLIP) -> dict[str, Any]:
    """Return what a reader needs to rebuild the encoder."""
    settings: dict[str, Any] = to_json(model.settings)["coordinate"]
    return settings | {"dimension": model.settings.dimension}
