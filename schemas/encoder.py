"""The group `encoder` of a store: the coordinate encoder's weights, and what rebuilds it.

Its arrays are the encoder's weights by name, and `rotation`; its attribute `settings` says their
sizes. A vector is normalize(projection(norm(mean of the scales' tokens)) @ rotation).
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unigeo.schemas.errors import LayoutError

GROUP = "encoder"
ROTATION = "rotation"
"""Applied after the encoder, to the vectors of every modality alike."""


class EncoderSettings(BaseModel):
    """The settings that shape the coordinate encoder; an unknown one is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(gt=0, multiple_of=2)
    depth: int = Field(ge=0)
    heads: int = Field(gt=0)
    mlp_ratio: float = Field(gt=0)
    sigmas: tuple[float, ...] = Field(min_length=1)
    registers: int = Field(ge=0)
    scale_embedding: bool
    features: Literal["plane", "sphere"]
    dimension: int = Field(gt=0)
    """Numbers in a vector."""
    seed: int = 0
    """Drew the frequencies, which are stored."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "EncoderSettings":
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {self.width}")
        return self

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every array of the group, and its shape."""
        width, scales, hidden = self.width, len(self.sigmas), round(self.mlp_ratio * self.width)
        axes = 3 if self.features == "sphere" else 2
        shapes: dict[str, tuple[int, ...]] = {
            "frequencies": (scales, axes, width // 2),
            "registers": (self.registers, width),
            ROTATION: (self.dimension, self.dimension),
        }
        if self.scale_embedding:
            shapes["scale_embedding"] = (scales, width)
        layers: dict[str, tuple[int, ...]] = {"norm": (width,)}
        if width != self.dimension:
            layers["projection"] = (self.dimension, width)
        for block in (f"blocks.{number}" for number in range(self.depth)):
            layers |= {
                f"{block}.attention_norm": (width,),
                f"{block}.query_key_value": (3 * width, width),
                f"{block}.attention_out": (width, width),
                f"{block}.mlp_norm": (width,),
                f"{block}.mlp.0": (hidden, width),
                f"{block}.mlp.2": (width, hidden),
            }
        for layer, shape in layers.items():
            shapes |= {f"{layer}.weight": shape, f"{layer}.bias": shape[:1]}
        return shapes


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
