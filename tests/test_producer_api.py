"""The producer's functions for notebooks: the guide's example, and what `encode` refuses."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.installed_fields import install
from support.training_runs import model_settings

from unigeo import client
from unigeo.producer.api import Embedder, UniGeoCLIP, plan
from unigeo.producer.encoders.model import save_model
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.text import train_tokenizer
from unigeo.producer.encoders.tower_settings import ClassesSettings, ImageSettings
from unigeo.schemas.errors import ModelError, UnigeoError

GUIDE = Path(__file__).parent.parent / "docs/producer_api.md"


@pytest.mark.slow
def test_the_example_of_the_guide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, str(GUIDE), "exec"), names)
    for name in ("here", "seen", "above", "said"):
        assert np.linalg.norm(names[name], axis=1) == pytest.approx(1, abs=1e-5)
    halved = UniGeoCLIP.from_pretrained("half").encode("coordinate", names["points"])
    np.testing.assert_allclose(halved, names["here"], atol=2e-2)
    sizes = [Path(name, "model.safetensors").stat().st_size for name in ("half", "model")]
    assert sizes[0] < 0.6 * sizes[1]
    field = client.open_field("field.zarr")
    assert field.verify().ok
    off_grid = field.encode(names["points"]).to_numpy()[:, -names["here"].shape[1] :]
    np.testing.assert_allclose(off_grid.astype(float), names["here"], atol=1e-3)
    assert capsys.readouterr().err == ""
    with pytest.raises(UnigeoError, match="holds another product"):
        plan((-106, 38, -102, 41), names["observations"], model="model", resolution_m=40_000,
             out="field.zarr")  # fmt: skip


SIZE: dict[str, Any] = {"width": 8, "depth": 1, "heads": 2, "rows": 16, "cols": 16, "patch": 8}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    folder = tmp_path_factory.mktemp("model") / "model"
    small = model_settings()
    towers = dict(small.towers) | {
        "light": ImageSettings(
            **SIZE, channels=2, dtype="float32", pixel_mean=(0.1, 0.2), pixel_std=(1.0, 1.0)
        ),
        "cover": ClassesSettings(**SIZE, classes=("wood", "water")),
        "sized": ImageSettings(**SIZE, sides_m=(240.0,)),
    }
    settings_of_all = ModelSettings(dimension=32, towers=towers)
    assert settings_of_all.text is not None
    tokenizer = train_tokenizer(["a place"], settings_of_all.text)
    save_model(UniGeoCLIP(settings_of_all), tokenizer, folder)
    yield UniGeoCLIP.from_pretrained(folder)


def valid(model: Embedder, modality: str, count: int = 3) -> Any:
    """Observations that the model takes."""
    rng = np.random.default_rng(0)
    shape = (count, *model.model.settings.shape(modality))
    match model.model.settings.encoder(modality):
        case "coordinate":
            return rng.uniform(-80, 80, shape)
        case "text":
            return ["A place.", "", "Wood"][:count]
        case "classes":
            return rng.integers(0, 3, shape)
        case "surface":
            return rng.uniform(0, 300, shape)
    if model.model.settings.number_type(modality) == "float32":
        return rng.normal(size=shape)
    return rng.integers(0, 256, shape, np.uint8)


def test_every_modality_is_encoded_as_in_training(model: Embedder) -> None:
    for modality in model.modalities:
        given_ = valid(model, modality)
        vectors = model.encode(modality, given_, batch=2)
        assert vectors.shape == (3, 32) and vectors.dtype == np.float32
        if modality == "text":
            continue
        kind = model.model.settings.number_type(modality)
        inputs = torch.from_numpy(np.asarray(given_).astype(kind))
        with torch.inference_mode():
            expected = model.model.encode(modality, inputs).numpy()
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
        np.testing.assert_allclose(model.encode(modality, inputs), expected, atol=1e-5)
        assert model.encode(modality, given_[:0]).shape == (0, 32)


BAD: list[tuple[str, Any, str]] = [
    ("sar", lambda good: good, "no encoder of 'sar'"),
    ("aerial", lambda good: good / 255, "numbers from 0 to 1"),
    ("aerial", lambda good: good.astype(np.float64), "not float64"),
    ("aerial", lambda good: good.astype(int) - 1, "these go from -1"),
    ("aerial", lambda good: good.astype(int) * 257, "go from 0 to 65535"),
    ("aerial", lambda good: (good > 99).astype(int), "of 0 and 1"),
    ("aerial", lambda good: np.moveaxis(good, 1, -1), "channels come first"),
    ("aerial", lambda good: good[0], "put a single one into a list"),
    ("aerial", lambda good: good[:, :, :8], "takes an array of shape"),
    ("aerial", lambda good: good.astype(str), "takes numbers"),
    ("dsm", lambda good: good * np.inf, "heights in metres"),
    ("dsm", lambda good: good - 9999, "heights in metres"),
    ("light", lambda good: good + np.nan, "finite numbers"),
    ("cover", lambda good: good + 1, "numbers of classes from 0 .* to 2, not 3"),
    ("cover", lambda good: good + 0.5, "numbers of classes"),
    ("coordinate", lambda good: good * 10, "lon|lat|degrees"),
    ("coordinate", lambda good: good * np.nan, "point|row|position"),
    ("aerial", lambda good: [good[0], good[0][:, :5]], "observations of one shape"),
    ("aerial", lambda good: np.ma.masked_greater(good, 100), "masked values"),
    ("text", lambda good: 5, "a list of texts, not 5"),
    ("text", lambda good: good[0], "a list of texts, not one"),
    ("text", lambda good: [*good, None], "number 3 is None"),
]


@pytest.mark.parametrize(("modality", "spoil", "words"), BAD)
def test_what_would_give_other_vectors_is_refused_in_a_sentence(
    modality: str, spoil: Any, words: str, model: Embedder
) -> None:
    good = valid(model, modality if modality in model.modalities else "aerial")
    with pytest.raises(UnigeoError, match=words) as refused:
        model.encode(modality, spoil(good))
    assert len(str(refused.value).splitlines()) == 1


@settings(max_examples=30)
@given(side=st.floats(1, 10_000))
def test_another_size_on_the_ground_is_refused(side: float, model: Embedder) -> None:
    chips = valid(model, "sized", 1)
    if abs(side / 240 - 1) <= 1e-3:
        assert len(model.encode("sized", chips, ground_m=side)) == 1
    else:
        with pytest.raises(ModelError, match="learned sized patches of 240 m on the ground"):
            model.encode("sized", chips, ground_m=side)
    assert len(model.encode("aerial", valid(model, "aerial", 1), ground_m=side)) == 1  # not known


def test_coordinates_have_no_size_on_the_ground(model: Embedder) -> None:
    with pytest.raises(ModelError, match="no size on the ground"):
        model.encode("coordinate", [(0.0, 0.0)], ground_m=10)
    with pytest.raises(ModelError, match="batch must be at least 1"):
        model.encode("coordinate", [(0.0, 0.0)], batch=0)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"settings\.json is missing"):
        UniGeoCLIP.from_pretrained(tmp_path)


def test_a_model_is_opened_by_the_name_of_an_installed_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", "lakes-1", tmp_path)
    settings_of_one = ModelSettings(
        dimension=32, towers={"coordinate": model_settings().coordinate}
    )
    folder = tmp_path / "site/fields_of_lakes_1/fields/lakes-1/model"
    save_model(UniGeoCLIP(settings_of_one), None, folder)
    monkeypatch.syspath_prepend(tmp_path / "site")
    expected = UniGeoCLIP.from_pretrained(folder).encode("coordinate", [(3.0, 4.0)])
    named = UniGeoCLIP.from_pretrained("lakes-1").encode("coordinate", [(3.0, 4.0)])
    np.testing.assert_array_equal(named, expected)
    with pytest.raises(ModelError, match="missing"):
        UniGeoCLIP.from_pretrained("lakes-2")
