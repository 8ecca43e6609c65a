"""The group `encoder` of a store: the coordinate encoder's weights, and what rebuilds it.

Its arrays are the encoder's weights by name, and `rotation`; its attribute `settings` says their
sizes. A vector is normalize(encoder(degrees) @ rotation); the default encoder is projection(norm(
mean of the scales' tokens)). A setting that is missing has its default, so older stores open. A
weight without numbers (`registers`, where there are none) is not stored.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unigeo.schemas.errors import LayoutError

GROUP = "encoder"
FREQUENCIES = "frequencies"
"""In float64, cycles per unit of the plane; absent where harmonics take their place."""
ROTATION = "rotation"
"""Applied after the encoder, to the vectors of every modality alike."""


class EncoderSettings(BaseModel):
    """The settings that shape the coordinate encoder; an unknown one is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["scales", "geoclip", "satclip", "fourier"] = "scales"
    """Attention over scales; perceptrons on Fourier features, one per scale or one for all; or
    spherical harmonics and a perceptron of sines. Fields that a kind has no use for are ignored."""
    width: int = Field(gt=0, multiple_of=2)
    depth: int = Field(ge=0)
    heads: int = Field(gt=0)
    mlp_ratio: float = Field(gt=0)
    sigmas: tuple[float, ...] = Field(min_length=1)
    registers: int = Field(ge=0)
    scale_embedding: bool
    scale_layers: int = Field(default=0, ge=0)
    """Hidden layers of a perceptron of its own that each scale's features pass first."""
    readout: Literal["mean", "concat", "registers"] = "mean"
    """What the vector is read from after attention: the scales' tokens, or the registers."""
    features: Literal["plane", "sphere"]
    degree: int = Field(default=40, gt=0)
    """Spherical harmonics stay below it."""
    w0: float = Field(default=30.0, gt=0)
    """Factor before the first sine."""
    dimension: int = Field(gt=0)
    """Numbers in a vector."""
    seed: int = 0
    """Drew the frequencies, which are stored."""
    learned_frequencies: bool = False
    """Whether training then moved them."""
    dropout: float = 0.0
    """Of training alone."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> "EncoderSettings":
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {self.width}")
        if self.readout == "registers" and self.registers == 0:
            raise ValueError("there are no registers to read")
        return self

    @property
    def hidden(self) -> int:
        """Numbers in a hidden layer."""
        return round(self.mlp_ratio * self.width)

    @property
    def read(self) -> int:
        """Numbers that attention over scales hands to the projection."""
        return len(self.sigmas) * self.width if self.readout == "concat" else self.width

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every array of the group, and its shape."""
        scales, axes = len(self.sigmas), 3 if self.features == "sphere" else 2
        shapes: dict[str, tuple[int, ...]] = {ROTATION: (self.dimension, self.dimension)}
        if self.kind != "satclip":
            shapes[FREQUENCIES] = (scales, axes, self.width // 2)
        if self.kind == "scales":
            shapes["registers"] = (self.registers, self.width)
            if self.scale_embedding:
                shapes["scale_embedding"] = (scales, self.width)
        layers = self._attention() if self.kind == "scales" else self._perceptrons()
        for layer, shape in layers.items():
            shapes |= {f"{layer}.weight": shape, f"{layer}.bias": shape[:1]}
        return shapes

    def _attention(self) -> dict[str, tuple[int, ...]]:
        """Layers of `scales`: (output, input), or the width of a norm."""
        width, hidden = self.width, self.hidden
        layers: dict[str, tuple[int, ...]] = {"norm": (width,)}
        if self.read != self.dimension:
            layers["projection"] = (self.dimension, self.read)
        if self.scale_layers:
            for number in range(len(self.sigmas)):
                layers |= _perceptron(
                    f"scale_perceptrons.{number}", [width, *[hidden] * self.scale_layers], width
                )
        for block in (f"blocks.{number}" for number in range(self.depth)):
            layers |= {
                f"{block}.attention_norm": (width,),
                f"{block}.query_key_value": (3 * width, width),
                f"{block}.attention_out": (width, width),
                f"{block}.mlp_norm": (width,),
                f"{block}.mlp.0": (hidden, width),
                f"{block}.mlp.2": (width, hidden),
            }
        return layers

    def _perceptrons(self) -> dict[str, tuple[int, ...]]:
        """Layers of the other kinds, one perceptron after the other."""
        scales = len(self.sigmas)
        count = scales if self.kind == "geoclip" else 1
        inputs = {
            "geoclip": self.width,
            "fourier": scales * self.width,
            "satclip": self.degree**2,
        }[self.kind]
        sizes = [inputs, *[self.hidden] * self.depth]
        layers: dict[str, tuple[int, ...]] = {}
        for number in range(count):
            layers |= _perceptron(f"perceptrons.{number}", sizes, self.dimension)
        return layers


def _perceptron(net: str, sizes: list[int], outputs: int) -> dict[str, tuple[int, ...]]:
    """Layers of one perceptron: (output, input)."""
    layers: dict[str, tuple[int, ...]] = {
        f"{net}.hidden.{layer}": (after, before)
        for layer, (before, after) in enumerate(pairwise(sizes))
    }
    return layers | {f"{net}.head": (outputs, sizes[-1])}


def weight_dimensions(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of a weight's dimensions: a name has one length in the whole store.

    >>> weight_dimensions((256, 768))
    ('axis0_256', 'axis1_768')
    """
    return tuple(f"axis{axis}_{length}" for axis, length in enumerate(shape))


def read_settings(values: Mapping[str, Any], url: str) -> EncoderSettings:
    """Read the group's `settings`.

    Raises:
        LayoutError: naming what this version cannot evaluate.
    """
    try:
        return EncoderSettings.model_validate(dict(values))
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()
        )
        raise LayoutError(
            f"the coordinate encoder of {url} is of a kind that this unigeo cannot evaluate "
            f"({wrong}). Upgrade unigeo, or sample the stored vectors."
        ) from error
