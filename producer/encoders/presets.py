"""Ready model settings: `tiny` trains on a laptop in minutes, `small` on one consumer GPU.

`base` is the paper's model.
"""

from collections.abc import Mapping
from typing import Any

from unigeo.producer.encoders.model_settings import (
    CoordinateSettings,
    ImageSettings,
    ModelSettings,
    SurfaceSettings,
    TextSettings,
)
from unigeo.producer.encoders.pretrained import fit_to_checkpoint

SIGLIP = "google/siglip2-base-patch16-224"
"""Checkpoint that the paper's vision and text towers start from."""

Shapes = Mapping[str, tuple[int, int, int]]
"""Channels, rows and columns of each modality of pixels, as the observations have them."""


def tiny(shapes: Shapes, *, text: bool = True, seed: int = 0) -> ModelSettings:
    """Fit small towers to the observations; a modality of pixels without a shape is left out.

    The coordinate encoder has a perceptron per scale, one block of attention, and a concatenating
    readout; the ablations of docs/results.md say why. At its finest scale, 64, a token's cosine
    falls to half within 50 km.
    """

    def image(modality: str) -> ImageSettings | None:
        if modality not in shapes:
            return None
        channels, rows, cols = shapes[modality]
        return ImageSettings(
            rows=rows,
            cols=cols,
            channels=channels,
            patch=8,
            width=128,
            depth=1,
            heads=4,
            mlp_ratio=2,
        )

    def surface() -> SurfaceSettings | None:
        if "dsm" not in shapes:
            return None
        views, rows, cols = shapes["dsm"]
        return SurfaceSettings(
            views=views,
            rows=rows,
            cols=cols,
            patch=8,
            width=128,
            depth=1,
            heads=4,
            mlp_ratio=2,
            registers=1,
            channels=("relative", "level"),
        )

    return ModelSettings(
        dimension=128,
        coordinate=CoordinateSettings(
            width=256,
            depth=1,
            heads=4,
            mlp_ratio=1,
            registers=0,
            scale_layers=2,
            readout="concat",
            sigmas=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0),
            seed=seed,
        ),
        aerial=image("aerial"),
        street=image("street"),
        dsm=surface(),
        text=TextSettings(width=128, depth=1, heads=4, mlp_ratio=2, tokens=40, vocabulary=512)
        if text
        else None,
        seed=seed,
    )


def small(shapes: Shapes, *, text: bool = True, seed: int = 0) -> ModelSettings:
    """Fit middle-sized towers to the observations: 37 M parameters for five modalities.

    Image and surface towers have six blocks of width 384 and the text tower four, with hidden
    layers of twice the width, so that five towers stay below 40 M; no tower starts from a
    checkpoint. Patches are 16 pixels wide for images of at least 128 pixels, else 8, which gives
    between 4 and 256 tokens. The coordinate encoder is that of `tiny` with two finer scales: a
    token's cosine falls to half within 12.6 km.
    """
    size: dict[str, Any] = {"width": 384, "depth": 6, "heads": 6, "mlp_ratio": 2.0}

    def pixels(modality: str) -> dict[str, Any]:
        _, rows, cols = shapes[modality]
        return {"rows": rows, "cols": cols, "patch": 16 if min(rows, cols) >= 128 else 8}

    def image(modality: str) -> ImageSettings | None:
        if modality not in shapes:
            return None
        return ImageSettings(**size, **pixels(modality), channels=shapes[modality][0])

    def surface() -> SurfaceSettings | None:
        if "dsm" not in shapes:
            return None
        views = shapes["dsm"][0]
        return SurfaceSettings(**size, **pixels("dsm"), views=views, channels=("relative", "level"))

    return ModelSettings(
        dimension=384,
        coordinate=CoordinateSettings(
            width=384,
            depth=2,
            heads=6,
            mlp_ratio=1,
            registers=0,
            scale_layers=2,
            readout="concat",
            sigmas=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0),
            seed=seed,
        ),
        aerial=image("aerial"),
        street=image("street"),
        dsm=surface(),
        text=TextSettings(**size | {"depth": 4}, tokens=64, vocabulary=4096) if text else None,
        seed=seed,
    )


def base(
    shapes: Shapes | None = None,
    *,
    text: bool = True,
    pretrained: str | None = SIGLIP,
    seed: int = 0,
) -> ModelSettings:
    """Build the paper's model: SigLIP-2 Base, a ViT-B/16 with registers, 12 coordinate blocks.

    Args:
        shapes: shapes of the observations; None for the paper's 224 x 224. Images are resized.
        text: whether to add a text tower.
        pretrained: folder or hub name of a SigLIP checkpoint, whose sizes are read from it; None
            for random weights, in the paper's sizes.
        seed: seed of the weights that no checkpoint gives, and of the frequencies.

    Raises:
        ModelError: if the configuration of another checkpoint than the paper's cannot be read.

    Source: Astruc et al., UniGeoCLIP, arXiv 2604.11668; sizes it leaves open are ViT-B/16's.
    """
    if shapes is None:
        shapes = {"aerial": (3, 224, 224), "street": (3, 224, 224), "dsm": (1, 224, 224)}

    def image(modality: str) -> ImageSettings | None:
        if modality not in shapes:
            return None
        channels, rows, cols = shapes[modality]
        return ImageSettings(
            rows=rows,
            cols=cols,
            channels=channels,
            resize=224,
            patch=16,
            width=768,
            depth=12,
            heads=12,
            pretrained=pretrained,
        )

    def surface() -> SurfaceSettings | None:
        if "dsm" not in shapes:
            return None
        _, rows, cols = shapes["dsm"]
        return SurfaceSettings(rows=rows, cols=cols, patch=16, width=768, depth=12, heads=12)

    settings = ModelSettings(
        dimension=768,
        coordinate=CoordinateSettings(width=768, depth=12, heads=12, seed=seed),
        aerial=image("aerial"),
        street=image("street"),
        dsm=surface(),
        text=TextSettings(
            width=768,
            depth=12,
            heads=12,
            tokens=64,
            vocabulary=256_000,
            pretrained=pretrained,
        )
        if text
        else None,
        seed=seed,
    )
    known = pretrained is None or pretrained == SIGLIP
    return settings if known else fit_to_checkpoint(settings, str(pretrained))
