"""Settings of the encoders: frozen values, checked when built, saved beside the weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from typing import Any, Literal

from unigeo.schemas.errors import ModelError

MODALITIES = ("coordinate", "aerial", "street", "dsm", "text")
"""Every modality there is, in the order of tables and of pairs."""


@dataclass(frozen=True, kw_only=True)
class TransformerSettings:
    """Size of one tower's transformer."""

    width: int
    """Numbers in a token."""
    depth: int
    """Blocks."""
    heads: int
    """Attention heads; they divide the width."""
    mlp_ratio: float = 4.0
    """Width of a block's hidden layer, in widths of a token."""

    def __post_init__(self) -> None:
        _check(self, self.width > 0, "width must be positive")
        _check(self, self.depth >= 0, "depth must not be negative")
        _check(self, self.heads > 0 and self.width % self.heads == 0, "heads must divide width")
        _check(self, self.mlp_ratio > 0, "mlp_ratio must be positive")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Any:
        """Build from what `dataclasses.asdict` gave, refusing keys that mean nothing here."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ModelError(
                f"{cls.__name__} has no setting {', '.join(unknown)}; the model was written by "
                f"another version of unigeo. Read it with that version, or train again."
            )
        try:
            known: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in values.items()
            }
            return cls(**known)
        except TypeError as error:
            raise ModelError(
                f"{cls.__name__} cannot be built from {dict(values)}: {error}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class CoordinateSettings(TransformerSettings):
    """Encoder of longitude and latitude: the paper's attention over scales, or one of its peers'.

    A setting that a kind does not have is ignored by it, so that kinds can be compared by changing
    `kind` alone. In the kinds made of a perceptron, `depth` counts hidden layers, each of
    `mlp_ratio` times `width` numbers.
    """

    kind: Literal["scales", "geoclip", "satclip", "fourier"] = "scales"
    """`scales`: one token of Fourier features per scale, joined by attention (UniGeoCLIP's).
    `geoclip`: one perceptron per scale, summed. `satclip`: spherical harmonics and a perceptron of
    sines. `fourier`: the features of all scales side by side, and one perceptron."""
    sigmas: tuple[float, ...] = (1.0, 16.0, 256.0, 4096.0)
    """Standard deviation of the frequencies of each scale, in cycles per unit of the encoder's
    plane (17,243,960 m): a token's cosine falls to 0.5 at 3,231 km / sigma."""
    learned_frequencies: bool = False
    """Train the frequencies, in float64; each moves by a learning rate (in cycles per unit) at most
    a step, so fine scales stay nearly as drawn. False: they stay as drawn (the paper's)."""
    registers: int = 4
    """Learned tokens that take part in attention and are left out of the mean."""
    scale_embedding: bool = True
    """Add a learned vector to each scale's token; without it the encoder cannot tell them apart."""
    scale_layers: int = 0
    """Hidden layers, each of `mlp_ratio` times `width` numbers, of a perceptron of its own that
    each scale's features pass before attention; 0: the features are the tokens (the paper's)."""
    readout: Literal["mean", "concat", "registers"] = "mean"
    """The vector after attention: the mean of the scales' tokens (the paper's), their
    concatenation, or the mean of the registers; projected to the model's dimension."""
    dropout: float = 0.0
    """Share of numbers dropped in training: of what a block adds, or of a hidden layer."""
    features: Literal["plane", "sphere"] = "plane"
    """Frequencies act on Equal Earth (the paper's; a seam at the dateline) or on the sphere."""
    degree: int = 40
    """`satclip`: spherical harmonics below this degree, its square in number; the finest has a
    wavelength of about 40,000 km / degree."""
    w0: float = 30.0
    """`satclip`: factor before the first layer's sine."""
    seed: int = 0
    """Draws the frequencies, which are then saved with the weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_word(self, "kind", ("scales", "geoclip", "satclip", "fourier"))
        _check_word(self, "features", ("plane", "sphere"))
        _check_word(self, "readout", ("mean", "concat", "registers"))
        _check(self, self.width % 2 == 0, "width must be even: half cosines, half sines")
        _check(self, len(self.sigmas) > 0, "sigmas must name at least one scale")
        _check(self, all(sigma > 0 for sigma in self.sigmas), "sigmas must be positive")
        _check(self, self.registers >= 0, "registers must not be negative")
        unread = self.readout == "registers" and self.registers == 0
        _check(self, not unread, "readout 'registers' needs at least one register")
        _check(self, self.scale_layers >= 0, "scale_layers must not be negative")
        _check(self, 0 <= self.dropout < 1, "dropout must be at least 0 and below 1")
        _check(self, self.degree > 0, "degree must be positive")
        _check(self, self.w0 > 0, "w0 must be positive")

    @property
    def hidden(self) -> int:
        """Numbers in a hidden layer."""
        return round(self.mlp_ratio * self.width)


@dataclass(frozen=True, kw_only=True)
class PatchSettings(TransformerSettings):
    """What pictures and surfaces share: an array of pixels, cut into patches."""

    rows: int
    """Pixels of an observation, downward."""
    cols: int
    """Pixels of an observation, rightward."""
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
        """Whether pixels beyond the last whole patch are left out, rather than refused."""
        return False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, min(self.rows, self.cols, self.patch) > 0, "sizes must be positive")
        seen = self.size[0] // self.patch * self.patch, self.size[1] // self.patch * self.patch
        whole = seen == self.size or (self.cuts_edges and min(seen) > 0)
        _check(self, whole, f"patch {self.patch} must divide the {self.size} pixels seen")


_OF_PIXELS = ("rows", "cols", "pixel_mean", "pixel_std", "measure_pixels")


@dataclass(frozen=True, kw_only=True)
class ImageSettings(PatchSettings):
    """SigLIP vision tower for aerial and street pictures."""

    channels: int = 3
    """Bands of a picture; a pretrained tower repeats a single one."""
    pixel_mean: tuple[float, ...] = ()
    """Of each band, 0 to 255; empty: SigLIP's own scale, -1 to 1. A pretrained tower keeps its own
    scale, a tied one takes the aerial picture's."""
    pixel_std: tuple[float, ...] = ()
    """The same, the standard deviation."""
    measure_pixels: bool = False
    """Fill in mean and deviation from the observations when a run is planned, where they are empty
    and the tower starts from nothing."""
    resize: int | None = None
    """Side of the square that pictures are resized to, as SigLIP's own processor does; None takes
    them as they are, square or not."""
    pretrained: str | None = None
    """Folder or hub name to start from; its sizes must be the ones given here, so that a trained
    model can be rebuilt without it."""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of pixels that the transformer sees."""
        return (self.rows, self.cols) if self.resize is None else (self.resize, self.resize)

    @property
    def cuts_edges(self) -> bool:
        """Whether pixels beyond the last whole patch are left out, as SigLIP's 384 / 14 does."""
        return self.pretrained is not None

    def same_tower(self, other: "ImageSettings") -> bool:
        """Whether both can share weights: all is equal but the pixels before resizing, as given."""
        seen = {name: getattr(self, name) for name in _OF_PIXELS}
        return self.size == other.size and self == replace(other, **seen)

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
    """Vision transformer with registers for surface models in metres."""

    views: int = 1
    """Surfaces of a place: several where its patches are cut at several sizes."""
    registers: int = 4
    """Learned tokens beside the class token."""
    channels: tuple[Literal["relative", "level"], ...] = ("relative",)
    """What the transformer sees: heights above the patch's low ground, and how high that is."""
    relative_m: float = 10.0
    """Height above low ground at which the scale turns from linear to logarithmic, in metres."""
    level_m: float = 100.0
    """The same for the height of the low ground above the sea."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = set(self.channels) <= {"relative", "level"} and len(self.channels) > 0
        _check(self, known, "channels are 'relative', 'level' or both")
        _check(self, self.views > 0, "views must be positive")
        _check(self, self.registers >= 0, "registers must not be negative")
        _check(self, self.relative_m > 0 and self.level_m > 0, "height scales must be positive")


@dataclass(frozen=True, kw_only=True)
class TextSettings(TransformerSettings):
    """SigLIP text tower."""

    tokens: int = 64
    """Length of a text; longer ones are cut, shorter ones padded."""
    vocabulary: int = 4096
    """Tokens that can occur."""
    pretrained: str | None = None
    """Folder or hub name to start from, with its tokenizer; its sizes must be the ones given."""
    pooled: int | None = None
    """Numbers that the tower's own head gives; None: its width, as in all but the largest
    checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, self.tokens > 0, "tokens must be positive")
        _check(self, self.vocabulary > 256, "vocabulary must exceed the 256 bytes")
        _check(self, self.pooled is None or self.pooled > 0, "pooled must be positive")


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """One encoder per modality, all into one space; a modality without settings is absent."""

    dimension: int
    """Numbers in an embedding, the same for every modality."""
    coordinate: CoordinateSettings | None = None
    aerial: ImageSettings | None = None
    street: ImageSettings | None = None
    dsm: SurfaceSettings | None = None
    text: TextSettings | None = None
    tied: bool = False
    """Encode aerial and street pictures by one tower; their settings must be the same."""
    temperature: float = 0.07
    """Divides cosine similarities before the softmax, at the start of training; it is learned."""
    temperature_per_pair: bool = False
    """Learn one temperature for each pair of modalities rather than one for all."""
    seed: int = 0
    """Draws the first weights and the rotation."""

    def __post_init__(self) -> None:
        _check(self, self.dimension > 0, "dimension must be positive")
        _check(self, self.temperature >= 0.01, "temperature must be at least 0.01")
        _check(self, len(self.modalities) > 0, "at least one modality must have settings")
        if self.tied:
            self._check_tied()

    def _check_tied(self) -> None:
        """Refuse to share what differs.

        Raises:
            ModelError: naming the settings that differ.
        """
        if self.aerial is None or self.street is None:
            raise ModelError("tied towers need both aerial and street pictures; set tied to False.")
        if not self.aerial.same_tower(self.street):
            street = asdict(self.street)
            other = {k: (v, street[k]) for k, v in asdict(self.aerial).items() if v != street[k]}
            told = ", ".join(f"{key} is {a} and {b}" for key, (a, b) in other.items())
            raise ModelError(
                f"the aerial and street towers cannot be tied: {told}. Give both the same settings "
                f"(pictures of different sizes the same `resize`), or set tied to False."
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have an encoder."""
        return tuple(name for name in MODALITIES if getattr(self, name) is not None)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Every two modalities, each pair once."""
        return tuple(combinations(self.modalities, 2))

    def shape(self, modality: str) -> tuple[int, ...]:
        """Shape of one observation of a modality, as `encode` takes it."""
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
"""Kind of settings of each modality."""


def to_json(settings: ModelSettings) -> dict[str, Any]:
    """Write settings as JSON values."""
    return asdict(settings)


def from_json(values: Mapping[str, Any]) -> ModelSettings:
    """Read settings from JSON values.

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


def _check_word(settings: object, name: str, known: tuple[str, ...]) -> None:
    found = getattr(settings, name)
    _check(settings, found in known, f"{name} must be one of {', '.join(known)}, not {found!r}")


def _check(settings: object, truth: bool, rule: str) -> None:
    if not truth:
        raise ModelError(f"{type(settings).__name__}: {rule}; got {settings}")
