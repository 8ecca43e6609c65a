"""Data-parallel processes that train one model together, and their communication.

    torchrun --nproc-per-node 8 -m unigeo.producer.commands.cli --region conus --preset base

starts eight processes, each with its GPU; on a machine without one they compute on its cores. The
batch is that of all processes together, so that their number changes nothing but the time. Only the
first process writes; all of them must see the folder.
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
"""Largest number of values that one message sums over processes."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them."""

    rank: int = 0
    count: int = 1
    group: dist.ProcessGroup | None = None
    """Group that exchanges tensors on the device; None for a process alone."""
    cpu_group: dist.ProcessGroup | None = None
    """Group that exchanges Python objects; None for a process alone."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    def indices(self, batch: int) -> tuple[Int[np.ndarray, " sample"], Bool[np.ndarray, " sample"]]:
        """Return the indices of this process's samples in the batch, and whether each counts.

        All processes get the same number. Where the batch cannot be divided evenly, the last ones
        repeat a sample that does not count.
        """
        size = -(-batch // self.count)
        indices = np.arange(self.rank * size, (self.rank + 1) * size)
        return np.minimum(indices, batch - 1), indices < batch

    def broadcast(self, value: Any) -> Any:
        """Return the first process's value in every process."""
        if self.cpu_group is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.cpu_group)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank, in every process."""
        if self.cpu_group is None:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self.cpu_group)
        return values

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a value over processes, in every process."""
        if self.group is not None:
            dist.all_reduce(value, group=self.group)
        return value

    def sum_gradients(
        self, weights: Iterable[nn.Parameter], device: torch.device, stop_requested: bool
    ) -> bool:
        """Sum gradients over processes; return whether a stop was requested in any of them."""
        if self.group is None:
            return stop_requested
        # The request travels with the gradients, so that it costs no message of its own.
        requests = torch.tensor([float(stop_requested)], device=device)
        grads = [requests] + [weight.grad for weight in weights if weight.grad is not None]
        for bucket in _buckets(grads):
            flat = torch.cat([grad.flatten() for grad in bucket])
            dist.all_reduce(flat, group=self.group)
            parts = flat.split([grad.numel() for grad in bucket])
            for grad, part in zip(bucket, parts, strict=True):
                grad.copy_(part.view_as(grad))
        return bool(requests > 0)


def _buckets(tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Group consecutive tensors of one type, up to `BUCKET` values; a larger one stands alone."""
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


def is_first_rank() -> bool:
    """Return whether this process is alone, or the first of those that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def default_device() -> torch.device:
    """Return this process's own GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@contextmanager
def join_processes(device: torch.device, timeout_seconds: float) -> Iterator[Processes]:
    """Join the other processes that torchrun started, if there are any.

    Raises:
        ModelError: if they cannot reach each other.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    timeout = timedelta(seconds=timeout_seconds)
    initialized_here = not dist.is_initialized()
    try:
        if initialized_here:
            backend = "nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=timeout)
        cpu_group = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=timeout))
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"the processes did not meet ({error}); start them all by one torchrun command"
        ) from error
    try:
        group = cast(dist.ProcessGroup, dist.new_group(timeout=timeout))
        yield Processes(dist.get_rank(), dist.get_world_size(), group, cpu_group)
    finally:
        if initialized_here:
            dist.destroy_process_group()
