"""Train the open-CONUS model of docs/results.md on a GPU, and bring it home in small files.

    python -m benchmarks.producer.gpu_train --data build/carried --out train.json --seconds 150

`benchmarks.producer.gpu_data` makes the data. First the training of docs/results.md, 200 steps,
then, if time is left, a longer one. The model trained last lies beside the JSON in parts,
`model.tar.0` and so on, that `benchmarks.producer.model_parts` puts together. Without data it
trains on plane waves, to show that it runs.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from benchmarks.producer.carried import DESCRIPTION, open_carried
from benchmarks.producer.model_parts import pack
from benchmarks.producer.report import reporting
from benchmarks.producer.waves import Waves
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.pipeline.recipe import recipe
from unigeo.producer.training.train import train

_COORDINATE = "depth=2 width=256 mlp_ratio=1 scale_layers=2 readout=concat registers=2"
_IMAGE = "width=192 heads=6 depth=2"
OPEN_CONUS = {
    "model.dimension": "768",
    "model.text.vocabulary": "2048",
    "model.coordinate.sigmas": "1,2,4,8,16,32,64",
    **{f"model.coordinate.{k}": v for k, v in (one.split("=") for one in _COORDINATE.split())},
    **{
        f"model.{name}.{k}": v
        for name in ("aerial", "nightlights", "dsm")
        for k, v in (one.split("=") for one in _IMAGE.split())
    },
    "training.batch": "512",
    "training.rate": "0.002",
    "training.warmup": "40",
    "training.locations": "100000",
    "training.contrast.exclusion_m": "30000",
    "training.contrast.soft_m": "70000",
}
"""Settings of the command in docs/results.md."""
SMALL = {
    "training.batch": "24",
    "training.locations": "300",
    "training.gallery": "24",
    "training.warmup": "2",
    "training.block_km": "10",
    "model.text.vocabulary": "300",
}
"""Settings that only show that it runs."""
STEPS = {"base": (200, 400, 2000), "tiny": (4, 6, 6)}
"""Steps of the first training; least and most of the second."""
LEAST_RECALL = 0.16
"""Recall at 10 after 200 steps: docs/results.md has 17.9 %, of one seed."""
RESERVE_S = 20.0
"""Seconds reserved for evaluation and for packing the model."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("build/carried"))
    parser.add_argument("--device", help="cuda or cpu; CUDA where there is one")
    parser.add_argument("--size", choices=STEPS, default="base")
    parser.add_argument("--seconds", type=float, default=150.0, help="time for all of it")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; the model lies beside")
    options = parser.parse_args()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    begun = time.monotonic()
    with (
        reporting(options.out, device, options.size) as report,
        tempfile.TemporaryDirectory() as made,
    ):
        has_data = (options.data / DESCRIPTION).exists()
        observations: Observations = open_carried(options.data, device) if has_data else Waves()
        real = has_data and options.size == "base"
        report.add(observations=observations.name)
        first, least, most = STEPS[options.size]
        folder = Path(made) / "first"
        metrics = fit(observations, folder, first, device, options.size, has_data)
        recall = metrics["mean"]["R@10"]
        name = f"{observations.name}, {first} steps"
        report.figure(f"{name}: time", time.monotonic() - begun, "s")
        report.figure(f"{name}: places learned from", metrics["samples_per_second"], "1/s")
        report.figure(f"{name}: R@10", recall, least=LEAST_RECALL if real else None)
        report.add(
            metrics=metrics, model_parts=[path.name for path in pack(folder, options.out.parent)]
        )
        a_step = metrics["seconds"]["train"] / first
        left = options.seconds - (time.monotonic() - begun) - metrics["seconds"]["observe"]
        steps = min(most, int((left - RESERVE_S) / max(a_step, 1e-3)))
        if steps >= least:
            folder = Path(made) / "longer"
            metrics = fit(observations, folder, steps, device, options.size, has_data)
            name = f"{observations.name}, {steps} steps"
            report.figure(f"{name}: places learned from", metrics["samples_per_second"], "1/s")
            report.figure(f"{name}: R@10", metrics["mean"]["R@10"])
            parts = pack(folder, options.out.parent)
            report.add(metrics_longer=metrics, model_parts=[path.name for path in parts])


def fit(
    observations: Observations,
    folder: Path,
    steps: int,
    device: torch.device,
    size: str,
    real: bool,
) -> dict[str, Any]:
    """Train for so many steps; gives the metrics."""
    changes = (OPEN_CONUS if real and size == "base" else SMALL) | {"training.steps": str(steps)}
    chosen = recipe("tiny", observations, 0, changes)
    return train(observations, chosen.model, chosen.training, folder, device=device, progress=False)


if __name__ == "__main__":
    main()
