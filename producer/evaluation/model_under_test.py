"""The model under test, and its hold-outs: observed locations with their embeddings."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.raster.encoding import check_fit
from unigeo.producer.training.samples import Samples, observe
from unigeo.producer.training.train import embed
from unigeo.schemas.errors import ObservationsError

MAP = "EPSG:8857"
"""The equal-area map on which training cuts its blocks."""
MAX_DRAWS = 12
"""Number of draws after which a hold-out stays smaller than requested."""
MIN_LOCATIONS = 20
"""Smallest hold-out that is accepted."""

Keep = Callable[[Float[np.ndarray, "location 2"]], Bool[np.ndarray, " location"]]
"""Function that selects the locations of a hold-out."""


@dataclass(frozen=True, eq=False)
class HoldOut:
    """Locations observed in every modality, and their vectors."""

    name: str
    description: str
    """Description for the report."""
    observations: Observations
    inputs: dict[str, Tensor]
    """Inputs of the encoders, by modality."""
    embeddings: dict[str, Tensor]
    """Unit vectors by modality, float32 on the CPU."""
    block_km: float
    """Side of the spatial blocks."""

    @cached_property
    def lonlat(self) -> Float[np.ndarray, "location 2"]:
        """The locations, WGS 84 degrees."""
        lonlat: np.ndarray = self.inputs[COORDINATE].numpy()
        return lonlat

    @cached_property
    def blocks(self) -> Int[np.ndarray, " location"]:
        """Number of the block that contains each location; a block is never split over folds."""
        return spatial_blocks(self.lonlat, self.block_km, MAP)

    def __len__(self) -> int:
        return len(self.inputs[COORDINATE])


@dataclass(frozen=True, eq=False)
class ModelUnderTest:
    """A trained model with the tokenizer and the device with which it embeds observations."""

    model: UniGeoCLIP
    tokenizer: Any
    device: torch.device

    def observe(
        self, observations: Observations, lonlat: Float[np.ndarray, "location 2"]
    ) -> Samples:
        """Observe locations in the modalities of the model."""
        return observe(observations, lonlat, self.tokenizer, self.modalities(observations))

    def modalities(self, observations: Observations) -> tuple[str, ...]:
        """Return the modalities that are observed and that the model encodes."""
        return tuple(name for name in self.model.modalities if name in observations.modalities)

    def embed(self, samples: Samples) -> dict[str, Tensor]:
        """Encode every modality of the samples as unit vectors, float32 on the CPU."""
        return embed(self.model, samples, self.device)

    def hold_out(
        self,
        observations: Observations,
        keep: Keep,
        count: int,
        seed: int,
        *,
        name: str,
        description: str,
        block_km: float,
    ) -> HoldOut:
        """Draw locations until enough of them are observed in every modality.

        Args:
            observations: source of the locations and of their observations.
            keep: selects the locations of the hold-out among those drawn.
            count: number of locations; there may be fewer after `MAX_DRAWS` draws.
            seed: seed of the first draw.
            name: name of the hold-out.
            description: text for the report.
            block_km: side of its spatial blocks.

        Raises:
            ObservationsError: if there are fewer than `MIN_LOCATIONS`.
            ModelError: if the model cannot encode the observations.
        """
        modalities = self.modalities(observations)
        check_fit(self.model, observations, modalities)
        parts: list[Samples] = []
        complete, observed, drawn, known = 0, 0, 2 * count, np.empty((0, 2))
        for draw in range(MAX_DRAWS):
            lonlat = observations.locations(drawn, seed + draw)
            # Observing is slow: observe only as many as are likely to complete the hold-out.
            share = max(0.1, complete / observed) if observed else 1.0
            lonlat = new_rows(lonlat[keep(lonlat)], known)[: math.ceil((count - complete) / share)]
            drawn = min(2 * drawn, 40 * count)
            if len(lonlat) == 0:
                continue
            known = np.concatenate([known, lonlat])
            observed += len(lonlat)
            samples = self.observe(observations, lonlat)
            part = samples.take(np.flatnonzero(samples.complete())[: count - complete])
            parts.append(part)
            complete += len(part)
            if complete >= count:
                break
        if complete < MIN_LOCATIONS:
            raise ObservationsError(
                f"{name} hold-out: {complete} places of {observations.name} have every one of "
                f"{', '.join(modalities)}, and {MIN_LOCATIONS} are needed; name other "
                "observations, or a region that they cover"
            )
        inputs = {m: torch.cat([part.inputs[m] for part in parts]) for m in parts[0].inputs}
        embedded = [self.embed(part) for part in parts]
        embeddings = {m: torch.cat([part[m] for part in embedded]) for m in embedded[0]}
        return HoldOut(name, description, observations, inputs, embeddings, block_km)


@dataclass(frozen=True, eq=False, kw_only=True)
class EvaluationContext:
    """Everything that the sections of a report are computed from."""

    model_under_test: ModelUnderTest
    observations: Observations
    hold_outs: dict[str, HoldOut]
    """Hold-outs by name, the spatial one first."""
    suite: Suite | None
    suite_data: Path
    """Folder of the suite's tables."""
    downstream: Mapping[str, Path]
    """Folders of public benchmarks, by name."""
    seed: int
    prefixes: tuple[int, ...] = ()
    """Numbers of leading dimensions that were trained to be used alone."""

    @property
    def spatial(self) -> HoldOut:
        """The hold-out in the blocks that training held out."""
        return self.hold_outs["spatial"]


def new_rows(
    lonlat: Float[np.ndarray, "location 2"], known: Float[np.ndarray, "known 2"]
) -> Float[np.ndarray, "new 2"]:
    """Return the distinct locations that are not among the known ones, in their order."""
    seen = {row.tobytes() for row in known}
    new: list[np.ndarray] = []
    for row in lonlat:
        key = row.tobytes()
        if key not in seen:
            seen.add(key)
            new.append(row)
    return np.array(new).reshape(-1, 2)
