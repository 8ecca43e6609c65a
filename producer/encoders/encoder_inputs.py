"""Checks of observations that users give to an encoder, and their form as tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.text import tokenize
from unigeo.producer.encoders.tower_settings import ClassesSettings, ImageSettings, PatchSettings
from unigeo.producer.observations.raster_files.height_values import HIGHEST_M, LOWEST_M
from unigeo.schemas.errors import ModelError
from unigeo.schemas.tables.points import check_lonlat

_SAME_SIDE = 1e-3
"""Relative difference up to which two sides on the ground are the same."""


def encoder_inputs(
    settings: ModelSettings, tokenizer: Tokenizer | None, modality: str, observations: Any
) -> torch.Tensor:
    """Return observations as the encoder of their modality takes them.

    Args:
        settings: settings of the model.
        tokenizer: tokenizer of its text encoders.
        modality: modality of the observations, which the model encodes.
        observations: as `Embedder.encode` takes them.

    Raises:
        ModelError: if they are of another type, range or shape.
        PointsError: if a coordinate is missing or out of range.
    """
    if settings.encoder(modality) == "text":
        assert tokenizer is not None, "a model of texts has a tokenizer"
        return tokenize(tokenizer, check_texts(modality, observations))
    if isinstance(observations, torch.Tensor):
        observations = observations.detach().cpu().numpy()
    if np.ma.is_masked(observations):
        raise ModelError(
            f"{modality} has masked values, which would be encoded as if they were observed; "
            "fill them first"
        )
    try:
        values = np.asarray(observations)
    except ValueError as error:
        raise ModelError(f"{modality} takes observations of one shape: {error}") from error
    expected = settings.shape(modality)
    if values.shape[1:] != expected or values.ndim != 1 + len(expected):
        raise ModelError(_describe_shape(modality, values.shape, expected))
    if values.dtype.kind not in "uif":
        raise ModelError(f"{modality} takes numbers, not {values.dtype}")
    if settings.encoder(modality) == "coordinate":
        lonlat = values.astype(np.float64)
        check_lonlat(lonlat)
        return torch.from_numpy(lonlat)
    return torch.from_numpy(check_pixels(settings, modality, values))


def check_texts(modality: str, texts: Any) -> list[str]:
    """Return texts as a list.

    Raises:
        ModelError: if it is a single text, or one is no text.
    """
    if isinstance(texts, str):
        raise ModelError(f"{modality} takes a list of texts, not one: [{texts[:40]!r}]")
    try:
        listed = list(texts)
    except TypeError as error:
        raise ModelError(f"{modality} takes a list of texts, not {texts!r:.60}") from error
    for number, text in enumerate(listed):
        if not isinstance(text, str):
            raise ModelError(f"{modality} takes texts; number {number} is {text!r:.60}")
    return listed


def check_ground(
    settings: ModelSettings, modality: str, ground_m: float | Sequence[float] | None
) -> None:
    """Refuse patches of another size on the ground than those that a model learned from.

    Raises:
        ModelError: naming both sizes.
    """
    if ground_m is None:
        return
    tower = settings.towers[modality]
    if not isinstance(tower, PatchSettings):
        raise ModelError(f"{modality} has no size on the ground; leave out ground_m")
    try:
        given = np.atleast_1d(np.asarray(ground_m, float))
    except (TypeError, ValueError) as error:
        raise ModelError(f"ground_m is a side in metres, or several, not {ground_m!r}") from error
    trained = np.asarray(tower.sides_m)
    if not trained.size:
        return  # not known
    same = given.shape == trained.shape and np.allclose(given, trained, rtol=_SAME_SIDE, atol=0)
    if not same:
        sides = [", ".join(f"{side:g}" for side in part.ravel()) for part in (trained, given)]
        raise ModelError(
            f"the model learned {modality} patches of {sides[0]} m on the ground, these are of "
            f"{sides[1]} m; cut them anew, or leave out ground_m to encode them as they are"
        )


def check_pixels(settings: ModelSettings, modality: str, values: np.ndarray) -> np.ndarray:
    """Return pixels in the type that an encoder takes.

    Raises:
        ModelError: if they are of another type or range.
    """
    tower, wanted = settings.towers[modality], np.dtype(settings.number_type(modality))
    if not values.size:
        return values.astype(wanted)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if isinstance(tower, ClassesSettings):
        is_class = np.isin(values, np.arange(len(tower.classes) + 1))
        if not is_class.all():
            raise ModelError(
                f"{modality} takes numbers of classes from 0 (no data) to {len(tower.classes)}, "
                f"not {values[~is_class].flat[0]}"
            )
        return values.astype(wanted)
    if wanted == np.uint8:
        return _check_bytes(modality, values, low, high)
    if isinstance(tower, ImageSettings):
        if not np.isfinite(values).all():
            raise ModelError(f"{modality} takes finite numbers; {_first_bad(values)}")
        return values.astype(wanted)
    if np.isinf(values).any() or low < LOWEST_M or high > HIGHEST_M:
        raise ModelError(
            f"{modality} takes heights in metres from {LOWEST_M:g} to {HIGHEST_M:g}, and NaN where "
            f"there is no data; these go from {low:g} to {high:g}"
        )
    empty = np.isnan(values).reshape(len(values), -1).all(axis=1)
    if empty.any():
        raise ModelError(
            f"{modality} takes patches with some height; number {int(empty.argmax())} has none: "
            "leave it out"
        )
    return values.astype(wanted)


def _check_bytes(modality: str, values: np.ndarray, low: float, high: float) -> np.ndarray:
    if values.dtype.kind == "f":
        hint = (
            "they look like numbers from 0 to 1: (255 * images).round().astype('uint8')"
            if low >= 0 and high <= 1
            else "images.round().astype('uint8') if they are from 0 to 255"
        )
        raise ModelError(f"{modality} takes bytes from 0 to 255, not {values.dtype}; {hint}")
    if low < 0 or high > 255:
        raise ModelError(f"{modality} takes bytes from 0 to 255; these go from {low:g} to {high:g}")
    if values.dtype != np.uint8 and high <= 1:
        raise ModelError(
            f"{modality} takes bytes from 0 to 255; these are {values.dtype} of 0 and 1, which "
            "would be black: give uint8 if that is what they are"
        )
    return values.astype(np.uint8)


def _first_bad(values: np.ndarray) -> str:
    first = int(np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))[0])
    return f"number {first} has others"


def _describe_shape(modality: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    one = ("n", *expected)
    text = f"{modality} takes an array of shape ({', '.join(map(str, one))}), not {shape}"
    if shape == expected:
        return f"{text}: put a single one into a list"
    if len(expected) == 3 and shape[1:] == (*expected[1:], expected[0]):
        return f"{text}: the channels come first, numpy.moveaxis(images, -1, 1)"
    return text
