"""The order of the samples and the learning rate of each tower, as pure functions of the step."""

import math

import numpy as np
from jaxtyping import Int

from unigeo.producer.training.settings import TrainingSettings


def batch_rows(count: int, step: int, settings: TrainingSettings) -> Int[np.ndarray, " sample"]:
    """Return the samples of a step's batch: indices into the `count` samples of its epoch."""
    epoch, number, batch = epoch_and_batch(count, step, settings)
    # Drawn anew in every step, so that a resumed run needs no state to see the same order.
    order = np.random.default_rng([settings.seed, epoch]).permutation(count)
    rows: Int[np.ndarray, " sample"] = order[number * batch : (number + 1) * batch]
    return rows


def epoch_and_batch(count: int, step: int, settings: TrainingSettings) -> tuple[int, int, int]:
    """Return a step's epoch, the number of its batch in the epoch, and the batch's size."""
    batch = min(settings.batch, count)
    epoch, number = divmod(step, count // batch)
    return epoch, number, batch


def rate_share(step: int, settings: TrainingSettings, tower: str | None = None) -> float:
    """Return a step's share of the largest learning rate: linear warm-up, then a cosine to 1 %.

    For a tower in `tower_stop` the cosine falls to zero at that share of the steps, and the rate
    stays zero from then on.
    """
    stop = dict(settings.tower_stop).get(tower or "")
    end = settings.steps if stop is None else stop * settings.steps
    if stop is not None and step >= end:
        return 0.0
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    share = (step - settings.warmup) / max(1, end - settings.warmup)
    lowest = 0.01 if stop is None else 0.0
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * share))


def learns(tower: str, step: int, settings: TrainingSettings) -> bool:
    """Return whether a tower is neither frozen nor past its `tower_stop`."""
    return settings.tower_rate(tower) > 0 and rate_share(step, settings, tower) > 0
