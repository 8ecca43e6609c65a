"""Compare what a GPU computes with what the CPU computes.

    python -m benchmarks.producer.gpu_equal --out equal.json           # an H100 or H200, a minute
    python -m benchmarks.producer.gpu_equal --device cpu --size tiny   # to see that it runs

* the contrastive loss and its gradients in float64: by tiles on the device, against whole matrices
  there and on the CPU, with every option that changes it; and in bfloat16 against float64;
* int8 vectors of coordinates and of pictures, as rasterization makes them on the device, against
  those of the CPU in float32, and which cells have none;
* a training that is killed with `kill -9` and started again, against one that is not;
* numbers that are copied to and from pinned memory while the device is at work.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from benchmarks.producer.mosaics import Cutter, image_model
from benchmarks.producer.report import Report, reporting
from benchmarks.producer.waves import Waves, model_settings
from unigeo.producer.encoders import presets
from unigeo.producer.encoders.folded import cell_encoder, fold, gains_from_bfloat16
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import CoordinateSettings
from unigeo.producer.observations.patches import Patches
from unigeo.producer.raster.device_transfer import fetch, quantize_on_device
from unigeo.producer.training.batches import on_device
from unigeo.producer.training.checkpoint import CHECKPOINT
from unigeo.producer.training.log import LOG, read_log
from unigeo.producer.training.loss.contrast import contrastive_loss
from unigeo.producer.training.loss.contrast_settings import ContrastSettings
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import TrainingBatch, compile_blocks
from unigeo.producer.training.train import train

LEAST_COSINE = 0.9999
EXACT = 1e-11
"""Largest relative difference in float64: sums in another order."""
ROUGH = 0.02
"""Largest relative difference of the loss in bfloat16."""
RESUMED = 1e-4
"""Largest difference of the losses of a run that was killed, in float32: sums on a GPU may change
their order."""
SIZES = {
    "base": {"samples": 3000, "cells": 2048, "images": 64, "side": 224, "copies": 64},
    "tiny": {"samples": 300, "cells": 64, "images": 6, "side": 32, "copies": 8},
}
KILLED = TrainingSettings(
    locations=300, batch=24, steps=16, warmup=3, gallery=24, block_km=150, jitter_m=300.0, drop=0.3,
    ema=0.7, chunk=5, compile=False, precision="float32", checkpoint_seconds=0.0,
)  # fmt: skip
OBSERVED_BATCHES = 9
"""Number of batches that the run observes before it is killed."""


def loss_cases(samples: int) -> dict[str, dict[str, Any]]:
    """Everything that changes the loss: settings, and whether samples lack modalities."""
    tiles: dict[str, Any] = {"tile": max(samples // 7, 16)}
    return {
        "whole": {"settings": ContrastSettings(**tiles)},
        "gaps": {"settings": ContrastSettings(**tiles), "gaps": True},
        "exclusion": {"settings": ContrastSettings(exclusion_m=60e3, **tiles), "gaps": True},
        "soft targets": {"settings": ContrastSettings(soft_m=70e3, **tiles), "gaps": True},
        "both, panoramas": {
            "settings": ContrastSettings(
                exclusion_m=60e3, soft_m=70e3, same_panorama=True, self_pairs=True, **tiles
            ),
            "gaps": True,
        },
        "prefixes": {"settings": ContrastSettings(prefixes=(16, 32), **tiles)},
    }


def loss(
    samples: int,
    settings: ContrastSettings,
    device: torch.device,
    backend: Any = "tiles",
    gaps: bool = False,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    """The loss and its gradients, on the CPU in float64; the same samples for every device."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    common = drawn(samples, 64)
    vectors = {
        name: normalize(common + drawn(samples, 64), dim=1).to(device, dtype).requires_grad_()
        for name in ("coordinate", "aerial", "street", "text")
    }
    present = {
        name: (torch.rand(samples, generator=generator) > (0.3 if gaps else -1)).to(device)
        for name in vectors
    }
    lonlat = torch.from_numpy(Waves().locations(samples, 0)).to(device)
    panorama = torch.randint(-1, samples // 4, (samples,), generator=generator).to(device)
    scale = torch.tensor(10.0, dtype=dtype, device=device, requires_grad=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype != torch.float64):
        value = contrastive_loss(
            vectors, present, scale, settings, lonlat=lonlat, panorama=panorama, backend=backend
        )
    value.backward()
    grads = [scale.grad, *(values.grad for values in vectors.values())]
    return [part.detach().double().cpu() for part in (value, *grads) if part is not None]


def difference(first: list[Tensor], second: list[Tensor]) -> float:
    """The largest, relative to the largest number of each."""
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(first, second, strict=True)
    )


