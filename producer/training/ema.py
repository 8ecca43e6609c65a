"""Exponential mean of the weights over the steps: smoother than the last weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MeanWeights:
    """The mean of a model's weights, the last steps counting most."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the weights as they are; a decay of 0 keeps no mean."""
        self.decay = decay
        learned = [] if decay == 0 else model.named_parameters()
        self.means = {name: w.detach().clone() for name, w in learned if w.requires_grad}
        self._weights = dict(model.named_parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step; early steps weigh less, as they are soon outdated.

        The decay rises as (1 + step) / (10 + step), up to its setting (TensorFlow's rule).
        """
        if self.means:
            decay = min(self.decay, (1 + step) / (10 + step))
            now: list[Tensor] = [self._weights[name] for name in self.means]
            torch._foreach_lerp_([*self.means.values()], now, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the means into the model for a while."""
        kept = {name: self._weights[name].detach().clone() for name in self.means}
        self.put(self.means)
        try:
            yield
        finally:
            self.put(kept)

    @torch.no_grad()
    def put(self, values: dict[str, Tensor]) -> None:
        """Write values into the model's weights."""
        for name, value in values.items():
            self._weights[name].copy_(value)
