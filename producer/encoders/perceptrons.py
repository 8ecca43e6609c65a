"""The multilayer perceptron of the coordinate encoders."""

from collections.abc import Callable
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn


class Perceptron(nn.Module):
    """Hidden layers, each with an activation, then a linear head."""

    def __init__(
        self,
        inputs: int,
        hidden: int,
        depth: int,
        outputs: int,
        *,
        activation: Callable[[Tensor], Tensor] = nn.functional.relu,
        factor: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        """Build the layers; `factor` multiplies the input of the first activation."""
        super().__init__()
        sizes = [inputs, *[hidden] * depth]
        self.activation, self.factor = activation, factor
        self.hidden = nn.ModuleList([nn.Linear(size, after) for size, after in pairwise(sizes)])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(sizes[-1], outputs)

    @property
    def linears(self) -> list[nn.Linear]:
        """Hidden layers, then the head."""
        return [layer for layer in self.modules() if isinstance(layer, nn.Linear)]

    def forward(self, values: Float[Tensor, "point input"]) -> Float[Tensor, "point output"]:
        """Apply the layers."""
        for number, layer in enumerate(self.hidden):
            angles = layer(values) if number or self.factor == 1 else self.factor * layer(values)
            values = self.dropout(self.activation(angles))
        outputs: Tensor = self.head(values)
        return outputs
