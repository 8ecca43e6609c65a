"""Train the encoders against each other, from observations to a model folder."""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from unigeo.producer.encoders.model import UniGeoCLIP, save_model
from unigeo.producer.encoders.settings import ModelSettings, to_json
from unigeo.producer.encoders.words import train_tokenizer
from unigeo.producer.evaluation.retrieval import mean_recall, recall_matrix
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.card import card
from unigeo.producer.training.checkpoint import load_checkpoint, save_checkpoint
from unigeo.producer.training.contrast import contrastive_loss
from unigeo.producer.training.contrast_settings import ContrastSettings
from unigeo.producer.training.places import Places, observe
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.splitting import held_out
from unigeo.schemas.errors import ModelError

METRICS = "metrics.json"
"""Where a model's folder says how it was trained and how well it does."""
LOG = "train.jsonl"
"""The loss of every step."""
_METRES_PER_DEGREE = 111_195.0  # of a great circle


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
        ModelError: if the folder holds another model, or the loss is no number any more.
    """
    device = device or default_device()
    run = fingerprint(observations, model_settings, settings)
    done = finished(folder)
    if done is not None:
        if done["run"] != run:
            raise ModelError(
                f"{folder} holds a model of other settings or observations; name another folder, "
                "or use it as it is with --model"
            )
        return done
    work = folder.with_name(folder.name + ".training")  # becomes the folder when it is done
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot write the model folder {folder}: {error}") from error
    start = time.monotonic()
    places, gallery, tokenizer = _look(observations, model_settings, settings, progress)
    observed = time.monotonic()
    torch.manual_seed(model_settings.seed)
    model = UniGeoCLIP(model_settings).to(device)
    optimizer = _optimizer(model, settings)
    first = load_checkpoint(work, model, optimizer, run)
    _steps(model, optimizer, places, settings, first, work, run, device, progress)
    trained = time.monotonic()
    metrics = evaluate(model, gallery, device) | {
        "run": run,
        "places": {"train": len(places), "gallery": len(gallery)},
        "seconds": {
            "observe": round(observed - start, 1),
            "train": round(trained - observed, 1),
            "resumed_at_step": first,
        },
        "training": settings.identity(),
        "observations": observations.provenance(),
    }
    documents = {
        METRICS: json.dumps(metrics, indent=2, sort_keys=True) + "\n",
        "card.md": card(model, model_settings, metrics),
        LOG: (work / LOG).read_text(encoding="utf-8"),
    }
    save_model(model, tokenizer, folder, documents)
    shutil.rmtree(work, ignore_errors=True)
    return metrics


def default_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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


def _look(
    observations: Observations,
    model_settings: ModelSettings,
    settings: TrainingSettings,
    progress: bool,
) -> tuple[Places, Places, Any]:
    """The places to train on, the gallery of complete hold-out places, and the tokenizer."""
    with tqdm(total=3, desc="observe", unit="part", disable=not progress) as bar:
        lonlat = observations.locations(settings.locations, settings.seed)
        apart = held_out(lonlat, settings.block_km, settings.holdout, settings.seed)
        texts: list[str | None] = [None] * len(lonlat)
        tokenizer = None
        if model_settings.text is not None:
            texts = observations.texts(lonlat)
            said = [text for text, kept in zip(texts, ~apart, strict=True) if kept and text]
            tokenizer = train_tokenizer(said, model_settings.text)
        bar.update()
        places = observe(observations, lonlat, texts, tokenizer)
        bar.update()
        complete = places.complete()
        rows = np.flatnonzero(apart & complete)
        if len(rows) < settings.gallery:
            # Many places lack a modality: look for complete ones among further hold-out places.
            more = observations.locations(settings.locations * 2, settings.seed + 1)
            more = more[held_out(more, settings.block_km, settings.holdout, settings.seed)]
            said_more: list[str | None] = [None] * len(more)
            if tokenizer is not None:
                said_more = observations.texts(more)
            further = observe(observations, more, said_more, tokenizer)
            gallery = further.take(np.flatnonzero(further.complete())[: settings.gallery])
        else:
            gallery = places.take(rows[: settings.gallery])
        bar.update()
    if len(gallery) < 2:
        raise ModelError(
            "no hold-out place has every modality, so nothing can be evaluated; observe more "
            "locations, or describe fewer modalities"
        )
    return places.take(np.flatnonzero(~apart)), gallery, tokenizer


def _steps(
    model: UniGeoCLIP,
    optimizer: torch.optim.AdamW,
    places: Places,
    settings: TrainingSettings,
    first: int,
    folder: Path,
    run: str,
    device: torch.device,
    progress: bool,
) -> None:
    """Run the optimizer from step `first` to the last, with checkpoints and a log."""
    model.train()
    saved = time.monotonic()
    _cut_log(folder / LOG, first)
    with (
        (folder / LOG).open("a", encoding="utf-8") as log,
        tqdm(
            total=settings.steps, initial=first, desc="train", unit="step", disable=not progress
        ) as bar,
    ):
        for step in range(first, settings.steps):
            batch = places.take(batch_rows(len(places), step, settings)).to(device)
            for group in optimizer.param_groups:
                group["lr"] = settings.rate * rate_share(step, settings)
            loss = batch_loss(model, batch, settings, step)
            if not torch.isfinite(loss):
                raise ModelError(
                    f"the loss of step {step} is {loss.item()}; lower the learning rate (now "
                    f"{settings.rate:g}) or lengthen the warm-up ({settings.warmup} steps)"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            value = float(loss.detach())
            log.write(json.dumps({"step": step, "loss": value}) + "\n")
            bar.set_postfix_str(f"loss {value:.3f}")
            bar.update()
            if time.monotonic() - saved > settings.checkpoint_seconds:
                log.flush()
                save_checkpoint(folder, step + 1, model, optimizer, run)
                saved = time.monotonic()
    model.eval()


def batch_loss(
    model: UniGeoCLIP, batch: Places, settings: TrainingSettings, step: int
) -> torch.Tensor:
    """The contrastive loss of one batch."""
    lonlat = batch.inputs["coordinate"]
    inputs = dict(batch.inputs)
    if settings.jitter_m > 0:
        inputs["coordinate"] = _jitter(lonlat, settings, step)
    device = lonlat.device.type
    autocast = torch.autocast(device, torch.bfloat16) if device == "cuda" else nullcontext()
    with autocast:
        embeddings = {name: model.encode(name, values) for name, values in inputs.items()}
    contrast = ContrastSettings(exclusion_m=settings.exclusion_m)
    return contrastive_loss(embeddings, batch.present, model.scale(), contrast, lonlat=lonlat)


def batch_rows(count: int, step: int, settings: TrainingSettings) -> np.ndarray:
    """Rows of the batch of a step: a pure function, so that a resumed run sees the same order."""
    batch = min(settings.batch, count)
    per_epoch = count // batch
    epoch, place = divmod(step, per_epoch)
    order = np.random.default_rng([settings.seed, epoch]).permutation(count)
    return order[place * batch : (place + 1) * batch]


def rate_share(step: int, settings: TrainingSettings) -> float:
    """Share of the largest learning rate at a step: linear warm-up, then a cosine to 1 %."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    share = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))


