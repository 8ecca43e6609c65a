"""Processes that train one model together: who they are, and what they add up.

    torchrun --nproc-per-node 8 -m unigeo.producer.commands.cli --region conus --preset base

starts eight, each with its GPU; on a machine without one they compute on its cores. The batch is
that of all processes together, so their number changes nothing but the time. Only the first writes;
the folder must be seen by all of them.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Bool, Int
from torch import Tensor, nn

from unigeo.schemas.errors import ModelError

BUCKET = 64 * 2**20
"""Numbers summed over processes in one message, at most."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, and which of them this one is."""

    rank: int = 0
    count: int = 1
    group: dist.ProcessGroup | None = None
    """To exchange vectors and gradients on the device; None where a process is alone."""
    talk: dist.ProcessGroup | None = None
    """To exchange what lies in ordinary memory."""

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def positions(self, batch: int) -> tuple[Int[np.ndarray, " place"], Bool[np.ndarray, " place"]]:
        """Positions of this process's places in the batch, and whether each is its own.

        All processes have as many; the last ones repeat a place that does not count where the
        batch cannot be shared out evenly.
        """
        size = -(-batch // self.count)
        positions = np.arange(self.rank * size, (self.rank + 1) * size)
        return np.minimum(positions, batch - 1), positions < batch

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.talk is not None:
            dist.barrier(self.talk)

    def share(self, value: Any) -> Any:
        """Give every process the first one's value."""
        if self.talk is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.talk)
        return box[0]

    def collect(self, value: Any) -> list[Any]:
        """Give every process the values of all, in their order."""
        if self.talk is None:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value, group=self.talk)
        return found

    def sum_gradients(
        self, weights: Iterable[nn.Parameter], device: torch.device, raised: bool
    ) -> bool:
        """Add up the gradients of all processes; true where any of them `raised` a hand."""
        if self.group is None:
            return raised
        hands = torch.tensor([float(raised)], device=device)
        gradients = [hands] + [weight.grad for weight in weights if weight.grad is not None]
        for bucket in _buckets(gradients):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            dist.all_reduce(flat, group=self.group)
            parts = flat.split([gradient.numel() for gradient in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        return bool(hands > 0)


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Split tensors into runs of one type and at most `BUCKET` numbers, but at least one tensor."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.numel() > BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


def first_rank() -> bool:
    """Whether this process is alone, or the first of those that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def default_device() -> torch.device:
    """CUDA where there is one, else the CPU; each process of a machine has its own GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@contextmanager
def joined(device: torch.device, timeout_seconds: float) -> Iterator[Processes]:
    """Meet the other processes that torchrun started; a process started alone stays alone.

    Raises:
        ModelError: if they do not meet.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    timeout = timedelta(seconds=timeout_seconds)
    ours = not dist.is_initialized()
    try:
        if ours:
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=timeout)
        talk = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=timeout))
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"the processes did not meet ({error}); start them all by one torchrun command"
        ) from error
    try:
        everyone = cast(dist.ProcessGroup, dist.new_group(timeout=timeout))
        yield Processes(dist.get_rank(), dist.get_world_size(), everyone, talk)
    finally:
        if ours:
            dist.destroy_process_group()
