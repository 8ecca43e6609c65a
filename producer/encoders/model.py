"""The UniGeoCLIP model: one encoder per modality into one space."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn

from unigeo.producer.encoders.classes import ClassesEncoder
from unigeo.producer.encoders.coordinates import CoordinateEncoder
from unigeo.producer.encoders.fourier import FourierEncoder
from unigeo.producer.encoders.fusion import FusionMap
from unigeo.producer.encoders.geoclip import GeoclipEncoder
from unigeo.producer.encoders.images import ImageEncoder
from unigeo.producer.encoders.model_folders import (
    pretrained_folder,
)
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.number_heads import NumberHeads
from unigeo.producer.encoders.patch_transformer import PatchTransformer
from unigeo.producer.encoders.plain_numbers import NumberProjection
from unigeo.producer.encoders.satclip import SatclipEncoder
from unigeo.producer.encoders.surface import SurfaceEncoder
from unigeo.producer.encoders.text import TextEncoder
from unigeo.producer.encoders.tower_settings import (
    ClassesSettings,
    CoordinateSettings,
    ImageSettings,
    SurfaceSettings,
    TextSettings,
    TransformerSettings,
)
from unigeo.schemas.errors import ModelError

if TYPE_CHECKING:
    from unigeo.producer.encoders.embedder import Embedder

LARGEST_SCALE = 100.0
"""Largest inverse temperature, as in CLIP."""


class UniGeoCLIP(nn.Module):
    """Encoders of several modalities that map observations of one location to similar vectors.

    A fixed orthogonal rotation follows the encoders' projections. It keeps cosines, and spreads a
    vector's length over its dimensions, which int8 storage needs.

    Source: Astruc et al., arXiv 2604.11668.
    """

    rotation: Tensor
    fusion: FusionMap | None
    """Map to fused vectors; None where they are means."""
    heads: NumberHeads | None
    """Heads of plain numbers while the model is trained; they are not saved."""

    def __init__(self, settings: ModelSettings, *, pretrained: bool = True) -> None:
        """Build the encoders; the same settings give the same weights.

        Args:
            settings: sizes, seed, and checkpoints to start from.
            pretrained: read those checkpoints; not needed if weights are loaded afterwards.

        Raises:
            ModelError: if a checkpoint cannot be loaded or has another size.
        """
        super().__init__()
        self.settings = settings
        # A generator of its own: building a model does not change the caller's random numbers.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.encoders = nn.ModuleDict(
                {
                    name: _build_encoder(tower, settings.dimension, pretrained)
                    for name, tower in settings.towers.items()
                    if settings.tower_of(name) == name
                }
            )
        self.heads = None
        self.fusion = None
        if settings.fused:
            self.fusion = FusionMap(settings.fused_modalities, settings.dimension, settings.fused)
        start = math.log(1 / settings.temperature)
        count = [len(settings.pairs)] if settings.temperature_per_pair else []
        self.logit_scale = nn.Parameter(torch.full(count, start))
        self.register_buffer("rotation", torch.from_numpy(_rotation(settings)))

    @staticmethod
    def from_pretrained(
        name: str | Path,
        device: "str | torch.device | None" = None,
        *,
        revision: str | None = None,
    ) -> "Embedder":
        """Open a trained model with its tokenizer, to encode observations as users have them.

        Args:
            name: folder of a finished model; or the name of an installed field, such as `conus-1`,
                whose model it is; or `organization/model` of the Hugging Face hub, read from its
                cache, and downloaded if the cache lacks it. A folder that exists wins.
            device: device to encode on; CUDA if None and there is one, else the CPU.
            revision: branch, tag or commit of a model of the hub.

        Raises:
            ModelError: if there is no such model, or a file is missing, damaged, or of another
                version.
        """
        from unigeo.producer.encoders.embedder import Embedder

        return Embedder.open(pretrained_folder(name, revision), device)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have an encoder."""
        return self.settings.modalities

    def encode(
        self, modality: str, inputs: Shaped[Tensor, "point ..."]
    ) -> Float32[Tensor, "point dimension"]:
        """Encode observations of one modality as unit vectors.

        Args:
            modality: one of `modalities`.
            inputs: observations, by kind of encoder: coordinate: float64 degrees, longitude first;
                image: uint8 or float32 (point, channel, row, col); surface: float32 metres (point,
                view, row, col); classes: uint8 (point, view, row, col); text: int64 token ids
                (point, token).

        Raises:
            ModelError: if there is no such encoder, or it takes another shape.
        """
        return unit_vectors(self._encoder(modality, inputs)(inputs), self.rotation)

    def patch_tokens(
        self, modality: str, inputs: Shaped[Tensor, "point ..."]
    ) -> Float32[Tensor, "point row col width"]:
        """Return the last layer's token of each patch, as segmentation needs them.

        Args:
            modality: one of pixels; a row is a row of patches.
            inputs: as for `encode`.

        Raises:
            ModelError: if the modality has no patches or no encoder, or takes another shape.
        """
        encoder = self._encoder(modality, inputs)
        if not isinstance(encoder, ImageEncoder | PatchTransformer):
            raise ModelError(f"{modality} has no patches; ask for a modality of pixels.")
        return encoder.patch_tokens(inputs).float()

    def checkpoint_activations(self, on: bool = True) -> None:
        """Recompute transformer blocks in the backward pass, which takes time and saves memory.

        Gradients stay the same. Coordinate encoders made of a perceptron are not affected.
        """
        for encoder in self.encoders.values():
            if isinstance(encoder, _WITH_BLOCKS):
                encoder.checkpoint_activations(on)

    def _encoder(self, modality: str, inputs: Shaped[Tensor, "point ..."]) -> nn.Module:
        """Return the encoder of a modality, and check that it takes inputs of this shape."""
        if modality not in self.modalities:
            raise ModelError(
                f"the model has no encoder of {modality!r}; it has {', '.join(self.modalities)}."
            )
        check_shape(self.settings, modality, inputs)
        return self.encoders[self.settings.tower_of(modality)]

    def measure_numbers(self, samples: Mapping[str, Shaped[Tensor, "point ..."]]) -> None:
        """Measure the scale of the plain numbers of towers that add them to their vectors.

        Args:
            samples: observations of some locations, at least of the modalities with such towers.
        """
        for name in self.settings.pixel_modalities:
            numbers = self.encoders[name].numbers if name in self.encoders else None
            if isinstance(numbers, NumberProjection):
                numbers.measure(samples[name])

    def forward(
        self, inputs: Mapping[str, Shaped[Tensor, "point ..."]]
    ) -> dict[str, Float32[Tensor, "point dimension"]]:
        """Encode a batch of several modalities."""
        return {modality: self.encode(modality, values) for modality, values in inputs.items()}

    def scale(self) -> Float32[Tensor, "*pair"]:
        """Return the inverse temperature, one for all or one per pair of `settings.pairs`."""
        # Clamping the result instead would give the parameter no gradient beyond the limit.
        with torch.no_grad():
            self.logit_scale.clamp_(max=math.log(LARGEST_SCALE))
        return self.logit_scale.exp()


