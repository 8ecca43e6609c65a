"""Small runs of training: settings that tests share, and a command that is killed."""

import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import (
    CoordinateSettings,
    ImageSettings,
    SurfaceSettings,
    TextSettings,
)
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.training.log import TrainingLog
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.train import train
from unigeo.schemas.errors import UnigeoError

SMALL = TrainingSettings(locations=300, batch=23, steps=14, warmup=3, gallery=24, block_km=150)
"""The batch is odd, so that two processes cannot halve it."""
NOISY = replace(SMALL, jitter_m=300.0, drop=0.3, ema=0.7, chunk=5)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["unigeo.producer.training.train"])
_BLOCKS: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "mlp_ratio": 2}


def model_settings(seed: int = 0) -> ModelSettings:
    """A model of four modalities that learns in milliseconds."""
    rows, cols = World().shape("aerial")[1:]
    return ModelSettings(
        dimension=32,
        towers={
            "coordinate": CoordinateSettings(**_BLOCKS, registers=1, sigmas=(1.0, 8.0, 64.0)),
            "aerial": ImageSettings(**_BLOCKS, rows=rows, cols=cols, patch=8),
            "dsm": SurfaceSettings(**_BLOCKS, rows=rows, cols=cols, patch=8, registers=1),
            "text": TextSettings(**_BLOCKS, tokens=16, vocabulary=300),
        },
        seed=seed,
    )


def logged_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read the metrics of each step of a run, without its measurements."""
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return [{key: v for key, v in line.items() if key != "measured"} for line in lines]


def start(
    folder: Path,
    environment: Mapping[str, str] = {},
    held_at: int | None = None,
    **changes: Any,
) -> BaseProcess:
    """Train in a process of its own, which can be killed; it starts fast, as torch is loaded.

    Before it logs the step `held_at` it stops for good: however slow who kills it, it never ends.
    """
    process = _FORKS.Process(target=_run, args=(folder, dict(environment), held_at, changes))
    process.start()
    return process


def _run(
    folder: Path, environment: dict[str, str], held_at: int | None, changes: dict[str, Any]
) -> None:
    os.environ |= environment
    write = TrainingLog.write

    def write_until(log: TrainingLog, step: int, *about: Any) -> None:
        if step == held_at:
            threading.Event().wait()
        write(log, step, *about)

    TrainingLog.write = write_until  # type: ignore[method-assign]
    try:
        train(World(), model_settings(), replace(NOISY, **changes), folder, progress=False)
    except UnigeoError as error:
        folder.with_name("error.txt").write_text(f"{type(error).__name__}: {error}")
        sys.exit(2)


if __name__ == "__main__":
    train(World(), model_settings(), NOISY, Path(sys.argv[1]), progress=False)
