"""Words in a field: concepts written by the producer, found by the client without torch."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from support import commands, stores

from unigeo import client
from unigeo.client.areas.subset import cut_field
from unigeo.client.field.search import Concepts as Phrases
from unigeo.client.field.search import load_concepts
from unigeo.producer.observations.forms import default_forms
from unigeo.producer.publishing.concepts import ConceptVectors
from unigeo.producer.publishing.phrases import Phrase, phrases_for
from unigeo.producer.publishing.publish import publish
from unigeo.schemas.errors import LayoutError, WordsError, WordsWarning
from unigeo.schemas.store.concepts import LEAST_CENTRED
from unigeo.schemas.store.quantization import dequantize, quantize
from unigeo.schemas.store.text_arrays import texts_to_bytes

PLACES = {
    "Dense forest": (-10.0, 3.0),
    "dense forest by the sea": (-3.0, -9.0),
    "City": (12.0, 8.0),
}


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A field whose phrases have the vectors of some of its places."""
    path = tmp_path_factory.mktemp("worded") / "field.zarr"
    group, grid, layout = stores.begin(path)
    stores.fill(group, grid, layout)
    vectors, _ = stores.encoder()("aerial", np.array(list(PLACES.values())))
    publish(group, concepts=ConceptVectors(tuple(PLACES), quantize(vectors)))
    return path


@pytest.mark.parametrize("words", PLACES)
def test_a_phrase_finds_its_cell(worded: Path, words: str) -> None:
    field = client.open_field(worded)
    found = field.search(words, count=5)
    home = field.grid.cells(np.array([PLACES[words]]))
    best = field.grid.cells(found[["lon", "lat"]].to_numpy())
    assert np.abs(best - home).max(axis=1).min() <= 1
    assert found["similarity"][0] > 0.99
    again = field.search(words.upper() + "!", as_="map")
    assert float(again.max()) == pytest.approx(found["similarity"][0])


def test_words_alone_find_the_phrases_that_say_most_of_them(worded: Path) -> None:
    concepts = client.open_field(worded).concepts
    assert concepts.phrases == tuple(PLACES)
    assert concepts.find("sea").phrases == ("dense forest by the sea",)
    assert concepts.find("a forest").phrases == ("Dense forest",)
    with pytest.warns(WordsWarning) as told:
        found = client.open_field(worded).search("city, near the purple forests")
    said = [str(one.message) for one in told]
    assert said[0].startswith("no concept has the word 'purple'")
    assert (
        said[1].startswith("the concepts that match best ('City') lack 'forest'") and not said[2:]
    )
    assert found.attrs["unknown"] == ["purple"]
    assert set(found.attrs["phrases"]) <= set(PLACES)
    for wrong in (None, 5, ["city", "forest"]):
        with pytest.raises(WordsError, match="words are text, such as 'dense forest', not a"):
            concepts.find(wrong)
    asked = concepts.find("city, near the purple forests")
    assert asked.unknown == ("purple",) and asked.left_out == ("forest",)
    assert np.linalg.norm(asked.vector) == pytest.approx(1)


def test_equally_good_phrases_are_averaged() -> None:
    vectors = np.eye(3, dtype=np.float32)
    concepts = Phrases(("red roof", "red soil", "blue sky"), vectors)
    found = concepts.find("red")
    assert found.phrases == ("red roof", "red soil")
    assert found.vector == pytest.approx([0.5**0.5, 0.5**0.5, 0])
    with pytest.raises(WordsError, match=r"none of the field's 3 concepts.*'blue sky'"):
        concepts.find("blu skie")


def test_a_field_without_concepts_says_so(gulf: Path) -> None:
    with pytest.raises(LayoutError, match=r"no group 'concepts'.*field\.similar"):
        client.open_field(gulf).search("forest")
    assert "concepts" in commands.refused("search", gulf, "forest")


def test_the_command_searches(worded: Path) -> None:
    result = commands.run("search", worded, "dense", "forest", "--count", "3")
    assert result.stderr == "Searching for: Dense forest\n"
    lines = result.stdout.splitlines()
    assert lines[0] == "lon,lat,similarity,deviations" and len(lines) == 4
    assert commands.done("search", worded, "city", "--quiet", "--json").startswith("[")
    assert "none of the field's" in commands.refused("search", worded, "zebra")


def test_verify_covers_the_concepts(worded: Path) -> None:
    report = client.open_field(worded).verify()
    assert report.ok, report.problems


