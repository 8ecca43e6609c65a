"""The form of a modality's observations: which encoder takes them, their shape and their numbers.

A modality is a name and an encoder. The paper's five have a default encoder; any other states one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

EncoderKind = Literal["coordinate", "image", "surface", "classes", "text"]

ENCODER_KINDS: tuple[EncoderKind, ...] = get_args(EncoderKind)
"""`coordinate`: longitude and latitude; `image`: bands of pixels; `surface`: heights in metres;
`classes`: pixels of a categorical raster; `text`: sentences."""
PIXEL_ENCODERS = frozenset({"image", "surface", "classes"})
"""Encoders whose observations are patches of pixels."""
COORDINATE = "coordinate"
"""The modality of the location itself, which every observation has."""
DEFAULT_ENCODERS: Mapping[str, EncoderKind] = {
    COORDINATE: "coordinate",
    "aerial": "image",
    "street": "image",
    "dsm": "surface",
    "text": "text",
}
"""Encoders of the paper's modalities, in the order of tables and of pairs."""
COVERING = (COORDINATE, "aerial", "dsm")
"""The paper's modalities that exist everywhere on land."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """Encoder of a modality, and what its observations look like."""

    encoder: EncoderKind
    shape: tuple[int, int, int] = (0, 0, 0)
    """Channels, rows and columns of a patch; the views of a location follow each other along the
    channels."""
    views: int = 1
    """Number of patches of different size on the ground that an observation holds."""
    dtype: Literal["uint8", "float32"] = "uint8"
    """Type of an image's pixels; a surface is float32, and classes are uint8."""
    classes: tuple[str, ...] = ()
    """Names of the classes of a categorical raster, which are counted from 1; 0 is no data."""
    sides_m: tuple[float, ...] = ()
    """Side of each view on the ground in metres; empty where it is not known."""

    @property
    def has_pixels(self) -> bool:
        """Whether an observation is a patch of pixels."""
        return self.encoder in PIXEL_ENCODERS

    @property
    def is_colour(self) -> bool:
        """Whether an image is three bands of bytes, such as red, green and blue."""
        return self.dtype == "uint8" and self.shape[0] == 3 * self.views

    @property
    def pixel_type(self) -> type[np.generic]:
        """Type of the pixels."""
        is_byte = self.encoder != "surface" and self.dtype == "uint8"
        return np.uint8 if is_byte else np.float32


Forms = Mapping[str, Form]
"""Form of each modality, by name."""


def default_form(modality: str, shape: tuple[int, int, int] | None = None) -> Form:
    """Return the form of one of the paper's modalities.

    Args:
        modality: name of the modality.
        shape: channels, rows and columns of a patch; None for a modality without pixels.
    """
    encoder = DEFAULT_ENCODERS[modality]
    if shape is None:
        return Form(encoder=encoder)
    return Form(encoder=encoder, shape=shape, views=shape[0] if encoder == "surface" else 1)


def default_forms(shapes: Mapping[str, tuple[int, int, int]], *, text: bool = True) -> Forms:
    """Return the forms of the paper's modalities of pixels by their shapes, and of text.

    >>> list(default_forms({"aerial": (3, 32, 32)}))
    ['aerial', 'text']
    """
    forms = {modality: default_form(modality, shape) for modality, shape in shapes.items()}
    return forms | ({"text": default_form("text")} if text else {})


def in_order(modalities: Iterable[str]) -> tuple[str, ...]:
    """Return modalities in the order of tables and of pairs: the paper's, then the others.

    >>> in_order(["nightlights", "dsm", "coordinate"])
    ('coordinate', 'dsm', 'nightlights')
    """
    names = list(modalities)
    known = [name for name in DEFAULT_ENCODERS if name in names]
    return (*known, *(name for name in names if name not in DEFAULT_ENCODERS))
