"""Contrastive training from observations to a model folder, and the evaluation of the model."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.number_heads import NumberHeads
from unigeo.producer.encoders.saved_models import check_model_folder, load_model, save_model
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.card import card
from unigeo.producer.training.checkpoint import (
    CheckpointWriter,
    TrainingState,
    load_checkpoint,
    steps_done,
    work_folder,
)
from unigeo.producer.training.dataset import TrainingData, batch_source, prepare_data
from unigeo.producer.training.ema import MeanWeights
from unigeo.producer.training.flops import SampleFlops, sample_flops
from unigeo.producer.training.log import LOG, TrainingLog, read_log, total_measured
from unigeo.producer.training.loop import RunRecords, StepMeter, run_steps
from unigeo.producer.training.optimizer import build_optimizer
from unigeo.producer.training.processes import Processes, default_device, join_processes
from unigeo.producer.training.recall import mean_recall, recall_matrix
from unigeo.producer.training.run_identity import (
    RunIdentity,
    fingerprint,
    refuse_other_model,
    run_identity,
)
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import encode_padded, prepare_blocks
from unigeo.schemas.errors import ModelError
from unigeo.schemas.io.atomic_files import write_bytes
from unigeo.schemas.io.json_text import load_json

__all__ = ["default_device", "embed", "evaluate", "finished_metrics", "fit_fusion", "train"]

FUSED_LOCATIONS = 8192
"""Number of training locations on which the map to fused vectors is fitted."""
FUSED_SHARE = 0.5
"""Share of them that must show a modality for it to take part; others are seen here and there."""
SCALE_LOCATIONS = 1024
"""Number of training locations by which plain numbers are standardized."""
METRICS = "metrics.json"
"""File of a model folder with how the model was trained and how well it does."""


def train(
    observations: Observations,
    model_settings: ModelSettings,
    settings: TrainingSettings,
    folder: Path,
    *,
    device: torch.device | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train a model into a folder, or resume where an earlier call stopped.

    Under torchrun every process calls this with the same arguments, and they train together.

    Args:
        observations: where the locations are observed.
        model_settings: settings of the encoders.
        settings: settings of this run.
        folder: gets `model.safetensors`, `settings.json`, `card.md`, `metrics.json`.
        device: device to train on; CUDA if None and there is one, else the CPU.
        progress: show progress bars on stderr.

    Returns:
        The metrics, with the retrieval matrix on the spatial hold-out.

    Raises:
        ModelError: if the folder holds another model, or a step fails, which the message names.
    """
    device = device or default_device()
    run = run_identity(observations, model_settings, settings)
    with join_processes(device, settings.timeout_seconds) as processes:
        done = processes.broadcast(finished_metrics(folder) if processes.is_first else None)
        if done is not None:
            return dict(_accept(done, folder, model_settings, run, writes=processes.is_first))
        check_model_folder(folder)
        steps_done(work_folder(folder), run)  # a checkpoint of another run is refused before work
        return _Training(
            observations, model_settings, settings, folder, device, processes, run
        ).execute(progress and processes.is_first)


def fit_fusion(model: UniGeoCLIP, data: TrainingData, device: torch.device) -> None:
    """Fit a trained model's map to fused vectors, if it has one, on training locations."""
    if model.fusion is None:
        return
    samples = data.observe(data.lonlat[:FUSED_LOCATIONS])
    usual = [
        name
        for name in model.fusion.modalities
        if samples.present[name].float().mean() > FUSED_SHARE
    ]
    whole = torch.stack([samples.present[name] for name in usual]).all(dim=0)
    vectors = embed(model, samples.take(torch.nonzero(whole)[:, 0]), device)
    model.fusion.fit({name: vectors[name] for name in usual}, model.settings.seed)


