"""Settings of the towers: one class per kind of encoder, checked when built."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from unigeo.producer.observations.forms import EncoderKind
from unigeo.schemas.errors import ModelError

LATER = {"later": True}
"""Metadata of a setting that earlier versions lack: it is written where it is not the default, so
that settings of before stay the same text."""


@dataclass(frozen=True, kw_only=True)
class TransformerSettings:
    """Size of one tower's transformer."""

    width: int
    """Dimension of a token."""
    depth: int
    """Number of blocks."""
    heads: int
    """Number of attention heads; it must divide the width."""
    mlp_ratio: float = 4.0
    """Width of a block's hidden layer, as a multiple of the token's width."""

    def __post_init__(self) -> None:
        check(self, self.width > 0, "width must be positive")
        check(self, self.depth >= 0, "depth must not be negative")
        check(self, self.heads > 0 and self.width % self.heads == 0, "heads must divide width")
        check(self, self.mlp_ratio > 0, "mlp_ratio must be positive")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Any:
        """Build from the result of `dataclasses.asdict`; unknown keys are refused."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ModelError(
                f"{cls.__name__} has no setting {', '.join(unknown)}; the model was written by "
                f"another version of unigeo. Read it with that version, or train again."
            )
        try:
            known: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value  # JSON has no tuples
                for key, value in values.items()
            }
            return cls(**known)
        except TypeError as error:
            raise ModelError(
                f"{cls.__name__} cannot be built from {dict(values)}: {error}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class CoordinateSettings(TransformerSettings):
    """Settings of the coordinate encoder: the paper's attention over scales, or another method's.

    A kind ignores the settings that it does not have, so that kinds can be compared by changing
    `kind` alone. In the kinds made of perceptrons, `depth` counts hidden layers, each of
    `mlp_ratio` times `width` units.
    """

    kind: Literal["scales", "geoclip", "satclip", "fourier"] = "scales"
    """Kind of encoder. `scales`: one token of Fourier features per scale, joined by attention
    (UniGeoCLIP's). `geoclip`: one perceptron per scale, summed. `satclip`: spherical harmonics and
    a perceptron of sines. `fourier`: the features of all scales concatenated, and one
    perceptron."""
    sigmas: tuple[float, ...] = (1.0, 16.0, 256.0, 4096.0)
    """Standard deviation of the frequencies of each scale, in cycles per unit of the encoder's
    plane (17,243,960 m): a token's cosine falls to 0.5 at 3,231 km / sigma."""
    learned_frequencies: bool = False
    """Whether to train the frequencies, in float64. A step moves each by at most about a learning
    rate (in cycles per unit), so that fine scales stay nearly as drawn. False: they stay as drawn
    (the paper's)."""
    registers: int = 4
    """Number of learned tokens that take part in attention and are left out of the mean."""
    scale_embedding: bool = True
    """Whether to add a learned vector to each scale's token; without it the encoder cannot tell the
    scales apart."""
    scale_layers: int = 0
    """Number of hidden layers, each of `mlp_ratio` times `width` units, of each scale's own
    perceptron before attention; 0: the features are the tokens (the paper's)."""
    readout: Literal["mean", "concat", "registers"] = "mean"
    """Vector after attention: the mean of the scales' tokens (the paper's), their concatenation, or
    the mean of the registers; projected to the model's dimension."""
    dropout: float = 0.0
    """Dropout probability of a block's residual branches, or of a hidden layer."""
    features: Literal["plane", "sphere"] = "plane"
    """Coordinates of the Fourier features: Equal Earth (the paper's; a seam at the dateline) or the
    sphere."""
    degree: int = 40
    """Degree below which `satclip` uses all spherical harmonics, degree squared in number; the
    finest has a wavelength of about 40,000 km / degree."""
    w0: float = 30.0
    """Factor before the first layer's sine in `satclip`."""
    seed: int = 0
    """Seed of the frequencies, which are then saved with the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kind", "features", "readout"):
            _check_choice(self, name)
        check(self, self.width % 2 == 0, "width must be even: half cosines, half sines")
        check(self, len(self.sigmas) > 0, "sigmas must name at least one scale")
        check(self, all(sigma > 0 for sigma in self.sigmas), "sigmas must be positive")
        check(self, self.registers >= 0, "registers must not be negative")
        readable = self.readout != "registers" or self.registers > 0
        check(self, readable, "readout 'registers' needs at least one register")
        check(self, self.scale_layers >= 0, "scale_layers must not be negative")
        check(self, 0 <= self.dropout < 1, "dropout must be at least 0 and below 1")
        check(self, self.degree > 0, "degree must be positive")
        check(self, self.w0 > 0, "w0 must be positive")

    @property
    def hidden(self) -> int:
        """Width of a hidden layer."""
        return round(self.mlp_ratio * self.width)


@dataclass(frozen=True, kw_only=True)
class PatchSettings(TransformerSettings):
    """Settings that image and surface towers share: an array of pixels, cut into patches."""

    rows: int
    """Number of rows of pixels in an observation."""
    cols: int
    """Number of columns of pixels in an observation."""
    patch: int
    """Side of the square that becomes one token, in pixels."""
    sides_m: tuple[float, ...] = field(default=(), metadata=LATER)
    """Side of each view of a patch on the ground in metres, as in training; empty: unknown."""
    numbers: bool = field(default=False, metadata=LATER)
    """Whether a linear map of plain numbers of the pixels (means, deviations, shares of classes) is
    added to the transformer's vector, so that probes can read them from it."""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of pixels that the transformer sees."""
        return self.rows, self.cols

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    @property
    def cuts_edges(self) -> bool:
        """Whether pixels beyond the last full patch are left out rather than refused."""
        return False

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, min(self.rows, self.cols, self.patch) > 0, "sizes must be positive")
        covered = self.size[0] // self.patch * self.patch, self.size[1] // self.patch * self.patch
        fits = covered == self.size or (self.cuts_edges and min(covered) > 0)
        check(self, fits, f"patch {self.patch} must divide the {self.size} pixels seen")


