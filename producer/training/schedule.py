"""When each place is seen, and at which rate each tower learns: pure functions of the step."""

import math

import numpy as np
from jaxtyping import Int

from unigeo.producer.training.settings import TrainingSettings


def batch_rows(count: int, step: int, settings: TrainingSettings) -> Int[np.ndarray, " place"]:
    """Rows of the batch of a step: a pure function, so that a resumed run sees the same order."""
    epoch, place, batch = position(count, step, settings)
    order = np.random.default_rng([settings.seed, epoch]).permutation(count)
    rows: Int[np.ndarray, " place"] = order[place * batch : (place + 1) * batch]
    return rows


def position(count: int, step: int, settings: TrainingSettings) -> tuple[int, int, int]:
    """Which pass over the data a step belongs to, which batch of it, and the batch's size."""
    batch = min(settings.batch, count)
    epoch, place = divmod(step, count // batch)
    return epoch, place, batch


def rate_share(step: int, settings: TrainingSettings, tower: str | None = None) -> float:
    """Share of the largest learning rate at a step: linear warm-up, then a cosine to 1 %.

    A tower with an end of its own follows a cosine to zero at that share of the steps, and rests
    from then on.
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
    """Whether a tower is neither frozen nor past its end."""
    return settings.tower_rate(tower) > 0 and rate_share(step, settings, tower) > 0
