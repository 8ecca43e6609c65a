"""Texts of locations are short, relevant and true, and without names if the rules say so."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin
from support.catalogues import Services, point
from transformers import Siglip2Tokenizer

from unigeo.producer.encoders.text import pretrained_tokenizer, train_tokenizer
from unigeo.producer.encoders.tower_settings import TextSettings
from unigeo.producer.sources.map_features import (
    Feature,
    feature_from_tags,
    features_from_geojson,
    query_ogc_features,
    query_overpass,
    read_features,
)
from unigeo.producer.sources.set_description import TextRules
from unigeo.producer.sources.texts import TextSource, open_text_source
from unigeo.producer.sources.token_counts import estimate_tokens, token_counter
from unigeo.producer.sources.web_requests import WebClient
from unigeo.schemas.errors import ObservationsError, StoreError

KINDS = ("primary school", "bakery shop", "pond", "house building", "residential road", "park")
NAME = "Kilimanjaro"


def feature(k: int, name: str = "") -> Feature:
    return Feature(KINDS[k % 6], (5, 4, 3, 1, 1, 4)[k % 6], 5.0 + 1e-4 * (k % 9), 52.0, name)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 60), max_size=40), st.sampled_from(["keep", "drop"]),
       st.integers(12, 64), st.integers(0, 9))  # fmt: skip
def test_a_text_is_short_and_without_names_if_so_set(
    which: list[int], names: str, tokens: int, seed: int
) -> None:
    features = [feature(k, f"{NAME} {k}") for k in which]
    features.append(Feature("town", 4, 5.02, 52.0, NAME, 9000, "town"))
    rules = TextRules(kind="files", names=names, tokens=tokens)  # type: ignore[arg-type]
    source = TextSource(rules, lambda *_: features, estimate_tokens, seed)
    text = source.observe(np.array([(5.0, 52.0)])).findings[0].value
    assert text is None or estimate_tokens(text) <= tokens
    if names == "drop" and text:
        assert NAME not in text and not re.search(r"\d", text)
    again = source.observe(np.array([(5.3, 52.0), (5.0, 52.0)])).findings[1].value
    assert again == text  # whatever other locations are described with it


def test_the_most_relevant_facts_come_first_and_stay_longest() -> None:
    features = [feature(k) for k in range(6)]
    rules = TextRules(kind="files", tokens=64)
    source = TextSource(rules, lambda *_: features, estimate_tokens, 0)
    text = source.observe(np.array([(5.0, 52.0)])).findings[0].value
    assert text.index("school") < text.index("pond") < text.index("road")
    short = TextSource(
        rules.model_copy(update={"tokens": 16}), lambda *_: features, estimate_tokens, 0
    )
    kept = short.observe(np.array([(5.0, 52.0)])).findings[0].value
    assert "school" in kept and "road" not in kept


def test_nothing_to_say_is_a_reason() -> None:
    source = TextSource(TextRules(kind="files"), lambda *_: [], estimate_tokens, 0)
    features = source.observe(np.array([(5.0, 52.0)])).findings[0]
    assert features.value is None and features.reason == "nothing to say"


def test_tags_of_three_catalogues_are_understood() -> None:
    assert feature_from_tags({"amenity": "place_of_worship", "name": "St  Mary"}, 1, 2) == Feature(
        "place of worship", 5, 1, 2, "St Mary"
    )
    overture = feature_from_tags(
        {"categories": {"primary": "coffee_shop"}, "names": {"primary": "A"}}, 1, 2
    )
    assert overture == Feature("coffee shop", 5, 1, 2, "A")
    town = feature_from_tags({"feature_code": "PPL", "name": "B", "population": "7000"}, 1, 2)
    assert town is not None and town.settlement == "town" and town.population == 7000
    assert feature_from_tags({"building": "yes"}, 1, 2) == Feature("building", 1, 1, 2)
    assert feature_from_tags({"highway": "residential"}, 1, 2) == Feature("street", 1, 1, 2)
    assert feature_from_tags({"source": "survey"}, 1, 2) is None
    assert features_from_geojson([{"geometry": None}, {"geometry": {"type": "Point"}}]) == []


def test_features_are_read_page_by_page(tmp_path: Path) -> None:
    with Services(tmp_path) as services:
        for k in range(450):
            services.features.append(point(5 + k * 1e-5, 52, {"amenity": "school"}))
        features = query_ogc_features(
            WebClient(1000), f"{services.url}/features/items", (4.9, 51.9, 5.1, 52.1)
        )
        assert len(features) == 450 and services.counts["features"] == 3
        services.faults.append(["features/*", 404, 1])
        with pytest.raises(ObservationsError, match="no items of features"):
            query_ogc_features(
                WebClient(1000), f"{services.url}/features/items", (4.9, 51.9, 5.1, 52.1)
            )


NEAR = [(5 + k * 0.01, 52.0, 5.005 + k * 0.01, 52.005) for k in range(10)]
WIDE = (4.5, 51.5, 5.5, 52.5)


def test_overpass_is_queried_for_near_features_and_for_distant_towns(tmp_path: Path) -> None:
    with Services(tmp_path) as services:
        rng = np.random.default_rng(0)
        for lon, lat in rng.uniform((4.9, 51.95), (5.15, 52.05), (800, 2)):
            services.features.append(point(lon, lat, {"shop": "bakery", "name": "Oak"}))
        services.features.append(point(5.4, 52.4, {"place": "town", "name": "Far"}))
        services.features.append(point(5.4, 52.4, {"building": "church"}))
        web, url = WebClient(1000, first_wait_s=0.001), f"{services.url}/overpass/interpreter"
        services.faults.append(["overpass/*", 429, 2])
        features = query_overpass(web, url, NEAR, WIDE)
        assert services.counts["overpass"] == 4  # two turned away, one for towns, one for the rest
        shops = [one for one in features if one.kind == "bakery shop"]
        inside = [
            one for one in services.features[:800]
            if any(b[0] <= one["geometry"]["coordinates"][0] <= b[2]
                   and b[1] <= one["geometry"]["coordinates"][1] <= b[3] for b in NEAR)
        ]  # fmt: skip
        assert len(shops) == len(inside) > 5
        assert [one.name for one in features if one.settlement] == ["Far"] and len(features) == len(
            shops
        ) + 1
        # An answer that is broken off comes with status 200.
        services.statements = 3
        assert query_overpass(web, url, NEAR, WIDE) == features
        services.statements = 0
        with pytest.raises(StoreError, match="timed out"):
            query_overpass(web, url, NEAR, WIDE)
        with pytest.raises(ObservationsError, match="no Overpass interpreter"):
            query_overpass(web, f"{services.url}/nothing", NEAR, WIDE)


def test_a_dump_of_geonames_names_the_town_and_how_far_it_is(tmp_path: Path) -> None:
    lines = [
        (1, "Utrecht", 52.09, 5.12, "P", "PPLA", 290_529),
        (2, "Zeist", 52.09, 5.233, "P", "PPL", 61_250),
        (3, "Old Mill", 52.0, 5.0, "S", "ML", 0),
    ]
    rows = [
        f"{k}\t{name}\t{name}\t\t{lat}\t{lon}\t{feature}\t{code}\tNL\t\t\t\t\t\t{people}\t\t2\t"
        "Europe/Amsterdam\t2024-01-01"
        for k, name, lat, lon, feature, code, people in lines
    ]
    (tmp_path / "NL.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    rules = TextRules(kind="files", files=(str(tmp_path / "NL.txt"),), names="keep")
    source = open_text_source(rules, 0)
    lonlat = np.array([(5.12, 52.0), (5.12, 52.09), (6.5, 52.0)])
    near, inside, far = (one.value for one in source.observe(lonlat).findings)
    assert near == "About 10 km south of Utrecht, a city."
    assert inside == "In or next to Utrecht, a city." and far is None
    dropped = (
        open_text_source(rules.model_copy(update={"names": "drop"}), 0).observe(lonlat).findings
    )
    assert dropped[0].value == "Not far from a city."


def test_overture_is_read_from_a_disk_and_from_a_server(tmp_path: Path) -> None:
    table = pd.DataFrame({
        "geometry": shapely.to_wkb([shapely.Point(5, 52), shapely.box(5, 52, 5.002, 52.002)]),
        "names": [{"primary": "Cafe A"}, {"primary": None}],
        "categories": [{"primary": "coffee_shop"}, {"primary": "lake"}],
    })  # fmt: skip
    table.to_parquet(tmp_path / "places.parquet")
    expected = [Feature("coffee shop", 5, 5, 52, "Cafe A"), Feature("lake", 5, 5.001, 52.001)]
    assert read_features(str(tmp_path / "places.parquet")) == expected
    with Services(tmp_path) as services:
        assert read_features(f"{services.url}/places.parquet?v=1") == expected
        with pytest.raises(ObservationsError, match="HTTP 404"):
            read_features(f"{services.url}/none.parquet")
    (tmp_path / "bare.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ObservationsError, match="neither geometry nor lon and lat"):
        read_features(str(tmp_path / "bare.csv"))


def test_land_cover_is_the_most_frequent_class_round_a_location(tmp_path: Path) -> None:
    values = np.full((200, 200), 40, np.uint8)
    values[:, 100:] = 80
    values[:20, :20] = 0  # no data
    with rasterio.open(
        tmp_path / "cover.tif", "w", driver="GTiff", width=200, height=200, count=1, dtype="uint8",
        crs=32631, transform=from_origin(600_000, 5_800_000, 10, 10), nodata=0,
    ) as raster:  # fmt: skip
        raster.write(values, 1)
    to = pyproj.Transformer.from_crs(32631, 4326, always_xy=True)
    positions = [
        (600_600, 5_799_000),
        (601_400, 5_799_000),
        (601_950, 5_799_000),
        (590_000, 5_799_000),
    ]
    lonlat = np.array([to.transform(x, y) for x, y in positions])
    rules = TextRules(kind="files", landcover=str(tmp_path / "cover.tif"), radius_m=200)
    texts = [one.value for one in open_text_source(rules, 0).observe(lonlat).findings]
    assert texts == ["The ground is mostly cropland.", *["The ground is mostly water."] * 2, None]
    with pytest.raises(ObservationsError, match="no raster of land cover"):
        open_text_source(rules.model_copy(update={"landcover": "none.tif"}), 0)


@pytest.mark.parametrize("form", ["model", "checkpoint"])
def test_tokens_are_those_of_the_tower(tmp_path: Path, form: str) -> None:
    """A tower's tokenizer pads and truncates, which must not hide a text that is too long."""
    features = [feature(k) for k in range(6)]
    sentences = ["a place with a primary school", "several ponds and a park"] * 9
    settings = TextSettings(tokens=32, vocabulary=320, width=8, depth=1, heads=1)
    if form == "model":
        tokenizer = train_tokenizer(sentences, settings)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
    else:
        learned = Siglip2Tokenizer(add_eos_token=True, add_bos_token=False)
        learned.train_new_from_iterator(sentences, vocab_size=320).save_pretrained(tmp_path)
        tokenizer = pretrained_tokenizer(replace(settings, pretrained=str(tmp_path)))
    count = token_counter(tmp_path)
    rules = TextRules(kind="files", tokens=32, tokenizer=str(tmp_path))
    source = TextSource(rules, lambda *_: features, count, 0)
    assert count("A place with a primary school. " * 9) > 32
    text = source.observe(np.array([(5.0, 52.0)])).findings[0].value
    assert text and count(text) <= 32
    tokenizer.no_truncation()
    ids = tokenizer.encode(text.lower()).ids  # padded to the tower's length
    assert len(ids) == 32
    assert "school" in text and "road" not in text
    with pytest.raises(ObservationsError, match="no tokenizer"):
        token_counter(tmp_path / "nothing")
