"""What a run would refuse at its end is refused before its first step, and in a dry run."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import small_rasters

from unigeo import client
from unigeo.producer import api
from unigeo.producer.commands.options import check_observations
from unigeo.producer.encoders.checkpoints import check_checkpoints
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import ImageSettings, TextSettings
from unigeo.producer.observations.folder.description import read_description
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.observations.wrapping import only
from unigeo.producer.pipeline.pipeline import carry_out, choose, foresee
from unigeo.producer.pipeline.production_run import ProductionRun
from unigeo.producer.pipeline.recipe import recipe
from unigeo.producer.raster.run import ExecutionOptions
from unigeo.producer.sources.build_set import prepare
from unigeo.producer.sources.set_description import read_set_description
from unigeo.schemas.errors import ModelError, ObservationsError, StoreError, UnigeoError
from unigeo.schemas.geo.regions import region_of_bbox
from unigeo.schemas.io.stores import open_group

NAMES = ("coordinate", "aerial", "dsm", "street", "text")
SIZE = {"width": 8, "depth": 1, "heads": 2}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training.batch": "1"}, "batch must be at least 2"),
        ({"model.dimension": "1"}, "dimension must be at least 2"),
        (
            dict.fromkeys(["model.aerial", "model.dsm", "model.street", "model.text"], "none"),
            "pair",
        ),
        ({"training.contrast.pairs": "pivot:sar"}, "sar"),
        ({"training.contrast.prefixes": "64,128"}, "model.dimension is 128"),
        (
            {"training.contrast.self_pairs": "true", "model.temperature_per_pair": "true"},
            "temperature per pair",
        ),
    ],
)
def test_settings_that_cannot_be_trained(changes: dict[str, str], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        recipe("tiny", World(), 0, changes)


def test_a_panorama_that_nobody_knows() -> None:
    images = only(World(), ("coordinate", "aerial"))
    assert images.panoramas(np.empty((0, 2))) is None
    with pytest.raises(ModelError, match="same_panorama"):
        recipe("tiny", images, 0, {"training.contrast.same_panorama": "true"})


@given(pairs=st.sets(st.sampled_from([(a, b) for a in NAMES for b in NAMES if a < b]), min_size=1))
def test_every_encoder_is_in_a_pair_or_named(pairs: set[tuple[str, str]]) -> None:
    """An encoder in no pair would be published with random weights."""
    idle = set(NAMES) - {name for pair in pairs for name in pair}
    changes = {"training.contrast.pairs": ",".join(map("-".join, sorted(pairs)))}
    try:
        recipe("tiny", World(), 0, changes)
    except ModelError as error:
        assert idle and all(name in str(error) for name in idle)
    else:
        assert not idle


def starting_from(name: str) -> ModelSettings:
    return ModelSettings(
        dimension=8,
        towers={
            "aerial": ImageSettings(**SIZE, rows=16, cols=16, patch=8, pretrained=name),
            "text": TextSettings(**SIZE, tokens=8, vocabulary=300, pretrained=name),
        },
    )


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ((), "aerial tower .* without config.json"),
        (("config.json",), "aerial tower .* without model.safetensors"),
        (("config.json", "model.safetensors"), "text tower .* without a tokenizer"),
        (("config.json", "model-00001-of-2.safetensors", "tokenizer.json"), None),
    ],
)
def test_a_checkpoint_s_folder_that_lacks_a_file(
    files: tuple[str, ...], words: str | None, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    settings = starting_from(str(tmp_path))
    if words is None:
        check_checkpoints(settings)
        return
    with pytest.raises(ModelError, match=words):
        check_checkpoints(settings)


@pytest.mark.parametrize("name", ["nobody/nothing", "/nowhere/at/all", "no such name"])
def test_a_checkpoint_that_is_not_there_is_told_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is asked once, by the library's own client; here nothing answers at its address."""
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="aerial tower starts from") as refused:
        check_checkpoints(starting_from(name))
    message = str(refused.value)
    assert repr(name) in message and len(message.splitlines()) == 1 and len(message) < 600


def test_nearest_needs_a_date(tmp_path: Path) -> None:
    path = tmp_path / "set.toml"
    text = (
        'name = "s"\nlicence = "CC0-1.0"\n[where]\nbbox = [0, 0, 1, 1]\ncount = 9\n'
        '[aerial]\nkind = "files"\nfiles = ["a.tif"]\nprefer = "nearest"\n'
    )
    path.write_text(text)
    with pytest.raises(ObservationsError, match=r"table \[aerial\]: .* needs `date`"):
        read_set_description(path)
    path.write_text(text + "date = 2020\n")
    assert read_set_description(path).aerial is not None


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_model_is_not_trained_over_what_is_none(kind: str, tmp_path: Path) -> None:
    """Not even begun: saving it at the end would be refused."""
    path = tmp_path / "mine"
    if kind == "file":
        path.write_text("notes")
    else:
        path.mkdir()
        (path / "notes.txt").write_text("notes")
    with pytest.raises(ModelError, match=r"mine is not a model; .* Name another folder"):
        api.train(World(), path)
    assert not path.with_name("mine.training").exists()
    with pytest.raises((ModelError, StoreError), match="mine"):
        choose(region_of_bbox((-106.0, 38.0, -102.0, 41.0)), World(), model_out=str(path))