@dataclass(frozen=True)
class _Training:
    """One process of a run."""

    observations: Observations
    model_settings: ModelSettings
    settings: TrainingSettings
    folder: Path
    device: torch.device
    processes: Processes
    run: RunIdentity

    @property
    def work_folder(self) -> Path:
        """Folder of log and checkpoint; removed when the model is saved."""
        return work_folder(self.folder)

    def execute(self, progress: bool) -> dict[str, Any]:
        """Observe, train, evaluate and save; return the metrics."""
        try:
            self.work_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(f"cannot write the model folder {self.folder}: {error}") from error
        start = time.monotonic()
        data = prepare_data(self.observations, self.model_settings, self.settings, self.processes)
        batches = batch_source(
            data,
            self.observations,
            self.model_settings,
            self.settings,
            self.processes,
            pinned=self.device.type == "cuda",
        )
        observe_seconds = time.monotonic() - start
        torch.manual_seed(self.model_settings.seed)
        model = UniGeoCLIP(self.model_settings)
        self._measure_numbers(model, data)
        model.to(self.device)
        optimizer = build_optimizer(model, self.settings)
        state = TrainingState(model, optimizer, MeanWeights(model, self.settings.ema))
        first = load_checkpoint(self.work_folder, state, self.run)
        if len(set(self.processes.gather(first))) > 1:
            raise ModelError(
                f"the processes do not see the same checkpoint in {self.work_folder}; name a "
                "folder that all machines share"
            )
        flops = None
        if data.gallery is not None:  # in the first process, which keeps the records
            flops = sample_flops(model, data.gallery.take([0]).to(self.device))
        prepare_blocks(model, self.settings, self.device)  # after the count: see `sample_flops`
        records = None if flops is None else self._records(model, state, data, flops, first)
        try:
            run_steps(
                state, batches, self.settings, first, self.processes, self.device, records, progress
            )
        finally:
            if records is not None:
                records.log.close()
                records.checkpoints.close()
        state.mean.copy_to_model(state.mean.means)  # the model that is evaluated and saved
        total = sum(float(weight.detach().double().sum()) for weight in model.parameters())
        assert len(set(self.processes.gather(total))) == 1, "every process has the same weights"
        model.heads = None
        if self.processes.is_first:  # which saves the model
            fit_fusion(model, data, self.device)
        metrics = None
        if data.gallery is not None and flops is not None:
            metrics = evaluate(model, data.gallery, self.device) | self._run_facts(data, flops)
            metrics["seconds"] |= {"observe": round(observe_seconds, 1), "resumed_at_step": first}
            self._save(model, data, metrics)
        return dict(self.processes.broadcast(metrics))

    def _measure_numbers(self, model: UniGeoCLIP, data: TrainingData) -> None:
        """Scale the plain numbers of the pixels by what the first process observes; add heads."""
        towers = [
            self.model_settings.pixel_tower(name) for name in self.model_settings.pixel_modalities
        ]
        if not self.settings.numbers and not any(tower.numbers for tower in towers):
            return
        samples = None
        if self.processes.is_first:
            seen = data.observe(data.lonlat[:SCALE_LOCATIONS])
            samples = {
                name: seen.inputs[name][seen.present[name]]
                for name in self.model_settings.pixel_modalities
            }
        samples = self.processes.broadcast(samples)
        model.measure_numbers(samples)
        if self.settings.numbers:
            model.heads = NumberHeads(self.model_settings, samples)

    def _records(
        self,
        model: UniGeoCLIP,
        state: TrainingState,
        data: TrainingData,
        flops: SampleFlops,
        first: int,
    ) -> RunRecords:
        board = self.folder.with_name(self.folder.name + ".tensorboard")
        log = TrainingLog(self.work_folder, first, board if self.settings.tensorboard else None)
        gallery = data.gallery
        assert gallery is not None

        def evaluate_holdout() -> dict[str, float]:
            with state.mean.applied():
                return tower_recall(embed(model, gallery, self.device))

        meter = StepMeter(
            self.device, self.settings, self.processes, flops, self.model_settings.dimension
        )
        checkpoints = CheckpointWriter(self.work_folder, self.run)
        return RunRecords(log, checkpoints, evaluate_holdout, meter)

    def _run_facts(self, data: TrainingData, flops: SampleFlops) -> dict[str, Any]:
        """Return the part of the metrics that says how the model was trained."""
        assert data.gallery is not None
        measured = total_measured(read_log(self.work_folder / LOG))
        needed = recomputed = 0.0
        for step in range(self.settings.steps):
            counts = flops.step(step, self.settings, self.model_settings.dimension)
            needed, recomputed = needed + counts[0], recomputed + counts[1]
        samples = self.settings.steps * self.settings.batch
        return {
            "run": fingerprint(self.run),
            "places": {"train": len(data.lonlat), "gallery": len(data.gallery)},
            "seconds": {"train": round(measured["seconds"], 1)},
            "samples_per_second": round(samples / max(measured["seconds"], 1e-9), 2),
            "flops": {"needed": needed, "computed_again": recomputed},
            "joules": measured.get("joules"),
            "processes": self.processes.count,
            "device": _device_name(self.device),
            "code": {"unigeo": code_version(), "torch": torch.__version__},
            "training": self.settings.identity(),
            "observations": self.observations.provenance(),
        }

    def _save(self, model: UniGeoCLIP, data: TrainingData, metrics: dict[str, Any]) -> None:
        documents = {
            METRICS: json.dumps(metrics, indent=2, sort_keys=True) + "\n",
            "card.md": card(model, self.model_settings, metrics),
            LOG: (self.work_folder / LOG).read_text(encoding="utf-8"),
        }
        save_model(model, data.tokenizer, self.folder, documents)
        shutil.rmtree(self.work_folder, ignore_errors=True)


