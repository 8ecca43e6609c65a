"""Presets and changes to them: what a model is and how it is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.pixel_statistics import fit_pixels
from unigeo.producer.encoders.presets import base, small, tiny
from unigeo.producer.observations.protocol import Observations, forms_of
from unigeo.producer.pipeline.overrides import override
from unigeo.producer.training.settings import TrainingSettings
from unigeo.schemas.errors import ModelError

PRESETS = ("tiny", "small", "base")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a model and its training; their keys are `model.…` and `training.…`."""

    model: ModelSettings
    training: TrainingSettings


def recipe(
    preset: str, observations: Observations, seed: int, changes: Mapping[str, str]
) -> Recipe:
    """Return a preset with changes, such as `{"model.coordinate.depth": "6"}`.

    Raises:
        ModelError: if there is no such preset or setting, or a value makes no sense.
    """
    model, training = presets(preset, observations, seed)
    changed = override(Recipe(model=model, training=training), changes)
    changed.training.check_modalities(changed.model.modalities)
    _check_contrast(changed, observations)
    return replace(changed, model=fit_pixels(changed.model, observations))


def _check_contrast(recipe: Recipe, observations: Observations) -> None:
    """Refuse a loss that cannot be computed, or that would leave an encoder untrained.

    Raises:
        ModelError: naming the setting.
    """
    model, contrast = recipe.model, recipe.training.contrast
    pairs = contrast.selected(model.modalities)
    if not pairs:
        raise ModelError(
            f"the model encodes {', '.join(model.modalities)} alone, which has no pair; add a "
            "modality, or set training.contrast.self_pairs=true"
        )
    idle = sorted(set(model.modalities) - {name for pair in pairs for name in pair})
    if idle:
        raise ModelError(
            f"no pair of training.contrast.pairs={contrast.pairs} has {', '.join(idle)}, whose "
            f"vectors would stay random; add a pair, or leave it out by --set model.{idle[0]}=none"
        )
    if model.temperature_per_pair and contrast.self_pairs:
        raise ModelError("a temperature per pair goes without self pairs; leave one of them off")
    if contrast.prefixes and contrast.prefixes[-1] >= model.dimension:
        raise ModelError(
            f"training.contrast.prefixes ends with {contrast.prefixes[-1]}, which is not shorter "
            f"than the vectors: model.dimension is {model.dimension}"
        )
    if contrast.same_panorama and observations.panoramas(np.empty((0, 2))) is None:
        raise ModelError(
            f"training.contrast.same_panorama needs to know the panorama of each location, and "
            f"{observations.name} does not say; leave it off"
        )


def presets(
    name: str, observations: Observations, seed: int
) -> tuple[ModelSettings, TrainingSettings]:
    """Return model and training settings of a preset, fitted to the observations' patches.

    Raises:
        ModelError: if there is no such preset.
    """
    forms = forms_of(observations)
    if name == "tiny":
        return tiny(forms, seed=seed), TrainingSettings(seed=seed)
    if name == "small":
        return small(forms, seed=seed), TrainingSettings(
            locations=80_000, batch=1024, steps=2000, rate=1e-3, warmup=100, seed=seed
        )
    if name == "base":
        return base(forms, seed=seed), TrainingSettings(
            locations=800_000,
            batch=4096,
            chunk=512,  # one H100 does not hold 4,096 samples of five towers at once
            steps=20_000,
            rate=1e-4,
            warmup=1000,
            seed=seed,
        )
    raise ModelError(f"there is no preset {name!r}; known are {', '.join(PRESETS)}")
