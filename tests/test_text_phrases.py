"""Phrases of a store, taken from the texts that its model learned."""

import re

import numpy as np

from unigeo.producer.encoders.model_settings import from_json, to_json
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.observations.forms import default_forms
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.publishing.phrases import phrases_for
from unigeo.producer.publishing.text_phrases import phrases_in
from unigeo.schemas.store.concepts import LEAST_CENTRED

COLOURS, SOILS = ("red", "black", "grey", "white", "pale"), "abcdefghijklmnopqrstuvwxyz"
KINDS = [f"{colour} {soil}" for colour in COLOURS for soil in SOILS]
TEXTS = [
    f"A farm on {KINDS[n % len(KINDS)]} soil, {n} km to the north of the river. It has cattle."
    for n in range(9 * len(KINDS))
]


class Farms(World):
    """Locations with texts of few kinds; some have none."""

    name = "farms"

    def texts(self, lonlat: np.ndarray, modality: str = "text") -> list[str | None]:
        return [TEXTS[n] if n < len(TEXTS) else None for n in range(len(lonlat))]


def test_a_phrase_is_a_run_of_words_that_some_texts_have_and_most_have_not() -> None:
    found = phrases_in(TEXTS)
    assert {"farm on red a soil", "farm on pale"} <= set(found)
    for phrase, texts in found.items():
        word = re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)")
        having = [text for text in TEXTS if word.search(text)]
        assert set(texts) <= set(having) and len(texts) == min(len(having), 200)
        assert 8 <= len(having) <= 0.25 * len(TEXTS)
        assert not re.search(r"\d|^(a|on|the) | (a|on|the)$", phrase)
    # What is in every text tells nothing apart, and what is counted is no phrase.
    assert not {"cattle", "farm", "river", "km", "soil"} & set(found)
    # A phrase that always stands within a longer one is not listed beside it.
    assert "red a soil" not in found and "red" not in found
    assert list(found) == list(phrases_in(TEXTS))


def test_a_tower_without_pretraining_gets_the_phrases_of_its_texts() -> None:
    settings = tiny(default_forms({}, text=True), seed=0)
    phrases = {phrase.label: phrase.texts for phrase in phrases_for(Farms(), settings)}
    assert phrases == phrases_in(TEXTS) and len(phrases) >= LEAST_CENTRED
    told = to_json(settings)
    pretrained = from_json(told | {"text": told["text"] | {"pretrained": "x"}})
    silent = tiny(default_forms({}, text=False), seed=0)
    for other in (pretrained, silent, None):
        assert "a golf course" in {phrase.label for phrase in phrases_for(Farms(), other)}
