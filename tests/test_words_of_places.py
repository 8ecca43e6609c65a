"""What is said of a place: short, telling, true, and without names where that is asked."""

import re
from pathlib import Path

import numpy as np
import pytest
from catalogues import Services, point
from hypothesis import given, settings
from hypothesis import strategies as st

from unigeo.producer.sources.features import (
    Feature,
    ask_features,
    ask_overpass,
    of_geojson,
    of_tags,
)
from unigeo.producer.sources.fetching import Web
from unigeo.producer.sources.table import Words
from unigeo.producer.sources.words import WordSource, count_words

KINDS = ("primary school", "bakery shop", "pond", "house building", "residential road", "park")
NAME = "Kilimanjaro"


def feature(k: int, name: str = "") -> Feature:
    return Feature(KINDS[k % 6], (5, 4, 3, 1, 1, 4)[k % 6], 5.0 + 1e-4 * (k % 9), 52.0, name)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 60), max_size=40), st.sampled_from(["keep", "drop"]),
       st.integers(12, 64), st.integers(0, 9))  # fmt: skip
def test_a_text_is_short_and_without_names_where_asked(
    which: list[int], names: str, tokens: int, seed: int
) -> None:
    known = [feature(k, f"{NAME} {k}") for k in which]
    known.append(Feature("town", 4, 5.02, 52.0, NAME, 9000, "town"))
    about = Words(kind="files", names=names, tokens=tokens)  # type: ignore[arg-type]
    source = WordSource(about, lambda box: known, count_words, seed)
    text = source.observe(np.array([(5.0, 52.0)])).found[0].value
    assert text is None or count_words(text) <= tokens
    if names == "drop" and text:
        assert NAME not in text and not re.search(r"\d", text)
    again = source.observe(np.array([(5.3, 52.0), (5.0, 52.0)])).found[1].value
    assert again == text  # whatever other places are asked with it


def test_the_most_telling_facts_come_first_and_stay_longest() -> None:
    known = [feature(k) for k in range(6)]
    about = Words(kind="files", tokens=64)
    source = WordSource(about, lambda box: known, count_words, 0)
    text = source.observe(np.array([(5.0, 52.0)])).found[0].value
    assert text.index("school") < text.index("pond") < text.index("road")
    short = WordSource(about.model_copy(update={"tokens": 16}), lambda box: known, count_words, 0)
    kept = short.observe(np.array([(5.0, 52.0)])).found[0].value
    assert "school" in kept and "road" not in kept


def test_nothing_to_say_is_a_reason() -> None:
    source = WordSource(Words(kind="files"), lambda box: [], count_words, 0)
    found = source.observe(np.array([(5.0, 52.0)])).found[0]
    assert found.value is None and found.reason == "nothing to say"


def test_tags_of_three_catalogues_are_understood() -> None:
    assert of_tags({"amenity": "place_of_worship", "name": "St  Mary"}, 1, 2) == Feature(
        "place of worship", 5, 1, 2, "St Mary"
    )
    overture = of_tags({"categories": {"primary": "coffee_shop"}, "names": {"primary": "A"}}, 1, 2)
    assert overture == Feature("coffee shop", 5, 1, 2, "A")
    town = of_tags({"feature_code": "PPL", "name": "B", "population": "7000"}, 1, 2)
    assert town is not None and town.settled == "town" and town.people == 7000
    assert of_tags({"building": "yes"}, 1, 2) == Feature("building", 1, 1, 2)
    assert of_tags({"highway": "residential"}, 1, 2) == Feature("street", 1, 1, 2)
    assert of_tags({"source": "survey"}, 1, 2) is None
    assert of_geojson([{"geometry": None}, {"geometry": {"type": "Point"}}]) == []


def test_features_are_read_page_by_page_and_from_overpass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Services(tmp_path) as services:
        for k in range(450):
            services.features.append(point(5 + k * 1e-5, 52, {"amenity": "school"}))
        found = ask_features(Web(1000), f"{services.url}/features/items", (4.9, 51.9, 5.1, 52.1))
        assert len(found) == 450 and services.counts["features"] == 3
    web = Web(1000)
    asked = {}

    def answer(url: str, *, form: dict) -> dict:
        asked.update(form)
        return {"elements": [
            {"type": "node", "lon": 5, "lat": 52, "tags": {"shop": "bakery"}},
            {"type": "way", "center": {"lon": 5, "lat": 52}, "tags": {"building": "church"}},
            {"type": "way", "tags": {"building": "church"}},
        ]}  # fmt: skip

    monkeypatch.setattr(web, "json", answer)
    kinds = [one.kind for one in ask_overpass(web, "http://x", (4.9, 51.9, 5.1, 52.1))]
    assert kinds == ["bakery shop", "church building"]
    assert "(51.900000,4.900000,52.100000,5.100000)" in asked["data"]
