"""Ready model settings: `tiny` trains on a laptop in minutes, `small` on one consumer GPU.

`base` is the paper's model.
"""

from collections.abc import Callable
from typing import Any

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.pretrained import fit_to_checkpoint, takes_checkpoint
from unigeo.producer.encoders.tower_settings import (
    ClassesSettings,
    CoordinateSettings,
    ImageSettings,
    SurfaceSettings,
    TextSettings,
    TransformerSettings,
)
from unigeo.producer.observations.forms import COORDINATE, Form, Forms, default_forms
from unigeo.schemas.errors import ModelError

SIGLIP = "google/siglip2-base-patch16-224"
"""Checkpoint that the paper's vision and text towers start from."""
PAPER_FORMS = default_forms(
    {"aerial": (3, 224, 224), "street": (3, 224, 224), "dsm": (1, 224, 224)}
)
"""Forms of the paper's observations."""


def tiny(forms: Forms, *, seed: int = 0) -> ModelSettings:
    """Fit small towers to the observations, and a coordinate encoder.

    The coordinate encoder has a perceptron per scale, one block of attention, and a concatenating
    readout; the ablations of docs/results.md say why. At its finest scale, 64, a token's cosine
    falls to half within 50 km.
    """
    size: dict[str, Any] = {"width": 128, "depth": 1, "heads": 4, "mlp_ratio": 2}

    def tower(form: Form) -> TransformerSettings:
        if form.encoder == "text":
            return TextSettings(**size, tokens=40, vocabulary=512)
        return _pixel_tower(form, size | {"patch": 8}, registers=1)

    coordinate = _coordinate(7, {"width": 256, "depth": 1, "heads": 4}, seed)
    return _model(128, coordinate, forms, tower, seed)


def small(forms: Forms, *, seed: int = 0) -> ModelSettings:
    """Fit middle-sized towers to the observations: 37 M parameters for five modalities.

    Image and surface towers have six blocks of width 384 and the text tower four, with hidden
    layers of twice the width, so that five towers stay below 40 M; no tower starts from a
    checkpoint. Patches are 16 pixels wide for images of at least 128 pixels, else 8, which gives
    between 4 and 256 tokens. The coordinate encoder is that of `tiny` with two finer scales: a
    token's cosine falls to half within 12.6 km.
    """
    size: dict[str, Any] = {"width": 384, "depth": 6, "heads": 6, "mlp_ratio": 2.0}

    def tower(form: Form) -> TransformerSettings:
        if form.encoder == "text":
            return TextSettings(**size | {"depth": 4}, tokens=64, vocabulary=4096)
        patch = 16 if min(form.shape[1:]) >= 128 else 8
        return _pixel_tower(form, size | {"patch": patch})

    coordinate = _coordinate(9, {"width": 384, "depth": 2, "heads": 6}, seed)
    return _model(384, coordinate, forms, tower, seed)


def base(
    forms: Forms = PAPER_FORMS, *, pretrained: str | None = SIGLIP, seed: int = 0
) -> ModelSettings:
    """Build the paper's model: SigLIP-2 Base, a ViT-B/16 with registers, 12 coordinate blocks.

    Args:
        forms: forms of the observations. Images are resized to 224 x 224; those of other than one
            or three bands of bytes, which no checkpoint takes, start from random weights.
        pretrained: folder or hub name of a SigLIP checkpoint, whose sizes are read from it; None
            for random weights, in the paper's sizes.
        seed: seed of the weights that no checkpoint gives, and of the frequencies.

    Raises:
        ModelError: if the configuration of another checkpoint than the paper's cannot be read.

    Source: Astruc et al., UniGeoCLIP, arXiv 2604.11668; sizes it leaves open are ViT-B/16's.
    """
    size: dict[str, Any] = {"width": 768, "depth": 12, "heads": 12}

    def tower(form: Form) -> TransformerSettings:
        if form.encoder == "text":
            return TextSettings(**size, tokens=64, vocabulary=256_000, pretrained=pretrained)
        if form.encoder != "image":
            return _pixel_tower(form, size | {"patch": 16}, channels=("relative",))
        image = _image(form, size | {"patch": 16, "resize": 224})
        if pretrained is None or not takes_checkpoint(image):
            return image
        return _image(form, size | {"patch": 16, "resize": 224, "pretrained": pretrained})

    settings = _model(768, CoordinateSettings(**size, seed=seed), forms, tower, seed)
    known = pretrained is None or pretrained == SIGLIP
    return settings if known else fit_to_checkpoint(settings, str(pretrained))


def _coordinate(scales: int, size: dict[str, Any], seed: int) -> CoordinateSettings:
    """Return the settings of a coordinate encoder with a perceptron per scale.

    Args:
        scales: number of scales; each is twice as fine as the one before, the first is 1.
        size: width, depth and heads.
        seed: seed of the frequencies.
    """
    return CoordinateSettings(
        **size,
        mlp_ratio=1,
        registers=0,
        scale_layers=2,
        readout="concat",
        sigmas=tuple(2.0**scale for scale in range(scales)),
        seed=seed,
    )


def _model(
    dimension: int,
    coordinate: CoordinateSettings,
    forms: Forms,
    tower: Callable[[Form], TransformerSettings],
    seed: int,
) -> ModelSettings:
    """Return the settings of a model: the coordinate encoder, and a tower for each other form.

    Raises:
        ModelError: naming the modality whose observations do not fit the preset.
    """
    towers: dict[str, TransformerSettings] = {COORDINATE: coordinate}
    for name, form in forms.items():
        if name == COORDINATE:
            continue
        try:
            towers[name] = tower(form)
        except ModelError as error:
            raise ModelError(f"the preset has no tower for {name}: {error}") from error
    return ModelSettings(dimension=dimension, towers=towers, seed=seed)


def _pixel_tower(
    form: Form,
    size: dict[str, Any],
    *,
    registers: int = 4,
    channels: tuple[Any, ...] = ("relative", "level"),
) -> TransformerSettings:
    """Return the settings of a tower of images, surfaces or classes.

    Args:
        form: form of the observations.
        size: size of the transformer, and the side of its tokens.
        registers: number of registers of a tower that is not of images.
        channels: channels of a surface.
    """
    if form.encoder == "image":
        return _image(form, size)
    _, rows, cols = form.shape
    pixels: dict[str, Any] = size | {"rows": rows, "cols": cols, "sides_m": form.sides_m}
    pixels |= {"views": form.views, "registers": registers}
    if form.encoder == "surface":
        return SurfaceSettings(**pixels, channels=channels)
    return ClassesSettings(**pixels, classes=form.classes)


def _image(form: Form, size: dict[str, Any]) -> ImageSettings:
    """Return the settings of an image tower, which measures pixels that are no colours."""
    channels, rows, cols = form.shape
    return ImageSettings(
        **size,
        rows=rows,
        cols=cols,
        sides_m=form.sides_m,
        channels=channels,
        dtype=form.dtype,
        measure_pixels=not form.is_colour,
    )