@pytest.mark.parametrize("value", ["world", Path("observations.toml"), None])
def test_observations_that_are_not_opened(value: object) -> None:
    """What the functions for notebooks check; the test run checks their annotations before."""
    with pytest.raises(ObservationsError, match="what open_observations returns, not a"):
        api._check_observations(value)
    api._check_observations(World())


SET = """
name = "s"
licence = "CC0-1.0"
[where]
bbox = [2.1, 48.7, 2.3, 48.9]
count = 9
[aerial]
kind = "files"
files = ["west.tif", "east.tif"]
acquired = 2004
resolution_m = 400
patch_px = 8
"""


def test_a_file_of_the_other_kind_is_told_apart(tmp_path: Path) -> None:
    """Observations that are read where they are, and a set to be built, are both TOML."""
    described, to_build = tmp_path / "observations.toml", tmp_path / "set.toml"
    described.write_text(small_rasters.DESCRIPTION)
    to_build.write_text(SET)
    with pytest.raises(ObservationsError, match=rf"unigeo-produce --observations {described}"):
        read_set_description(described)
    with pytest.raises(ObservationsError, match=rf"unigeo-produce observe {to_build} --out SET"):
        read_description(to_build)


def test_files_of_other_years_are_refused_before_anything_is_observed(tmp_path: Path) -> None:
    small_rasters.write_folder(tmp_path)
    path = tmp_path / "set.toml"
    path.write_text(SET + "years = [1999, 2001]\n")
    with pytest.raises(ObservationsError, match=r"\[aerial\].* 1999, 2001: they are of 2004"):
        prepare(read_set_description(path), dry_run=True)
    path.write_text(SET.replace("acquired = 2004\n", "") + "years = [1999]\n")
    with pytest.raises(ObservationsError, match=r"they are of no year that is known.*`acquired`"):
        prepare(read_set_description(path), dry_run=True)
    path.write_text(SET + "years = [1999, 2004]\n")
    prepare(read_set_description(path), dry_run=True)


@pytest.mark.parametrize("path", [None, "world", ".", "https://example.org/set"])
def test_a_data_folder_is_of_a_description_alone(path: str | None) -> None:
    with pytest.raises(ObservationsError, match="--data is the folder of an --observations file"):
        check_observations(path, ".")


@pytest.fixture(scope="module")
def without_coordinates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProductionRun]:
    folder = tmp_path_factory.mktemp("images")
    names = ["model.coordinate", "model.street", "model.dsm"]
    run = choose(
        region_of_bbox((-106.0, 38.0, -102.0, 41.0), "denver"),
        World(),
        resolution_m=50_000,
        out=str(folder / "denver.zarr"),
        changes=dict.fromkeys(names, "none"),
        modalities="aerial",
    )
    training = replace(run.training, locations=300, batch=16, steps=2, warmup=1, gallery=16)
    yield replace(run, model=folder / "model", training=training)


def test_a_model_without_coordinates_is_published_without_an_encoder(
    without_coordinates: ProductionRun,
) -> None:
    run = without_coordinates
    options = ExecutionOptions(progress=False)
    (told,) = (line for line in foresee(run, World()) if line.startswith("time"))
    stages = ("observing", "training", "rasterizing", "deriving", "publishing")
    assert all(stage in told for stage in stages)
    assert not run.model.parent.exists() or not list(run.model.parent.iterdir())
    predicted = dict.fromkeys(stages, 1000.0)
    lines = list(carry_out(run, World(), options=options, predicted=predicted))
    assert lines[-2].startswith("published")
    assert "s of 5000 s predicted: observing" in lines[-1]
    assert all(f"{stage} " in lines[-1] for stage in stages)
    assert "encoder" not in open_group(run.out)
    field = client.open_field(run.out)
    assert field.modalities == ("aerial",) and field.verify().ok
    with pytest.raises(UnigeoError, match="encoder"):
        field.encode([(-104.0, 39.0)])


@pytest.mark.parametrize(
    ("change", "words"), [({"resolution_m": 60_000}, "grid"), ({"modalities": "dsm"}, "layout")]
)
def test_another_product_is_refused_before_its_model_is_trained(
    change: dict[str, Any], words: str, without_coordinates: ProductionRun
) -> None:
    """Needs the store of the test above."""
    run = without_coordinates
    options = {"resolution_m": 50_000, "modalities": "aerial"} | change
    with pytest.raises(StoreError, match=f"holds another product: its {words}"):
        choose(run.region, World(), out=run.out, model_out="other", **options)
