"""Phrases to search for, and the texts that are encoded for each of them.

In training a model sees a phrase within longer texts. So each phrase has several texts, and the
mean of their vectors keeps what they have in common.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.synthetic.scene_texts import statements
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.publishing.text_phrases import phrases_in, sampled_texts
from unigeo.schemas.store.concepts import LEAST_CENTRED

if TYPE_CHECKING:
    from unigeo.producer.encoders.model_settings import ModelSettings

WORLD_TEXTS = 6
"""Number of texts for each phrase of the synthetic world."""


@dataclass(frozen=True)
class Phrase:
    """A phrase, and texts that contain it."""

    label: str
    """The phrase itself, as a reader sees it."""
    texts: tuple[str, ...]
    """Texts to encode; their mean vector stands for the phrase."""


def phrases_for(
    observations: Observations, settings: "ModelSettings | None" = None
) -> list[Phrase]:
    """Return a few thousand phrases, in the vocabulary of the texts that the model trained on.

    A pretrained text tower, or one whose texts are not at hand, gets phrases of buildings, land
    cover, water and climate.

    Args:
        observations: of which the texts are.
        settings: of the model that encodes them.
    """
    if observations.name == World.name:
        return list(_phrases_of_world())
    text = None if settings is None else settings.text
    if settings is not None and text is not None and text.pretrained is None:
        found = phrases_in(sampled_texts(observations, settings.text_modalities[0]))
        if len(found) >= LEAST_CENTRED:
            return [Phrase(label, texts) for label, texts in found.items()]
    return list(_phrases_of_earth())


def _phrases_of_earth() -> Iterator[Phrase]:
    """Yield kinds of buildings, land cover, water and climate, alone and in each setting."""
    templates = ("{}", "a place with {}", "aerial view of {}")
    for thing in (*_SETTLED, *_BUILT, *_FARMED, *_WILD, *_WATER, *_CLIMATE):
        for setting in ("", *_SETTINGS):
            label = f"{thing} {setting}".strip()
            yield Phrase(label, tuple(template.format(label) for template in templates))


def _phrases_of_world() -> Iterator[Phrase]:
    """Yield each statement of the synthetic world, and pairs of statements of different kinds."""
    kinds = statements()
    rng = np.random.default_rng(0)
    chosen = [{kind: text} for kind, texts in enumerate(kinds) for text in texts]
    for one, two in combinations(_PAIRED, 2):
        chosen += [{one: first, two: second} for first in kinds[one] for second in kinds[two]]
    for fixed in chosen:
        label = ", ".join(fixed.values())
        yield Phrase(label, tuple(_text(kinds, fixed, rng) for _ in range(WORLD_TEXTS)))


_PAIRED = (0, 1, 4, 6, 7, 8, 10)
"""Kinds of statement that are short enough to search for in pairs."""


def _text(
    kinds: tuple[tuple[str, ...], ...], fixed: dict[int, str], rng: np.random.Generator
) -> str:
    """Return a text of the synthetic world; the statements that are not fixed are drawn."""
    chosen = [
        fixed.get(kind) or texts[int(rng.integers(len(texts)))] for kind, texts in enumerate(kinds)
    ]
    order = rng.permutation(len(kinds)).tolist()
    return ". ".join(chosen[kind].capitalize() for kind in order) + "."


_SETTLED = (
    "downtown", "skyscrapers", "apartment blocks", "row houses", "single-family houses",
    "a suburb", "a village", "a small town", "scattered farmhouses", "a trailer park",
    "a gated community", "an informal settlement", "narrow streets", "wide avenues",
)  # fmt: skip
_BUILT = (
    "a shopping centre", "a warehouse district", "a factory", "a refinery", "a power station",
    "solar panels", "wind turbines", "a quarry", "an open-pit mine", "a landfill", "an airport",
    "a railway yard", "a motorway junction", "a harbour", "a container port", "a dam",
    "a university campus", "a school with a playing field", "a hospital", "a stadium", "a prison",
    "a cemetery", "a golf course", "a city park", "a car park", "swimming pools", "greenhouses",
    "an oil field",
)  # fmt: skip
_FARMED = (
    "wheat fields", "maize fields", "rice paddies", "cotton fields", "soybean fields",
    "a vineyard", "an orchard", "pasture with cattle", "hay meadows", "irrigated circles",
    "small fields with hedges", "terraced fields", "a feedlot", "a plantation",
)  # fmt: skip
_WILD = (
    "dense forest", "conifer forest", "broadleaf forest", "mixed forest", "scattered trees",
    "a clear-cut", "burnt forest", "shrubland", "grassland", "savanna", "tundra", "bare rock",
    "sand dunes", "badlands", "a canyon", "steep cliffs", "a volcano", "lava fields", "a glacier",
    "snow", "high mountains", "rolling hills", "a wide plain", "a narrow valley", "a plateau",
)  # fmt: skip
_WATER = (
    "a river", "a river delta", "a meandering stream", "a lake", "a reservoir", "a pond",
    "a marsh", "a swamp", "mangroves", "a peat bog", "a sandy beach", "a rocky coast",
    "an estuary", "tidal flats", "a lagoon", "a salt flat", "a canal",
)  # fmt: skip
_CLIMATE = (
    "hot and dry country", "warm and humid country", "cool and rainy country",
    "cold country", "mild winters", "long winters", "red soil", "black soil", "sandy soil",
)  # fmt: skip
_SETTINGS = (
    "in the mountains", "in hills", "on a plain", "in a valley", "on the coast", "on an island",
    "by a river", "by a lake", "in a desert", "in a forest", "among fields", "in a city centre",
    "in the suburbs", "at the edge of a city", "near a motorway", "near a railway",
    "in a hot climate", "in a cold climate", "far from any town", "in an old town",
)  # fmt: skip
