"""A run that is killed, stopped or cannot write goes on to the same result, or says why not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import NOISY, gave, model_settings

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.world import World
from unigeo.producer.training.checkpoint import (
    NAME,
    Checkpoints,
    State,
    load_checkpoint,
    write_checkpoint,
)
from unigeo.producer.training.ema import MeanWeights
from unigeo.producer.training.optimizer import build_optimizer
from unigeo.producer.training.training import train
from unigeo.schemas.errors import ModelError

SCRIPT = str(Path(__file__).with_name("training_runs.py"))
OFTEN = json.dumps({"checkpoint_seconds": 0})


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "model"
    train(World(), model_settings(), NOISY, folder, progress=False)
    return folder


def state_of(ema: float = 0.5) -> State:
    model = UniGeoCLIP(model_settings())
    state = State(model, build_optimizer(model, NOISY), MeanWeights(model, ema))
    model.encode("coordinate", torch.zeros(2, 2, dtype=torch.float64)).sum().backward()
    state.optimizer.step()
    state.mean.update(0)
    return state


def run_until(folder: Path, lines: int, number: signal.Signals) -> int:
    """Start the run, and send it a signal once it has logged so many steps."""
    process = subprocess.Popen(
        [sys.executable, SCRIPT, str(folder), OFTEN],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    log = folder.with_name("model.training") / "train.jsonl"
    checkpoint = log.with_name(NAME)
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if checkpoint.exists() and log.read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.005)
    process.send_signal(number)
    process.communicate()
    return process.returncode


def test_a_run_killed_again_and_again_goes_on_to_the_same_weights(unbroken, tmp_path):
    """With noise, hidden modalities, chunks, and a mean of the weights, at random steps."""
    folder = tmp_path / "model"
    draw = random.Random(time.time_ns())
    steps = sorted(draw.sample(range(1, NOISY.steps - 2), 2))
    for lines in steps:
        run_until(folder, lines, signal.SIGKILL)
        assert not folder.exists(), f"killed too late to test anything: {steps}"
    metrics = train(World(), model_settings(), NOISY, folder, progress=False)
    assert 0 < metrics["seconds"]["resumed_at_step"] < NOISY.steps
    assert gave(folder) == gave(unbroken), steps
    ours, theirs = (load_file(f / "model.safetensors") for f in (folder, unbroken))
    for name, values in theirs.items():
        assert torch.equal(ours[name], values), (name, steps)


def test_a_run_asked_to_stop_keeps_its_last_step(tmp_path):
    folder = tmp_path / "model"
    code = run_until(folder, 3, signal.SIGTERM)
    assert code == 1, "a ModelError, not the signal"
    state = state_of()
    done = gave(tmp_path / "model.training")[-1]["step"] + 1
    path = tmp_path / "model.training"
    run = _run_of(path)
    assert load_checkpoint(path, state, run) == done >= 3


def test_a_checkpoint_holds_all_that_changes(tmp_path):
    state, other = state_of(), state_of()
    with torch.no_grad():
        for weight in state.model.parameters():
            weight.add_(1)
    state.optimizer.step()
    state.mean.update(5)
    write_checkpoint(tmp_path, 7, state.tensors(), "run")
    assert load_checkpoint(tmp_path, other, "run") == 7
    ours, theirs = state.tensors(), other.tensors()
    assert ours.keys() == theirs.keys() and any(name.startswith("mean.") for name in ours)
    for name, values in ours.items():
        assert torch.equal(values, theirs[name]), name


def test_a_checkpoint_is_of_the_moment_it_was_asked_for(tmp_path):
    """It is written while training goes on to change the weights."""
    state = state_of()
    before = {name: values.clone() for name, values in state.tensors().items()}
    checkpoints = Checkpoints(tmp_path, "run")
    checkpoints.save(1, state)
    with torch.no_grad():
        for weight in state.model.parameters():
            weight.zero_()
    checkpoints.close()
    stored = load_file(tmp_path / NAME)
    for name, values in before.items():
        assert torch.equal(stored[name], values), name


def test_a_checkpoint_that_cannot_be_written_ends_the_run_and_leaves_the_one_before(tmp_path):
    state, checkpoints = state_of(), Checkpoints(tmp_path, "run")
    checkpoints.save(1, state)
    checkpoints.wait()
    (tmp_path / (NAME + ".partial")).mkdir()  # in the way; root may write anywhere else
    checkpoints.save(2, state)
    with pytest.raises(ModelError, match=r"checkpoint of step 2 .* same command again"):
        checkpoints.save(3, state)
    checkpoints.close()
    assert load_checkpoint(tmp_path, state, "run") == 1


def test_a_checkpoint_of_another_run_or_cut_short_is_refused(tmp_path):
    state = state_of()
    write_checkpoint(tmp_path, 1, state.tensors(), "run")
    with pytest.raises(ModelError, match="other settings"):
        load_checkpoint(tmp_path, state, "another run")
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint(tmp_path, state, "run")


def test_how_a_run_is_carried_out_may_change_on_the_way():
    again = replace(
        NOISY, chunk=3, workers=5, checkpoint_seconds=1, watch=2, activation_checkpointing=True
    )
    assert again.identity() == NOISY.identity()
    assert replace(NOISY, drop=0.1).identity() != NOISY.identity()


def _run_of(folder: Path) -> str:
    from safetensors import safe_open

    with safe_open(folder / NAME, "pt") as stored:
        return stored.metadata()["run"]
