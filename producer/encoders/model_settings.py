"""Settings of a model, checked when built and saved beside the weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import combinations
from typing import Any, Literal

from unigeo.producer.encoders.tower_settings import (
    KINDS,
    LATER,
    TOWERS,
    ClassesSettings,
    CoordinateSettings,
    ImageSettings,
    PatchSettings,
    SurfaceSettings,
    TextSettings,
    TransformerSettings,
    check,
)
from unigeo.producer.observations.forms import (
    COORDINATE,
    DEFAULT_ENCODERS,
    ENCODER_KINDS,
    EncoderKind,
    in_order,
)
from unigeo.schemas.errors import ModelError
from unigeo.schemas.store.layout import check_modality

TIED = ("aerial", "street")
"""Modalities of one tower where `ModelSettings.tied` does not name them."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Settings of a model: one encoder per modality; a modality without settings is left out."""

    dimension: int
    """Dimension of an embedding, the same for every modality."""
    towers: Mapping[str, TransformerSettings] = field(
        default_factory=dict, hash=False, metadata={"members": tuple(DEFAULT_ENCODERS)}
    )
    """Settings of each modality's encoder, by name; their order is that of `modalities`."""
    tied: bool | tuple[str, ...] = False
    """Modalities of images that are encoded by the tower of the first of them, for which their
    settings must be the same; true: aerial and street images."""
    temperature: float = 0.07
    """Initial temperature, which divides cosine similarities before the softmax; it is learned."""
    temperature_per_pair: bool = False
    """Whether to learn one temperature for each pair of modalities instead of one for all."""
    seed: int = 0
    """Seed of the initial weights and of the rotation."""
    fused: int = field(default=0, metadata=LATER)
    """Numbers of a vector that is fused of all modalities by a map fitted after training, less than
    the dimension; 0 fuses by the mean, in the space that the modalities share."""

    def __post_init__(self) -> None:
        check(self, self.dimension > 1, "dimension must be at least 2, as a direction is")
        check(self, 0 <= self.fused < self.dimension, "fused must be less than the dimension")
        check(self, self.temperature >= 0.01, "temperature must be at least 0.01")
        check(self, len(self.towers) > 0, "at least one modality must have settings")
        ordered = {name: self.towers[name] for name in in_order(self.towers)}
        object.__setattr__(self, "towers", ordered)  # the dataclass is frozen
        for name, tower in self.towers.items():
            _check_tower(name, tower)
        self._check_texts()
        if self.tied:
            self._check_tied()

    def _check_texts(self) -> None:
        """Refuse text towers that would need several tokenizers."""
        towers = [tower for tower in self.towers.values() if isinstance(tower, TextSettings)]
        if len({(tower.tokens, tower.vocabulary, tower.pretrained) for tower in towers}) > 1:
            raise ModelError(
                f"the text towers of {', '.join(self.text_modalities)} share one tokenizer: give "
                "them the same tokens, vocabulary and checkpoint"
            )

    def _check_tied(self) -> None:
        """Refuse tied towers of different settings.

        Raises:
            ModelError: naming the settings that differ.
        """
        first, *others = self.tied_modalities
        towers = [self.towers.get(name) for name in (first, *others)]
        shared = towers[0]
        if not others or not isinstance(shared, ImageSettings):
            raise ModelError(
                f"tied names at least two modalities of images, not {', '.join((first, *others))}"
            )
        for name, tower in zip(others, towers[1:], strict=True):
            if not isinstance(tower, ImageSettings):
                raise ModelError(
                    f"tied towers need both {first} and {name} images; set tied to False."
                )
            if not shared.same_tower(tower):
                values = asdict(tower)
                unequal = {k: (v, values[k]) for k, v in asdict(shared).items() if v != values[k]}
                listed = ", ".join(f"{key} is {a} and {b}" for key, (a, b) in unequal.items())
                raise ModelError(
                    f"the {first} and {name} towers cannot be tied: {listed}. Give both the same "
                    f"settings (images of different sizes the same `resize`), or set tied to False."
                )

    @property
    def tied_modalities(self) -> tuple[str, ...]:
        """Modalities that share a tower, which is that of the first; empty if none do."""
        if isinstance(self.tied, bool):
            return TIED if self.tied else ()
        return self.tied

    def tower_of(self, modality: str) -> str:
        """Return the modality whose tower encodes a modality: itself, or the first if tied."""
        return self.tied_modalities[0] if modality in self.tied_modalities else modality

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have an encoder."""
        return tuple(self.towers)

    @property
    def pixel_modalities(self) -> tuple[str, ...]:
        """Modalities that are pixels: images, surfaces, classes."""
        return tuple(
            name for name in self.towers if self.encoder(name) not in ("coordinate", "text")
        )

    def pixel_tower(self, modality: str) -> PatchSettings:
        """Return the settings of the tower that encodes a modality of pixels."""
        tower = self.towers[self.tower_of(modality)]
        assert isinstance(tower, PatchSettings), modality
        return tower

    @property
    def fused_modalities(self) -> tuple[str, ...]:
        """Modalities that a fused vector is made of: coordinates and pixels."""
        return tuple(name for name in self.towers if self.encoder(name) != "text")

    @property
    def text_modalities(self) -> tuple[str, ...]:
        """Modalities that are texts."""
        return tuple(name for name in self.towers if self.encoder(name) == "text")

    @property
    def coordinate(self) -> CoordinateSettings | None:
        """Settings of the coordinate encoder, if there is one."""
        tower = self.towers.get(COORDINATE)
        return tower if isinstance(tower, CoordinateSettings) else None

    @property
    def text(self) -> TextSettings | None:
        """Settings of the first text encoder, whose tokenizer all of them use."""
        tower = self.towers[self.text_modalities[0]] if self.text_modalities else None
        return tower if isinstance(tower, TextSettings) else None

    def encoder(self, modality: str) -> EncoderKind:
        """Return the kind of a modality's encoder."""
        return KINDS[type(self.towers[modality])]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Unordered pairs of modalities."""
        return tuple(combinations(self.modalities, 2))

    def shape(self, modality: str) -> tuple[int, ...]:
        """Return the shape of one observation of a modality, as `encode` takes it."""
        tower = self.towers[modality]
        if isinstance(tower, ImageSettings):
            return tower.channels, tower.rows, tower.cols
        if isinstance(tower, SurfaceSettings | ClassesSettings):
            return tower.views, tower.rows, tower.cols
        return (tower.tokens,) if isinstance(tower, TextSettings) else (2,)

    def number_type(self, modality: str) -> Literal["uint8", "float32", "float64", "int64"]:
        """Return the type of the numbers of a modality's observations, as `encode` takes them."""
        tower = self.towers[modality]
        if isinstance(tower, ImageSettings):
            return tower.dtype
        if isinstance(tower, CoordinateSettings):
            return "float64"
        if isinstance(tower, TextSettings):
            return "int64"
        return "float32" if isinstance(tower, SurfaceSettings) else "uint8"

    def with_towers(self, /, **towers: TransformerSettings | None) -> "ModelSettings":
        """Return settings with some towers replaced; None leaves a modality out."""
        changed = {**self.towers, **towers}
        return replace(self, towers={name: one for name, one in changed.items() if one is not None})


