"""Collective operations of the processes that share a batch; with one process they do nothing."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from unigeo.schemas.errors import ModelError


@dataclass(frozen=True)
class Collectives:
    """Exchange of tensors between ranks; their sizes are linear in the batch."""

    group: dist.ProcessGroup | None
    """Processes that share the batch; None for this process alone."""

    @property
    def size(self) -> int:
        """Number of ranks."""
        return 1 if self.group is None else self.group.size()

    @property
    def rank(self) -> int:
        """Number of this process in the group."""
        return 0 if self.group is None else self.group.rank()

    def check_equal(self, samples: int, device: torch.device) -> None:
        """Refuse batches of different sizes, on every rank, where a collective would hang."""
        if self.group is None:
            return
        sizes = self.all_gather(torch.tensor([samples], device=device)).tolist()
        if len(set(sizes)) > 1:
            raise ModelError(
                f"ranks hold {', '.join(map(str, sizes))} places; give each the same number, and "
                "mark those that were not observed as not present"
            )

    def all_gather(self, local: Tensor) -> Tensor:
        """Concatenate the rows of all ranks, in the order of the ranks."""
        if self.group is None:
            return local
        gathered = local.new_empty(self.size * len(local), *local.shape[1:])
        dist.all_gather_into_tensor(gathered, local.contiguous(), group=self.group)
        return gathered

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Sum `values` over ranks, in place."""
        if self.group is not None:
            dist.all_reduce(values, group=self.group)
        return values

    def all_reduce_max(self, values: Tensor) -> Tensor:
        """Return the maximum of `values` over ranks; `values` is not changed."""
        if self.group is None:
            return values
        values = values.clone()
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self.group)
        return values

    def reduce_scatter(self, gathered: Tensor) -> Tensor:
        """Sum rows over ranks and return those of this rank: the adjoint of `all_gather`."""
        if self.group is None:
            return gathered
        local = gathered.new_empty(len(gathered) // self.size, *gathered.shape[1:])
        dist.reduce_scatter_tensor(local, gathered, group=self.group)
        return local
