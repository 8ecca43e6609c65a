"""Batches are the same whether cached or observed ahead, in one process or many."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.training_runs import SMALL, model_settings

from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.training.batches import BatchSource, CachedBatches, StreamingBatches
from unigeo.producer.training.dataset import (
    TrainingData,
    batch_source,
    fresh_locations,
    prepare_data,
    sample_bytes,
)
from unigeo.producer.training.holdout import held_out
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.schedule import batch_rows, epoch_and_batch
from unigeo.producer.training.settings import TrainingSettings

ALONE = Processes()
SETTINGS = replace(SMALL, steps=16, kept_gb=0.0)
"""Nothing is cached, so that batches are observed ahead; an epoch has about eleven of them."""


class Broken(World):
    """A world that cannot be observed any more after some calls."""

    def __init__(self) -> None:
        self.calls = 0

    def patches(self, modality: str, lonlat: np.ndarray) -> Patches:
        self.calls += 1
        if self.calls > 8:
            raise OSError("the disk is gone")
        return super().patches(modality, lonlat)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return prepare_data(World(), model_settings(), SETTINGS, ALONE)


def source_of(
    data: TrainingData, settings: TrainingSettings, processes: Processes = ALONE
) -> BatchSource:
    return batch_source(data, World(), model_settings(), settings, processes, pinned=False)


def equal(first: Samples, second: Samples) -> None:
    assert first.inputs.keys() == second.inputs.keys()
    for name, values in first.inputs.items():
        assert torch.equal(values, second.inputs[name]), name
        assert torch.equal(first.present[name], second.present[name]), name


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_observed_ahead_are_those_of_cached_samples(
    data: TrainingData, workers: int
) -> None:
    kept = source_of(data, replace(SETTINGS, kept_gb=1.0))
    ahead = source_of(data, replace(SETTINGS, workers=workers))
    assert (
        isinstance(kept, CachedBatches)
        and isinstance(ahead, StreamingBatches)
        and kept.count == ahead.count
    )
    steps = [10, 12]  # over the end of an epoch
    for first, second in zip(kept.batches(*steps), ahead.batches(*steps), strict=True):
        assert first.step == second.step
        equal(first.samples, second.samples)


def test_processes_share_the_batch_of_one(data: TrainingData) -> None:
    settings = replace(SETTINGS, kept_gb=1.0)
    kept = source_of(data, settings)
    assert isinstance(kept, CachedBatches)
    whole = next(kept.batches(2, 3))
    for count in (2, 3, 5):
        parts = [
            next(CachedBatches(kept.samples, settings, Processes(rank, count)).batches(2, 3))
            for rank in range(count)
        ]
        assert len({len(part.samples) for part in parts}) == 1, "each as many"
        joined = Samples.concatenate([part.samples for part in parts])
        counted = joined.present["coordinate"].numpy()
        assert counted.sum() == settings.batch
        equal(joined.take(np.flatnonzero(counted)), whole.samples)
        indices = np.concatenate([part.indices for part in parts])[counted]
        assert np.array_equal(indices, np.arange(settings.batch))


def test_a_process_observes_its_own_samples_only(data: TrainingData) -> None:
    observed = []

    def observe(lonlat: np.ndarray) -> Samples:
        observed.append(lonlat)
        return data.observe(lonlat)

    half = StreamingBatches(
        len(data.lonlat), lambda _: data.lonlat, observe, SETTINGS, Processes(1, 2)
    )
    next(half.batches(0, 1))
    rows = batch_rows(len(data.lonlat), 0, SETTINGS)
    assert np.array_equal(observed[0][:-1], data.lonlat[rows[12:]])


def test_new_locations_in_every_epoch_lie_outside_the_held_out_blocks(data: TrainingData) -> None:
    settings = replace(SETTINGS, fresh=True)
    count = len(data.lonlat)
    second, third = (fresh_locations(World(), settings, epoch, count) for epoch in (1, 2))
    assert len(second) == len(third) == count
    assert not np.isin(second, data.lonlat).any() and not np.isin(second, third).any()
    assert not held_out(second, settings.block_km, settings.holdout, settings.seed).any()
    assert np.array_equal(second, fresh_locations(World(), settings, 1, count))
    source = source_of(data, settings)
    step = next(s for s in range(16) if epoch_and_batch(count, s, settings)[0] == 1)
    batch = next(source.batches(step, step + 1))
    assert np.isin(batch.samples.inputs["coordinate"].numpy(), second).all()


def test_a_failure_to_observe_reaches_the_caller() -> None:
    world = Broken()
    settings = replace(SETTINGS, gallery=8)
    data = prepare_data(world, model_settings(), settings, ALONE)
    source = batch_source(data, world, model_settings(), settings, ALONE, pinned=False)
    with pytest.raises(OSError, match="disk is gone"):
        list(source.batches(0, 16))


def test_the_memory_of_a_sample_is_what_its_tensors_take(data: TrainingData) -> None:
    tensors = data.observe(data.lonlat[:4]).inputs.values()
    assert sample_bytes(model_settings()) == sum(v.nbytes for v in tensors) / 4


def test_every_sample_is_used_once_in_an_epoch() -> None:
    settings = replace(SMALL, batch=100, locations=400)
    rows = np.concatenate([batch_rows(400, step, settings) for step in range(4)])
    assert sorted(rows) == list(range(400))
    assert not np.array_equal(batch_rows(400, 0, settings), batch_rows(400, 4, settings))
