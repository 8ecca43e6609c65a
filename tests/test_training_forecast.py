"""Forecasts of trainings, on a clock that a test moves: what is shared, and extrapolated."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.training_runs import SMALL, model_settings

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.training import training_cost
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.step import TrainingBatch
from unigeo.producer.training.training_cost import _neighbours, _observe_some, _rehearse_steps


class Clock:
    """The clock of the module: it moves where a test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        time = SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr(training_cost, "time", time)


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 59), st.integers(0, 1000))
def test_neighbours_are_the_nearest(number: int, count: int, centre: int, seed: int) -> None:
    lonlat = np.random.default_rng(seed).uniform([-120, 25], [-70, 49], (number, 2))
    centre %= number
    found = _neighbours(lonlat, centre, count)
    assert len(found) == min(count, number)
    scale = [np.cos(np.deg2rad(lonlat[centre, 1])), 1]
    distances = np.linalg.norm((lonlat - lonlat[centre]) * scale, axis=1)
    own = np.linalg.norm((found - lonlat[centre]) * scale, axis=1)
    np.testing.assert_allclose(np.sort(own), np.sort(distances)[: len(found)], atol=1e-12)


@pytest.mark.parametrize("together", [True, False])
def test_observing_is_forecast_by_what_the_run_will_share(
    together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which each block of a degree costs a second, and nothing else does."""
    clock = Clock(monkeypatch)

    def observe(lonlat: np.ndarray) -> Samples:
        clock.now += len(np.unique(np.floor(lonlat), axis=0))
        return Samples({"coordinate": torch.from_numpy(lonlat)}, {})

    lonlat = np.random.default_rng(0).uniform([-120, 25], [-70, 49], (20_000, 2))
    whole_s = len(np.unique(np.floor(lonlat), axis=0))
    _, each_s = _observe_some(observe, lonlat, 300.0, together)
    if together:
        assert 0.5 * whole_s < each_s * len(lonlat) < 2 * whole_s
    else:  # in batches of locations from everywhere hardly a block is shared
        assert each_s * len(lonlat) > 10 * whole_s


@pytest.mark.parametrize("seconds", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("batch", [20, 100, 512, 4096])
def test_a_step_is_forecast_where_each_sample_costs_alike(
    batch: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes 0.1 s and 2 ms a sample: known as soon as two sizes were timed."""
    clock = Clock(monkeypatch)
    sizes = []

    def step(state: object, batch: TrainingBatch, *rest: object) -> None:
        sizes.append(len(batch.indices))
        clock.now += 0.1 + 0.002 * len(batch.indices)

    monkeypatch.setattr(training_cost, "train_step", step)
    samples = Samples({"coordinate": torch.zeros(64, 2)}, {})
    settings = replace(SMALL, batch=batch, locations=20_000)
    model = UniGeoCLIP(model_settings())
    forecast = _rehearse_steps(model, samples, settings, torch.device("cpu"), seconds)
    truth = 0.1 + 0.002 * batch
    if len(set(sizes)) > 1 or batch in sizes:
        assert forecast == pytest.approx(truth)
    else:  # too little time for a second size
        assert truth < forecast <= 0.164 / 32 * batch * (1 + 1e-9)
    assert max(sizes) == batch or seconds < 100
