"""Observations made of plane waves, in numpy alone, to train on where there are no others."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import (
    CoordinateSettings,
    ImageSettings,
    SurfaceSettings,
    TextSettings,
)
from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.protocol import Observations

PIXELS = 32
BOX = np.array([[-120.0, 30.0], [-75.0, 48.0]])
"""West and south, east and north of all locations, in degrees."""
_PHRASES = ("high", "low", "north", "south", "dry", "wet", "bright", "dark")


class Waves(Observations):
    """A smooth function of location in every modality; some locations lack a surface or a text."""

    name = "waves"
    modalities = ("coordinate", "aerial", "dsm", "text")

    def shape(self, modality: str) -> tuple[int, int, int]:
        """Channels, rows and columns of the modality's patches."""
        return (1 if modality == "dsm" else 3, PIXELS, PIXELS)

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """Draw locations uniformly in degrees."""
        return np.random.default_rng(seed).uniform(*BOX, (count, 2))

    def land(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Everything is land."""
        return np.ones(len(lonlat), bool)

    def patches(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Draw one patch round each point."""
        channels, rows, cols = self.shape(modality)
        phase = self._phases(lonlat)[:, :channels, None, None]
        row, col = np.mgrid[:rows, :cols] / PIXELS
        values = np.sin(phase + 4 * row + 6 * col * np.cos(phase))
        if modality == "dsm":
            return Patches((300 * values).astype(np.float32), self._phases(lonlat)[:, 3] % 1 > 0.1)
        return Patches((127.5 + 120 * values).astype(np.uint8), np.ones(len(lonlat), bool))

    def texts(
        self, lonlat: Float[np.ndarray, "point 2"], modality: str = "text"
    ) -> list[str | None]:
        """Describe each point in a few words; one in ten has no text."""
        phases = self._phases(lonlat)
        return [
            None
            if phase[4] % 1 < 0.1
            else " ".join(_PHRASES[2 * k + (np.sin(phase[k]) > 0)] for k in range(4))
            for phase in phases
        ]

    def gaps(self) -> dict[str, dict[str, int]]:
        """Gaps are not counted."""
        return {}

    def provenance(self) -> dict[str, Any]:
        """Provenance of synthetic observations."""
        return {"name": self.name, "synthetic": True, "licence": "CC0-1.0", "citation": "none"}

    def _phases(self, lonlat: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "point 5"]:
        across = np.array([[0.9, 0.4], [-0.5, 1.1], [0.2, -0.8], [1.7, 0.6], [-1.3, 1.9]])
        return np.asarray(np.mod(lonlat @ across.T, 2 * np.pi))


def model_settings() -> ModelSettings:
    """A model of four modalities that learns in milliseconds."""
    blocks: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "mlp_ratio": 2}
    return ModelSettings(
        dimension=32,
        towers={
            "coordinate": CoordinateSettings(**blocks, registers=1, sigmas=(1.0, 8.0, 64.0)),
            "aerial": ImageSettings(**blocks, rows=PIXELS, cols=PIXELS, patch=8),
            "dsm": SurfaceSettings(**blocks, rows=PIXELS, cols=PIXELS, patch=8, registers=1),
            "text": TextSettings(**blocks, tokens=16, vocabulary=300),
        },
        seed=0,
    )
