"""Places that a model is judged on, and how far they lie from those that it was trained on.

Random: other places of the blocks that were trained on, so neighbours were seen. Spatial: places of
the blocks that were kept apart. Temporal: places as in random, observed in another year. Out of
region: other observations, or a part of the map given by the reader.
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
"""Added to the seed of training: no pass of training draws with such a seed."""


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """Where a model was trained: enough to draw the same places, and to cut the same blocks."""

    locations: int
    seed: int
    block_km: float
    holdout: float

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> "TrainedOn":
        """Read it from a model's metrics.

        Raises:
            ModelError: if they do not say.
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

    def apart(self, lonlat: Float[np.ndarray, "place 2"]) -> Bool[np.ndarray, " place"]:
        """Whether each place lies in a block that was held out."""
        return held_out(lonlat, self.block_km, self.holdout, self.seed)


def spatial(
    judge: ModelUnderTest, observations: Observations, trained: TrainedOn, count: int
) -> HoldOut:
    """Places of the blocks that training kept apart, drawn anew."""
    return judge.hold_out(
        observations,
        trained.apart,
        count,
        trained.seed + FRESH,
        name="spatial",
        meaning=f"Places of the {trained.block_km:g} km blocks that training kept apart, drawn "
        "anew: how well the model does in country that it never saw.",
        block_km=trained.block_km,
    )


def random(
    judge: ModelUnderTest, observations: Observations, trained: TrainedOn, count: int
) -> HoldOut:
    """Places of the blocks that were trained on, none of them a training place."""
    return judge.hold_out(
        observations,
        _between(observations, trained),
        count,
        trained.seed + 2 * FRESH,
        name="random",
        meaning="Other places of the blocks that were trained on: how well the model fills in "
        "between places that it saw.",
        block_km=trained.block_km,
    )


def temporal(
    judge: ModelUnderTest,
    observations: Observations,
    later: Observations,
    trained: TrainedOn,
    count: int,
) -> HoldOut:
    """Places of the blocks that were trained on, looked at in another year.

    Args:
        judge: the model.
        observations: those of training.
        later: of the same country at another time.
        trained: where the model was trained.
        count: how many places.
    """
    return judge.hold_out(
        later,
        _between(observations, trained),
        count,
        trained.seed + 3 * FRESH,
        name="temporal",
        meaning=f"Places of the blocks that were trained on, as {later.name} shows them "
        f"({dates(later)}); training saw {observations.name} ({dates(observations)}).",
        block_km=trained.block_km,
    )


def out_of_region(
    judge: ModelUnderTest,
    other: Observations,
    region: Region | None,
    trained: TrainedOn,
    count: int,
) -> HoldOut:
    """Places of other observations, or of a region that training left out."""

    def keep(lonlat: Float[np.ndarray, "place 2"]) -> Bool[np.ndarray, " place"]:
        return np.ones(len(lonlat), bool) if region is None else region.contains(lonlat)

    where = "" if region is None else f" in {region.name}"
    return judge.hold_out(
        other,
        keep,
        count,
        trained.seed + 4 * FRESH,
        name="out of region",
        meaning=f"Places of {other.name}{where}: how well the model does elsewhere. Whether "
        "training saw any of it, the reader has to know.",
        block_km=trained.block_km,
    )


def dates(observations: Observations) -> str:
    """When the observations were made, as far as they say."""
    about = observations.provenance().get("modalities", {})
    said = {
        name: source["acquired"]
        for name, source in about.items()
        if isinstance(source, dict) and source.get("acquired")
    }
    return ", ".join(f"{name} {when}" for name, when in said.items()) or "no dates given"


def _between(observations: Observations, trained: TrainedOn) -> Keep:
    """New places in blocks that were trained on."""
    seen = {place.tobytes() for place in observations.locations(trained.locations, trained.seed)}

    def keep(lonlat: Float[np.ndarray, "place 2"]) -> Bool[np.ndarray, " place"]:
        new = np.array([place.tobytes() not in seen for place in lonlat], bool)
        fresh: np.ndarray = new & ~trained.apart(lonlat)
        return fresh

    return keep