def check_shape(
    settings: ModelSettings, modality: str, inputs: Shaped[Tensor, "point ..."]
) -> None:
    """Check that the encoder of a modality takes inputs of this shape.

    Raises:
        ModelError: naming both shapes.
    """
    expected = settings.shape(modality)
    if tuple(inputs.shape[1:]) != expected:
        raise ModelError(
            f"the model takes {modality} of shape {expected}, got {tuple(inputs.shape[1:])}: "
            f"observe it with the patch size the model was trained on."
        )


def unit_vectors(
    vectors: Float[Tensor, "point dimension"], rotation: Float32[Tensor, "dimension dimension"]
) -> Float32[Tensor, "point dimension"]:
    """Rotate an encoder's vectors, and scale them to unit length."""
    # In float32 also when towers multiply in bfloat16.
    with torch.autocast(vectors.device.type, enabled=False):
        return nn.functional.normalize(vectors.float() @ rotation, dim=-1)


_WITH_BLOCKS = (CoordinateEncoder, ImageEncoder, PatchTransformer, TextEncoder)

COORDINATE_ENCODERS: dict[str, Callable[[CoordinateSettings, int], nn.Module]] = {
    "scales": CoordinateEncoder,
    "geoclip": GeoclipEncoder,
    "satclip": SatclipEncoder,
    "fourier": FourierEncoder,
}
"""Encoder classes by `CoordinateSettings.kind`."""


def _build_encoder(settings: TransformerSettings, dimension: int, pretrained: bool) -> nn.Module:
    match settings:
        case CoordinateSettings():
            return COORDINATE_ENCODERS[settings.kind](settings, dimension)
        case ImageSettings():
            return ImageEncoder(settings, dimension, pretrained=pretrained)
        case SurfaceSettings():
            return SurfaceEncoder(settings, dimension)
        case ClassesSettings():
            return ClassesEncoder(settings, dimension)
        case TextSettings():
            return TextEncoder(settings, dimension, pretrained=pretrained)
    raise AssertionError(settings)


def _rotation(settings: ModelSettings) -> Float32[np.ndarray, "dimension dimension"]:
    """Draw an orthogonal matrix from the seed: the Q factor of a Gaussian matrix."""
    size = (settings.dimension, settings.dimension)
    normal = np.random.default_rng(settings.seed).standard_normal(size)
    return np.linalg.qr(normal).Q.astype(np.float32)