def test_concepts_are_means_of_the_text_encoder_s_vectors() -> None:
    import torch

    from unigeo.producer.encoders.model import UniGeoCLIP
    from unigeo.producer.encoders.model_settings import from_json, to_json
    from unigeo.producer.encoders.presets import tiny
    from unigeo.producer.encoders.text import tokenize, tokenizer_for
    from unigeo.producer.observations.synthetic.world import World
    from unigeo.producer.publishing.concepts import concepts_of

    settings = tiny(default_forms({}, text=True), seed=0)
    model = UniGeoCLIP(settings).eval()
    assert settings.text is not None
    phrases = [Phrase("one", ("wooded. hilly.", "hilly. flat.")), Phrase("two", ("orchard.",))]
    tokenizer = tokenizer_for(settings.text, [text for p in phrases for text in p.texts])
    concepts = concepts_of(model, tokenizer, phrases)
    assert concepts is not None and concepts.phrases == ("one", "two")
    with torch.inference_mode():
        vectors = [
            model.encode("text", tokenize(tokenizer, list(p.texts))).numpy().sum(axis=0)
            for p in phrases
        ]
    for stored, exact in zip(dequantize(concepts.vectors), vectors, strict=True):
        assert stored @ exact / np.linalg.norm(exact) > 0.9998
    assert (
        concepts_of(UniGeoCLIP(tiny(default_forms({}, text=False), seed=0)), None, phrases) is None
    )
    many = [Phrase(one.label, one.texts[:1]) for one in phrases_for(World())[:LEAST_CENTRED]]
    seeing = tiny(default_forms({"aerial": (3, 32, 32), "dsm": (1, 32, 32)}), seed=0)
    fusing = UniGeoCLIP(from_json({**to_json(seeing), "fused": 12})).eval()
    assert fusing.fusion is not None
    torch.nn.init.normal_(fusing.fusion.maps, generator=torch.Generator().manual_seed(0))
    mapped = concepts_of(fusing, tokenizer, many, ("coordinate", "aerial", "fused"))
    assert mapped is not None and mapped.fused is not None
    with torch.inference_mode():
        told = fusing.encode("text", tokenize(tokenizer, [p.texts[0] for p in many]))
    exact = told.double().numpy()
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    names = fusing.fusion.modalities
    parts = [fusing.fusion.maps[names.index(name)].numpy() for name in ("coordinate", "aerial")]
    exact = (exact - exact.mean(axis=0)) @ (parts[0] + parts[1])
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    assert (dequantize(mapped.fused) * exact).sum(axis=1).min() > 0.9998
    for phrases_of, stored in ((many, ("coordinate",)), (many[:-1], ("coordinate", "fused"))):
        unmapped = concepts_of(fusing, tokenizer, phrases_of, stored)
        assert unmapped is not None and unmapped.fused is None
    words = [phrase.label for phrase in phrases_for(World())]
    assert len(words) == len(set(words)) > 500
    assert {"dense forest", "city centre, by the sea"} <= set(words)


