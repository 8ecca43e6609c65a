"""How much of the embedded world a model has understood: ridge on its vectors, in unseen blocks."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from unigeo.client.folds import blocked_folds, spatial_blocks
from unigeo.client.ridge import RidgeProbe
from unigeo.client.scoring import r2_score
from unigeo.client.threads import one_thread
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.world import World
from unigeo.producer.observations.wrapping import only
from unigeo.producer.training.places import observe
from unigeo.producer.training.training import embed

PLACES = 1500
SEED = 1
"""Of the places and the folds: the same for every model, so that models can be compared."""
BLOCK_KM = 300.0


def world_probe(
    model: UniGeoCLIP, tokenizer: Any, observations: Observations, device: torch.device
) -> dict[str, float]:
    """Mean blocked R2 of the embedded world's targets, by set of features.

    Args:
        model: its vectors are the features.
        tokenizer: of its text encoder, if it has one.
        observations: of the embedded world, perhaps remembered.
        device: to encode on.

    Returns:
        `R2 joined` of all modalities together, and `R2 coordinate` if it has that encoder: means
        over the targets, each predicted in 300 km blocks that the ridge has not seen.
    """
    lonlat = World().locations(PLACES, SEED)
    targets = np.stack(list(World().targets(lonlat).values()), axis=1)
    seen = only(observations, model.modalities)
    texts: list[str | None] = [None] * len(lonlat)
    if "text" in model.modalities:
        texts = seen.texts(lonlat)
    vectors = embed(model, observe(seen, lonlat, texts, tokenizer), device)
    features = {"joined": np.concatenate([part.numpy() for part in vectors.values()], axis=1)}
    if "coordinate" in vectors:
        features["coordinate"] = vectors["coordinate"].numpy()
    return {f"R2 {name}": blocked_r2(x, targets, lonlat) for name, x in features.items()}


def blocked_r2(
    features: Float[np.ndarray, "place band"],
    targets: Float[np.ndarray, "place target"],
    lonlat: Float[np.ndarray, "place 2"],
) -> float:
    """Mean R2 over the targets of a ridge in five folds of whole blocks."""
    folds = blocked_folds(spatial_blocks(lonlat, BLOCK_KM), seed=SEED)
    with one_thread():
        guesses = RidgeProbe().held_out(features, targets, folds).predictions
    scores = [r2_score(truth, guess) for truth, guess in zip(targets.T, guesses.T, strict=True)]
    return float(np.mean(scores))
