"""How a model is trained: what it depends on beside the observations and its own settings."""

from dataclasses import asdict, dataclass
from typing import Any

from unigeo.schemas.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """One run of training; the same settings and observations give the same model."""

    locations: int = 24_000
    """Places observed, training and hold-out together."""
    batch: int = 256
    """Places contrasted with each other in one step."""
    steps: int = 300
    """Steps of the optimizer."""
    rate: float = 3e-3
    """Largest learning rate of AdamW; warmed up linearly, then lowered along a cosine."""
    warmup: int = 30
    """Steps until the largest learning rate."""
    weight_decay: float = 0.05
    """Of matrices; biases, norms, embeddings and the temperature have none."""
    exclusion_m: float = 0.0
    """Places nearer than this are no negatives of each other; 0 excludes none, as in the paper."""
    jitter_m: float = 0.0
    """Standard deviation of the noise added to a place's coordinates whenever it is seen."""
    holdout: float = 0.1
    """Share of the spatial blocks that are kept for evaluation."""
    block_km: float = 100.0
    """Side of a spatial block."""
    gallery: int = 1024
    """Hold-out places among which each modality is to find the other."""
    checkpoint_seconds: float = 60.0
    """Time between checkpoints; does not change the result."""
    seed: int = 0
    """Draws the places, their order and the noise."""

    def __post_init__(self) -> None:
        for name in ("locations", "batch", "steps", "rate", "block_km", "gallery"):
            if not getattr(self, name) > 0:
                raise ModelError(f"training: {name} must be positive, not {getattr(self, name)}")
        for name in ("warmup", "weight_decay", "exclusion_m", "jitter_m"):
            if getattr(self, name) < 0:
                raise ModelError(f"training: {name} must not be negative")
        if not 0 < self.holdout < 1:
            raise ModelError(f"training: holdout must lie between 0 and 1, not {self.holdout}")
        if self.batch > self.locations * (1 - self.holdout) / 2:
            raise ModelError(
                f"training: {self.locations} locations are too few for batches of {self.batch}"
            )

    def identity(self) -> dict[str, Any]:
        """The settings that shape the result, as JSON."""
        settings = asdict(self)
        del settings["checkpoint_seconds"]
        return settings
