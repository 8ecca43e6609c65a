"""Batches are the same however they come: kept or observed ahead, by one process or many."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_runs import SMALL, model_settings

from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.training.batches import CachedBatches, StreamingBatches
from unigeo.producer.training.dataset import (
    batch_source,
    fresh_locations,
    prepare_data,
    sample_bytes,
)
from unigeo.producer.training.holdout import held_out
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.schedule import batch_rows, epoch_and_batch

ALONE = Processes()
SETTINGS = replace(SMALL, steps=16, kept_gb=0.0)
"""Nothing fits, so that batches are observed ahead; a pass has about eleven of them."""


class Broken(World):
    """A world that cannot be seen from some batch on."""

    def __init__(self):
        self.calls = 0

    def patches(self, modality, lonlat):
        self.calls += 1
        if self.calls > 8:
            raise OSError("the disk is gone")
        return super().patches(modality, lonlat)


@pytest.fixture(scope="module")
def seen():
    return prepare_data(World(), model_settings(), SETTINGS, ALONE)


def feed_of(seen, settings, processes=ALONE):
    return batch_source(seen, World(), model_settings(), settings, processes, pinned=False)


def equal(first: Samples, second: Samples):
    assert first.inputs.keys() == second.inputs.keys()
    for name, values in first.inputs.items():
        assert torch.equal(values, second.inputs[name]), name
        assert torch.equal(first.present[name], second.present[name]), name


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_observed_ahead_are_those_of_kept_places(seen, workers):
    kept = feed_of(seen, replace(SETTINGS, kept_gb=1.0))
    ahead = feed_of(seen, replace(SETTINGS, workers=workers))
    assert (
        isinstance(kept, CachedBatches)
        and isinstance(ahead, StreamingBatches)
        and kept.count == ahead.count
    )
    steps = [10, 12]  # over the end of a pass
    for first, second in zip(kept.batches(*steps), ahead.batches(*steps), strict=True):
        assert first.step == second.step
        equal(first.samples, second.samples)


def test_processes_share_the_batch_of_one(seen):
    settings = replace(SETTINGS, kept_gb=1.0)
    kept = feed_of(seen, settings)
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
        positions = np.concatenate([part.indices for part in parts])[counted]
        assert np.array_equal(positions, np.arange(settings.batch))


def test_a_process_observes_its_own_places_only(seen):
    looked = []

    def look(lonlat):
        looked.append(lonlat)
        return seen.observe(lonlat)

    half = StreamingBatches(
        len(seen.lonlat), lambda _: seen.lonlat, look, SETTINGS, Processes(1, 2)
    )
    next(half.batches(0, 1))
    rows = batch_rows(len(seen.lonlat), 0, SETTINGS)
    assert np.array_equal(looked[0][:-1], seen.lonlat[rows[12:]])


def test_new_places_in_every_pass_lie_outside_the_held_out_blocks(seen):
    settings = replace(SETTINGS, fresh=True)
    count = len(seen.lonlat)
    second, third = (fresh_locations(World(), settings, epoch, count) for epoch in (1, 2))
    assert len(second) == len(third) == count
    assert not np.isin(second, seen.lonlat).any() and not np.isin(second, third).any()
    assert not held_out(second, settings.block_km, settings.holdout, settings.seed).any()
    assert np.array_equal(second, fresh_locations(World(), settings, 1, count))
    source = feed_of(seen, settings)
    step = next(s for s in range(16) if epoch_and_batch(count, s, settings)[0] == 1)
    batch = next(source.batches(step, step + 1))
    assert np.isin(batch.samples.inputs["coordinate"].numpy(), second).all()


def test_a_failure_to_observe_reaches_the_caller():
    world = Broken()
    settings = replace(SETTINGS, gallery=8)
    seen = prepare_data(world, model_settings(), settings, ALONE)
    source = batch_source(seen, world, model_settings(), settings, ALONE, pinned=False)
    with pytest.raises(OSError, match="disk is gone"):
        list(source.batches(0, 16))


def test_the_memory_of_a_place_is_what_its_tensors_take(seen):
    tensors = seen.observe(seen.lonlat[:4]).inputs.values()
    assert sample_bytes(model_settings()) == sum(v.nbytes for v in tensors) / 4


def test_every_place_is_seen_once_in_an_epoch():
    settings = replace(SMALL, batch=100, locations=400)
    rows = np.concatenate([batch_rows(400, step, settings) for step in range(4)])
    assert sorted(rows) == list(range(400))
    assert not np.array_equal(batch_rows(400, 0, settings), batch_rows(400, 4, settings))
