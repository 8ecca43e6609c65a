"""Pixels as a tower without a checkpoint sees them: centred, of unit spread, always the same."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from unigeo.producer.encoders.images import ImageEncoder
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings, from_json, to_json
from unigeo.producer.encoders.pixel_statistics import LOCATIONS, SEED, fit_pixels
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.encoders.tower_settings import ImageSettings
from unigeo.producer.observations.forms import Form, default_forms
from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.observations.wrapping import ObservationsWrapper
from unigeo.producer.pipeline.recipe import recipe
from unigeo.schemas.errors import ModelError, ObservationsError

SHAPES = {"aerial": (3, 32, 32), "street": (3, 32, 32), "dsm": (1, 32, 32)}


def image_settings(**changes: Any) -> ImageSettings:
    return ImageSettings(
        rows=16, cols=16, patch=8, width=16, depth=1, heads=2, **{"channels": 2} | changes
    )


MEASURED = {"model.aerial.measure_pixels": "true", "model.street.measure_pixels": "true"}


def measuring(settings: ModelSettings) -> ModelSettings:
    towers = {m: replace(settings.towers[m], measure_pixels=True) for m in ("aerial", "street")}
    return settings.with_towers(**towers)


def test_a_recipe_measures_the_images_if_asked() -> None:
    world = World()
    assert recipe("tiny", world, 0, {}).model.towers["aerial"].pixel_mean == ()
    model = recipe("tiny", world, 0, MEASURED).model
    again = recipe("tiny", world, 5, MEASURED).model
    lonlat = world.locations(LOCATIONS, SEED)
    for modality in ("aerial", "street"):
        pixels = world.patches(modality, lonlat).values.astype(float)
        tower = model.towers[modality]
        assert np.allclose(tower.pixel_mean, pixels.mean(axis=(0, 2, 3)), atol=0.06)
        assert np.allclose(tower.pixel_std, pixels.std(axis=(0, 2, 3)), atol=0.06)
        assert tower.pixel_mean == again.towers[modality].pixel_mean
    assert from_json(to_json(model)) == model


def test_a_tower_sees_pixels_centred_and_bright_ones_within_reach() -> None:
    encoder = ImageEncoder(image_settings(pixel_mean=(20.0, 100.0), pixel_std=(5.0, 30.0)), 8)
    dark = torch.full((1, 2, 16, 16), 25, dtype=torch.uint8)
    observed = encoder.pixels(dark)
    expected = np.arcsinh([(25 - 20) / 5, (25 - 100) / 30])
    assert np.allclose(observed[0, :, 0, 0].numpy(), expected, atol=1e-6)
    lamp = encoder.pixels(torch.full_like(dark, 255))
    assert float(lamp[0, 0, 0, 0]) == pytest.approx(np.arcsinh(47.0), abs=1e-5)
    plain = ImageEncoder(image_settings(), 8).pixels(dark)
    assert torch.allclose(plain, torch.full_like(plain, 25 / 127.5 - 1))


class Black(ObservationsWrapper):
    """The world by night."""

    def patches(self, modality: str, lonlat: np.ndarray) -> Patches:
        observed = super().patches(modality, lonlat)
        return Patches(np.zeros_like(observed.values), observed.valid)


def test_images_without_differences_and_pretrained_towers_keep_the_scale() -> None:
    settings = measuring(tiny(default_forms(SHAPES)))
    assert fit_pixels(settings, Black(World())) == settings
    trained = replace(settings.towers["aerial"], pretrained="somewhere")
    fitted = fit_pixels(settings.with_towers(aerial=trained), World())
    assert fitted.towers["aerial"] == trained and fitted.towers["street"].pixel_mean


class Measured(ObservationsWrapper):
    """The aerial images as reflectances, some pixels of which are marked."""

    def __init__(self, inner: World, mark: float) -> None:
        super().__init__(inner)
        self.mark = mark

    def form(self, modality: str) -> Form:
        form = self.inner.form(modality)
        return replace(form, dtype="float32") if modality == "aerial" else form

    def patches(self, modality: str, lonlat: np.ndarray) -> Patches:
        observed = super().patches(modality, lonlat)
        values = observed.values.astype(np.float32) / 255
        values[::7, 1, :4] = self.mark
        return Patches(values, observed.valid)


@pytest.mark.parametrize("mark", [-9999.0, float(np.finfo(np.float32).min), 0.0, 1.2])
def test_numbers_that_stand_for_no_data_are_refused_before_training(mark: float) -> None:
    """Otherwise mean and deviation are theirs, and all other numbers look alike."""
    observations = Measured(World(), mark)
    if abs(mark) < 2:
        assert recipe("tiny", observations, 0, {}).model.towers["aerial"].pixel_mean
        return
    words = rf"aerial: 1\.8 % .* band 2 .* nodata = {re.escape(f'{mark:g}')} "
    with pytest.raises(ObservationsError, match=words):
        recipe("tiny", observations, 0, {})


def test_tied_towers_take_the_scale_of_the_aerial_image() -> None:
    settings = fit_pixels(measuring(tiny(default_forms(SHAPES))), World())
    other = replace(settings.towers["aerial"], pixel_mean=(1.0, 2.0, 3.0))
    both = replace(settings.with_towers(street=other), tied=True)
    model = UniGeoCLIP(both).eval()
    observed = torch.randint(0, 255, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        street, aerial = model.encode("street", observed), model.encode("aerial", observed)
        assert (street - aerial).abs().max() < 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"pixel_mean": (1.0,), "pixel_std": (1.0,)},
        {"pixel_mean": (1.0, 2.0)},
        {"pixel_mean": (1.0, 2.0), "pixel_std": (1.0, 0.0)},
    ],
)
def test_numbers_that_do_not_fit_the_bands_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="pixel_"):
        image_settings(**changes)
