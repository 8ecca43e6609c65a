"""Exponential moving average of the weights over the steps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MeanWeights:
    """Exponential moving average of a model's weights."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the current weights; a decay of 0 keeps no mean."""
        self.decay = decay
        learned = [] if decay == 0 else model.named_parameters()
        self.means = {name: w.detach().clone() for name, w in learned if w.requires_grad}
        self._weights = dict(model.named_parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Average in the weights after a step.

        The decay rises as (1 + step) / (10 + step), up to its setting (TensorFlow's rule), so that
        the first weights, which are soon outdated, are forgotten sooner.
        """
        if self.means:
            decay = min(self.decay, (1 + step) / (10 + step))
            current: list[Tensor] = [self._weights[name] for name in self.means]
            torch._foreach_lerp_([*self.means.values()], current, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Copy the means into the model, and restore the weights at the end."""
        saved = {name: self._weights[name].detach().clone() for name in self.means}
        self.copy_to_model(self.means)
        try:
            yield
        finally:
            self.copy_to_model(saved)

    @torch.no_grad()
    def copy_to_model(self, values: dict[str, Tensor]) -> None:
        """Copy values into the model's weights."""
        for name, value in values.items():
            self._weights[name].copy_(value)
