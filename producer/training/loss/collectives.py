"""Processes that share a batch, each with its own places; or one process alone."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from unigeo.schemas.errors import ModelError


@dataclass(frozen=True)
class Collectives:
    """What the loss exchanges between processes: only tensors that grow with the batch."""

    group: dist.ProcessGroup | None

    @property
    def size(self) -> int:
        """How many there are."""
        return 1 if self.group is None else self.group.size()

    @property
    def rank(self) -> int:
        """Which one this is."""
        return 0 if self.group is None else self.group.rank()

    def check_equal(self, places: int, device: torch.device) -> None:
        """Refuse batches of different sizes, on every rank, where a collective would hang."""
        if self.group is None:
            return
        sizes = self.gather(torch.tensor([places], device=device)).tolist()
        if len(set(sizes)) > 1:
            raise ModelError(
                f"ranks hold {', '.join(map(str, sizes))} places; give each the same number, and "
                "mark those that were not observed as not present"
            )

    def gather(self, part: Tensor) -> Tensor:
        """Rows of all ranks, in their order."""
        if self.group is None:
            return part
        whole = part.new_empty(self.size * len(part), *part.shape[1:])
        dist.all_gather_into_tensor(whole, part.contiguous(), group=self.group)
        return whole

    def total(self, values: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        if self.group is not None:
            dist.all_reduce(values, group=self.group)
        return values

    def highest(self, values: Tensor) -> Tensor:
        """Largest over ranks, of a copy."""
        if self.group is None:
            return values
        values = values.clone()
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self.group)
        return values

    def total_part(self, whole: Tensor) -> Tensor:
        """Sum over ranks of this rank's rows."""
        if self.group is None:
            return whole
        part = whole.new_empty(len(whole) // self.size, *whole.shape[1:])
        dist.reduce_scatter_tensor(part, whole, group=self.group)
        return part