def finished_metrics(folder: Path) -> dict[str, Any] | None:
    """Read the metrics of a finished model folder; return None if there is none.

    Raises:
        ModelError: if the file is damaged.
    """
    path = folder / METRICS
    if not path.exists():
        return None
    try:
        metrics: dict[str, Any] = load_json(path.read_text(encoding="utf-8"))
        return metrics | {"run": metrics["run"]}
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged ({error}); train into another folder") from error


def finished_steps(folder: Path, run: RunIdentity) -> int:
    """Return the steps done of a training that is not finished; 0 where the model is.

    Raises:
        ModelError: if the folder holds a finished model or a checkpoint of another run, naming what
            differs; or if one is damaged.
    """
    metrics = finished_metrics(folder)
    if metrics is not None:
        refuse_other_model(metrics, folder, run)
        return 0
    return steps_done(work_folder(folder), run)


def _accept(
    metrics: dict[str, Any],
    folder: Path,
    model_settings: ModelSettings,
    run: RunIdentity,
    *,
    writes: bool,
) -> dict[str, Any]:
    """Return the metrics of a finished model of the same run; correct its licences and credits.

    Raises:
        ModelError: if it is of another run, naming what differs.
    """
    if metrics["run"] == fingerprint(run):
        return metrics
    refuse_other_model(metrics, folder, run)
    corrected = metrics | {"run": fingerprint(run), "observations": run["observations"]}
    if writes:
        model, _ = load_model(folder)
        text = card(model, model_settings, corrected)
        write_bytes(folder / "card.md", text.encode())
        content = json.dumps(corrected, indent=2, sort_keys=True) + "\n"
        write_bytes(folder / METRICS, content.encode())
    return corrected


def embed(
    model: UniGeoCLIP, samples: Samples, device: torch.device, batch: int = 512
) -> dict[str, torch.Tensor]:
    """Encode samples in every modality as unit vectors, float32 on the CPU."""
    model.eval()
    names = [name for name in samples.inputs if name in model.modalities]
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    with torch.inference_mode():
        for rows in _slices(len(samples), batch):
            for name in names:
                values = samples.inputs[name][rows].to(device)
                vectors = encode_padded(model, name, values, min(batch, len(samples)))
                parts[name].append(vectors.float().cpu())
    return {name: torch.cat(part) for name, part in parts.items()}


def evaluate(model: UniGeoCLIP, gallery: Samples, device: torch.device) -> dict[str, Any]:
    """Compute the retrieval matrix on the hold-out, its means, and the recall of chance."""
    matrix = recall_matrix(embed(model, gallery, device))
    return {
        "retrieval": matrix,
        "mean": {name: mean_recall(pairs) for name, pairs in matrix.items()},
        "chance": {name: min(1.0, int(name[2:]) / len(gallery)) for name in matrix},
        "split": "spatial blocks",
    }


def tower_recall(vectors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Compute the mean R@10 of each modality against the others, as query and as gallery."""
    recall = recall_matrix(vectors, (10,))["R@10"]
    return {
        name: sum(recall[name][other] + recall[other][name] for other in recall if other != name)
        / (2 * max(1, len(recall) - 1))
        for name in recall
    }


def code_version() -> str:
    """Return the version of the installed unigeo."""
    try:
        return version("unigeo")
    except PackageNotFoundError:
        return "not installed"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _slices(count: int, batch: int) -> Iterator[slice]:
    for start in range(0, count, batch):
        yield slice(start, start + batch)
