"""The group `encoder` of a store: the coordinate encoder's weights and its settings.

Its arrays are the encoder's weights by name, and `rotation`; its attribute `settings` determines
their shapes. A vector is normalize(encoder(degrees) @ rotation), where the default encoder is
projection(norm(mean of the scales' tokens)). A missing setting has its default, so that older
stores open. An empty weight (`registers`, where there are none) is not stored.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unigeo.schemas.errors import LayoutError

GROUP = "encoder"
FREQUENCIES = "frequencies"
"""Array of frequencies, float64, cycles per unit of the plane; absent where harmonics are used."""
ROTATION = "rotation"
"""Array of the rotation that is applied to the vectors of every modality after encoding."""


class EncoderSettings(BaseModel):
    """Settings that determine the coordinate encoder; unknown ones are refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["scales", "geoclip", "satclip", "fourier"] = "scales"
    """Architecture: attention over scales (`scales`); perceptrons on Fourier features, one per
    scale (`geoclip`) or one for all (`fourier`); or spherical harmonics and a perceptron of sines
    (`satclip`). Settings that a kind does not use are ignored."""
    width: int = Field(gt=0, multiple_of=2)
    """Numbers in a token, or Fourier features per scale."""
    depth: int = Field(ge=0)
    """Number of attention blocks, or of hidden layers of a perceptron."""
    heads: int = Field(gt=0)
    """Number of attention heads; divides the width."""
    mlp_ratio: float = Field(gt=0)
    """Width of hidden layers over `width`."""
    sigmas: tuple[float, ...] = Field(min_length=1)
    """Standard deviation of each scale's frequencies, cycles per unit of the plane."""
    registers: int = Field(ge=0)
    """Number of learned tokens beside the scales'."""
    scale_embedding: bool
    """Whether each scale's token has a learned vector added."""
    scale_layers: int = Field(default=0, ge=0)
    """Number of hidden layers of each scale's own perceptron; 0 means no perceptron."""
    readout: Literal["mean", "concat", "registers"] = "mean"
    """Tokens that the vector is read from after attention: the scales' or the registers."""
    features: Literal["plane", "sphere"]
    """Coordinates that the frequencies are applied to: two on the plane, or three on the sphere."""
    degree: int = Field(default=40, gt=0)
    """Number of degrees of the spherical harmonics, from 0."""
    w0: float = Field(default=30.0, gt=0)
    """Factor inside the first sine."""
    dimension: int = Field(gt=0)
    """Numbers in a vector."""
    seed: int = 0
    """Seed of the frequencies, which are stored."""
    learned_frequencies: bool = False
    """Whether training changed the frequencies."""
    dropout: float = 0.0
    """Dropout in training; it has no effect here."""

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
        """Numbers per vector before the projection that ends attention over scales."""
        return len(self.sigmas) * self.width if self.readout == "concat" else self.width

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every array of the group, by name."""
        scales, axes = len(self.sigmas), 3 if self.features == "sphere" else 2
        shapes: dict[str, tuple[int, ...]] = {ROTATION: (self.dimension, self.dimension)}
        if self.kind != "satclip":
            shapes[FREQUENCIES] = (scales, axes, self.width // 2)
        if self.kind == "scales":
            shapes["registers"] = (self.registers, self.width)
            if self.scale_embedding:
                shapes["scale_embedding"] = (scales, self.width)
        layers = self._attention() if self.kind == "scales" else self._perceptrons()
        for layer, shape in layers.items():  # a bias has the layer's outputs
            shapes |= {f"{layer}.weight": shape, f"{layer}.bias": shape[:1]}
        return shapes

    def _attention(self) -> dict[str, tuple[int, ...]]:
        """Return the layers of `scales`: (output, input), or the width of a norm."""
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
        """Return the layers of the other kinds, perceptron by perceptron."""
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
    """Return the layers of one perceptron: (output, input)."""
    layers: dict[str, tuple[int, ...]] = {
        f"{net}.hidden.{layer}": (after, before)
        for layer, (before, after) in enumerate(pairwise(sizes))
    }
    return layers | {f"{net}.head": (outputs, sizes[-1])}


def weight_dimensions(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Name a weight's dimensions by their lengths, as a name has one length in the whole store.

    >>> weight_dimensions((256, 768))
    ('axis0_256', 'axis1_768')
    """
    return tuple(f"axis{axis}_{length}" for axis, length in enumerate(shape))


def read_settings(values: Mapping[str, Any], url: str) -> EncoderSettings:
    """Validate the group's `settings`.

    Raises:
        LayoutError: naming the settings that this version cannot evaluate.
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
