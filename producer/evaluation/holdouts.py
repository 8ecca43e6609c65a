"""The hold-outs of an evaluation: locations on which a model is tested.

Random: new locations in the blocks of training, so neighbours were seen. Spatial: locations in the
blocks that training held out. Temporal: new locations in the blocks of training, observed in
another year. Out of region: locations of other observations, or in a part of the map given by the
user.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unigeo.producer.evaluation.model_under_test import HoldOut, Keep, ModelUnderTest
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.holdout import held_out
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.regions import Region

FRESH = 7_654_321
"""Offset to the seed of training, beyond the seeds with which its passes draw locations."""


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """Settings of training from which its locations and its blocks can be drawn again."""

    locations: int
    seed: int
    block_km: float
    holdout: float

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> "TrainedOn":
        """Read the settings from a model's metrics.

        Raises:
            ModelError: if the metrics lack them.
        """
        try:
            training = metrics["training"]
            return cls(
                locations=int(training["locations"]),
                seed=int(training["seed"]),
                block_km=float(training["block_km"]),
                holdout=float(training["holdout"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"the model's metrics.json does not say how its places were held out ({error!r}); "
                "train it again with this version of unigeo"
            ) from error

    def is_held_out(self, lonlat: Float[np.ndarray, "location 2"]) -> Bool[np.ndarray, " location"]:
        """Return whether each location lies in a block that training held out."""
        return held_out(lonlat, self.block_km, self.holdout, self.seed)


def spatial_hold_out(
    model_under_test: ModelUnderTest, observations: Observations, trained: TrainedOn, count: int
) -> HoldOut:
    """Draw locations in the blocks that training held out."""
    return model_under_test.hold_out(
        observations,
        trained.is_held_out,
        count,
        trained.seed + FRESH,
        name="spatial",
        description=f"Places of the {trained.block_km:g} km blocks that training kept apart, drawn "
        "anew: how well the model does in country that it never saw.",
        block_km=trained.block_km,
    )


def random_hold_out(
    model_under_test: ModelUnderTest, observations: Observations, trained: TrainedOn, count: int
) -> HoldOut:
    """Draw locations in the blocks of training, none of them seen in training."""
    return model_under_test.hold_out(
        observations,
        _new_in_trained_blocks(observations, trained),
        count,
        trained.seed + 2 * FRESH,
        name="random",
        description="Other places of the blocks that were trained on: how well the model fills in "
        "between places that it saw.",
        block_km=trained.block_km,
    )


def temporal_hold_out(
    model_under_test: ModelUnderTest,
    observations: Observations,
    later: Observations,
    trained: TrainedOn,
    count: int,
) -> HoldOut:
    """Draw locations in the blocks of training, and observe them in another year.

    Args:
        model_under_test: the model.
        observations: observations of training.
        later: observations of the same area in another year.
        trained: settings of training.
        count: number of locations.
    """
    return model_under_test.hold_out(
        later,
        _new_in_trained_blocks(observations, trained),
        count,
        trained.seed + 3 * FRESH,
        name="temporal",
        description=f"Places of the blocks that were trained on, as {later.name} shows them "
        f"({acquisition_dates(later)}); training saw {observations.name} "
        f"({acquisition_dates(observations)}).",
        block_km=trained.block_km,
    )


def out_of_region_hold_out(
    model_under_test: ModelUnderTest,
    other: Observations,
    region: Region | None,
    trained: TrainedOn,
    count: int,
) -> HoldOut:
    """Draw locations of other observations, or of a region that training left out."""

    def keep(lonlat: Float[np.ndarray, "location 2"]) -> Bool[np.ndarray, " location"]:
        return np.ones(len(lonlat), bool) if region is None else region.contains(lonlat)

    where = "" if region is None else f" in {region.name}"
    return model_under_test.hold_out(
        other,
        keep,
        count,
        trained.seed + 4 * FRESH,
        name="out of region",
        description=f"Places of {other.name}{where}: how well the model does elsewhere. Whether "
        "training saw any of it, the reader has to know.",
        block_km=trained.block_km,
    )


def acquisition_dates(observations: Observations) -> str:
    """Describe when each modality was observed, as far as the provenance says."""
    sources = observations.provenance().get("modalities", {})
    acquired = {
        name: source["acquired"]
        for name, source in sources.items()
        if isinstance(source, dict) and source.get("acquired")
    }
    return ", ".join(f"{name} {date}" for name, date in acquired.items()) or "no dates given"


def _new_in_trained_blocks(observations: Observations, trained: TrainedOn) -> Keep:
    """Select locations in the blocks of training, without those of training itself."""
    # Drawn again from the seed: equal bytes are the same location.
    seen = {lonlat.tobytes() for lonlat in observations.locations(trained.locations, trained.seed)}

    def keep(lonlat: Float[np.ndarray, "location 2"]) -> Bool[np.ndarray, " location"]:
        new = np.array([row.tobytes() not in seen for row in lonlat], bool)
        kept: np.ndarray = new & ~trained.is_held_out(lonlat)
        return kept

    return keep
