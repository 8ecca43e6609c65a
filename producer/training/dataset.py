"""The data of a run: training locations, the hold-out gallery, the tokenizer and the batches."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from tokenizers import Tokenizer

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.text import pretrained_tokenizer, train_tokenizer
from unigeo.producer.observations.forms import COORDINATE
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
"""Largest number of locations whose texts a tokenizer learns from."""
SLAB = 4096
"""Number of hold-out locations observed at once."""
_EPOCH_SEEDS = 1_000_003  # seeds of further epochs lie far from those of other runs


@dataclass(frozen=True)
class TrainingData:
    """Locations and tokenizer of a run."""

    lonlat: Float[np.ndarray, "location 2"]
    """Training locations of the first epoch."""
    gallery: Samples | None
    """Hold-out locations that have every modality; None except in the first process."""
    tokenizer: Tokenizer | None
    observe: Observe


def prepare_data(
    observations: Observations,
    model_settings: ModelSettings,
    settings: TrainingSettings,
    processes: Processes,
) -> TrainingData:
    """Draw the locations, hold out blocks, make the tokenizer, and observe the gallery.

    A text tower that starts from a checkpoint uses that checkpoint's tokenizer; otherwise one is
    learned from the texts of the training locations.

    Raises:
        ModelError: if the observations lack a modality of the model, or nothing can be evaluated.
    """
    missing = sorted(set(model_settings.modalities) - set(observations.modalities))
    if missing:
        raise ModelError(
            f"the model has encoders of {', '.join(missing)}, which {observations.name} does not "
            "show; leave them out of the model, or describe them in the observations"
        )
    settings.check_modalities(model_settings.modalities)
    if settings.contrast.same_panorama and observations.panoramas(np.empty((0, 2))) is None:
        raise ModelError(
            f"training: same_panorama needs to know the panorama of each place, and "
            f"{observations.name} does not say; leave it off"
        )
    lonlat = observations.locations(settings.locations, settings.seed)
    in_holdout = held_out(lonlat, settings.block_km, settings.holdout, settings.seed)
    train_lonlat = lonlat[~in_holdout]
    tokenizer = _tokenizer(observations, model_settings, train_lonlat, processes)

    def observe_samples(locations: Float[np.ndarray, "location 2"]) -> Samples:
        return observe(observations, locations, tokenizer, model_settings.modalities)

    gallery, found = None, None
    if processes.is_first:
        gallery = _complete_samples(observe_samples, lonlat[in_holdout], settings.gallery)
        if len(gallery) < settings.gallery:
            # Many locations lack a modality: look for complete ones among more hold-out locations.
            more = observations.locations(settings.locations * 2, settings.seed + 1)
            more = more[held_out(more, settings.block_km, settings.holdout, settings.seed)]
            gallery = _complete_samples(observe_samples, more, settings.gallery)
        unseen = () if len(gallery) > 1 else _unseen(observe_samples(lonlat[in_holdout][:SLAB]))
        found = (len(gallery), unseen)
    count, unseen = processes.broadcast(found)
    if count < 2:
        which = f" ({', '.join(unseen)}: at none of them)" if unseen else ""
        raise ModelError(
            f"no hold-out place has every modality{which}, so nothing can be evaluated; observe "
            "more locations, or describe fewer modalities"
        )
    return TrainingData(train_lonlat, gallery, tokenizer, observe_samples)


def batch_source(
    training_data: TrainingData,
    observations: Observations,
    model_settings: ModelSettings,
    settings: TrainingSettings,
    processes: Processes,
    *,
    pinned: bool,
) -> BatchSource:
    """Cache all samples if they fit in `kept_gb`, else observe batches ahead of their step."""
    count = len(training_data.lonlat)
    fits = count * sample_bytes(model_settings) <= settings.kept_gb * 1e9
    if fits and not settings.fresh:
        return CachedBatches(
            observe_shared(training_data.observe, training_data.lonlat, processes),
            settings,
            processes,
        )

    def lonlat(epoch: int) -> Float[np.ndarray, "location 2"]:
        if epoch == 0 or not settings.fresh:
            return training_data.lonlat
        return fresh_locations(observations, settings, epoch, count)

    return StreamingBatches(count, lonlat, training_data.observe, settings, processes, pinned)


def fresh_locations(
    observations: Observations, settings: TrainingSettings, epoch: int, count: int
) -> Float[np.ndarray, "location 2"]:
    """Draw `count` new locations outside the held-out blocks, from the seed and the epoch alone."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < count:
        seed = settings.seed + _EPOCH_SEEDS * (epoch + 1000 * len(parts))
        drawn = observations.locations(settings.locations, seed)
        parts.append(drawn[~held_out(drawn, settings.block_km, settings.holdout, settings.seed)])
        if len(parts[-1]) == 0:
            raise ModelError("every place drawn lies in a held-out block; hold out less")
    return np.concatenate(parts)[:count]


def sample_bytes(model_settings: ModelSettings) -> int:
    """Return the memory of one observed sample, in bytes."""
    modalities = {COORDINATE, *model_settings.modalities}
    return sum(_bytes_of(model_settings, modality) for modality in modalities)


def _bytes_of(model_settings: ModelSettings, modality: str) -> int:
    """Return the memory of one observation, in bytes."""
    if modality == COORDINATE:
        return 16  # longitude and latitude in float64, also where the model does not encode them
    numbers = int(np.prod(model_settings.shape(modality)))
    return numbers * np.dtype(model_settings.number_type(modality)).itemsize


def _tokenizer(
    observations: Observations,
    model_settings: ModelSettings,
    lonlat: Float[np.ndarray, "location 2"],
    processes: Processes,
) -> Tokenizer | None:
    """Make the tokenizer; the first process trains it and sends it to the others."""
    settings = model_settings.text
    if settings is None:
        return None
    if settings.pretrained is not None:
        return pretrained_tokenizer(settings)
    if not processes.is_first:
        return Tokenizer.from_str(processes.broadcast(None))
    texts = [
        text
        for modality in model_settings.text_modalities
        for text in observations.texts(lonlat[:TEXTS], modality)
        if text
    ]
    tokenizer = train_tokenizer(texts, settings)
    processes.broadcast(tokenizer.to_str())
    return tokenizer


def _unseen(samples: Samples) -> tuple[str, ...]:
    """Return the modalities in which no sample was observed."""
    return tuple(name for name, present in samples.present.items() if not present.any())


def _complete_samples(
    observe_samples: Callable[[np.ndarray], Samples],
    lonlat: Float[np.ndarray, "location 2"],
    count: int,
) -> Samples:
    """Return the first `count` samples that have every modality, or fewer if there are no more."""
    parts = [observe_samples(lonlat[:0])]  # empty tensors of the right shapes
    for start in range(0, len(lonlat), SLAB):
        if sum(map(len, parts)) >= count:
            break
        samples = observe_samples(lonlat[start : start + SLAB])
        parts.append(samples.take(np.flatnonzero(samples.complete())))
    complete = Samples.concatenate(parts)
    return complete.take(np.arange(min(count, len(complete))))
