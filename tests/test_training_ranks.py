"""Several processes train the model that one trains, and notice when one of them dies."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.training_runs import NOISY, logged_metrics, model_settings, start

from unigeo.producer.encoders.saved_models import load_model
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.training.train import train

pytestmark = pytest.mark.slow
SCRIPT = str(Path(__file__).with_name("support") / "training_runs.py")
ENV = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "model"
    train(World(), model_settings(), NOISY, folder, progress=False)
    return folder


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_two_processes_train_the_model_of_one(alone: Path, tmp_path: Path) -> None:
    """With noise, hidden modalities, chunks, a mean of the weights, and a batch of odd size."""
    folder = tmp_path / "model"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", free_port(), SCRIPT, str(folder)]
    done = subprocess.run(command, env=os.environ | ENV, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = logged_metrics(folder), logged_metrics(alone)
    assert len(ours) == NOISY.steps
    for key in ("loss", "gradient_norm", "temperature", "rate"):
        one, two = (np.array([line[key] for line in lines]) for lines in (theirs, ours))
        assert np.abs(one - two).max() < 1e-5 * max(1, np.abs(one).max()), key
    # Adam makes noise of gradients that are zero but for rounding: keys' biases. Vectors lack it.
    lonlat = torch.from_numpy(World().locations(50, 9))
    with torch.inference_mode():
        one, two = (load_model(f)[0].encode("coordinate", lonlat) for f in (alone, folder))
    assert (one - two).abs().max() < 1e-4


def test_the_death_of_a_process_ends_the_others_with_a_message(tmp_path: Path) -> None:
    """As by a crash: no launcher is there to end the survivor, and the first one saves its step."""
    folder = tmp_path / "model"
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    changes = {"steps": 5000, "timeout_seconds": 86_400}  # it ends at once, not when that is up
    processes = [start(folder, ENV | meeting | {"RANK": str(rank)}, **changes) for rank in range(2)]
    log = tmp_path / "model.training" / "train.jsonl"
    while not (log.exists() and log.stat().st_size):
        assert processes[0].is_alive()
        time.sleep(0.05)
    processes[1].kill()
    processes[0].join()
    assert processes[0].exitcode == 2
    error = (tmp_path / "error.txt").read_text()
    assert error.startswith("LostRankError: step ") and "of the 2 processes died" in error
    assert "start the same command again" in error
    assert (tmp_path / "model.training" / "checkpoint.safetensors").exists()
