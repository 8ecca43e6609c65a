"""The producer's functions for notebooks: the guide's example, and what `encode` refuses."""

import re
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.installed_fields import install
from support.training_runs import model_settings

from unigeo import client
from unigeo.producer.api import (
    ClassesEncoder,
    CoordinateEncoder,
    Embedder,
    ImageEncoder,
    LocationDataset,
    SurfaceEncoder,
    TextEncoder,
    UniGeoCLIP,
    open_observations,
    plan,
    train,
)
from unigeo.producer.encoders.modality_encoder import ModalityEncoder
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.satclip import SatclipEncoder
from unigeo.producer.encoders.saved_models import read_settings, save_model
from unigeo.producer.encoders.text import train_tokenizer
from unigeo.producer.encoders.tower_settings import ClassesSettings, ImageSettings
from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.synthetic.world import World
from unigeo.schemas.errors import ModelError, PointsError, UnigeoError

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


def test_changed_settings_are_values_of_python(tmp_path: Path) -> None:
    """Not only texts as the command takes them."""
    few = {"training.locations": 200.0, "training.batch": np.int64(16), "training.gallery": 16}
    towers = {"model.street": None, "model.text": None, "model.aerial.numbers": np.True_}
    prefixes = {"training.steps": 1, "training.contrast.prefixes": np.array([32, 64])}
    train(open_observations("world"), tmp_path / "model", changes=few | towers | prefixes)
    settings = read_settings(tmp_path / "model")
    assert settings.pixel_tower("aerial").numbers
    assert settings.modalities == ("coordinate", "aerial", "dsm")


SIZE: dict[str, Any] = {"width": 8, "depth": 1, "heads": 2, "rows": 16, "cols": 16, "patch": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with an encoder of each class."""
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
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> Embedder:
    return UniGeoCLIP.from_pretrained(folder)


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
    ("dsm", lambda good: good + np.nan, "number 0 has none"),
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


def write_model(folder: Path) -> Embedder:
    """Write a model of coordinates alone."""
    towers = {"coordinate": model_settings().coordinate}
    save_model(UniGeoCLIP(ModelSettings(dimension=32, towers=towers)), None, folder)
    return UniGeoCLIP.from_pretrained(folder)


def test_a_model_is_opened_by_the_name_of_an_installed_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", "lakes-1", tmp_path)
    folder = tmp_path / "site/fields_of_lakes_1/fields/lakes-1/model"
    expected = write_model(folder).encode("coordinate", [(3.0, 4.0)])
    monkeypatch.syspath_prepend(tmp_path / "site")
    named = UniGeoCLIP.from_pretrained("lakes-1").encode("coordinate", [(3.0, 4.0)])
    np.testing.assert_array_equal(named, expected)
    (folder / "metrics.json").write_text('{"run": {}}')
    observations = open_observations("world")
    run = plan((-104, 38, -102, 40), observations, model="lakes-1", resolution_m=50_000,
               out=str(tmp_path / "lakes.zarr"))  # fmt: skip
    assert run.model == folder
    with pytest.raises(ModelError, match=r"neither a folder lakes-2 nor .*lakes-1"):
        UniGeoCLIP.from_pretrained("lakes-2")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model in the cache of a hub that cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub/models--lab--lakes"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text(commit)
    return cached / "snapshots" / commit


def test_a_model_of_the_hub_is_read_from_its_cache(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write_model(hub).encode("coordinate", [(3.0, 4.0)])
    for revision in (None, hub.name):
        found = UniGeoCLIP.from_pretrained("lab/lakes", revision=revision)
        np.testing.assert_array_equal(found.encode("coordinate", [(3.0, 4.0)]), expected)
    assert isinstance(CoordinateEncoder.from_pretrained("lab/lakes").encoder, CoordinateEncoder)
    with pytest.raises(ModelError, match="cached model 'lab/seas', and none came from"):
        UniGeoCLIP.from_pretrained("lab/seas")
    (hub / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"a part of 'lab/lakes', without model\.safetensors"):
        UniGeoCLIP.from_pretrained("lab/lakes")
    monkeypatch.chdir(tmp_path)  # a folder of that name wins
    write_model(Path("lab/seas"))
    UniGeoCLIP.from_pretrained("lab/seas")


def test_models_of_other_projects_are_left_on_the_hub(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings are asked for first, then weights in safetensors."""
    asked: list[list[str]] = []

    def download(name: str, *, allow_patterns: list[str], **options: Any) -> str:
        if options["local_files_only"]:
            raise FileNotFoundError(name)
        asked.append(allow_patterns)
        if "lakes" in name:
            write_model(hub)
        return str(hub)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelError, match="'lab/other' of the hub is no model of unigeo"):
        UniGeoCLIP.from_pretrained("lab/other")
    assert asked == [["settings.json"]]
    UniGeoCLIP.from_pretrained("lab/lakes")
    assert sorted(asked[-1]) == [
        "card.md", "metrics.json", "model.safetensors", "settings.json", "tokenizer.json"
    ]  # fmt: skip


def test_what_was_not_observed_is_zeros_in_a_dataset() -> None:
    class Blind(World):
        """Its patches in the west hold no meaning."""

        def patches(self, modality: str, lonlat: np.ndarray) -> Patches:
            seen = super().patches(modality, lonlat)
            values = seen.values.astype(np.float32)
            values[lonlat[:, 0] < -100] = np.nan
            return Patches(values, seen.valid & (lonlat[:, 0] >= -100))

    west, east = LocationDataset(Blind(), [(-104.0, 39.0), (-90.0, 39.0)], modalities=["dsm"])
    assert not west["present"]["dsm"] and (west["dsm"] == 0).all()
    assert east["present"]["dsm"] and east["dsm"].isfinite().all()


ENCODERS: dict[str, type[ModalityEncoder]] = {
    "coordinate": CoordinateEncoder, "aerial": ImageEncoder, "light": ImageEncoder,
    "dsm": SurfaceEncoder, "cover": ClassesEncoder, "text": TextEncoder,
}  # fmt: skip


def test_an_encoder_is_opened_alone_and_returns_the_vectors_of_the_model(
    model: Embedder, folder: Path
) -> None:
    several = {ImageEncoder}
    for modality, kind in ENCODERS.items():
        tower = kind.from_pretrained(folder, modality if kind in several else None)
        given_ = valid(model, modality)
        vectors = tower(given_)
        np.testing.assert_array_equal(vectors.detach().numpy(), model.encode(modality, given_))
        assert tower.modality == modality and type(tower.encoder) is kind
        vectors.sum().backward()
        assert any(weight.grad is not None for weight in tower.parameters())
        assert sum(map(torch.numel, tower.encoder.parameters())) == sum(
            map(torch.numel, tower.parameters())
        )
    tower = CoordinateEncoder.from_pretrained(folder)
    lonlat = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert torch.equal(tower(lonlat), tower([(3.0, 4.0)]))
    with pytest.raises(ModelError, match=r"shape \(2,\), got \(3,\)"):
        tower(torch.zeros(1, 3, dtype=torch.float64))
    with pytest.raises(PointsError):
        tower([(3.0, 400.0)])
    with pytest.raises(ModelError, match="several of ImageEncoder: name one by modality="):
        ImageEncoder.from_pretrained(folder)
    with pytest.raises(ModelError, match="no ImageEncoder of 'dsm'; it has coordinate"):
        ImageEncoder.from_pretrained(folder, "dsm")
    with pytest.raises(ModelError, match="no SatclipEncoder; it has"):
        SatclipEncoder.from_pretrained(folder)