_PIXEL_FIELDS = ("rows", "cols", "sides_m", "pixel_mean", "pixel_std", "measure_pixels")


@dataclass(frozen=True, kw_only=True)
class ImageSettings(PatchSettings):
    """Settings of SigLIP's vision tower, for images of any number of bands."""

    channels: int = 3
    """Number of bands of an image, all views together; a pretrained tower repeats a single one."""
    dtype: Literal["uint8", "float32"] = field(default="uint8", metadata=LATER)
    """Type of the pixels: bytes, or numbers of any unit, which need `pixel_mean`."""
    pixel_mean: tuple[float, ...] = ()
    """Mean of each band, in its unit; empty: SigLIP's own scale of bytes, -1 to 1. A pretrained
    tower keeps its own scale, a tied one has that of the modality whose tower it is."""
    pixel_std: tuple[float, ...] = ()
    """Standard deviation of each band, likewise."""
    measure_pixels: bool = False
    """Whether to measure mean and standard deviation on the observations when a run is planned, if
    they are empty and the tower has no checkpoint. Presets do so for all images but those of three
    bands of bytes."""
    resize: int | None = None
    """Side of the square that images are resized to, as by SigLIP's own processor; None keeps their
    size, square or not."""
    pretrained: str | None = None
    """Folder or hub name of the checkpoint to start from; its sizes must be the ones given here, so
    that a trained model can be rebuilt without it."""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of pixels that the transformer sees."""
        return (self.rows, self.cols) if self.resize is None else (self.resize, self.resize)

    @property
    def cuts_edges(self) -> bool:
        """Whether pixels beyond the last full patch are left out, as SigLIP does for 384 / 14."""
        return self.pretrained is not None

    def same_tower(self, other: "ImageSettings") -> bool:
        """Return whether both can share weights; raw pixel sizes and scales may differ."""
        own_pixels = {name: getattr(self, name) for name in _PIXEL_FIELDS}
        return self.size == other.size and self == replace(other, **own_pixels)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, self.channels > 0, "channels must be positive")
        counts = {len(self.pixel_mean), len(self.pixel_std)}
        known = counts in ({0}, {self.channels})
        _check_choice(self, "dtype")
        check(self, known, "pixel_mean and pixel_std must have a number for each channel, or none")
        check(self, all(std > 0 for std in self.pixel_std), "pixel_std must be positive")
        scaled = self.dtype == "uint8" or bool(self.pixel_mean) or self.measure_pixels
        check(self, scaled, "numbers that are no bytes need pixel_mean, or measure_pixels")
        if self.pretrained is not None:
            check(self, self.channels in (1, 3), "a pretrained tower takes 1 or 3 channels")
            check(self, self.dtype == "uint8", "a pretrained tower takes bytes")
            check(self, self.size[0] == self.size[1], "a pretrained tower is square: set resize")


@dataclass(frozen=True, kw_only=True)
class SurfaceSettings(PatchSettings):
    """Settings of the vision transformer with registers for surface models in metres."""

    views: int = 1
    """Number of surfaces of a location: one per size of its patches."""
    registers: int = 4
    """Number of learned tokens beside the class token."""
    channels: tuple[Literal["relative", "level"], ...] = ("relative",)
    """Input channels: heights above the patch's low ground, and the height of the low ground."""
    relative_m: float = 10.0
    """Height above low ground at which the scale turns from linear to logarithmic, in metres."""
    level_m: float = 100.0
    """Height of the low ground above the sea at which its scale does so, in metres."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = set(self.channels) <= {"relative", "level"} and len(self.channels) > 0
        check(self, known, "channels are 'relative', 'level' or both")
        check(self, self.views > 0, "views must be positive")
        check(self, self.registers >= 0, "registers must not be negative")
        check(self, self.relative_m > 0 and self.level_m > 0, "height scales must be positive")


@dataclass(frozen=True, kw_only=True)
class ClassesSettings(PatchSettings):
    """Settings of the vision transformer with registers for categorical rasters."""

    classes: tuple[str, ...]
    """Name of each class; pixels are 1 for the first, and 0 where there is no data."""
    views: int = 1
    """Number of patches of a location: one per size on the ground."""
    registers: int = 4
    """Number of learned tokens beside the class token."""
    embedding: int = 8
    """Dimension of the learned vector of each class, of which patches are made."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, 0 < len(self.classes) < 256, "there must be 1 to 255 classes")
        check(self, len(set(self.classes)) == len(self.classes), "classes need different names")
        check(self, self.views > 0 and self.embedding > 0, "sizes must be positive")
        check(self, self.registers >= 0, "registers must not be negative")


