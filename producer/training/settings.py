"""How a model is trained: what it depends on beside the observations and its own settings."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from unigeo.producer.encoders.settings import MODALITIES
from unigeo.producer.training.loss.contrast_settings import ContrastSettings
from unigeo.schemas.errors import ModelError

HOW_ONLY = (
    "chunk",
    "compile",
    "activation_checkpointing",
    "checkpoint_seconds",
    "timeout_seconds",
    "kept_gb",
    "workers",
    "watch",
    "tensorboard",
)
"""Settings of how a run is carried out: a run may go on with other ones, to the same result."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """One run of training; the same settings and observations give the same model."""

    locations: int = 24_000
    """Places observed, training and hold-out together."""
    batch: int = 256
    """Places contrasted with each other in one step, over all processes."""
    steps: int = 300
    """Steps of the optimizer."""
    rate: float = 3e-3
    """Largest learning rate of AdamW; warmed up linearly, then lowered along a cosine."""
    warmup: int = 30
    """Steps until the largest learning rate."""
    weight_decay: float = 0.05
    """Of matrices; biases, norms, embeddings and the temperature have none."""
    contrast: ContrastSettings = field(default_factory=ContrastSettings)
    """The loss: pairs, negatives, targets."""
    jitter_m: float = 0.0
    """Standard deviation of the noise added to a place's coordinates whenever it is seen."""
    drop: float = 0.0
    """Probability, 0 to 1, that an observed modality of a place is hidden in a step; at least two
    modalities of a place stay."""
    tower_rates: tuple[tuple[str, float], ...] = ()
    """Factors on the rate by modality, such as (("aerial", 0.1),); 0 freezes a tower."""
    layer_decay: float = 1.0
    """Factor on the rate from each block of a tower to the one before it, 0 to 1; below the first
    block (patches, positions, tokens) it applies once more."""
    tower_stop: tuple[tuple[str, float], ...] = ()
    """Share of the steps after which a tower's rate has fallen to zero, by modality: the coordinate
    tower overfits before the image towers are done."""
    ema: float = 0.0
    """Decay per step of an exponential mean of the weights, which is then what is saved and
    evaluated; 0 keeps the last weights."""
    fresh: bool = False
    """Draw new places for every pass over the data rather than see the same again, where
    observations can be drawn without end."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Of the towers' products; auto is bfloat16 on CUDA and float32 on a CPU."""
    chunk: int | None = None
    """Places that a process encodes at once, which bounds the memory; gradients are those of the
    whole batch, for one more forward pass. None encodes the whole batch."""
    activation_checkpointing: bool = False
    """Keep only the inputs of each transformer block, and compute the rest again: less memory, one
    more forward pass."""
    compile: bool | Literal["auto"] = "auto"
    """Compile the transformer blocks; auto does so on CUDA, where it pays."""
    holdout: float = 0.1
    """Share of the spatial blocks that are kept for evaluation."""
    block_km: float = 100.0
    """Side of a spatial block."""
    gallery: int = 1024
    """Hold-out places among which each modality is to find the other."""
    watch: int = 0
    """Steps between evaluations on the hold-out gallery, written to the log; 0 makes none."""
    workers: int = 2
    """Threads that observe places ahead of their step, where they do not fit `kept_gb`."""
    kept_gb: float = 4.0
    """Observed places are kept in memory up to this many GB; more are observed batch by batch."""
    checkpoint_seconds: float = 60.0
    """Time between checkpoints; does not change the result."""
    timeout_seconds: float = 600.0
    """Longest wait for another process before it is taken for dead."""
    tensorboard: bool = False
    """Write the log for tensorboard too, into the folder `tensorboard` beside the model."""
    seed: int = 0
    """Draws the places, their order, the noise and what is hidden."""

    def __post_init__(self) -> None:
        for name in ("locations", "batch", "steps", "rate", "block_km", "gallery", "workers"):
            if not getattr(self, name) > 0:
                raise ModelError(f"training: {name} must be positive, not {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "jitter_m", "watch", "kept_gb"):
            if not getattr(self, name) >= 0:
                raise ModelError(f"training: {name} must not be negative")
        for name in ("drop", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ModelError(f"training: {name} must be at least 0 and below 1")
        if not 0 < self.holdout < 1:
            raise ModelError(f"training: holdout must lie between 0 and 1, not {self.holdout}")
        if not 0 < self.layer_decay <= 1:
            raise ModelError(f"training: layer_decay must lie in (0, 1], not {self.layer_decay}")
        if self.chunk is not None and self.chunk < 1:
            raise ModelError(f"training: chunk must be positive or None, not {self.chunk}")
        if self.precision not in ("auto", "bfloat16", "float32"):
            raise ModelError(
                f"training: precision is auto, bfloat16 or float32, not {self.precision!r}"
            )
        for name, low, high in (("tower_rates", 0.0, float("inf")), ("tower_stop", 0.0, 1.0)):
            for modality, value in getattr(self, name):
                if modality not in MODALITIES or not low <= value <= high:
                    raise ModelError(
                        f"training: {name} takes pairs of a modality ({', '.join(MODALITIES)}) and "
                        f"a number from {low:g} to {high:g}, not {modality!r}, {value}"
                    )
        if self.batch > self.locations * (1 - self.holdout) / 2:
            raise ModelError(
                f"training: {self.locations} locations are too few for batches of {self.batch}"
            )

    def tower_rate(self, modality: str) -> float:
        """Give the factor on a tower's rate."""
        return dict(self.tower_rates).get(modality, 1.0)

    def identity(self) -> dict[str, Any]:
        """The settings that shape the result, as JSON."""
        return {name: value for name, value in asdict(self).items() if name not in HOW_ONLY}
