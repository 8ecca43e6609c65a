"""What one `unigeo-produce` run is: every choice made once, and said before any work is done."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from unigeo.producer.encoders.pixel_statistics import fit_pixels
from unigeo.producer.encoders.presets import base, small, tiny
from unigeo.producer.encoders.settings import ModelSettings
from unigeo.producer.observations.protocol import IMAGE_MODALITIES, Observations
from unigeo.producer.pipeline.overrides import override
from unigeo.producer.training.settings import TrainingSettings
from unigeo.schemas.errors import LayoutError, ModelError
from unigeo.schemas.geo.grid import Grid, from_wgs84
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.store.layout import Layout

PRESETS = ("tiny", "small", "base")
RASTERIZED = ("coordinate", "aerial", "dsm")
"""Modalities whose encoders can see every cell, hence can be made a field."""
_CPU_CELLS = 100_000
"""Cells inside the region that a laptop encodes in about a minute."""
_ROUND_STEPS = (1.0, 2.0, 2.5, 5.0)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a model is and how it is trained; its keys are `model.…` and `training.…`."""

    model: ModelSettings
    training: TrainingSettings


@dataclass(frozen=True, kw_only=True)
class ProductionRun:
    """One product: which cells, which vectors, from which model and observations."""

    region: Region
    grid: Grid
    layout: Layout
    model: Path
    out: str
    model_settings: ModelSettings | None
    """None where a finished model is used as it is."""
    training: TrainingSettings
    changes: Mapping[str, str]
    """Settings that differ from the preset's, in words."""
    interpolate: int = 1
    """Side of the squares of cells of which one coordinate is encoded; 1: every cell is."""


def recipe(
    preset: str, observations: Observations, seed: int, changes: Mapping[str, str]
) -> Recipe:
    """A preset with changes, such as `{"model.coordinate.depth": "6"}`.

    Raises:
        ModelError: if there is no such preset or setting, or a value makes no sense.
    """
    model, training = presets(preset, observations, seed)
    changed = override(Recipe(model=model, training=training), changes)
    return replace(changed, model=fit_pixels(changed.model, observations))


def presets(
    name: str, observations: Observations, seed: int
) -> tuple[ModelSettings, TrainingSettings]:
    """Model and training settings of a preset, fitted to the observations' patches.

    Raises:
        ModelError: if there is no such preset.
    """
    shapes = {
        modality: observations.shape(modality)  # type: ignore[arg-type]
        for modality in IMAGE_MODALITIES
        if modality in observations.modalities
    }
    text = "text" in observations.modalities
    if name == "tiny":
        return tiny(shapes, text=text, seed=seed), TrainingSettings(seed=seed)
    if name == "small":
        return small(shapes, text=text, seed=seed), TrainingSettings(
            locations=80_000, batch=1024, steps=2000, rate=1e-3, warmup=100, seed=seed
        )
    if name == "base":
        return base(shapes, text=text, seed=seed), TrainingSettings(
            locations=800_000,
            batch=4096,
            chunk=512,  # one H100 holds no 4,096 places of five towers at once
            steps=20_000,
            rate=1e-4,
            warmup=1000,
            seed=seed,
        )
    raise ModelError(f"there is no preset {name!r}; known are {', '.join(PRESETS)}")


def default_resolution(region: Region, device: torch.device) -> float:
    """The region's own on a GPU; on a CPU the finest round one that is quickly encoded."""
    if device.type == "cuda":
        return region.resolution_m
    area = _area_m2(region)
    for exponent in range(1, 7):
        for step in _ROUND_STEPS:
            size = step * 10**exponent
            if size >= region.resolution_m and area / size**2 <= _CPU_CELLS:
                return float(size)
    return 1e7


def default_modalities(observations: Observations) -> tuple[str, ...]:
    """Every modality that can be stored as a field and is observed."""
    return tuple(name for name in RASTERIZED if name in observations.modalities)


def chosen_modalities(names: str | None, observations: Observations) -> tuple[str, ...]:
    """The modalities named, or else every one that can be stored.

    Args:
        names: separated by commas.
        observations: whose, where none are named.

    Raises:
        LayoutError: if one of them cannot be made a field.
    """
    if not names:
        return default_modalities(observations)
    chosen = tuple(name.strip() for name in names.split(","))
    unknown = [name for name in chosen if name not in RASTERIZED]
    if unknown:
        raise LayoutError(
            f"cannot store {', '.join(unknown)}; a field is made of some of {', '.join(RASTERIZED)}"
        )
    return chosen


def _area_m2(region: Region) -> float:
    """Area of the region's rings, by the shoelace formula on the equal-area map."""
    area: float = 0.0
    for ring in region.rings:
        x, y = from_wgs84(region.crs).transform(ring[:, 0], ring[:, 1])
        area += abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2
    return area
