"""A step in parts gives the gradients of the whole, and each tower learns at its own rate."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.training_runs import SMALL, model_settings

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.text import tokenize, train_tokenizer
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.training.ema import MeanWeights
from unigeo.producer.training.loss.contrast_settings import ContrastSettings
from unigeo.producer.training.noise import drop_modalities, jitter
from unigeo.producer.training.optimizer import build_optimizer, set_rates
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples, observe
from unigeo.producer.training.schedule import learns, rate_share
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import TrainingBatch, compute_gradients, prepare_blocks

ALONE = Processes()
COUNT = SMALL.batch
SETTINGS = replace(SMALL, jitter_m=500.0, drop=0.4)

Gradients = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def samples() -> Samples:
    world, model = World(), model_settings()
    lonlat = world.locations(COUNT, 0)
    texts = world.texts(lonlat)
    tokenizer = train_tokenizer([text for text in texts if text], model.text)
    observed = observe(world, lonlat, tokenizer, model.modalities)
    assert tokenize(tokenizer, texts).shape == observed.inputs["text"].shape
    observed.present["aerial"][3:6] = False
    return observed


def gradients_of(
    samples: Samples, settings: TrainingSettings, *, fit: bool = False, contrast_step: int = 4
) -> tuple[float, Gradients]:
    """Gradients of one batch, by name of the weight."""
    model = UniGeoCLIP(model_settings()).train()
    build_optimizer(model, settings)
    if fit:
        prepare_blocks(model, settings, torch.device("cpu"))
    batch = TrainingBatch(contrast_step, samples, np.arange(len(samples)))
    result = compute_gradients(model, batch, settings, ALONE)
    grads = {name: w.grad for name, w in model.named_parameters() if w.grad is not None}
    return float(result.loss), grads


def same(first: Gradients, second: Gradients, tolerance: float = 2e-6) -> None:
    largest = max(float(values.abs().max()) for values in first.values())
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert float((values - second[name]).abs().max()) < tolerance * largest, name


@pytest.mark.parametrize("chunk", [1, 7, COUNT])
def test_chunks_give_the_gradients_of_the_large_batch(samples: Samples, chunk: int) -> None:
    contrast = ContrastSettings(exclusion_m=50_000.0)
    whole = gradients_of(samples, replace(SETTINGS, contrast=contrast))
    parts = gradients_of(samples, replace(SETTINGS, contrast=contrast, chunk=chunk))
    assert parts[0] == pytest.approx(whole[0], rel=1e-6)
    same(whole[1], parts[1])


def test_plain_accumulation_would_be_another_loss(samples: Samples) -> None:
    """What the cached gradients are for: a sum over small batches has other negatives."""
    whole = gradients_of(samples, SETTINGS)[1]
    halves = [
        gradients_of(samples.take(rows), SETTINGS)[1]
        for rows in np.array_split(np.arange(COUNT), 4)
    ]
    name = "encoders.aerial.projection.weight"
    name = (
        name if name in whole else next(n for n in whole if "aerial" in n and n.endswith("weight"))
    )
    summed = sum(half[name] for half in halves)
    cosine = torch.nn.functional.cosine_similarity(whole[name].flatten(), summed.flatten(), dim=0)
    assert cosine < 0.99


def test_forgotten_activations_give_the_same_gradients(samples: Samples) -> None:
    whole = gradients_of(samples, SETTINGS)
    again = gradients_of(
        samples, replace(SETTINGS, activation_checkpointing=True, chunk=9), fit=True
    )
    same(whole[1], again[1])


def test_bfloat16_gives_nearly_the_same_gradients_and_keeps_locations_apart(
    samples: Samples,
) -> None:
    """The coordinates' phases stay in float64: 100 m would be lost in bfloat16."""
    exact, rough = (
        gradients_of(samples, replace(SETTINGS, precision=p))[1] for p in ("float32", "bfloat16")
    )
    for name in ("encoders.coordinate.registers", "encoders.coordinate.scale_embedding"):
        cosine = torch.nn.functional.cosine_similarity(
            exact[name].flatten(), rough[name].flatten(), dim=0
        )
        assert 0.9 < cosine < 1 - 1e-9


def test_a_temperature_per_pair_follows_the_chosen_pairs(samples: Samples) -> None:
    model = UniGeoCLIP(replace(model_settings(), temperature_per_pair=True))
    chosen = ContrastSettings(pairs="pivot:dsm")
    result = compute_gradients(
        model, TrainingBatch(0, samples, np.arange(COUNT)), replace(SMALL, contrast=chosen), ALONE
    )
    assert result.loss.isfinite()
    touched = {p for p, g in zip(model.settings.pairs, model.logit_scale.grad, strict=True) if g}
    assert touched == {p for p in model.settings.pairs if "dsm" in p}


