"""Train the encoders against each other, from observations to a model folder."""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from unigeo.producer.encoders.model import UniGeoCLIP, save_model
from unigeo.producer.encoders.settings import ModelSettings, to_json
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.card import card
from unigeo.producer.training.checkpoint import Checkpoints, State, load_checkpoint
from unigeo.producer.training.dataset import TrainingData, feed, survey
from unigeo.producer.training.ema import MeanWeights
from unigeo.producer.training.flops import SampleFlops, place_flops
from unigeo.producer.training.log import LOG, TrainingLog, read, totals
from unigeo.producer.training.loop import RunRecords, StepMeter, run_steps
from unigeo.producer.training.optimizer import build_optimizer
from unigeo.producer.training.processes import Processes, default_device, joined
from unigeo.producer.training.recall import mean_recall, recall_matrix
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import encode_filled, fit_out
from unigeo.schemas.errors import ModelError

__all__ = ["default_device", "embed", "evaluate", "fingerprint", "finished", "train"]

METRICS = "metrics.json"
"""Where a model's folder says how it was trained and how well it does."""


def train(
    observations: Observations,
    model_settings: ModelSettings,
    settings: TrainingSettings,
    folder: Path,
    *,
    device: torch.device | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a model into a folder, or go on where an earlier call stopped.

    Under torchrun every process calls this with the same arguments, and they train together.

    Args:
        observations: where the places are observed.
        model_settings: the encoders.
        settings: this run.
        folder: gets `model.safetensors`, `settings.json`, `card.md`, `metrics.json`.
        device: CUDA where there is one, else the CPU.
        progress: show bars on stderr.

    Returns:
        The metrics, with the retrieval matrix on the spatial hold-out.

    Raises:
        ModelError: if the folder holds another model, or training cannot go on; it names the step.
    """
    device = device or default_device()
    run = fingerprint(observations, model_settings, settings)
    with joined(device, settings.timeout_seconds) as processes:
        done = processes.share(finished(folder) if processes.first else None)
        if done is not None:
            if done["run"] != run:
                raise ModelError(
                    f"{folder} holds a model of other settings or observations; name another "
                    "folder, or use it as it is with --model"
                )
            return dict(done)
        return _Training(
            observations, model_settings, settings, folder, device, processes, run
        ).all(progress and processes.first)


@dataclass(frozen=True)
class _Training:
    """One run, by one of its processes."""

    observations: Observations
    model_settings: ModelSettings
    settings: TrainingSettings
    folder: Path
    device: torch.device
    processes: Processes
    run: str

    @property
    def work(self) -> Path:
        """Becomes the folder when it is done."""
        return self.folder.with_name(self.folder.name + ".training")

    def all(self, progress: bool) -> dict[str, Any]:
        """Observe, train, evaluate, save."""
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(f"cannot write the model folder {self.folder}: {error}") from error
        start = time.monotonic()
        seen = survey(self.observations, self.model_settings, self.settings, self.processes)
        batches = feed(
            seen,
            self.observations,
            self.model_settings,
            self.settings,
            self.processes,
            pinned=self.device.type == "cuda",
        )
        observed = time.monotonic() - start
        torch.manual_seed(self.model_settings.seed)
        model = UniGeoCLIP(self.model_settings).to(self.device)
        optimizer = build_optimizer(model, self.settings)
        state = State(model, optimizer, MeanWeights(model, self.settings.ema))
        first = load_checkpoint(self.work, state, self.run)
        if len(set(self.processes.collect(first))) > 1:
            raise ModelError(
                f"the processes do not see the same checkpoint in {self.work}; name a folder that "
                "all machines share"
            )
        flops = None
        if seen.gallery is not None:
            flops = place_flops(model, seen.gallery.take([0]).to(self.device))
        fit_out(model, self.settings, self.device)
        records = None if flops is None else self._records(model, state, seen, flops, first)
        try:
            run_steps(
                state, batches, self.settings, first, self.processes, self.device, records, progress
            )
        finally:
            if records is not None:
                records.log.close()
                records.checkpoints.close()
        state.mean.put(state.mean.means)
        total = sum(float(weight.detach().double().sum()) for weight in model.parameters())
        assert len(set(self.processes.collect(total))) == 1, "every process has the same weights"
        metrics = None
        if seen.gallery is not None and flops is not None:
            metrics = evaluate(model, seen.gallery, self.device) | self._facts(seen, flops)
            metrics["seconds"] |= {"observe": round(observed, 1), "resumed_at_step": first}
            self._save(model, seen, metrics)
        return dict(self.processes.share(metrics))

    def _records(
        self, model: UniGeoCLIP, state: State, seen: TrainingData, flops: SampleFlops, first: int
    ) -> RunRecords:
        board = self.folder.with_name(self.folder.name + ".tensorboard")
        log = TrainingLog(self.work, first, board if self.settings.tensorboard else None)
        gallery = seen.gallery
        assert gallery is not None

        def watch() -> dict[str, float]:
            with state.mean.in_place():
                return tower_recall(embed(model, gallery, self.device))

        meter = StepMeter(
            self.device, self.settings, self.processes, flops, self.model_settings.dimension
        )
        return RunRecords(log, Checkpoints(self.work, self.run), watch, meter)

    def _facts(self, seen: TrainingData, flops: SampleFlops) -> dict[str, Any]:
        """What a model's metrics say beside how well it does."""
        assert seen.gallery is not None
        took = totals(read(self.work / LOG))
        needed = again = 0.0
        for step in range(self.settings.steps):
            counts = flops.step(step, self.settings, self.model_settings.dimension)
            needed, again = needed + counts[0], again + counts[1]
        places = self.settings.steps * self.settings.batch
        return {
            "run": self.run,
            "places": {"train": len(seen.lonlat), "gallery": len(seen.gallery)},
            "seconds": {"train": round(took["seconds"], 1)},
            "samples_per_second": round(places / max(took["seconds"], 1e-9), 2),
            "flops": {"needed": needed, "computed_again": again},
            "joules": took.get("joules"),
            "processes": self.processes.count,
            "device": _device_name(self.device),
            "code": {"unigeo": code_version(), "torch": torch.__version__},
            "training": self.settings.identity(),
            "observations": self.observations.provenance(),
        }

    def _save(self, model: UniGeoCLIP, seen: TrainingData, metrics: dict[str, Any]) -> None:
        documents = {
            METRICS: json.dumps(metrics, indent=2, sort_keys=True) + "\n",
            "card.md": card(model, self.model_settings, metrics),
            LOG: (self.work / LOG).read_text(encoding="utf-8"),
        }
        save_model(model, seen.tokenizer, self.folder, documents)
        shutil.rmtree(self.work, ignore_errors=True)


def finished(folder: Path) -> dict[str, Any] | None:
    """The metrics of a finished model folder; None if there is none."""
    path = folder / METRICS
    if not path.exists():
        return None
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return metrics | {"run": metrics["run"]}
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged ({error}); train into another folder") from error


def fingerprint(
    observations: Observations, model_settings: ModelSettings, settings: TrainingSettings
) -> str:
    """One hash of everything the result depends on."""
    identity = [
        observations.provenance(),
        to_json(model_settings),
        settings.identity(),
    ]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def embed(
    model: UniGeoCLIP, places: Samples, device: torch.device, batch: int = 512
) -> dict[str, torch.Tensor]:
    """Unit vectors of every modality of the places, float32 on the CPU."""
    model.eval()
    names = [name for name in places.inputs if name in model.modalities]
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    with torch.inference_mode():
        for rows in _slices(len(places), batch):
            for name in names:
                values = places.inputs[name][rows].to(device)
                vectors = encode_filled(model, name, values, min(batch, len(places)))
                parts[name].append(vectors.float().cpu())
    return {name: torch.cat(part) for name, part in parts.items()}


def evaluate(model: UniGeoCLIP, gallery: Samples, device: torch.device) -> dict[str, Any]:
    """The retrieval matrix on the hold-out, with chance beside it."""
    matrix = recall_matrix(embed(model, gallery, device))
    return {
        "retrieval": matrix,
        "mean": {name: mean_recall(pairs) for name, pairs in matrix.items()},
        "chance": {name: int(name[2:]) / len(gallery) for name in matrix},
        "split": "spatial blocks",
    }


def tower_recall(vectors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Mean R@10 of each modality as query and as gallery, against the others."""
    found = recall_matrix(vectors, (10,))["R@10"]
    return {
        name: sum(found[name][other] + found[other][name] for other in found if other != name)
        / (2 * max(1, len(found) - 1))
        for name in found
    }


def code_version() -> str:
    """Version of unigeo that runs."""
    try:
        return version("unigeo")
    except PackageNotFoundError:
        return "not installed"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _slices(count: int, batch: int) -> Iterator[slice]:
    for start in range(0, count, batch):
        yield slice(start, start + batch)
