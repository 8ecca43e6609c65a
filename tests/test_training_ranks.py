"""Several processes train the model that one trains, and notice when one of them dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_runs import NOISY, gave, model_settings

from unigeo.producer.observations.world import World
from unigeo.producer.training.training import train

SCRIPT = str(Path(__file__).with_name("training_runs.py"))
ENV = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "model"
    train(World(), model_settings(), NOISY, folder, progress=False)
    return folder


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def test_two_processes_train_the_model_of_one(alone, tmp_path):
    """With noise, hidden modalities, chunks, a mean of the weights, and a batch of odd size."""
    folder = tmp_path / "model"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", free_port(), SCRIPT, str(folder)]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    ours, theirs = gave(folder), gave(alone)
    assert len(ours) == NOISY.steps
    for key in ("loss", "gradient_norm", "temperature", "rate"):
        one, two = (np.array([line[key] for line in lines]) for lines in (theirs, ours))
        assert np.abs(one - two).max() < 1e-5 * max(1, np.abs(one).max()), key
    weights = [load_file(f / "model.safetensors") for f in (folder, alone)]
    for name, values in weights[0].items():
        assert torch.allclose(values, weights[1][name], atol=1e-4), name


def test_the_death_of_a_process_ends_the_others_with_a_message(tmp_path):
    """As by a crash: no launcher is there to end the survivor, and the first one saves its step."""
    folder = tmp_path / "model"
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    changes = json.dumps({"steps": 5000, "timeout_seconds": 20})
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, str(folder), changes],
            env=ENV | meeting | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    log = tmp_path / "model.training" / "train.jsonl"
    deadline = time.monotonic() + 200
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        assert processes[0].poll() is None, processes[0].stderr.read()
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGKILL)
    told = processes[0].communicate(timeout=60)[1]
    processes[1].communicate()
    assert processes[0].returncode == 1
    assert "LostRankError" in told and "of the 2 processes died" in told
    assert "start the same command again" in told
    assert (tmp_path / "model.training" / "checkpoint.safetensors").exists()