def _jitter(lonlat: torch.Tensor, settings: TrainingSettings, step: int) -> torch.Tensor:
    noise = np.random.default_rng([settings.seed, 1, step]).normal(size=tuple(lonlat.shape))
    degrees = torch.from_numpy(noise).to(lonlat) * (settings.jitter_m / _METRES_PER_DEGREE)
    degrees[:, 0] /= torch.cos(torch.deg2rad(lonlat[:, 1])).clamp(min=0.01)
    moved = lonlat + degrees
    moved[:, 1] = moved[:, 1].clamp(-90, 90)
    return moved


def _optimizer(model: UniGeoCLIP, settings: TrainingSettings) -> torch.optim.AdamW:
    decayed: list[torch.Tensor] = []
    free: list[torch.Tensor] = []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            (decayed if weight.ndim >= 2 and "embedding" not in name else free).append(weight)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98))


def embed(
    model: UniGeoCLIP, places: Places, device: torch.device, batch: int = 512
) -> dict[str, torch.Tensor]:
    """Unit vectors of every modality of the places, float32 on the CPU."""
    model.eval()
    parts: dict[str, list[torch.Tensor]] = {name: [] for name in places.inputs}
    with torch.inference_mode():
        for rows in _slices(len(places), batch):
            for name, values in places.inputs.items():
                parts[name].append(model.encode(name, values[rows].to(device)).float().cpu())
    return {name: torch.cat(part) for name, part in parts.items()}


def evaluate(model: UniGeoCLIP, gallery: Places, device: torch.device) -> dict[str, Any]:
    """The retrieval matrix on the hold-out, with chance beside it."""
    matrix = recall_matrix(embed(model, gallery, device))
    return {
        "retrieval": matrix,
        "mean": {name: mean_recall(pairs) for name, pairs in matrix.items()},
        "chance": {name: int(name[2:]) / len(gallery) for name in matrix},
        "split": "spatial blocks",
    }


def _slices(count: int, batch: int) -> Iterator[slice]:
    for start in range(0, count, batch):
        yield slice(start, start + batch)


def _cut_log(path: Path, first: int) -> None:
    """Drop lines of steps that a killed run made after its last checkpoint."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:first]
    path.write_text("".join(lines), encoding="utf-8")
