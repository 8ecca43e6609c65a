"""Settings of the encoders, checked when built and saved beside the weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from typing import Any, Literal

from unigeo.schemas.errors import ModelError

MODALITIES = ("coordinate", "aerial", "street", "dsm", "text")
"""All modalities, in the order of tables and of pairs."""


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
        _check(self, self.width > 0, "width must be positive")
        _check(self, self.depth >= 0, "depth must not be negative")
        _check(self, self.heads > 0 and self.width % self.heads == 0, "heads must divide width")
        _check(self, self.mlp_ratio > 0, "mlp_ratio must be positive")

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
        _check_choice(self, "kind", ("scales", "geoclip", "satclip", "fourier"))
        _check_choice(self, "features", ("plane", "sphere"))
        _check_choice(self, "readout", ("mean", "concat", "registers"))
        _check(self, self.width % 2 == 0, "width must be even: half cosines, half sines")
        _check(self, len(self.sigmas) > 0, "sigmas must name at least one scale")
        _check(self, all(sigma > 0 for sigma in self.sigmas), "sigmas must be positive")
        _check(self, self.registers >= 0, "registers must not be negative")
        readable = self.readout != "registers" or self.registers > 0
        _check(self, readable, "readout 'registers' needs at least one register")
        _check(self, self.scale_layers >= 0, "scale_layers must not be negative")
        _check(self, 0 <= self.dropout < 1, "dropout must be at least 0 and below 1")
        _check(self, self.degree > 0, "degree must be positive")
        _check(self, self.w0 > 0, "w0 must be positive")

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
        _check(self, min(self.rows, self.cols, self.patch) > 0, "sizes must be positive")
        covered = self.size[0] // self.patch * self.patch, self.size[1] // self.patch * self.patch
        fits = covered == self.size or (self.cuts_edges and min(covered) > 0)
        _check(self, fits, f"patch {self.patch} must divide the {self.size} pixels seen")


_PIXEL_FIELDS = ("rows", "cols", "pixel_mean", "pixel_std", "measure_pixels")


@dataclass(frozen=True, kw_only=True)
class ImageSettings(PatchSettings):
    """Settings of SigLIP's vision tower, for aerial and street images."""

    channels: int = 3
    """Number of bands of an image; a pretrained tower repeats a single one."""
    pixel_mean: tuple[float, ...] = ()
    """Mean of each band, 0 to 255; empty: SigLIP's own scale, -1 to 1. A pretrained tower keeps its
    own scale, a tied one has that of aerial images."""
    pixel_std: tuple[float, ...] = ()
    """Standard deviation of each band, likewise."""
    measure_pixels: bool = False
    """Whether to measure mean and standard deviation on the observations when a run is planned, if
    they are empty and the tower has no checkpoint."""
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
        _check(self, self.channels > 0, "channels must be positive")
        counts = {len(self.pixel_mean), len(self.pixel_std)}
        known = counts in ({0}, {self.channels})
        _check(self, known, "pixel_mean and pixel_std must have a number for each channel, or none")
        _check(self, all(std > 0 for std in self.pixel_std), "pixel_std must be positive")
        if self.pretrained is not None:
            _check(self, self.channels in (1, 3), "a pretrained tower takes 1 or 3 channels")
            _check(self, self.size[0] == self.size[1], "a pretrained tower is square: set resize")


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
        _check(self, known, "channels are 'relative', 'level' or both")
        _check(self, self.views > 0, "views must be positive")
        _check(self, self.registers >= 0, "registers must not be negative")
        _check(self, self.relative_m > 0 and self.level_m > 0, "height scales must be positive")


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
        _check(self, self.tokens > 0, "tokens must be positive")
        _check(self, self.vocabulary > 256, "vocabulary must exceed the 256 bytes")
        _check(self, self.pooled is None or self.pooled > 0, "pooled must be positive")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Settings of a model: one encoder per modality; a modality without settings is left out."""

    dimension: int
    """Dimension of an embedding, the same for every modality."""
    coordinate: CoordinateSettings | None = None
    aerial: ImageSettings | None = None
    street: ImageSettings | None = None
    dsm: SurfaceSettings | None = None
    text: TextSettings | None = None
    tied: bool = False
    """Whether to encode aerial and street images by one tower; their settings must be the same."""
    temperature: float = 0.07
    """Initial temperature, which divides cosine similarities before the softmax; it is learned."""
    temperature_per_pair: bool = False
    """Whether to learn one temperature for each pair of modalities instead of one for all."""
    seed: int = 0
    """Seed of the initial weights and of the rotation."""

    def __post_init__(self) -> None:
        _check(self, self.dimension > 0, "dimension must be positive")
        _check(self, self.temperature >= 0.01, "temperature must be at least 0.01")
        _check(self, len(self.modalities) > 0, "at least one modality must have settings")
        if self.tied:
            self._check_tied()

    def _check_tied(self) -> None:
        """Refuse tied towers of different settings.

        Raises:
            ModelError: naming the settings that differ.
        """
        if self.aerial is None or self.street is None:
            raise ModelError("tied towers need both aerial and street pictures; set tied to False.")
        if not self.aerial.same_tower(self.street):
            street = asdict(self.street)
            unequal = {k: (v, street[k]) for k, v in asdict(self.aerial).items() if v != street[k]}
            listed = ", ".join(f"{key} is {a} and {b}" for key, (a, b) in unequal.items())
            raise ModelError(
                f"the aerial and street towers cannot be tied: {listed}. Give both the same "
                f"settings (pictures of different sizes the same `resize`), or set tied to False."
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have an encoder."""
        return tuple(name for name in MODALITIES if getattr(self, name) is not None)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Unordered pairs of modalities."""
        return tuple(combinations(self.modalities, 2))

    def shape(self, modality: str) -> tuple[int, ...]:
        """Return the shape of one observation of a modality, as `encode` takes it."""
        tower = getattr(self, modality)
        if isinstance(tower, ImageSettings):
            return tower.channels, tower.rows, tower.cols
        if isinstance(tower, SurfaceSettings):
            return tower.views, tower.rows, tower.cols
        return (tower.tokens,) if isinstance(tower, TextSettings) else (2,)


TOWERS: dict[str, type[TransformerSettings]] = {
    "coordinate": CoordinateSettings,
    "aerial": ImageSettings,
    "street": ImageSettings,
    "dsm": SurfaceSettings,
    "text": TextSettings,
}
"""Class of the settings of each modality."""


def to_json(settings: ModelSettings) -> dict[str, Any]:
    """Convert settings to JSON values."""
    return asdict(settings)


def from_json(values: Mapping[str, Any]) -> ModelSettings:
    """Build settings from JSON values.

    Raises:
        ModelError: if a key is unknown or missing, or a value makes no sense.
    """
    built = {
        key: TOWERS[key].from_json(value) if key in TOWERS and value is not None else value
        for key, value in values.items()
    }
    try:
        return ModelSettings(**built)
    except TypeError as error:
        raise ModelError(f"these are not settings of a model: {error}") from error


def _check_choice(settings: object, name: str, known: tuple[str, ...]) -> None:
    value = getattr(settings, name)
    _check(settings, value in known, f"{name} must be one of {', '.join(known)}, not {value!r}")


def _check(settings: object, truth: bool, rule: str) -> None:
    if not truth:
        raise ModelError(f"{type(settings).__name__}: {rule}; got {settings}")
