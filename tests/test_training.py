"""Training learns, is honest about its hold-out, and says how a model was made."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.observations.forms import default_forms
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.training.holdout import held_out
from unigeo.producer.training.recall import mean_recall, recall_matrix
from unigeo.producer.training.schedule import rate_share
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.train import train
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.grid import from_wgs84

SMALL = TrainingSettings(
    locations=700, batch=48, steps=40, warmup=5, gallery=40, block_km=150, watch=20
)

Trained = tuple[Path, dict[str, Any]]
"""Model folder and metrics."""


def settings_of(world: World) -> ModelSettings:
    return tiny(default_forms({m: world.shape(m) for m in ("aerial", "street", "dsm")}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained") / "model"
    return folder, train(World(), settings_of(World()), SMALL, folder, progress=False)


def test_a_model_folder_says_how_it_was_made(trained: Trained) -> None:
    folder, metrics = trained
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "settings.json", "metrics.json", "card.md"} <= names
    assert not folder.with_name("model.training").exists()
    matrix = metrics["retrieval"]["R@10"]
    assert sum(len(row) for row in matrix.values()) == 20
    assert metrics["chance"] == {"R@1": 1 / 40, "R@10": 10 / 40}
    assert "Retrieval on the spatial hold-out" in (folder / "card.md").read_text()


def test_it_learns_what_carries_over_to_blocks_never_seen(trained: Trained) -> None:
    _, metrics = trained
    assert metrics["mean"]["R@10"] > 1.3 * metrics["chance"]["R@10"]


def test_the_loss_falls(trained: Trained) -> None:
    folder, _ = trained
    losses = [
        json.loads(line)["loss"] for line in (folder / "train.jsonl").read_text().splitlines()
    ]
    assert len(losses) == SMALL.steps and np.mean(losses[-3:]) < np.mean(losses[:3])


def test_the_log_has_metrics_and_measurements_of_each_step(trained: Trained) -> None:
    folder, metrics = trained
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    for line in lines:
        assert {"step", "loss", "rate", "gradient_norm", "temperature"} <= set(line)
        # The peak is measured too, on a machine that may be busy just then: no bound from above.
        assert line["measured"]["samples_per_second"] > 0 and line["measured"]["mfu"] > 0
    watched = {line["step"] + 1: line["holdout"] for line in lines if "holdout" in line}
    assert list(watched) == [20, 40]
    matrix = metrics["retrieval"]["R@10"]
    for name in matrix:
        others = [matrix[name][o] + matrix[o][name] for o in matrix if o != name]
        assert watched[40][name] == pytest.approx(np.mean(others) / 2)


def test_metrics_and_card_say_where_the_model_comes_from(trained: Trained) -> None:
    folder, metrics = trained
    assert metrics["training"]["contrast"]["pairs"] == "all"
    assert metrics["flops"]["needed"] > 1e9 and metrics["code"]["unigeo"]
    assert metrics["observations"]["citation"] in (folder / "card.md").read_text()
    for heading in ("Intended use", "Data", "Training", "Limits"):
        assert f"## {heading}" in (folder / "card.md").read_text()


def test_a_finished_model_is_kept_and_other_settings_are_refused(trained: Trained) -> None:
    folder, metrics = trained
    again = train(World(), settings_of(World()), SMALL, folder, progress=False)
    assert again["run"] == metrics["run"]
    with pytest.raises(ModelError, match="other settings"):
        train(World(), settings_of(World()), replace(SMALL, steps=41), folder, progress=False)


def test_the_rate_rises_then_falls() -> None:
    shares = [rate_share(step, replace(SMALL, steps=100, warmup=10)) for step in range(100)]
    assert shares[:10] == sorted(shares[:10]) and shares[10:] == sorted(shares[10:])[::-1]
    assert max(shares) == 1 and shares[-1] < 0.02


def test_whole_blocks_are_held_out() -> None:
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-125, -67, 20_000), rng.uniform(25, 49, 20_000)], axis=1)
    in_holdout = held_out(lonlat, 100, 0.1, seed=0)
    x, y = from_wgs84("EPSG:8857").transform(lonlat[:, 0], lonlat[:, 1])
    block = np.floor(np.stack([x, y], axis=1) / 100_000)
    inside = {tuple(b) for b in block[in_holdout]}
    assert not inside & {tuple(b) for b in block[~in_holdout]}
    assert in_holdout.mean() == pytest.approx(0.1, abs=0.03)
    assert np.array_equal(held_out(lonlat[::-1], 100, 0.1, seed=0)[::-1], in_holdout)
    assert not np.array_equal(held_out(lonlat, 100, 0.1, seed=1), in_holdout)


def test_recall_of_equal_noisy_and_unrelated_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.nn.functional.normalize(
        torch.randn(2, 500, 16, generator=generator), dim=2
    )
    matrix = recall_matrix({"a": first, "b": first.clone(), "c": second})
    assert matrix["R@1"]["a"]["b"] == 1
    assert matrix["R@10"]["a"]["c"] == pytest.approx(10 / 500, abs=0.02)
    same = recall_matrix({"a": torch.ones(20, 4), "b": torch.ones(20, 4)})
    assert mean_recall(same["R@10"]) == 0, "vectors that are all equal find nothing"


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0},
        {"holdout": 1.0},
        {"batch": 400},
        {"warmup": -1},
        {"rate": float("nan")},
        {"drop": 1.0},
        {"ema": -0.1},
        {"chunk": 0},
        {"layer_decay": 0.0},
        {"tower_rates": (("coordinate", -1.0),)},
        {"tower_stop": (("coordinate", 1.5),)},
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="training"):
        replace(SMALL, **wrong)
