"""A run that is killed, stopped or cannot write goes on to the same result, or says why not."""

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.training_runs import NOISY, logged_metrics, model_settings, start

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.training.checkpoint import (
    CHECKPOINT,
    CheckpointWriter,
    TrainingState,
    load_checkpoint,
    write_checkpoint,
)
from unigeo.producer.training.ema import MeanWeights
from unigeo.producer.training.log import LOG
from unigeo.producer.training.optimizer import build_optimizer
from unigeo.producer.training.train import train
from unigeo.schemas.errors import ModelError

RUN = {"model": {}, "observations": {"name": "world", "size": 3}, "training": {"rate": 0.1}}
"""Identity of a run."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "model"
    train(World(), model_settings(), NOISY, folder, progress=False)
    return folder


def state_of(ema: float = 0.5) -> TrainingState:
    model = UniGeoCLIP(model_settings())
    state = TrainingState(model, build_optimizer(model, NOISY), MeanWeights(model, ema))
    model.encode("coordinate", torch.zeros(2, 2, dtype=torch.float64)).sum().backward()
    state.optimizer.step()
    state.mean.update(0)
    return state


def run_until(folder: Path, lines: int) -> None:
    """Start the run, and kill it once it has logged so many steps and has a checkpoint."""
    process = start(folder, held_at=lines + 1, checkpoint_seconds=0)
    log = folder.with_name("model.training") / LOG
    try:
        while process.is_alive():
            if log.with_name(CHECKPOINT).exists() and log.read_bytes().count(b"\n") >= lines:
                break
            time.sleep(0.002)
    finally:
        process.kill()
        process.join()


@pytest.mark.slow
def test_a_run_killed_again_and_again_goes_on_to_the_same_weights(
    unbroken: Path, tmp_path: Path
) -> None:
    """With noise, hidden modalities, chunks, and a mean of the weights, at random steps."""
    folder = tmp_path / "model"
    steps = sorted(random.Random(time.time_ns()).sample(range(1, NOISY.steps - 2), 3))
    for lines in steps:
        run_until(folder, lines)
        assert not folder.exists(), f"it was not held: {steps}"
    metrics = train(World(), model_settings(), NOISY, folder, progress=False)
    assert 0 < metrics["seconds"]["resumed_at_step"] < NOISY.steps
    assert logged_metrics(folder) == logged_metrics(unbroken), steps
    ours, theirs = (load_file(f / "model.safetensors") for f in (folder, unbroken))
    for name, values in theirs.items():
        assert torch.equal(ours[name], values), (name, steps)


class Interrupting(World):
    """A world that asks the process to end while it is observed ahead of a step."""

    def __init__(self, number: int) -> None:
        self.calls, self.number = 0, number

    def texts(self, lonlat: np.ndarray, modality: str = "text") -> list[str | None]:
        self.calls += len(lonlat) == NOISY.batch
        if self.calls == 5:
            os.kill(os.getpid(), self.number)
        return super().texts(lonlat)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_asked_to_stop_keeps_its_last_step_and_goes_on(
    unbroken: Path, tmp_path: Path, number: int
) -> None:
    folder = tmp_path / "model"
    ahead = replace(NOISY, kept_gb=0.0, workers=1)
    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(KeyboardInterrupt, match=r"after . of 14 steps .* is kept") as end:
        train(Interrupting(number), model_settings(), ahead, folder, progress=False)
    assert end.value.args[1] == number
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == handlers
    metrics = train(World(), model_settings(), ahead, folder, progress=False)
    assert metrics["seconds"]["resumed_at_step"] >= 2
    assert logged_metrics(folder) == logged_metrics(unbroken)


def test_a_checkpoint_holds_all_that_changes(tmp_path: Path) -> None:
    state, other = state_of(), state_of()
    with torch.no_grad():
        for weight in state.model.parameters():
            weight.add_(1)
    state.optimizer.step()
    state.mean.update(5)
    write_checkpoint(tmp_path, 7, state.tensors(), RUN)
    assert load_checkpoint(tmp_path, other, RUN) == 7
    ours, theirs = state.tensors(), other.tensors()
    assert ours.keys() == theirs.keys() and any(name.startswith("mean.") for name in ours)
    for name, values in ours.items():
        assert torch.equal(values, theirs[name]), name


def test_a_checkpoint_is_of_the_moment_it_was_asked_for(tmp_path: Path) -> None:
    """It is written while training goes on to change the weights."""
    state = state_of()
    before = {name: values.clone() for name, values in state.tensors().items()}
    checkpoints = CheckpointWriter(tmp_path, RUN)
    checkpoints.save(1, state)
    with torch.no_grad():
        for weight in state.model.parameters():
            weight.zero_()
    checkpoints.close()
    stored = load_file(tmp_path / CHECKPOINT)
    for name, values in before.items():
        assert torch.equal(stored[name], values), name


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_leaves_the_one_before(
    tmp_path: Path,
) -> None:
    state, checkpoints = state_of(), CheckpointWriter(tmp_path, RUN)
    checkpoints.save(1, state)
    checkpoints.wait()
    (tmp_path / (CHECKPOINT + ".partial")).mkdir()  # in the way; root may write anywhere else
    checkpoints.save(2, state)
    with pytest.raises(ModelError, match=r"checkpoint of step 2 .* same command again"):
        checkpoints.save(3, state)
    checkpoints.close()
    assert load_checkpoint(tmp_path, state, RUN) == 1


def test_a_checkpoint_of_another_run_or_cut_short_is_refused(tmp_path: Path) -> None:
    """Each key that differs is named, with both values; what is only told of data may differ."""
    state = state_of()
    write_checkpoint(tmp_path, 1, state.tensors(), RUN)
    told = {**RUN, "observations": {"name": "world", "licence": "CC0-1.0", "size": 3}}
    assert load_checkpoint(tmp_path, state, told) == 1
    for other, words in (
        ({**RUN, "training": {"rate": 0.5}}, r"\(training\.rate was 0\.1 and is 0\.5\)"),
        ({**RUN, "observations": {"name": "world", "size": 4}}, "observations.size was 3 and is 4"),
    ):
        with pytest.raises(ModelError, match=words):
            load_checkpoint(tmp_path, state, other)
    path = tmp_path / CHECKPOINT
    with safe_open(path, "pt") as stored:
        about = {key: stored.metadata()[key] for key in ("step", "run")}  # of earlier versions
    save_file(load_file(path), path, metadata=about)
    assert load_checkpoint(tmp_path, state, RUN) == 1
    with pytest.raises(ModelError, match="other settings or observations; name"):
        load_checkpoint(tmp_path, state, told)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint(tmp_path, state, RUN)


def test_how_a_run_is_carried_out_may_change_on_the_way() -> None:
    again = replace(
        NOISY, chunk=3, workers=5, checkpoint_seconds=1, watch=2, activation_checkpointing=True
    )
    assert again.identity() == NOISY.identity()
    assert replace(NOISY, drop=0.1).identity() != NOISY.identity()