@pytest.fixture(scope="module")
def coned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A field whose phrases lie in a narrow cone: they differ by a small part of their vectors."""
    path = tmp_path_factory.mktemp("coned") / "field.zarr"
    group, grid, layout = stores.begin(path)
    stores.fill(group, grid, layout)
    rng = np.random.default_rng(0)
    told = rng.normal(size=(LEAST_CENTRED, layout.bands))
    vectors = 4 * rng.normal(size=layout.bands) + told
    names = tuple(f"phrase number {k}" for k in range(LEAST_CENTRED))
    publish(group, concepts=ConceptVectors(names, quantize(vectors.astype(np.float32))))
    return path


def test_phrases_in_a_cone_are_told_apart_from_their_centre(coned: Path) -> None:
    field = client.open_field(coned)
    assert set(field.concepts.centres) == set(field.modalities)
    phrases, overlaps = field.concepts, {}
    vectors = phrases.vectors.astype(np.float64)
    for name in field.modalities:
        window = field.dataset()
        valid = window[f"{name}_status"].values == 1
        cells = dequantize(window[name].values[valid]).astype(np.float64)
        mean = cells.mean(axis=0)
        np.testing.assert_allclose(phrases.centres[name], mean, atol=0.02)  # of a sample
        seen = [cells - phrases.centres[name], vectors - vectors.mean(axis=0)]
        seen = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in seen]
        plain, centred = cells @ vectors.T, seen[0] @ seen[1].T
        for kind, scores in (("plain", plain), ("centred", centred)):
            best = [set(np.argsort(-scores[:, k])[:100].tolist()) for k in range(13)]
            pairs = [len(a & b) for k, a in enumerate(best) for b in best[:k]]
            overlaps[kind] = np.mean(pairs)
        assert overlaps["centred"] < overlaps["plain"]
        found = field.search("phrase number 7", name, as_="map").values[valid.nonzero()]
        np.testing.assert_allclose(found, centred[:, 7], atol=1e-5)
    table = field.search("phrase number 7", "aerial", count=4)
    scores = field.search("phrase number 7", "aerial", as_="map").values
    scores = scores[~np.isnan(scores)]
    expected = (np.sort(scores)[::-1][:4] - scores.mean()) / scores.std()
    np.testing.assert_allclose(table["deviations"], expected, rtol=1e-4)
    assert client.open_field(coned).leading(4).search("phrase number 7")["similarity"][0] <= 1


def test_mapped_phrases_that_are_too_few_are_refused() -> None:
    store = zarr.storage.MemoryStore()
    group = zarr.create_group(store, attributes={"unigeo": {}}).create_group("concepts")
    arrays = {"phrases": texts_to_bytes(("a", "b")), "vectors": np.ones((2, 8), np.int8)}
    for name, values in {**arrays, "fused": np.ones((1, 4), np.int8)}.items():
        group.create_array(name, data=values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's, of consolidated metadata
        zarr.consolidate_metadata(store)
    with pytest.raises(LayoutError, match="concepts/fused of it are not one vector for each"):
        load_concepts(store, "it")


def test_a_field_without_centres_is_searched_by_the_plain_cosine(worded: Path) -> None:
    field = client.open_field(worded)
    assert field.concepts.centres == {}
    match = field.concepts.find("city").vector
    plain = field.similarity(match, "aerial")
    assert field.search("city", "aerial", as_="map").equals(plain)


@pytest.fixture(scope="module")
def fusing(tmp_path_factory: pytest.TempPathFactory) -> zarr.Group:
    """A field that is not published yet, whose fused vectors are of another width."""
    layout = stores.layout_of(("coordinate", "fused"), widths={"fused": 4})
    path = tmp_path_factory.mktemp("fusing") / "field.zarr"
    group, grid, layout = stores.begin(path, layout=layout)

    def encode(modality: str, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return stores.encoder(layout.width(modality))("coordinate", lonlat)

    stores.fill(group, grid, layout, encode=encode)
    return group


def told_of(fusing: zarr.Group, to: Path, fused: np.ndarray | None) -> client.Field:
    """The field with three phrases, and their vectors as the map shows them."""
    shutil.copytree(str(fusing.store.root), to)
    group = zarr.open_group(to, mode="r+", use_consolidated=False)
    vectors = quantize(np.eye(3, 8, dtype=np.float32) + 0.1)
    mapped = None if fused is None else quantize(fused.astype(np.float32))
    publish(group, concepts=ConceptVectors(tuple(PLACES), vectors, mapped))
    return client.open_field(to)


def test_words_reach_fused_vectors_by_the_map_of_phrases(
    fusing: zarr.Group, tmp_path: Path
) -> None:
    places = np.array(list(PLACES.values()))
    seen, _ = stores.encoder(4)("coordinate", places)
    field = told_of(fusing, tmp_path / "field.zarr", seen)
    home = field.grid.cells(places[2:])
    cut = client.open_field(cut_field(field, tmp_path / "part.zarr", (-5, -5, 20, 15)))
    for part in (field, cut):
        found = part.search("city", count=1)
        best = field.grid.cells(found[["lon", "lat"]].to_numpy())
        assert np.abs(best - home).max() <= 1 and found["similarity"][0] > 0.99
        assert found.equals(part.search("city", "fused", count=1))
    leading = field.leading(3)
    exact = dequantize(quantize(seen))[2, :3]
    scores = leading.search("city", as_="map").values
    alike = leading.similarity(exact / np.linalg.norm(exact), "fused").values
    np.testing.assert_allclose(scores, alike, atol=1e-6)
    assert field.search("city", "coordinate")["similarity"][0] != found["similarity"][0]


@pytest.mark.parametrize(
    ("fused", "said"),
    [
        (None, "without its phrases by that map.*modality='coordinate'"),
        (np.eye(3, 5), "have 5 numbers, and vectors of 'fused' have 4: its publication is damaged"),
    ],
    ids=["unmapped", "too-wide"],
)
def test_fused_vectors_that_words_do_not_reach_say_why(
    fused: np.ndarray | None, said: str, fusing: zarr.Group, tmp_path: Path
) -> None:
    field = told_of(fusing, tmp_path / "field.zarr", fused)
    with pytest.raises(LayoutError, match=said):
        field.search("city", "fused")
    if fused is None:
        assert field.search("city").equals(field.search("city", "coordinate"))
