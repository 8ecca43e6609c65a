"""A model that is being judged, the places it is judged on, and what it makes of them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unigeo.client.probing.folds import spatial_blocks
from unigeo.client.probing.suites import Suite
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.raster.encoding import check_fit
from unigeo.producer.training.samples import Samples, observe
from unigeo.producer.training.train import embed
from unigeo.schemas.errors import ObservationsError

MAP = "EPSG:8857"
"""The equal-area map on which training cuts its blocks."""
ROUNDS = 12
"""Draws after which places that are still missing are done without."""
LEAST = 20
"""Fewer places say nothing."""

Keep = Callable[[Float[np.ndarray, "place 2"]], Bool[np.ndarray, " place"]]
"""Which places belong to a hold-out."""


@dataclass(frozen=True, eq=False)
class HoldOut:
    """Places observed in every modality, and their vectors."""

    name: str
    meaning: str
    """One sentence for the report."""
    observations: Observations
    inputs: dict[str, Tensor]
    """What was observed, by modality, as the encoders take it."""
    embeddings: dict[str, Tensor]
    """Unit vectors by modality, float32 on the CPU."""
    block_km: float

    @cached_property
    def lonlat(self) -> Float[np.ndarray, "place 2"]:
        """The places, WGS 84 degrees."""
        lonlat: np.ndarray = self.inputs["coordinate"].numpy()
        return lonlat

    @cached_property
    def blocks(self) -> Int[np.ndarray, " place"]:
        """Number of the block that holds each place; places of one block are alike."""
        return spatial_blocks(self.lonlat, self.block_km, MAP)

    def __len__(self) -> int:
        return len(self.inputs["coordinate"])


@dataclass(frozen=True, eq=False)
class ModelUnderTest:
    """A model with what it takes to look at places through it."""

    model: UniGeoCLIP
    tokenizer: Any
    device: torch.device

    def look(self, observations: Observations, lonlat: Float[np.ndarray, "place 2"]) -> Samples:
        """Observe places in the modalities that the model has."""
        texts: list[str | None] = [None] * len(lonlat)
        if self.reads_text(observations):
            texts = observations.texts(lonlat)
        places = observe(observations, lonlat, texts, self.tokenizer)
        used = ("coordinate", *self.modalities(observations))
        names = [name for name in places.inputs if name in used]
        return replace(
            places,
            inputs={name: places.inputs[name] for name in names},
            present={name: places.present[name] for name in names},
        )

    def reads_text(self, observations: Observations) -> bool:
        """Whether there are words, and an encoder of words."""
        return "text" in self.modalities(observations)

    def modalities(self, observations: Observations) -> tuple[str, ...]:
        """Modalities that are observed and that the model encodes."""
        return tuple(name for name in self.model.modalities if name in observations.modalities)

    def embed(self, places: Samples) -> dict[str, Tensor]:
        """Unit vectors of every modality of the places, float32 on the CPU."""
        return embed(self.model, places, self.device)

    def hold_out(
        self,
        observations: Observations,
        keep: Keep,
        count: int,
        seed: int,
        *,
        name: str,
        meaning: str,
        block_km: float,
    ) -> HoldOut:
        """Draw places until so many are observed in every modality.

        Args:
            observations: where to draw and to look.
            keep: which places belong.
            count: how many; fewer where the draws do not give them.
            seed: of the draws.
            name: of the hold-out.
            meaning: of it, for the report.
            block_km: side of the blocks whose places count as alike.

        Raises:
            ObservationsError: if there are hardly any.
            ModelError: if the observations are not those the model takes.
        """
        pixels = tuple(name for name in self.modalities(observations) if name != "text")
        check_fit(self.model, observations, pixels)
        parts: list[Samples] = []
        found, looked_at, drawn, known = 0, 0, 2 * count, np.empty((0, 2))
        for turn in range(ROUNDS):
            lonlat = observations.locations(drawn, seed + turn)
            share = max(0.1, found / looked_at) if looked_at else 1.0  # observed in full, so far
            lonlat = new_rows(lonlat[keep(lonlat)], known)[: math.ceil((count - found) / share)]
            drawn = min(2 * drawn, 40 * count)
            if len(lonlat) == 0:
                continue
            known = np.concatenate([known, lonlat])
            looked_at += len(lonlat)
            looked = self.look(observations, lonlat)
            complete = looked.take(np.flatnonzero(looked.complete())[: count - found])
            parts.append(complete)
            found += len(complete)
            if found >= count:
                break
        if found < LEAST:
            raise ObservationsError(
                f"{name} hold-out: {found} places of {observations.name} have every one of "
                f"{', '.join(self.modalities(observations))}, and {LEAST} are needed; name other "
                "observations, or a region that they cover"
            )
        inputs = {m: torch.cat([part.inputs[m] for part in parts]) for m in parts[0].inputs}
        embedded = [self.embed(part) for part in parts]
        embeddings = {m: torch.cat([part[m] for part in embedded]) for m in embedded[0]}
        return HoldOut(name, meaning, observations, inputs, embeddings, block_km)


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationSubject:
    """What is judged, and on what."""

    judge: ModelUnderTest
    observations: Observations
    hold_outs: dict[str, HoldOut]
    """By name, the spatial one first."""
    suite: Suite | None
    suite_data: Path
    downstream: Mapping[str, Path]
    seed: int
    prefixes: tuple[int, ...] = ()
    """Leading dimensions that were trained to serve alone."""

    @property
    def spatial(self) -> HoldOut:
        """Places of blocks that training kept apart."""
        return self.hold_outs["spatial"]


def new_rows(
    lonlat: Float[np.ndarray, "place 2"], known: Float[np.ndarray, "known 2"]
) -> Float[np.ndarray, "new 2"]:
    """Places that are not among the known ones, each once, in their order."""
    taken = {place.tobytes() for place in known}
    fresh: list[np.ndarray] = []
    for place in lonlat:
        key = place.tobytes()
        if key not in taken:
            taken.add(key)
            fresh.append(place)
    return np.array(fresh).reshape(-1, 2)
