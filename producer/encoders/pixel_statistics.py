"""Mean and standard deviation of image bands, to scale the input of towers without a checkpoint."""

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from unigeo.producer.encoders.model_settings import ImageSettings, ModelSettings
from unigeo.producer.observations.protocol import Observations

LOCATIONS = 256
SEED = 9_876_543
"""Seed of the locations, independent of the seed of the training."""


Scale = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each band."""
_measured: WeakKeyDictionary[Observations, dict[str, Scale | None]] = WeakKeyDictionary()
"""Cache of measurements: all rows of an ablation are planned on the same observations."""


def fit_pixels(settings: ModelSettings, observations: Observations) -> ModelSettings:
    """Fill in the mean and standard deviation of image bands for towers with `measure_pixels`.

    They are measured at 256 locations and rounded to a tenth of a grey level. If a band hardly
    varies, the modality keeps SigLIP's scale.
    """
    known = _measured.setdefault(observations, {})
    fitted: dict[str, Any] = {}
    for modality in ("aerial", "street"):
        tower = getattr(settings, modality)
        if not isinstance(tower, ImageSettings) or not tower.measure_pixels:
            continue
        if tower.pixel_mean or tower.pretrained is not None:
            continue
        if modality not in known:
            known[modality] = _measure(modality, observations)
        scale = known[modality]
        if scale is not None:
            fitted[modality] = replace(tower, pixel_mean=scale[0], pixel_std=scale[1])
    return replace(settings, **fitted)


def _measure(modality: Any, observations: Observations) -> Scale | None:
    patches = observations.patches(modality, observations.locations(LOCATIONS, SEED))
    pixels = patches.values[patches.valid].astype(np.float64)
    if len(pixels) == 0:
        return None
    mean, std = pixels.mean(axis=(0, 2, 3)).round(1), pixels.std(axis=(0, 2, 3)).round(1)
    return (tuple(mean.tolist()), tuple(std.tolist())) if (std >= 1).all() else None