def _check_tower(modality: str, tower: TransformerSettings) -> None:
    """Refuse a modality of a reserved name, or the paper's with another kind of encoder."""
    check_modality(modality)
    kind = KINDS.get(type(tower))
    expected = DEFAULT_ENCODERS.get(modality)
    if kind is None or (kind == "coordinate") != (modality == COORDINATE):
        raise ModelError(f"{modality} cannot have settings of a {type(tower).__name__}")
    if expected is not None and kind != expected:
        raise ModelError(f"the encoder of {modality} is of the kind {expected!r}, not {kind!r}")


def to_json(settings: ModelSettings) -> dict[str, Any]:
    """Convert settings to JSON values: the towers stand beside the other settings, by name."""
    names = [*DEFAULT_ENCODERS, *(n for n in settings.towers if n not in DEFAULT_ENCODERS)]
    values: dict[str, Any] = {"dimension": settings.dimension}
    for name in names:
        values[name] = None if name not in settings.towers else _tower_to_json(settings, name)
    others = {key: getattr(settings, key) for key in _fields_of(settings) if key != "towers"}
    return values | _without_unset(settings, others)


def _tower_to_json(settings: ModelSettings, name: str) -> dict[str, Any]:
    """Convert one tower's settings; the kind of its encoder is stated where it is not implied."""
    tower = settings.towers[name]
    values = _without_unset(tower, asdict(tower))
    return values if name in DEFAULT_ENCODERS else {"encoder": settings.encoder(name)} | values


def _without_unset(settings: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the settings that earlier versions lack, where they have their default."""
    unset = {one.name for one in fields(settings) if values.get(one.name) == one.default}
    later = {one.name for one in fields(settings) if "later" in one.metadata}
    return {key: value for key, value in values.items() if key not in unset & later}


def from_json(values: Mapping[str, Any]) -> ModelSettings:
    """Build settings from JSON values.

    Raises:
        ModelError: if a key is unknown or missing, or a value makes no sense.
    """
    others = {key: value for key, value in values.items() if key in _fields_of(ModelSettings)}
    towers = {key: value for key, value in values.items() if key not in others}
    if isinstance(others.get("tied"), list):
        others["tied"] = tuple(others["tied"])
    built = {
        name: _tower_from_json(name, tower) for name, tower in towers.items() if tower is not None
    }
    try:
        return ModelSettings(towers=built, **others)
    except (TypeError, ValueError) as error:
        raise ModelError(f"these are not settings of a model: {error}") from error


def _tower_from_json(name: str, values: Any) -> TransformerSettings:
    """Build one tower's settings."""
    if not isinstance(values, dict):
        raise ModelError(f"a model has no setting {name!r}")
    kind = values.get("encoder", DEFAULT_ENCODERS.get(name))
    towers: Mapping[Any, type[TransformerSettings]] = TOWERS
    if not isinstance(kind, str) or kind not in towers:
        raise ModelError(
            f"the encoder of {name} is {kind!r}; this version of unigeo knows "
            f"{', '.join(ENCODER_KINDS)}"
        )
    rest = {key: value for key, value in values.items() if key != "encoder"}
    tower: TransformerSettings = towers[kind].from_json(rest)
    return tower


def _fields_of(settings: Any) -> list[str]:
    return [one.name for one in fields(settings)]