def test_hidden_modalities_are_the_same_for_any_share_of_the_batch() -> None:
    present = {name: torch.ones(COUNT, dtype=torch.bool) for name in "abcde"}
    present["c"][::2] = False
    settings = replace(SMALL, drop=0.5)
    all_rows = np.arange(COUNT)
    whole = torch.stack([*drop_modalities(present, all_rows, 3, settings).values()], 1)
    part = {name: mask[10:] for name, mask in present.items()}
    mine = torch.stack([*drop_modalities(part, all_rows[10:], 3, settings).values()], 1)
    assert torch.equal(whole[10:], mine)
    assert not torch.equal(
        whole, torch.stack([*drop_modalities(present, all_rows, 4, settings).values()], 1)
    )
    assert (whole.sum(1) >= 2).all() and not whole[::2, 2].any()
    many = {name: torch.ones(4000, dtype=torch.bool) for name in "abcde"}
    big = replace(settings, batch=4000, locations=10_000, drop=0.25)
    hidden = (
        1
        - torch.stack([*drop_modalities(many, np.arange(4000), 0, big).values()], 1).double().mean()
    )
    # Of k unlucky draws in five, at most three are hidden.
    chances = [math.comb(5, k) * 0.25**k * 0.75 ** (5 - k) for k in range(6)]
    expected = sum(min(k, 3) * chance for k, chance in enumerate(chances)) / 5
    assert float(hidden) == pytest.approx(expected, abs=0.01)


def test_noise_moves_samples_by_metres_and_keeps_float64() -> None:
    lonlat = torch.tensor([[-100.0, 0.0], [-100.0, 60.0]], dtype=torch.float64).repeat(2000, 1)
    settings = replace(SMALL, batch=4000, locations=10_000, jitter_m=1000.0)
    moved = jitter(lonlat, np.arange(4000), 0, settings) - lonlat
    assert moved.dtype == torch.float64
    metres = moved * 111_195 * torch.stack([torch.deg2rad(lonlat[:, 1]).cos(), torch.ones(4000)], 1)
    assert metres[::2].std(0).numpy() == pytest.approx([1000, 1000], rel=0.05)
    assert metres[1::2].std(0).numpy() == pytest.approx([1000, 1000], rel=0.05)


def test_a_frozen_tower_takes_no_gradient_and_no_memory_of_the_optimizer(samples: Samples) -> None:
    settings = replace(SMALL, tower_rates=(("aerial", 0.0), ("text", 0.1)))
    model = UniGeoCLIP(model_settings())
    optimizer = build_optimizer(model, settings)
    compute_gradients(model, TrainingBatch(5, samples, np.arange(COUNT)), settings, ALONE)
    set_rates(optimizer, 5, settings)
    optimizer.step()
    frozen = set(map(id, model.encoders["aerial"].parameters()))
    assert not frozen & {id(w) for group in optimizer.param_groups for w in group["params"]}
    assert not frozen & set(map(id, optimizer.state))
    rates = {group["tower"]: group["lr"] for group in optimizer.param_groups}
    assert rates["text"] == pytest.approx(0.1 * rates["dsm"])


def test_a_tower_stops_by_itself(samples: Samples) -> None:
    settings = replace(SMALL, steps=100, tower_stop=(("coordinate", 0.5),))
    shares = [rate_share(step, settings, "coordinate") for step in range(100)]
    assert shares[49] < 0.01 and not any(shares[50:]) and shares[:3] == [1 / 3, 2 / 3, 1]
    assert shares[3:] == sorted(shares[3:], reverse=True)
    assert learns("coordinate", 49, settings) and not learns("coordinate", 50, settings)
    assert rate_share(99, settings, "aerial") == rate_share(99, settings) > 0
    for chunk in (None, 6):
        _, grads = gradients_of(samples, replace(settings, chunk=chunk), contrast_step=60)
        assert not [name for name in grads if name.startswith("encoders.coordinate")]
        assert any(name.startswith("encoders.dsm") for name in grads)


def test_rates_fall_from_the_last_block_to_the_first() -> None:
    model = UniGeoCLIP(model_settings())
    optimizer = build_optimizer(model, replace(SMALL, layer_decay=0.5))
    rates = {
        id(weight): group["factor"]
        for group in optimizer.param_groups
        for weight in group["params"]
    }
    assert len(rates) == len(list(model.parameters()))
    names = {name: rates[id(weight)] for name, weight in model.named_parameters()}
    for number, factor in ((0, 0.5), (1, 1.0)):
        block = re.compile(rf"\.(blocks|layers)\.{number}\.")
        found = {name: f for name, f in names.items() if block.search(name)}
        assert {name.split(".")[1] for name in found} == set(model.modalities)
        assert set(found.values()) == {factor}
    assert names["encoders.coordinate.scale_embedding"] == 0.25
    assert {f for n, f in names.items() if "embed" in n} == {0.25}
    assert names["logit_scale"] == names["encoders.coordinate.norm.weight"] == 1


def test_the_mean_of_the_weights_is_an_exponential_one() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    mean = MeanWeights(model, 0.5)
    expected = model.weight.item()
    for step in range(30):
        with torch.no_grad():
            model.weight.fill_(float(step))
        mean.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert mean.means["weight"].item() == pytest.approx(expected, rel=1e-6)
    with mean.applied():
        assert model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert model.weight.item() == 29


def test_blocks_of_every_tower_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda forward, **_: compiled.append(forward) or forward)
    prepare_blocks(UniGeoCLIP(model_settings()), replace(SMALL, compile=True), torch.device("cpu"))
    assert len(compiled) == 2 * 4
    prepare_blocks(UniGeoCLIP(model_settings()), SMALL, torch.device("cpu"))
    assert len(compiled) == 2 * 4, "a CPU gains little"
