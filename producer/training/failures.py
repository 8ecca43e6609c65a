"""Errors that can end a run, with messages that say what to change."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from unigeo.producer.training.processes import Processes
from unigeo.producer.training.settings import TrainingSettings
from unigeo.schemas.errors import ModelError

_LOST = ("connection", "timed out", "timeout", "gloo", "nccl", "broken pipe", "socket")


class LostRankError(ModelError):
    """Another process died or does not answer; the weights are still those before the step."""


@contextmanager
def explain_step_errors(
    step: int, settings: TrainingSettings, processes: Processes
) -> Iterator[None]:
    """Replace torch's errors in a step by ones that name the step and what to change.

    Raises:
        ModelError: out of memory.
        LostRankError: another process is gone.
    """
    try:
        yield
    except ModelError:
        raise
    except RuntimeError as error:
        text = str(error).lower()
        if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in text:
            raise ModelError(_memory_message(step, settings, processes, error)) from error
        if processes.count > 1 and (
            isinstance(error, torch.distributed.DistError) or any(word in text for word in _LOST)
        ):
            raise LostRankError(
                f"step {step}: another of the {processes.count} processes died or did not answer "
                f"within {settings.timeout_seconds:g} s, as process {processes.rank} found "
                f"({error}). Look at the first error of the others, mend it, and start the same "
                "command again: it goes on from the last checkpoint."
            ) from error
        raise


def _memory_message(
    step: int, settings: TrainingSettings, processes: Processes, error: RuntimeError
) -> str:
    local = -(-settings.batch // processes.count)
    half = max(1, min(settings.chunk or local, local) // 2)
    also = "" if settings.activation_checkpointing else " or activation_checkpointing=True"
    return (
        f"out of memory in step {step}: batch {settings.batch} ({local} places in each of "
        f"{processes.count} processes), chunk {settings.chunk}, activation_checkpointing "
        f"{settings.activation_checkpointing}. Set chunk={half}{also}: both give the same result "
        f"in less memory, and the run goes on from its checkpoint. ({str(error).splitlines()[0]})"
    )


def check_finite(
    step: int,
    loss: float,
    norm: float,
    embeddings: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    settings: TrainingSettings,
) -> None:
    """Refuse a loss or gradient norm that is NaN or infinite.

    Raises:
        ModelError: naming the step, the modalities of vectors that are not finite, and what to
            change.
    """
    if abs(loss) < float("inf") and norm < float("inf"):
        return
    broken = [
        name
        for name, vectors in embeddings.items()
        if not bool(vectors[present[name]].isfinite().all())
    ]
    what = (
        f"loss of step {step} is {loss}"
        if loss - loss != 0  # true for NaN and for infinity
        else f"gradient of step {step} is {norm}"
    )
    where = f"; vectors of {', '.join(broken)} are not finite" if broken else ""
    raise ModelError(
        f"the {what}{where}. Lower the learning rate (now {settings.rate:g}, per tower with "
        f"tower_rates) or lengthen the warm-up ({settings.warmup} steps); look at the observations "
        "of those modalities if it comes at once"
    )
