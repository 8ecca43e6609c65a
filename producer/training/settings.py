"""Settings of a training run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

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
"""Settings that do not change the result: a run may be resumed with other values of them."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Settings of a run; the same settings, model settings and observations give the same model."""

    locations: int = 24_000
    """Number of observed locations, training and hold-out together."""
    batch: int = 256
    """Number of samples contrasted with each other in one step, over all processes."""
    steps: int = 300
    """Number of optimizer steps."""
    rate: float = 3e-3
    """Largest learning rate of AdamW; the rate rises linearly to it, then falls along a cosine."""
    warmup: int = 30
    """Number of steps until the largest learning rate."""
    weight_decay: float = 0.05
    """Weight decay of matrices; biases, norms, embeddings and the temperature have none."""
    contrast: ContrastSettings = field(default_factory=ContrastSettings)
    """Settings of the loss: pairs, negatives and positives."""
    numbers: float = 0.0
    """Weight of the squared error with which linear heads predict plain numbers of the pixels, such
    as means and deviations, from the vectors; 0 trains without heads."""
    jitter_m: float = 0.0
    """Standard deviation of the noise that moves a sample's coordinates in each step, in metres."""
    drop: float = 0.0
    """Probability, 0 to 1, that an observed modality of a sample is hidden in a step; at least two
    modalities of a sample stay."""
    tower_rates: tuple[tuple[str, float], ...] = ()
    """Factors on the rate by modality, such as (("aerial", 0.1),); 0 freezes a tower."""
    layer_decay: float = 1.0
    """Factor on the rate from each block of a tower to the one before it, 0 to 1; below the first
    block (patches, positions, tokens) it applies once more."""
    tower_stop: tuple[tuple[str, float], ...] = ()
    """Share of the steps after which a tower's rate has fallen to zero, by modality: the coordinate
    tower overfits before the image towers have converged."""
    ema: float = 0.0
    """Decay per step of an exponential mean of the weights, which is saved and evaluated instead of
    the last weights; 0 keeps the last weights."""
    fresh: bool = False
    """Whether to draw new locations for every epoch instead of repeating the same; only for
    observations that exist everywhere, such as a synthetic world's."""
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision of the towers' products; auto is bfloat16 on CUDA and float32 on a CPU."""
    chunk: int | None = None
    """Number of samples that a process encodes at once, which bounds the memory; gradients are
    those of the whole batch, at the cost of one more forward pass. None encodes the whole batch."""
    activation_checkpointing: bool = False
    """Whether to keep only the inputs of each transformer block and recompute the rest: less
    memory, one more forward pass."""
    compile: bool | Literal["auto"] = "auto"
    """Whether to compile the transformer blocks; auto does so on CUDA, where it pays."""
    holdout: float = 0.1
    """Share of the spatial blocks that are held out for evaluation."""
    block_km: float = 100.0
    """Side of a spatial block, in kilometres."""
    gallery: int = 1024
    """Number of hold-out locations in the retrieval gallery."""
    watch: int = 0
    """Number of steps between evaluations on the hold-out gallery, for the log; 0 makes none."""
    workers: int = 2
    """Number of threads that observe batches ahead of their step, if samples exceed `kept_gb`."""
    kept_gb: float = 4.0
    """Largest memory of cached samples, in GB; more samples are observed batch by batch."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints; they do not change the result."""
    timeout_seconds: float = 600.0
    """Seconds without an answer after which another process is taken for dead."""
    tensorboard: bool = False
    """Whether to write the log for tensorboard too, into a folder beside the model's."""
    seed: int = 0
    """Seed of the locations, their order, the noise and the hidden modalities."""

    def __post_init__(self) -> None:
        for name in ("locations", "batch", "steps", "rate", "block_km", "gallery", "workers"):
            if not getattr(self, name) > 0:
                raise ModelError(f"training: {name} must be positive, not {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "numbers", "jitter_m", "watch", "kept_gb"):
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
                if not low <= value <= high:
                    raise ModelError(
                        f"training: {name} takes pairs of a modality and a number from {low:g} to "
                        f"{high:g}, not {modality!r}, {value}"
                    )
        if self.batch < 2:
            raise ModelError(
                "training: batch must be at least 2: a sample is contrasted with others of its "
                f"batch, and {self.batch} has none"
            )
        if self.batch > self.locations * (1 - self.holdout) / 2:
            raise ModelError(
                f"training: {self.locations} locations are too few for batches of {self.batch}"
            )

    def check_modalities(self, modalities: Sequence[str]) -> None:
        """Refuse settings of a modality that the model does not encode.

        Raises:
            ModelError: naming the setting and the modality.
        """
        self.contrast.selected(modalities)
        for name in ("tower_rates", "tower_stop"):
            for modality, _ in getattr(self, name):
                if modality not in modalities:
                    raise ModelError(
                        f"training: {name} names {modality!r}, which the model does not encode; it "
                        f"has {', '.join(modalities)}"
                    )

    def tower_rate(self, modality: str) -> float:
        """Return the factor on a tower's rate."""
        return dict(self.tower_rates).get(modality, 1.0)

    def identity(self) -> dict[str, Any]:
        """Return the settings that the result depends on, as JSON values."""
        known = {name: value for name, value in asdict(self).items() if name not in HOW_ONLY}
        if not self.numbers:  # as before there was this setting
            del known["numbers"]
        return known
