"""What a run looks at: the places to learn from, the hold-out gallery, and the tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from tokenizers import Tokenizer

from unigeo.producer.encoders.settings import ImageSettings, ModelSettings, SurfaceSettings
from unigeo.producer.encoders.text import pretrained_tokenizer, train_tokenizer
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.batches import (
    BatchSource,
    CachedBatches,
    Observe,
    StreamingBatches,
    observe_shared,
)
from unigeo.producer.training.holdout import held_out
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples, observe
from unigeo.producer.training.settings import TrainingSettings
from unigeo.schemas.errors import ModelError

TEXTS = 100_000
"""Places whose texts a tokenizer learns from, at most."""
SLAB = 4096
"""Hold-out places observed at once."""
_NEXT_PASS = 1_000_003  # seeds of further passes lie far from those of other runs


@dataclass(frozen=True)
class TrainingData:
    """Places and tokenizer of a run."""

    lonlat: Float[np.ndarray, "place 2"]
    """Places to learn from, in the first pass."""
    gallery: Samples | None
    """Hold-out places that have every modality; the first process alone has them."""
    tokenizer: Tokenizer | None
    observe: Observe


def survey(
    observations: Observations,
    model_settings: ModelSettings,
    settings: TrainingSettings,
    processes: Processes,
) -> TrainingData:
    """Draw the places, hold blocks out, make the tokenizer, and observe the gallery.

    A text tower that starts from a checkpoint takes its tokenizer; another learns one from what is
    said of the training places.

    Raises:
        ModelError: if the observations lack a modality of the model, or nothing can be evaluated.
    """
    missing = sorted(set(model_settings.modalities) - set(observations.modalities))
    if missing:
        raise ModelError(
            f"the model has encoders of {', '.join(missing)}, which {observations.name} does not "
            "show; leave them out of the model, or describe them in the observations"
        )
    if settings.contrast.same_panorama and not hasattr(observations, "panoramas"):
        raise ModelError(
            f"training: same_panorama needs to know the panorama of each place, and "
            f"{observations.name} does not say; leave it off"
        )
    lonlat = observations.locations(settings.locations, settings.seed)
    apart = held_out(lonlat, settings.block_km, settings.holdout, settings.seed)
    learnt = lonlat[~apart]
    tokenizer = _tokenizer(observations, model_settings, learnt, processes)

    def look(places: Float[np.ndarray, "place 2"]) -> Samples:
        said: list[str | None] = [None] * len(places)
        if tokenizer is not None:
            said = observations.texts(places)
        return observe(observations, places, said, tokenizer, model_settings.modalities)

    gallery = None
    if processes.first:
        gallery = _complete(look, lonlat[apart], settings.gallery)
        if len(gallery) < settings.gallery:
            # Many places lack a modality: look for complete ones among further hold-out places.
            more = observations.locations(settings.locations * 2, settings.seed + 1)
            more = more[held_out(more, settings.block_km, settings.holdout, settings.seed)]
            gallery = _complete(look, more, settings.gallery)
    if processes.share(None if gallery is None else len(gallery)) < 2:
        raise ModelError(
            "no hold-out place has every modality, so nothing can be evaluated; observe more "
            "locations, or describe fewer modalities"
        )
    return TrainingData(learnt, gallery, tokenizer, look)


def feed(
    survey: TrainingData,
    observations: Observations,
    model_settings: ModelSettings,
    settings: TrainingSettings,
    processes: Processes,
    *,
    pinned: bool,
) -> BatchSource:
    """Keep the places where they fit, else observe them ahead of their step."""
    count = len(survey.lonlat)
    fits = count * place_bytes(model_settings) <= settings.kept_gb * 1e9
    if fits and not settings.fresh:
        return CachedBatches(
            observe_shared(survey.observe, survey.lonlat, processes), settings, processes
        )

    def lonlat(epoch: int) -> Float[np.ndarray, "place 2"]:
        if epoch == 0 or not settings.fresh:
            return survey.lonlat
        return fresh_places(observations, settings, epoch, count)

    return StreamingBatches(count, lonlat, survey.observe, settings, processes, pinned)


def fresh_places(
    observations: Observations, settings: TrainingSettings, epoch: int, count: int
) -> Float[np.ndarray, "place 2"]:
    """Draw `count` new places outside the held-out blocks: a function of seed and pass."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < count:
        seed = settings.seed + _NEXT_PASS * (epoch + 1000 * len(parts))
        drawn = observations.locations(settings.locations, seed)
        parts.append(drawn[~held_out(drawn, settings.block_km, settings.holdout, settings.seed)])
        if len(parts[-1]) == 0:
            raise ModelError("every place drawn lies in a held-out block; hold out less")
    return np.concatenate(parts)[:count]


def place_bytes(model_settings: ModelSettings) -> int:
    """Memory of one observed place, in bytes."""
    total = 16  # degrees
    for modality in model_settings.modalities:
        tower = getattr(model_settings, modality)
        numbers = int(np.prod(model_settings.shape(modality)))
        if isinstance(tower, ImageSettings):
            total += numbers
        elif isinstance(tower, SurfaceSettings):
            total += 4 * numbers
        elif modality == "text":
            total += 8 * numbers
    return total


def _tokenizer(
    observations: Observations,
    model_settings: ModelSettings,
    lonlat: Float[np.ndarray, "place 2"],
    processes: Processes,
) -> Tokenizer | None:
    words = model_settings.text
    if words is None:
        return None
    if words.pretrained is not None:
        return pretrained_tokenizer(words)
    if not processes.first:
        return Tokenizer.from_str(processes.share(None))
    said = [text for text in observations.texts(lonlat[:TEXTS]) if text]
    tokenizer = train_tokenizer(said, words)
    processes.share(tokenizer.to_str())
    return tokenizer


def _complete(
    look: Callable[[np.ndarray], Samples], lonlat: Float[np.ndarray, "place 2"], wanted: int
) -> Samples:
    """Find places at which every modality is observed, in their order."""
    parts = [look(lonlat[:0])]
    for start in range(0, len(lonlat), SLAB):
        if sum(map(len, parts)) >= wanted:
            break
        seen = look(lonlat[start : start + SLAB])
        parts.append(seen.take(np.flatnonzero(seen.complete())))
    found = Samples.join(parts)
    return found.take(np.arange(min(wanted, len(found))))