def losses(report: Report, device: torch.device, size: str) -> None:
    """Compare the loss in all its forms."""
    cpu, samples = torch.device("cpu"), SIZES[size]["samples"]
    for name, case in loss_cases(samples).items():
        tiles = loss(samples, device=device, **case)
        for other, where in (("plain", device), ("plain", cpu), ("tiles", cpu)):
            shown = "here" if where is device else "on the CPU"
            report.figure(
                f"loss, {name}: tiles and {other} {shown}, largest difference",
                difference(tiles, loss(samples, device=where, backend=other, **case)),
                most=EXACT,
                everywhere=True,
            )
        rough = loss(samples, device=device, dtype=torch.float32, **case)
        report.figure(
            f"loss, {name}: bfloat16 and float64, difference of the value",
            difference(rough[:1], tiles[:1]),
            most=ROUGH,
            everywhere=True,
        )


def codes_equal(
    report: Report, name: str, actual: tuple[Tensor, Tensor], true: tuple[Tensor, Tensor]
) -> None:
    """Compare int8 vectors, and which cells have one."""
    same = torch.equal(actual[1], true[1])
    report.figure(f"{name}: cells with another status", float(not same), most=0, everywhere=True)
    rows = actual[1] & true[1]
    cosine = cosine_similarity(actual[0][rows].double(), true[0][rows].double(), dim=1)
    report.figure(
        f"{name}: lowest cosine of int8 vectors with the CPU's",
        float(cosine.min()),
        least=LEAST_COSINE,
        everywhere=True,
    )


def fetched(*parts: Tensor) -> list[Tensor]:
    """As the pipeline does it: begin every copy, then wait."""
    return [torch.from_numpy(wait()) for wait in [fetch(part) for part in parts]]


def coordinates(report: Report, device: torch.device, size: str) -> None:
    """Compare the coordinate raster."""
    settings = presets.base(pretrained=None).coordinate
    if size == "tiny":
        settings = CoordinateSettings(width=64, depth=2, heads=2)
    assert settings is not None
    model = UniGeoCLIP(
        ModelSettings(dimension=settings.width, towers={"coordinate": settings})
    ).eval()
    rng = np.random.default_rng(0)
    lonlat = torch.from_numpy(rng.uniform((-125, 25), (-67, 49), (SIZES[size]["cells"], 2)))
    with torch.inference_mode():
        true = fetched(*quantize_on_device(fold(model)(lonlat)))
        cells = cell_encoder(model.to(device))
        actual = fetched(*quantize_on_device(cells(lonlat.to(device))))
    report.add(coordinate_precision=str(getattr(cells, "precision", "float32")))
    codes_equal(report, "coordinate", (actual[0], actual[1]), (true[0], true[1]))


def images(report: Report, device: torch.device, size: str) -> None:
    """Compare the aerial raster, from blocks of a mosaic with holes."""
    count, side = SIZES[size]["images"], SIZES[size]["side"]
    model = image_model(size, side)
    made = []
    for where in (torch.device("cpu"), device):
        model = model.to(where).eval()
        half = where.type == "cuda" and gains_from_bfloat16(where, model.settings.dimension)
        if where.type == "cuda":
            compile_blocks(model)
        with torch.inference_mode():
            pixels, gap = Cutter.of(count, side, where, holes=True).cut()
            with torch.autocast(where.type, torch.bfloat16, enabled=half):
                vectors = model.encode("aerial", pixels)
            codes, sound = quantize_on_device(vectors)
            made.append(fetched(pixels, gap, codes, sound & (gap == 0)))
    true, actual = made
    report.figure(
        "aerial: patches with another gap", float((true[1] != actual[1]).sum()), most=0,
        everywhere=True,
    )  # fmt: skip
    apart = (true[0].int() - actual[0].int()).abs()
    report.figure(
        "aerial: grey levels by which a pixel differs", float(apart.max()), most=1, everywhere=True
    )
    report.figure("aerial: share of pixels that differ", float((apart > 0).double().mean()))
    report.add(aerial_patches_without_data=int((true[1] != 0).sum()))
    codes_equal(report, "aerial", (actual[2], actual[3]), (true[2], true[3]))


