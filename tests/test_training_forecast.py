"""The forecast of a training observes neighbours, as a run that keeps its samples does."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unigeo.producer.training.samples import Samples
from unigeo.producer.training.training_cost import _neighbours, _observe_some


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
    clock = 0.0

    def observe(lonlat: np.ndarray) -> Samples:
        nonlocal clock
        clock += len(np.unique(np.floor(lonlat), axis=0))
        return Samples({"coordinate": torch.from_numpy(lonlat)}, {})

    monkeypatch.setattr("time.perf_counter", lambda: clock)
    lonlat = np.random.default_rng(0).uniform([-120, 25], [-70, 49], (20_000, 2))
    whole_s = len(np.unique(np.floor(lonlat), axis=0))
    _, each_s = _observe_some(observe, lonlat, 300.0, together)
    if together:
        assert 0.5 * whole_s < each_s * len(lonlat) < 2 * whole_s
    else:  # in batches of locations from everywhere hardly a block is shared
        assert each_s * len(lonlat) > 10 * whole_s