@dataclass(frozen=True, kw_only=True)
class TextSettings(TransformerSettings):
    """Settings of SigLIP's text tower."""

    tokens: int = 64
    """Number of tokens of a text; longer ones are cut, shorter ones padded."""
    vocabulary: int = 4096
    """Number of different tokens."""
    pretrained: str | None = None
    """Folder or hub name of the checkpoint to start from, with its tokenizer; its sizes must be the
    ones given here."""
    pooled: int | None = None
    """Dimension of the output of the tower's own head; None: its width, as in all but the largest
    checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, self.tokens > 0, "tokens must be positive")
        check(self, self.vocabulary > 256, "vocabulary must exceed the 256 bytes")
        check(self, self.pooled is None or self.pooled > 0, "pooled must be positive")


TOWERS: Mapping[EncoderKind, type[TransformerSettings]] = {
    "coordinate": CoordinateSettings,
    "image": ImageSettings,
    "surface": SurfaceSettings,
    "classes": ClassesSettings,
    "text": TextSettings,
}
"""Class of the settings of each kind of encoder."""
KINDS: Mapping[type[TransformerSettings], EncoderKind] = {
    tower: kind for kind, tower in TOWERS.items()
}


def _check_choice(settings: object, name: str) -> None:
    """Refuse a value that the annotation of its field does not list."""
    known = get_args(get_type_hints(type(settings))[name])
    value = getattr(settings, name)
    check(settings, value in known, f"{name} must be one of {', '.join(known)}, not {value!r}")


def check(settings: object, truth: bool, rule: str) -> None:
    """Refuse settings that break a rule.

    Raises:
        ModelError: stating the rule, and the values of the settings that it names.
    """
    if truth:
        return
    values = {name: value for name, value in vars(settings).items() if name in rule}
    shown = ", ".join(f"{name}={value!r:.80}" for name, value in values.items())
    raise ModelError(f"{type(settings).__name__}: {rule}; got {shown or f'{settings!r:.400}'}")
