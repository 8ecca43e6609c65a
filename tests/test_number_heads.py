"""Plain numbers: they are numpy's, losses of heads add up, and vectors keep the numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.training_runs import SMALL, model_settings

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings, to_json
from unigeo.producer.encoders.number_heads import NumberHeads
from unigeo.producer.encoders.plain_numbers import NumberProjection, number_count, plain_numbers
from unigeo.producer.encoders.saved_models import load_model, save_model
from unigeo.producer.encoders.tower_settings import (
    ClassesSettings,
    ImageSettings,
    SurfaceSettings,
)
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.training.optimizer import build_optimizer
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples, observe
from unigeo.producer.training.step import TrainingBatch, compute_gradients
from unigeo.schemas.errors import ModelError

SETTINGS = model_settings().with_towers(text=None)
TOWERS = {name: SETTINGS.pixel_tower(name) for name in SETTINGS.pixel_modalities}
ADDING = SETTINGS.with_towers(**{n: replace(one, numbers=True) for n, one in TOWERS.items()})
_CHANNELS = {ImageSettings: "channels", SurfaceSettings: "views"}


@pytest.fixture(scope="module")
def samples() -> Samples:
    world = World()
    return observe(world, world.locations(SMALL.batch, 0), None, SETTINGS.modalities)


def model_with_heads(samples: Samples, settings: ModelSettings = SETTINGS) -> UniGeoCLIP:
    model = UniGeoCLIP(settings)
    inputs = {name: samples.inputs[name] for name in settings.pixel_modalities}
    model.measure_numbers(inputs)
    model.heads = NumberHeads(settings, inputs)
    return model


def test_numbers_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (5, 3, 16, 16)).astype(np.uint8)
    heights = rng.normal(500, 90, (5, 2, 16, 16)).astype(np.float32)
    heights[0, 0, 5:8, 6:9] = np.nan
    heights[1, 1] = np.nan
    for patches, tower in ((pixels, TOWERS["aerial"]), (heights, TOWERS["dsm"])):
        numbers = np.ma.masked_invalid(patches.astype(float))
        expected = [numbers[..., 7:9, 7:9].mean(axis=(2, 3))]
        for low, high in ((0, 16), (4, 12), (6, 10)):
            square = numbers[..., low:high, low:high]
            mean, std = square.mean(axis=(2, 3)), square.std(axis=(2, 3))
            expected += [mean, std, np.log1p(std)]
            if patches.dtype == np.uint8:
                expected.append(np.log1p(mean))
        expected = [np.ma.filled(one, 0) for one in expected]  # 0 where nothing is known
        found = plain_numbers(torch.from_numpy(patches), tower)
        np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-4)
        channels = replace(tower, **{_CHANNELS[type(tower)]: patches.shape[1]})
        assert found.shape[1] == number_count(channels)


def test_numbers_of_classes_are_shares() -> None:
    codes = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    codes[0, 0, 3:5, 3:5] = 2
    tower = ClassesSettings(
        classes=("water", "town"), rows=8, cols=8, patch=4, width=8, depth=1, heads=1
    )
    shares = plain_numbers(codes, tower)
    assert shares.shape[1] == number_count(tower)
    assert shares.tolist() == [[0, 4 / 64, 0, 4 / 16, 0, 1]]


def test_a_batch_in_parts_has_the_gradients_of_the_whole(samples: Samples) -> None:
    gradients = []
    for chunk in (None, 7):
        model = model_with_heads(samples)
        settings = replace(SMALL, numbers=0.7, chunk=chunk)
        build_optimizer(model, settings)
        batch = TrainingBatch(0, samples, np.arange(len(samples)))
        result = compute_gradients(model, batch, settings, Processes())
        plain = compute_gradients(UniGeoCLIP(SETTINGS), batch, SMALL, Processes())
        # Heads that know nothing predict the means: an error of about 1.
        assert 0.7 * 0.7 < float(result.loss - plain.loss) < 0.7 * 1.3
        gradients.append({name: w.grad for name, w in model.named_parameters()})
    for name, whole in gradients[0].items():
        if whole is not None:
            torch.testing.assert_close(gradients[1][name], whole, rtol=1e-4, atol=1e-6)
    assert any(name.startswith("heads.") for name in gradients[0])


def test_losses_of_parts_of_a_batch_add_up(samples: Samples) -> None:
    model = model_with_heads(samples)
    assert model.heads is not None
    torch.nn.init.normal_(model.heads.heads["dsm"].linear.weight)
    samples.present["aerial"][2:9] = False
    vectors = {name: model.encode(name, samples.inputs[name]) for name in SETTINGS.pixel_modalities}

    def loss(rows: slice) -> float:
        assert model.heads is not None
        part = samples.take(range(len(samples))[rows])
        own = {name: vector[rows] for name, vector in vectors.items()}
        return model.heads.loss(own, part.inputs, part.present, len(samples)).item()

    assert loss(slice(0, 11)) + loss(slice(11, None)) == pytest.approx(loss(slice(None)), rel=1e-4)


@pytest.mark.parametrize(("towers", "part"), [(SETTINGS, 0.6), (ADDING, 0.2)])
def test_towers_learn_to_keep_their_numbers(
    samples: Samples, towers: ModelSettings, part: float
) -> None:
    """By gradient alone the error falls to a part of what it was."""
    model, settings = model_with_heads(samples, towers), replace(SMALL, numbers=100.0, rate=3e-3)
    optimizer = build_optimizer(model, settings)
    batch = TrainingBatch(0, samples, np.arange(len(samples)))
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(float(compute_gradients(model, batch, settings, Processes()).loss))
        optimizer.step()
    assert losses[-1] < part * losses[0]


def test_heads_are_not_saved(samples: Samples, tmp_path: object) -> None:
    model = model_with_heads(samples)
    model.heads = None
    save_model(model, None, f"{tmp_path}/model")
    assert load_model(f"{tmp_path}/model")[0].state_dict().keys() == model.state_dict().keys()


def test_a_weight_without_sense_is_refused() -> None:
    with pytest.raises(ModelError, match="numbers must not be negative"):
        replace(SMALL, numbers=-1.0)
    assert "numbers" not in SMALL.identity() and replace(SMALL, numbers=1.0).identity()["numbers"]


def test_a_tower_adds_a_linear_map_of_its_numbers(samples: Samples) -> None:
    for name in TOWERS:
        plain, adding = UniGeoCLIP(SETTINGS).encoders[name], UniGeoCLIP(ADDING).encoders[name]
        inputs = samples.inputs[name]
        projection = adding.numbers
        assert isinstance(projection, NumberProjection)
        torch.testing.assert_close(adding(inputs), plain(inputs))  # it begins as the tower without
        torch.nn.init.normal_(projection.weight)
        torch.testing.assert_close(adding(inputs), plain(inputs))  # unmeasured numbers are 0
        projection.measure(inputs)
        numbers = plain_numbers(inputs, TOWERS[name]).double()
        std = numbers.std(dim=0)
        scaled = torch.where(std > 1e-6, (numbers - numbers.mean(dim=0)) / std, 0).clamp(-10, 10)
        expected = plain(inputs).double() + scaled @ projection.weight.double().T
        torch.testing.assert_close(adding(inputs).double(), expected, rtol=1e-3, atol=1e-3)


def test_a_modality_observed_nowhere_predicts_and_adds_nothing(samples: Samples) -> None:
    inputs = {name: values[:1] for name, values in samples.inputs.items()}
    model = model_with_heads(replace(samples, inputs=inputs), ADDING)
    vectors = {name: model.encode(name, inputs[name]) for name in TOWERS}
    present = {name: torch.ones(1, dtype=torch.bool) for name in TOWERS}
    assert model.heads is not None
    assert model.heads.loss(vectors, inputs, present, 1).item() == 0
    for name in TOWERS:
        torch.testing.assert_close(vectors[name], UniGeoCLIP(SETTINGS).encode(name, inputs[name]))


@pytest.mark.parametrize("half", [False, True])
def test_the_scale_of_numbers_is_saved_with_the_model(
    samples: Samples, tmp_path: object, half: bool
) -> None:
    model = model_with_heads(samples, ADDING)
    for name in TOWERS:
        torch.nn.init.normal_(model.encoders[name].numbers.weight, std=0.02)
    model.heads = None
    save_model(model, None, f"{tmp_path}/model", half=half)
    read = load_model(f"{tmp_path}/model")[0]
    assert read.settings == ADDING
    for name in TOWERS:
        cosines = (
            read.encode(name, samples.inputs[name]) * model.encode(name, samples.inputs[name])
        ).sum(dim=1)
        assert cosines.min() > (0.999 if half else 1 - 1e-5)
    assert "numbers" not in str(to_json(SETTINGS)), "models of before keep their settings"
