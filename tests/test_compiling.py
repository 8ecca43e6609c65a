"""Blocks are compiled for few shapes: a program takes seconds on a GPU, and none is made twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.producer.programs import BATCH, CHUNK, observe_waves
from benchmarks.producer.waves import model_settings
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import TrainingBatch, compute_gradients, prepare_blocks


@pytest.mark.slow
def test_a_run_makes_three_programs_of_each_tower() -> None:
    """With a graph, without, and in evaluation; neither texts nor last parts ask for more."""
    done = subprocess.run(  # where annotations are not checked, which breaks programs in two
        [sys.executable, "-m", "benchmarks.producer.programs"],
        cwd=Path(__file__).parents[1], env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    towers = found.pop("towers")
    assert found == {
        "first step": 2 * towers,
        "shorter texts": 0,
        "evaluation": towers,
        "after evaluation": 0,
        "without chunks": towers,
    }


@pytest.mark.filterwarnings("default")  # torch warns of itself
def test_a_part_that_is_filled_up_gives_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: set[int] = set()

    def as_it_is(forward: object, dynamic: bool) -> object:
        def noted(tokens: torch.Tensor, *rest: object, **options: object) -> object:
            shapes.add(len(tokens))
            return forward(tokens, *rest, **options)  # type: ignore[operator]

        return noted

    monkeypatch.setattr(torch, "compile", as_it_is)
    found = []
    for compiled in (False, True):
        model = UniGeoCLIP(model_settings()).train()
        settings = TrainingSettings(locations=100, batch=BATCH, chunk=CHUNK, compile=compiled)
        prepare_blocks(model, settings, torch.device("cpu"))
        batch = TrainingBatch(0, observe_waves(BATCH, 4), np.arange(BATCH))
        compute_gradients(model, batch, settings, Processes())
        found.append({name: w.grad for name, w in model.named_parameters() if w.grad is not None})
    assert shapes == {CHUNK}
    assert found[0].keys() == found[1].keys()
    for name, values in found[0].items():
        assert torch.allclose(values, found[1][name], rtol=1e-4, atol=1e-6), name
