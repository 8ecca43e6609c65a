"""Probes of the aerial encoder on GEO-Bench: solar panels in an image, land cover of its pixels."""

from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.evaluation.downstream.confusion import (
    IGNORED,
    class_scores,
    confusion_matrix,
    overall_scores,
)
from unigeo.producer.evaluation.downstream.geobench import SPLITS, GeoBench
from unigeo.producer.evaluation.downstream.inputs import encode_tokens, encode_vectors, resize_image
from unigeo.producer.evaluation.downstream.linear import (
    PIXELS,
    PixelSettings,
    fit_classifier,
    fit_pixels,
    pixel_confusion,
)
from unigeo.producer.evaluation.downstream.result import BenchmarkResult
from unigeo.schemas.errors import ObservationsError

SOLAR = ("no solar pv", "solar pv")
LAND_COVER = (
    "water",
    "tree-canopy-forest",
    "low-vegetation-field",
    "barren-land",
    "impervious-other",
    "impervious-roads",
    "no-data",
)
"""Classes of `m-chesapeake` by number, named as in GEO-Bench's converter; all seven are scored."""


def run_pv4ger(
    model: UniGeoCLIP, folder: Any, device: torch.device, *, partition: str = "default"
) -> BenchmarkResult:
    """Classify images with and without solar panels by logistic regression on their vectors.

    Args:
        model: model with an aerial encoder.
        folder: folder of GEO-Bench's `m-pv4ger`.
        device: device of the encoder.
        partition: partition of GEO-Bench, which sets the training samples.

    Returns:
        `accuracy` and `macro_f1` on the test split, with the penalty chosen on the validation
        split.

    Raises:
        ObservationsError: if a file is missing or damaged, or a class is unknown.
    """
    data = GeoBench(folder, partition)
    labels = data.labels()
    for name, label in labels.items():
        if not 0 <= label < len(SOLAR):
            raise ObservationsError(_unknown_class(data, name, label, len(SOLAR)))
    parts = {}
    for split in SPLITS:
        vectors = encode_vectors(model, "aerial", _images(model, data, split), device)
        classes = np.array([labels[name] for name in data.names[split]])
        parts[split] = vectors.astype(np.float64), classes
    probe = fit_classifier(parts["train"], parts["valid"], len(SOLAR))
    vectors, classes = parts["test"]
    confusion = confusion_matrix(classes, probe.predict(vectors).argmax(axis=1), len(SOLAR))
    scores = overall_scores(confusion)
    return BenchmarkResult(
        name="m-pv4ger",
        metrics={name: scores[name] for name in ("accuracy", "macro_f1")},
        table=class_scores(confusion, SOLAR).rename(columns={"pixels": "pictures"}),
        facts={"partition": partition, "penalty": probe.penalty} | _counts(data),
    )


def run_chesapeake(
    model: UniGeoCLIP,
    folder: Any,
    device: torch.device,
    *,
    partition: str = "default",
    settings: PixelSettings = PIXELS,
) -> BenchmarkResult:
    """Probe the land cover of every pixel by a linear layer on the aerial encoder's patch tokens.

    Args:
        model: model with an aerial encoder.
        folder: folder of GEO-Bench's `m-chesapeake`.
        device: device to encode and train on.
        partition: partition of GEO-Bench, which sets the training samples.
        settings: settings for training the probe.

    Returns:
        `miou`, `accuracy` and `macro_f1` over all pixels of the test split.

    Raises:
        ObservationsError: if a file is missing or damaged, or a class is unknown.
    """
    data = GeoBench(folder, partition)
    classes = len(LAND_COVER)
    parts = {
        split: (
            encode_tokens(model, "aerial", _images(model, data, split), device),
            np.stack([_mask(data, name) for name in data.names[split]]),
        )
        for split in SPLITS
    }
    probe = fit_pixels(*parts["train"], classes, device, settings, parts["valid"])
    confusion = pixel_confusion(probe, *parts["test"], classes, device)
    return BenchmarkResult(
        name="m-chesapeake",
        metrics=overall_scores(confusion),
        table=class_scores(confusion, LAND_COVER),
        facts={"partition": partition, "settings": settings} | _counts(data),
    )


def _images(
    model: UniGeoCLIP, data: GeoBench, split: str
) -> UInt8[np.ndarray, "image channel row col"]:
    channels, rows, cols = model.settings.shape("aerial")
    return np.stack(
        [resize_image(data.image(n), (channels, rows, cols)) for n in data.names[split]]
    )


def _mask(data: GeoBench, name: str) -> UInt8[np.ndarray, "row col"]:
    mask = data.mask(name)
    unknown = mask[(mask != IGNORED) & ((mask < 0) | (mask >= len(LAND_COVER)))]
    if unknown.size:
        raise ObservationsError(_unknown_class(data, name, unknown[0], len(LAND_COVER)))
    return np.asarray(mask, np.uint8)


def _counts(data: GeoBench) -> dict[str, int]:
    return {f"{split} pictures": len(data.names[split]) for split in SPLITS}


def _unknown_class(data: GeoBench, name: str, label: int | np.integer, classes: int) -> str:
    return (
        f"{data.folder}: sample {name} holds class {label}, but this benchmark has {classes}. Is "
        f"it another data set of GEO-Bench?"
    )
