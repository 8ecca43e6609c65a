"""GEO-Bench by the aerial tower: solar panels in a picture, and land cover of its pixels."""

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
from unigeo.producer.evaluation.downstream.inputs import fitted, tokens_of, vectors_of
from unigeo.producer.evaluation.downstream.linear import (
    PIXELS,
    PixelSettings,
    confusion_of,
    fit_classes,
    fit_pixels,
)
from unigeo.producer.evaluation.downstream.result import Result
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
"""Classes of `m-chesapeake` by number, as GEO-Bench's converter names them; it scores all seven."""


def run_pv4ger(
    model: UniGeoCLIP, folder: Any, device: torch.device, *, partition: str = "default"
) -> Result:
    """Probe whether a picture shows solar panels: logistic regression on the aerial embedding.

    Args:
        model: with an aerial tower.
        folder: `m-pv4ger` of GEO-Bench.
        device: to encode on.
        partition: which training samples.

    Returns:
        `accuracy` on the test split, the penalty chosen on the validation split.

    Raises:
        ObservationsError: if a file is missing or damaged, or a class is unknown.
    """
    data = GeoBench(folder, partition)
    labels = data.labels()
    for name, label in labels.items():
        if not 0 <= label < len(SOLAR):
            raise ObservationsError(_foreign(data, name, label, len(SOLAR)))
    parts = {}
    for split in SPLITS:
        vectors = vectors_of(model, "aerial", _pictures(model, data, split), device)
        codes = np.array([labels[name] for name in data.names[split]])
        parts[split] = vectors.astype(np.float64), codes
    fitted_probe = fit_classes(parts["train"], parts["valid"], len(SOLAR))
    vectors, codes = parts["test"]
    confusion = confusion_matrix(codes, fitted_probe.predict(vectors).argmax(axis=1), len(SOLAR))
    scores = overall_scores(confusion)
    return Result(
        name="m-pv4ger",
        metrics={name: scores[name] for name in ("accuracy", "macro_f1")},
        table=class_scores(confusion, SOLAR).rename(columns={"pixels": "pictures"}),
        facts={"partition": partition, "penalty": fitted_probe.penalty} | _counts(data),
    )


def run_chesapeake(
    model: UniGeoCLIP,
    folder: Any,
    device: torch.device,
    *,
    partition: str = "default",
    settings: PixelSettings = PIXELS,
) -> Result:
    """Probe the land cover of every pixel: a linear layer on the aerial tower's patch tokens.

    Args and errors as in `run_pv4ger`; the folder is `m-chesapeake`.

    Returns:
        `miou`, `accuracy` and `macro_f1` over all pixels of the test split.
    """
    data = GeoBench(folder, partition)
    classes = len(LAND_COVER)
    parts = {
        split: (
            tokens_of(model, "aerial", _pictures(model, data, split), device),
            np.stack([_mask(data, name) for name in data.names[split]]),
        )
        for split in SPLITS
    }
    probe = fit_pixels(*parts["train"], classes, device, settings, parts["valid"])
    confusion = confusion_of(probe, *parts["test"], classes, device)
    return Result(
        name="m-chesapeake",
        metrics=overall_scores(confusion),
        table=class_scores(confusion, LAND_COVER),
        facts={"partition": partition, "settings": settings} | _counts(data),
    )


def _pictures(
    model: UniGeoCLIP, data: GeoBench, split: str
) -> UInt8[np.ndarray, "picture channel row col"]:
    channels, rows, cols = model.settings.shape("aerial")
    return np.stack([fitted(data.picture(n), (channels, rows, cols)) for n in data.names[split]])


def _mask(data: GeoBench, name: str) -> UInt8[np.ndarray, "row col"]:
    mask = data.mask(name)
    strange = mask[(mask != IGNORED) & ((mask < 0) | (mask >= len(LAND_COVER)))]
    if strange.size:
        raise ObservationsError(_foreign(data, name, strange[0], len(LAND_COVER)))
    return np.asarray(mask, np.uint8)


def _counts(data: GeoBench) -> dict[str, int]:
    return {f"{split} pictures": len(data.names[split]) for split in SPLITS}


def _foreign(data: GeoBench, name: str, label: int | np.integer, classes: int) -> str:
    return (
        f"{data.folder}: sample {name} holds class {label}, but this benchmark has {classes}. Is "
        f"it another data set of GEO-Bench?"
    )
