"""Mean and standard deviation of image bands, to scale the input of towers without a checkpoint."""

from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import ImageSettings
from unigeo.producer.observations.protocol import Observations
from unigeo.schemas.errors import ObservationsError

LOCATIONS = 256
SEED = 9_876_543
"""Seed of the locations, independent of the seed of the training."""
LEAST_GREYS = 1.0
"""Standard deviation of bytes below which a band hardly varies."""


_MARKS = (-9999, -99999, -999999, -32768, -3.4028235e38, 3.4028235e38, 1e20)
"""Numbers that rasters hold where there is no data."""
_FAR = 20.0
"""Distance of a mark from the quartiles of the other numbers, in their widths."""


Scale = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each band."""
_measured: WeakKeyDictionary[Observations, dict[str, Scale | None]] = WeakKeyDictionary()
"""Cache of measurements: all rows of an ablation are planned on the same observations."""


def fit_pixels(settings: ModelSettings, observations: Observations) -> ModelSettings:
    """Fill in the mean and standard deviation of image bands for towers with `measure_pixels`.

    They are measured at 256 training locations. Bytes are rounded to a tenth of a grey level, and a
    modality of bytes keeps SigLIP's scale if a band hardly varies; numbers of any unit are rounded
    to four digits of their standard deviation.

    Raises:
        ObservationsError: if an image of numbers is observed at none of the locations.
    """
    known = _measured.setdefault(observations, {})
    fitted = {}
    for modality, tower in settings.towers.items():
        if not isinstance(tower, ImageSettings) or not tower.measure_pixels:
            continue
        if tower.pixel_mean or tower.pretrained is not None:
            continue
        if modality not in known:
            known[modality] = _measure(modality, observations)
        scale = known[modality]
        if scale is not None:
            fitted[modality] = replace(tower, pixel_mean=scale[0], pixel_std=scale[1])
        elif tower.dtype != "uint8":
            raise ObservationsError(
                f"{modality} is observed at none of {LOCATIONS} locations, so its mean and "
                "standard deviation are unknown; correct the observations, or leave it out"
            )
    return settings.with_towers(**fitted)


def _measure(modality: str, observations: Observations) -> Scale | None:
    patches = observations.patches(modality, observations.locations(LOCATIONS, SEED))
    pixels = patches.values[patches.valid].astype(np.float64)
    if len(pixels) == 0:
        return None
    if patches.values.dtype != np.uint8:
        _refuse_marks(modality, pixels)
    mean, std = pixels.mean(axis=(0, 2, 3)), pixels.std(axis=(0, 2, 3))
    if patches.values.dtype == np.uint8:
        mean, std = mean.round(1), std.round(1)
        return (tuple(mean.tolist()), tuple(std.tolist())) if (std >= LEAST_GREYS).all() else None
    std[std == 0] = 1.0  # a band that never varies says nothing, at whatever scale
    return _rounded(mean, std), _rounded(std, std)


def _refuse_marks(modality: str, pixels: Float[np.ndarray, "patch band row col"]) -> None:
    """Refuse numbers that stand for no data and are not declared so: the statistics are theirs.

    Raises:
        ObservationsError: naming the number, and what to declare.
    """
    for number in range(pixels.shape[1]):
        band = pixels[:, number]
        for mark in _MARKS:
            marked = np.isclose(band, mark, rtol=1e-6, atol=0)
            if not marked.any() or marked.all():
                continue
            low, high = np.quantile(band[~marked], (0.25, 0.75))
            if not low - _FAR * (high - low) <= mark <= high + _FAR * (high - low):
                raise ObservationsError(
                    f"{modality}: {100 * marked.mean():.2g} % of the pixels of band {number + 1} "
                    f"are {mark:g}, far from the others (half are from {low:.4g} to {high:.4g}), "
                    f"and not declared as no data; add nodata = {mark:g} to its table"
                )


def _rounded(
    values: Float[np.ndarray, " band"], std: Float[np.ndarray, " band"]
) -> tuple[float, ...]:
    """Round numbers to four digits of their band's standard deviation."""
    digits = 3 - np.floor(np.log10(std)).astype(int)
    return tuple(round(v, d) for v, d in zip(values.tolist(), digits.tolist(), strict=True))
