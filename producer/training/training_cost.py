"""How long a training will take, by a few samples and a few steps."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.number_heads import NumberHeads
from unigeo.producer.encoders.text import pretrained_tokenizer, train_tokenizer
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.checkpoint import TrainingState
from unigeo.producer.training.dataset import SLAB, TEXTS, sample_bytes
from unigeo.producer.training.ema import MeanWeights
from unigeo.producer.training.holdout import held_out
from unigeo.producer.training.loop import train_step
from unigeo.producer.training.optimizer import build_optimizer
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples, observe
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import TrainingBatch
from unigeo.producer.training.train import FUSED_LOCATIONS, embed
from unigeo.schemas.errors import ModelError

MEASURE_S = 1.5
"""Seconds, about, for which observing and steps are each measured."""
_FIRST_SAMPLES = 32
_GROWTH = 4
"""Factor from one number of samples that is timed to the next."""
_TEXT_SAMPLES = (256, 1024)
"""Numbers of texts from which a tokenizer is learned to see how its time grows."""


@dataclass(frozen=True)
class TrainingCost:
    """Seconds that a training will take in one process."""

    observing: float
    """Observation of all locations and the learning of the tokenizer."""
    training: float
    """Steps and evaluation."""


@dataclass(frozen=True, eq=False)
class RehearsedTraining:
    """A training of which a little was done."""

    cost: TrainingCost
    model: UniGeoCLIP
    """Model of the right shape; its weights mean nothing."""
    tokenizer: object | None


def rehearse_training(
    observations: Observations,
    model_settings: ModelSettings,
    settings: TrainingSettings,
    device: torch.device,
    *,
    first: int = 0,
    seconds: float = MEASURE_S,
) -> RehearsedTraining:
    """Observe a few samples, do a few steps, and estimate what the whole takes.

    Args:
        observations: where the locations are observed.
        model_settings: settings of the encoders.
        settings: settings of the run.
        device: device to train on.
        first: number of steps that are done already.
        seconds: seconds for which observing and steps are each measured.

    Raises:
        ModelError: if the hold-out or what remains to train on is empty.
    """
    (lonlat, drawing_s) = _timed(lambda: observations.locations(settings.locations, settings.seed))
    out = held_out(lonlat, settings.block_km, settings.holdout, settings.seed)
    if out.all() or not out.any():
        raise ModelError(
            f"training: of {len(lonlat)} locations in blocks of {settings.block_km:g} km "
            f"{'all' if out.all() else 'none'} are held out; change training.block_km or "
            "training.holdout"
        )
    train_lonlat = lonlat[~out]
    tokenizer, tokenizer_s = _rehearse_tokenizer(observations, model_settings, train_lonlat)
    gallery = min(int(out.sum()), -(-settings.gallery // SLAB) * SLAB)
    kept = (
        not settings.fresh
        and len(train_lonlat) * sample_bytes(model_settings) <= 1e9 * settings.kept_gb
    )
    samples, sample_s = _observe_some(
        lambda part: observe(observations, part, tokenizer, model_settings.modalities),
        train_lonlat,
        seconds,
        together=kept,
    )
    observed = gallery + (len(train_lonlat) if kept else 0)
    model = UniGeoCLIP(model_settings, pretrained=False)
    pixels = {name: samples.inputs[name] for name in model_settings.pixel_modalities}
    model.measure_numbers(pixels)
    model.to(device)
    embedded, embed_s = _timed(
        lambda: embed(model, samples.take(np.arange(min(len(samples), 64))), device)
    )
    embed_s /= len(next(iter(embedded.values())))
    if settings.numbers:
        model.heads = NumberHeads(model_settings, pixels).to(device)
    step_s = _rehearse_steps(model, samples, settings, device, seconds)
    model.heads = None
    if not kept:  # threads observe while the device works
        step_s = max(step_s, settings.batch * sample_s / settings.workers)
    evaluations = 1 + (settings.steps // settings.watch if settings.watch else 0)
    evaluating_s = evaluations * min(settings.gallery, int(out.sum())) * embed_s
    if model.fusion is not None:
        evaluating_s += min(FUSED_LOCATIONS, len(train_lonlat)) * (sample_s + embed_s)
    cost = TrainingCost(
        drawing_s + tokenizer_s + observed * sample_s,
        (settings.steps - first) * step_s + evaluating_s,
    )
    return RehearsedTraining(cost, model.eval(), tokenizer)


def _timed[T](function: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def _rehearse_tokenizer(
    observations: Observations, model_settings: ModelSettings, lonlat: np.ndarray
) -> tuple[object | None, float]:
    """Make a tokenizer of a few texts; return it and the seconds that one of all texts takes."""
    settings = model_settings.text
    if settings is None:
        return None, 0.0
    if settings.pretrained is not None:
        return _timed(lambda: pretrained_tokenizer(settings))

    def learn(count: int) -> object:
        names = model_settings.text_modalities
        texts = [text for name in names for text in observations.texts(lonlat[:count], name)]
        return train_tokenizer([text for text in texts if text], settings)

    few, many = (min(count, len(lonlat)) for count in _TEXT_SAMPLES)
    tokenizer, few_s = _timed(lambda: learn(few))
    _, many_s = _timed(lambda: learn(many)) if many > few else (None, few_s)
    slope = max(0.0, many_s - few_s) / max(1, many - few)
    return tokenizer, many_s + slope * (min(len(lonlat), TEXTS) - many)


def _observe_some(
    observe_samples: Callable[[np.ndarray], Samples],
    lonlat: Float[np.ndarray, "location 2"],
    seconds: float,
    together: bool,
) -> tuple[Samples, float]:
    """Observe locations until it took a while; return them and the seconds of one.

    A run that keeps its samples observes all locations `together`: neighbours share what was read
    of a raster. So neighbours are observed here, and the largest part counts, in which the share is
    closest to that of the whole run.
    """
    observe_samples(lonlat[:1])  # opens files and fills caches
    parts: list[Samples] = []
    times: list[float] = []
    count, done = _FIRST_SAMPLES, 0
    while done < len(lonlat) and sum(times) < seconds:
        # In the order of the locations those that follow each other are far apart on the ground.
        some = _neighbours(lonlat, done, count) if together else lonlat[done : done + count]
        part, part_s = _timed(partial(observe_samples, some))
        parts.append(part)
        times.append(part_s)
        done += len(part)
        count = max(
            1, min(_GROWTH * count, int(count * (seconds - sum(times)) / max(part_s, 1e-9)))
        )
    lengths = [len(part) for part in parts]
    largest = int(np.argmax(lengths))
    each_s = times[largest] / lengths[largest] if together else sum(times) / done
    return Samples.concatenate(parts), each_s


def _neighbours(
    lonlat: Float[np.ndarray, "location 2"], number: int, count: int
) -> Float[np.ndarray, "near 2"]:
    """Return a location and those nearest to it, `count` in all."""
    offset = lonlat - lonlat[number]
    offset[:, 0] *= np.cos(np.deg2rad(lonlat[number, 1]))
    squares = np.square(offset).sum(axis=1)
    return lonlat[np.argpartition(squares, min(count, len(lonlat)) - 1)[:count]]


def _rehearse_steps(
    model: UniGeoCLIP,
    samples: Samples,
    settings: TrainingSettings,
    device: torch.device,
    seconds: float,
) -> float:
    """Return the seconds of one step, by a few with the samples at hand."""
    state = TrainingState(model, build_optimizer(model, settings), MeanWeights(model, settings.ema))
    model.train()
    # A batch that would take long is estimated by parts of it: a step of few samples takes more
    # for each than one of many, so the times of two sizes are extrapolated.
    size, spent_s, budget_s = min(settings.batch, _FIRST_SAMPLES), 0.0, 3 * seconds
    smaller: tuple[int, float] | None = None
    while True:
        rows = np.resize(np.arange(len(samples)), size)
        batch = TrainingBatch(0, samples.take(rows).to(device), rows)
        step = partial(train_step, state, batch, settings, Processes(), device, False)
        if smaller is None or device.type != "cpu":
            spent_s += _timed(step)[1]  # allocates memory, and compiles where blocks are compiled
        times = [_timed(step)[1]]
        spent_s += times[0]
        larger = min(settings.batch, _GROWTH * size)
        if size == settings.batch or spent_s + times[0] * larger / size > budget_s:
            break
        smaller, size = (size, times[0]), larger
    while spent_s < seconds and len(times) < 20:
        times.append(_timed(step)[1])
        spent_s += times[-1]
    mean_s = float(np.mean(times))
    each_s = mean_s / size
    if smaller is not None:
        less, less_s = smaller
        each_s = max(0.0, min(each_s, (mean_s - less_s) / (size - less)))
    return mean_s + (settings.batch - size) * each_s
