"""What pictures look like on the whole, so that a tower from nothing sees differences."""

from dataclasses import replace
from typing import Any

import numpy as np

from unigeo.producer.encoders.settings import ModelSettings, PictureSettings
from unigeo.producer.observations.protocol import Observations

PLACES = 256
SEED = 9_876_543
"""Draws the places, the same ones whatever the seed of the training."""


def fit_pixels(settings: ModelSettings, observations: Observations) -> ModelSettings:
    """Give towers that start from nothing the mean and deviation of their pictures' bands.

    Measured on 256 places, to a tenth of a step; a band that hardly varies is left on SigLIP's
    scale, with all bands of that modality.
    """
    lonlat = None
    fitted: dict[str, Any] = {}
    for modality in ("aerial", "street"):
        tower = getattr(settings, modality)
        if not isinstance(tower, PictureSettings) or tower.pretrained is not None:
            continue
        if lonlat is None:
            lonlat = observations.locations(PLACES, SEED)
        patches = observations.patches(modality, lonlat)
        pixels = patches.values[patches.valid].astype(np.float64)
        if len(pixels) == 0:
            continue
        mean, std = pixels.mean(axis=(0, 2, 3)).round(1), pixels.std(axis=(0, 2, 3)).round(1)
        if (std >= 1).all():
            fitted[modality] = replace(
                tower, pixel_mean=tuple(mean.tolist()), pixel_std=tuple(std.tolist())
            )
    return replace(settings, **fitted)