class Mortal(Waves):
    """Waves that end the process, by a signal that cannot be caught, once it has a checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.batches = 0
        self.checkpoint = checkpoint_of(folder)

    def patches(self, modality: str, lonlat: np.ndarray) -> Patches:
        """Draw patches, so many times."""
        self.batches += modality == "aerial" and len(lonlat) == KILLED.batch
        if self.batches > OBSERVED_BATCHES:
            while not self.checkpoint.exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().patches(modality, lonlat)


def checkpoint_of(folder: Path) -> Path:
    """Where a run that is to end in a model folder keeps its checkpoint."""
    return folder.with_name(folder.name + ".training") / CHECKPOINT


def run(observations: Waves, folder: Path, device: torch.device) -> None:
    """Train; batches are observed one by one, so that a death comes between steps."""
    settings = replace(KILLED, kept_gb=0.0, workers=1)
    train(observations, model_settings(), settings, folder, device=device, progress=False)


def resumed(report: Report, device: torch.device) -> None:
    """Compare a run that was killed with one that was not."""
    with tempfile.TemporaryDirectory() as made:
        unbroken, killed = Path(made) / "unbroken", Path(made) / "killed"
        command = [sys.executable, "-m", "benchmarks.producer.gpu_equal", "--run", str(killed)]
        done = subprocess.run(
            [*command, "--device", str(device)], capture_output=True, text=True, timeout=600
        )
        assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
        assert checkpoint_of(killed).exists(), "it died with a checkpoint"
        run(Waves(), killed, device)
        run(Waves(), unbroken, device)
        first = json.loads((killed / "metrics.json").read_text())["seconds"]["resumed_at_step"]
        losses_of = [
            [line["loss"] for line in read_log(folder / LOG)] for folder in (unbroken, killed)
        ]
    report.figure("killed run: step from which it went on", first, least=1, everywhere=True)
    apart = max(abs(a - b) for a, b in zip(*losses_of, strict=True))
    report.figure(
        "killed run: largest difference of its losses from the unbroken one's", apart,
        most=RESUMED, everywhere=True,
    )  # fmt: skip


def copies(report: Report, device: torch.device, size: str) -> None:
    """Count copies that hold other numbers than were written before them."""
    count = SIZES[size]["copies"]
    busy = torch.randn(2048 if device.type == "cuda" else 64, device=device).outer(
        torch.ones(2048 if device.type == "cuda" else 64, device=device)
    )
    values = torch.empty(512, 768, dtype=torch.int8, device=device)
    waiting = []
    for number in range(count):
        busy = (busy @ busy).clamp(-1, 1)
        values = torch.full_like(values, number % 100)
        waiting.append(fetch(values))
    wrong = sum(int((wait() != number % 100).any()) for number, wait in enumerate(waiting))
    report.figure("pinned copies to memory with other numbers", wrong, most=0, everywhere=True)

    def batches() -> Any:
        for step in range(count):
            inputs = {"coordinate": torch.full((4096, 2), float(step), dtype=torch.float64)}
            samples = Samples(inputs, {"coordinate": torch.ones(4096, dtype=torch.bool)})
            samples = samples.pin_memory() if device.type == "cuda" else samples
            yield TrainingBatch(step, samples, np.arange(len(samples)))

    wrong = 0
    for batch in on_device(batches(), device):
        busy = (busy @ busy).clamp(-1, 1)
        wrong += int((batch.samples.inputs["coordinate"] != batch.step).any())
    report.figure("batches on the device with other numbers", wrong, most=0, everywhere=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", help="cuda or cpu; CUDA where there is one")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)  # the run that is killed
    options = parser.parse_args()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if options.run:
        run(Mortal(options.run), options.run, device)
        return
    with reporting(options.out, device, options.size) as report:
        losses(report, device, options.size)
        coordinates(report, device, options.size)
        images(report, device, options.size)
        copies(report, device, options.size)
        resumed(report, device)


if __name__ == "__main__":
    main()
