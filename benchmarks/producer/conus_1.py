"""Make the model and the field of the distribution `unigeo-conus`.

    python -m benchmarks.producer.conus_1 --out build/conus-1

Trains on the open observations that come with the producer, unless `--model` names a trained
model; fits that model's map to `fused` anew if it has not `--numbers` numbers; writes the model in
float16; and rasterizes with the model as it was written, so that the same model gives the same
bytes. A training that was stopped goes on with the same command.
`OUT/conus-1` then holds `model`, `field.zarr` and `card.md`, which belong into
`packages/unigeo-conus/unigeo_conus/fields`. `benchmarks.producer.field_sizes` measures what more or
fewer numbers are worth.
"""

import argparse
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from unigeo.client import open_field
from unigeo.producer.api import train
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.saved_models import load_model, save_model
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.open_conus import DESCRIPTION
from unigeo.producer.publishing.field_card import field_card
from unigeo.producer.training.dataset import prepare_data
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.train import fit_fusion

NAME = "conus-1"
RESOLUTION_M, STEPS, NUMBERS = 10_000, 300, 96
COORDINATE = {
    "sigmas": "1,2,4,8,16,32,64", "depth": 2, "width": 128, "mlp_ratio": 1, "scale_layers": 2,
    "readout": "concat", "registers": 2,
}  # fmt: skip
TOWER = {"width": 128, "heads": 4, "depth": 2}
"""Of the three modalities with the finest pictures; the others keep the defaults."""
PIXELS = ("aerial", "nightlights", "dsm", "greenness", "seasons", "soil", "landcover")
"""Modalities whose towers add the plain numbers of their pixels to their vectors."""
TRAINING = {
    "batch": 512, "rate": 0.002, "warmup": 40, "locations": 100_000, "numbers": 2,
    "contrast.exclusion_m": 30_000, "contrast.soft_m": 70_000, "checkpoint_seconds": 120,
}  # fmt: skip
SETTINGS = (
    {"model.dimension": 320}
    | {f"model.coordinate.{key}": value for key, value in COORDINATE.items()}
    | {f"model.{m}.{k}": v for m in ("aerial", "nightlights", "dsm") for k, v in TOWER.items()}
    | {f"model.{m}.numbers": True for m in PIXELS}
    | {f"training.{key}": value for key, value in TRAINING.items()}
)
"""Settings that differ from the defaults."""
TERMS = (
    "--licence", "CC-BY-4.0",
    "--citation", "The unigeo authors (2026), conus-1. Observations: NASA, USGS, USDA, US Census "
    "Bureau, Natural Earth, and GeoNames (geonames.org, CC BY 4.0)",
    "--provider", "The unigeo authors",
)  # fmt: skip
"""What the field says of its use."""
FORM = ("--no-covariates", "--codec", "zstd")
"""How the field is stored: small."""
LARGEST = 15_000_000
"""Bytes of the largest file."""


def produce(*arguments: str, into: Path) -> None:
    """Run `unigeo-produce` for the contiguous United States in a folder."""
    command = [sys.executable, "-m", "unigeo.producer.commands.cli", "--region", "conus"]
    resolution = ["--resolution", str(RESOLUTION_M)]
    subprocess.run([*command, *resolution, *arguments], check=True, cwd=into)


def with_numbers(model: UniGeoCLIP, numbers: int) -> UniGeoCLIP:
    """Return a trained model with another map to fused vectors, fitted as after its training."""
    if model.settings.fused == numbers:
        return model
    other = UniGeoCLIP(replace(model.settings, fused=numbers))
    towers = {k: v for k, v in model.state_dict().items() if not k.startswith("fusion.")}
    other.load_state_dict(other.state_dict() | towers)
    training = TrainingSettings(locations=TRAINING["locations"], seed=model.settings.seed)
    data = prepare_data(open_observations(DESCRIPTION), other.settings, training, Processes())
    fit_fusion(other, data, torch.device("cpu"))
    return other


def release_model(trained: Path, out: Path, numbers: int) -> None:
    """Write a trained model again, in float16, with a map to as many numbers."""
    model, tokenizer = load_model(trained)
    model = with_numbers(model, numbers)
    documents = {
        path.name: path.read_text(encoding="utf-8")
        for path in map(trained.joinpath, ("card.md", "metrics.json"))
    }
    save_model(model, tokenizer, out, documents, half=True)


def write_card(release: Path) -> None:
    """Write the card of the cut field, by the card of its model."""
    terms = dict(zip(TERMS[::2], TERMS[1::2], strict=True))
    card = field_card(
        (release / "model/card.md").read_text(encoding="utf-8"),
        open_field(str(release / "field.zarr")).attributes,
        terms["--licence"],
        terms["--citation"],
        [terms["--provider"]],
    )
    (release / "card.md").write_text(card, encoding="utf-8")


def main() -> None:
    """Train, release the model, and rasterize with it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="working folder")
    parser.add_argument("--model", type=Path, help="trained model to release")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--numbers", type=int, default=NUMBERS, help="of a vector of the field")
    arguments = parser.parse_args()
    out, trained = arguments.out.absolute(), arguments.model
    out.mkdir(parents=True, exist_ok=True)
    if trained is None:
        trained = out / "trained"
        changes = {"model.fused": arguments.numbers, "training.steps": arguments.steps}
        train(open_observations(DESCRIPTION), trained, changes=SETTINGS | changes, progress=True)
    release = out / NAME
    shutil.rmtree(release, ignore_errors=True)
    release_model(trained, release / "model", arguments.numbers)
    # A field of all modalities is made, since fused vectors are made of them, and cut.
    whole = out / f"{NAME}.zarr"
    produce("--model", str(release / "model"), "--out", str(whole), *FORM, *TERMS, into=out)
    unigeo = [sys.executable, "-m", "unigeo.client.commands.cli"]
    cut = ["region", str(whole), "conus", "--modality", "fused", "--out", "field.zarr"]
    subprocess.run([*unigeo, *cut], check=True, cwd=release)
    write_card(release)
    subprocess.run([*unigeo, "verify", "field.zarr"], check=True, cwd=release)
    for path in sorted(release.rglob("*")):
        if path.is_file() and path.stat().st_size > LARGEST:
            raise SystemExit(f"{path} has {path.stat().st_size:,} bytes; {LARGEST:,} are allowed")
    print(f"{sum(p.stat().st_size for p in release.rglob('*')) / 1e6:.1f} MB in {release}")


if __name__ == "__main__":
    main()
