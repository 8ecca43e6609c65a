"""A modality is a name and an encoder: whatever is described is trained, stored and read by it."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import torch
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from unigeo import client
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import from_json, to_json
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.encoders.saved_models import load_model
from unigeo.producer.observations.folder.folder_observations import FolderObservations
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.forms import Form, default_forms
from unigeo.producer.observations.protocol import forms_of
from unigeo.producer.observations.raster_files.patch_frames import locate
from unigeo.producer.observations.raster_files.raster_blocks import BlockReader
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.pipeline.pipeline import carry_out
from unigeo.producer.pipeline.production_run import choose
from unigeo.producer.pipeline.recipe import recipe
from unigeo.producer.raster.encoding import check_fit, encoder_of
from unigeo.producer.raster.patch_mosaic import Mosaic
from unigeo.producer.raster.run import ExecutionOptions
from unigeo.producer.training.dataset import prepare_data
from unigeo.producer.training.processes import Processes
from unigeo.schemas.errors import LayoutError, ModelError, ObservationsError
from unigeo.schemas.geo.regions import region_of_bbox

MORE_VIEWS = Path(__file__).parents[1] / "docs" / "examples" / "more_views.toml"
PARIS = (2.35, 48.85)
SIDE = 256
"""Rows and columns of a raster, of 1/256 of a degree each."""
CLASSES = {10: "water", 20: "town", 30: "forest"}
DESCRIPTION = """
name = "own"
licence = "CC0-1.0"
[land]
file = "land.parquet"
[text]
kind = "table"
file = "words.csv"
radius_m = 3000
[landcover]
encoder = "classes"
kind = "raster"
files = ["landcover.tif"]
bands = [1]
patch_m = [4000, 16000]
patch_px = 16
[landcover.classes]
10 = "water"
20 = "town"
30 = "forest"
[months]
encoder = "image"
kind = "raster"
files = ["months.tif"]
bands = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
patch_m = 4000
patch_px = 16
[captions]
encoder = "text"
kind = "table"
file = "captions.csv"
radius_m = 3000
"""


def write(path: Path, values: np.ndarray, **profile: Any) -> None:
    transform = from_origin(PARIS[0] - 0.5, PARIS[1] + 0.5, 1 / SIDE, 1 / SIDE)
    size = {"count": len(values), "height": SIDE, "width": SIDE, "dtype": values.dtype}
    given = {"crs": "EPSG:4326", "transform": transform} | size | profile
    with rasterio.open(path, "w", driver="GTiff", **given) as file:
        file.write(values)
        if len(values) == 1:
            file.build_overviews([8], Resampling.average)


def scene() -> np.ndarray:
    """Classes in squares of 8 pixels; two numbers of no class."""
    rng = np.random.default_rng(0)
    squares = rng.choice([10, 20, 30, 77, 255], p=[0.3, 0.3, 0.3, 0.05, 0.05], size=(32, 32))
    return np.kron(squares, np.ones((8, 8))).astype(np.uint8)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(1)
    write(data / "landcover.tif", scene(), nodata=255)
    write(data / "months.tif", rng.integers(0, 255, (12, SIDE, SIDE)).astype(np.uint8))
    square = shapely.box(PARIS[0] - 0.4, PARIS[1] - 0.4, PARIS[0] + 0.4, PARIS[1] + 0.4)
    geopandas.GeoDataFrame(geometry=[square], crs=4326).to_parquet(data / "land.parquet")
    lon, lat = np.meshgrid(
        PARIS[0] + np.linspace(-0.4, 0.4, 12), PARIS[1] + np.linspace(-0.4, 0.4, 12)
    )
    at = pd.DataFrame({"lon": lon.ravel(), "lat": lat.ravel()})
    at.assign(text=[f"Number {k}." for k in range(144)]).to_csv(data / "words.csv", index=False)
    at.assign(text=[f"{k} again." for k in range(144)]).to_csv(data / "captions.csv", index=False)
    (data / "observations.toml").write_text(DESCRIPTION)
    return data


@pytest.fixture(scope="module")
def own(folder: Path) -> FolderObservations:
    return open_observations(folder / "observations.toml")


def test_a_table_describes_a_modality_of_any_name(own: FolderObservations) -> None:
    assert own.modalities == ("coordinate", "text", "landcover", "months", "captions")
    cover = own.form("landcover")
    assert cover.encoder == "classes" and cover.shape == (2, 16, 16)
    assert cover.classes == ("water", "town", "forest") and cover.sides_m == (4000, 16000)
    assert own.form("months") == Form(encoder="image", shape=(12, 16, 16), sides_m=(4000,))
    assert own.form("captions").encoder == "text"
    covering = [name for name in own.modalities if own.covers_land(name)]
    assert covering == ["coordinate", "landcover", "months"]
    assert set(own.provenance()["modalities"]) == {"text", "landcover", "months", "captions"}
    corner = np.array([PARIS]) - 0.4  # where there is a text of each
    assert own.texts(corner, "captions") == ["0 again."] and own.texts(corner) == ["Number 0."]


def described(folder: Path, tmp_path: Path, old: str, new: str) -> FolderObservations:
    text = DESCRIPTION.replace(old, new, 1)
    assert text != DESCRIPTION
    path = tmp_path / "observations.toml"
    path.write_text(text)
    return open_observations(path, folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('[months]\nencoder = "image"', "[months]", "unknown key 'months'.*encoder = .image. or"),
        ('encoder = "image"', 'encoder = "sound"', r"\[months\]: .*'classes'.*not 'sound'"),
        ('encoder = "image"', 'encoder = "coordinate"', r"\[months\]: .*not 'coordinate'"),
        ('[months]', "[aerial]", None),
        ('[captions]\nencoder = "text"', '[dsm]\nencoder = "text"', r"\[dsm\]: .*'surface', not"),
        ("[months]", "[x]", "cannot be named 'x'"),
        ("[months]", "[fused]", "cannot be named 'fused'"),
        ("[months]", "[months_status]", "cannot be named 'months_status'"),
        ("[months]", "[manifest]", "cannot be named 'manifest'"),
        ("[months]", "[Landcover]", "'landcover', 'Landcover' would be the same array"),
        ("[months]", "[forward]", "cannot be named 'forward'"),
        ("[months]", '["a b"]', "cannot be named 'a b'"),
        ("[months]", "[coordinate]", "is the location itself"),
        ("bands = [1]\n", "bands = [1, 1]\n", "one band of classes"),
        ('10 = "water"\n20 = "town"\n30 = "forest"\n', "", "no class is named"),
        ("[landcover.classes]\n", "[landcover.classes]\n01 = 'a'\n1 = 'b'\n", "1 is named twice"),
        ('20 = "town"', '20 = "water"', "20 is named 'water'"),
        ('20 = "town"', 'town = "town"', "'town' is no whole number"),
        ('kind = "raster"\nfiles = ["months.tif"]', 'files = ["months.tif"]', "key 'kind'"),
    ],
)  # fmt: skip
def test_a_table_that_makes_no_sense_is_refused(
    folder: Path, tmp_path: Path, old: str, new: str, message: str | None
) -> None:
    if message is None:
        assert described(folder, tmp_path, old, new).form("aerial").shape == (12, 16, 16)
        return
    with pytest.raises(ObservationsError, match=message):
        described(folder, tmp_path, old, new)


def test_classes_are_listed_by_number_or_found(folder: Path, tmp_path: Path) -> None:
    table = DESCRIPTION[DESCRIPTION.index("[landcover.classes]") : DESCRIPTION.index("[months]")]
    found = described(folder, tmp_path, table, "").form("landcover").classes
    assert found == ("10", "20", "30", "77")  # 255 is no data
    names = described(folder, tmp_path, table, 'classes = ["a", "b"]\n').form("landcover").classes
    assert names == ("a", "b")  # the numbers 0 and 1


def test_pixels_of_classes_are_the_nearest_of_the_raster(own: FolderObservations) -> None:
    """Against the same positions looked up in the raster by hand."""
    rasters = own.rasters_of("landcover")
    assert rasters is not None and rasters.nearest
    lonlat = np.array([PARIS, [2.2, 48.7], [2.5, 49.1]])
    patches = own.patches("landcover", lonlat)
    assert patches.values.dtype == np.uint8 and patches.valid.all()
    numbers = {code: k for k, code in enumerate(CLASSES, 1)}
    located = locate(rasters.sources[0], lonlat, rasters.frames[0])
    assert (located.decimation == 1).all()
    row, col = np.rint(located.row).astype(int), np.rint(located.col).astype(int)
    expected = np.vectorize(lambda code: numbers.get(code, 0))(scene()[0])[row, col]
    assert np.array_equal(patches.values[:, 0], expected)
    assert set(np.unique(patches.values)) <= {0, 1, 2, 3}


def test_coarse_pixels_of_classes_are_the_commonest(own: FolderObservations) -> None:
    """No class is made up between two, and overviews of means are not used."""
    rasters = own.rasters_of("landcover")
    assert rasters is not None
    numbers = {code: k for k, code in enumerate(CLASSES, 1)}
    classes = np.vectorize(lambda code: numbers.get(code, 0))(scene()[0])
    with closing(BlockReader(rasters.sources[0])) as blocks:
        coarse = blocks.block((8, 8), 0, 0)
    assert np.array_equal(coarse.values[0], classes[::8, ::8])  # squares of one class
    assert np.array_equal(coarse.data, classes[::8, ::8] > 0)


def test_the_device_cuts_classes_as_the_cpu_does(own: FolderObservations) -> None:
    rasters = own.rasters_of("landcover")
    assert rasters is not None
    rng = np.random.default_rng(3)
    lonlat = np.array(PARIS) + rng.uniform(-0.6, 0.6, (60, 2))  # some beyond the raster
    patches = own.patches("landcover", lonlat)
    mosaic = Mosaic(rasters, torch.device("cpu"))
    pixels, gaps = mosaic.cut(mosaic.look(lonlat))
    mosaic.close()
    assert np.array_equal(gaps.numpy() == 0, patches.valid) and not patches.valid.all()
    assert np.array_equal(pixels.numpy()[patches.valid], patches.values[patches.valid])


def test_settings_of_any_modality_survive_json(own: FolderObservations) -> None:
    settings = tiny(forms_of(own))
    assert settings.modalities == own.modalities
    values = json.loads(json.dumps(to_json(settings)))
    assert values["landcover"]["encoder"] == "classes" and "encoder" not in values["text"]
    assert values["aerial"] is None
    assert from_json(values) == settings
    for wrong, message in [
        ({"landcover": values["landcover"] | {"encoder": "sound"}}, "knows coordinate, image"),
        ({"x": values["months"]}, "cannot be named"),
        ({"radar": 3}, "no setting 'radar'"),
        ({"dsm": values["months"]}, "the encoder of dsm"),
    ]:
        with pytest.raises((ModelError, LayoutError), match=message):
            from_json(values | wrong)


def test_settings_of_the_paper_s_modalities_are_written_as_before() -> None:
    forms = default_forms({"aerial": (3, 32, 32), "street": (3, 32, 32), "dsm": (1, 32, 32)})
    values = to_json(tiny(forms))
    expected = ["dimension", "coordinate", "aerial", "street", "dsm", "text", "tied"]
    assert list(values) == [*expected, "temperature", "temperature_per_pair", "seed"]
    patch = ["width", "depth", "heads", "mlp_ratio", "rows", "cols", "patch"]
    pixels = ["channels", "pixel_mean", "pixel_std", "measure_pixels", "resize", "pretrained"]
    assert list(values["aerial"]) == [*patch, *pixels]


def test_towers_are_set_by_their_name(own: FolderObservations) -> None:
    changes = {"model.landcover.embedding": "4", "model.months.depth": "2", "model.text": "none"}
    chosen = recipe("tiny", own, 0, changes)
    assert chosen.model.towers["landcover"].embedding == 4  # type: ignore[attr-defined]
    assert chosen.model.towers["months"].depth == 2 and "text" not in chosen.model.modalities
    with pytest.raises(ModelError, match=r"did you mean 'model\.months\.depth'"):
        recipe("tiny", own, 0, {"model.month.depth": "2"})
    with pytest.raises(ModelError, match="tower_rates names 'aerial'"):
        recipe("tiny", own, 0, {"training.tower_rates": "aerial:0.5"})
    with pytest.raises(ModelError, match="share one tokenizer"):
        recipe("tiny", own, 0, {"model.captions.vocabulary": "300"})


def test_a_modality_that_is_seen_nowhere_is_named(folder: Path, tmp_path: Path) -> None:
    named = '10 = "water"\n20 = "town"\n30 = "forest"'
    observed = described(folder, tmp_path, named, '11 = "water"')
    chosen = recipe("tiny", observed, 0, {"training.locations": "300", "training.batch": "32"})
    with pytest.raises(ModelError, match=r"every modality \(landcover: at none of them\)"):
        prepare_data(observed, chosen.model, chosen.training, Processes())


def test_a_preset_that_does_not_fit_a_modality_names_it(folder: Path, tmp_path: Path) -> None:
    odd = described(folder, tmp_path, "patch_px = 16\n[landcover.", "patch_px = 17\n[landcover.")
    said = r"no tower for landcover: .*patch 8 must divide.*; got patch=8$"
    with pytest.raises(ModelError, match=said):
        recipe("tiny", odd, 0, {})


def test_a_class_of_observations_says_the_form_of_its_own_modality() -> None:
    class Radar(World):
        modalities = ("coordinate", "radar")  # type: ignore[assignment]

    with pytest.raises(ObservationsError, match="which encoder takes radar: its method `form`"):
        forms_of(Radar())


def test_images_that_are_no_colours_are_scaled_by_their_own_statistics(
    own: FolderObservations,
) -> None:
    tower: Any = recipe("tiny", own, 0, {}).model.towers["months"]
    patches = own.patches("months", own.locations(256, 9_876_543)).values
    assert np.allclose(tower.pixel_mean, patches.mean(axis=(0, 2, 3)), atol=0.06)
    assert np.allclose(tower.pixel_std, patches.std(axis=(0, 2, 3)), atol=0.06)


def test_classes_have_no_order(own: FolderObservations) -> None:
    """Renumbered classes with their vectors renumbered alike give the same embedding."""
    settings = tiny(forms_of(own))
    model = UniGeoCLIP(settings).eval()
    patches = torch.from_numpy(own.patches("landcover", np.array([PARIS])).values)
    order = torch.tensor([0, 3, 1, 2])
    with torch.inference_mode():
        before = model.encode("landcover", patches)
        weights = model.encoders["landcover"].embedding.weight  # type: ignore[union-attr]
        weights[order] = weights.clone()  # type: ignore[index, operator]
        after = model.encode("landcover", order[patches.long()].to(torch.uint8))
    assert torch.allclose(before, after, atol=1e-6)


def test_observations_of_another_size_on_the_ground_are_refused(
    folder: Path, own: FolderObservations, tmp_path: Path
) -> None:
    model = UniGeoCLIP(tiny(forms_of(own)))
    check_fit(model, own, own.modalities)
    for old, new, what in [
        ("patch_m = 4000\n", "patch_m = 2000\n", "on the ground"),
        ('20 = "town"', '20 = "village"', "the classes"),
        ("patch_px = 16", "patch_px = 32", "shape"),
    ]:
        other = described(folder, tmp_path, old, new)
        with pytest.raises(ModelError, match=what):
            check_fit(model, other, own.modalities)
        if what == "on the ground":
            check_fit(model, other, own.modalities, accept_ground_size=True)


@pytest.fixture(scope="module")
def product(own: FolderObservations, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model of every modality, and its store, published."""
    out = tmp_path_factory.mktemp("product")
    region = region_of_bbox((PARIS[0] - 0.3, PARIS[1] - 0.3, PARIS[0] + 0.3, PARIS[1] + 0.3))
    run = choose(
        region,
        own,
        resolution_m=2_000,
        out=str(out / "own.zarr"),
        modalities="coordinate,landcover,months,text,fused",
    )
    training = replace(
        run.training, locations=600, batch=32, steps=6, warmup=2, gallery=40, block_km=10
    )
    run = replace(run, model=out / "model", training=training)
    list(carry_out(run, own, options=ExecutionOptions(progress=False)))
    yield out


def test_every_modality_is_stored_and_read_by_its_name(
    own: FolderObservations, product: Path
) -> None:
    """A sampled cell is what the model says of its centre; texts only where there are some."""
    field = client.open_field(product / "own.zarr")
    assert field.modalities == ("coordinate", "landcover", "months", "text", "fused")
    model, tokenizer = load_model(product / "model")
    encode = encoder_of(model, own, torch.device("cpu"), tokenizer=tokenizer)
    points = np.array(PARIS) + np.random.default_rng(0).uniform(-0.2, 0.2, (60, 2))
    centres = field.grid.centres()[tuple(field.grid.cells(points).T)]
    stored = field.sample(points, field.modalities, as_="numpy")
    for modality in field.modalities[:-1]:
        exact, observed = encode(modality, centres)
        assert np.array_equal(np.isfinite(stored[modality]).all(axis=1), observed)
        cosine = (exact[observed] * stored[modality][observed]).sum(axis=1)
        assert cosine.min() > 0.9998, modality
    assert np.isfinite(stored["text"]).any() and not np.isfinite(stored["text"]).all()
    parts = np.stack([stored[name] for name in field.modalities[:-1]], axis=1)
    there = np.isfinite(parts).all(axis=2)
    means = np.where(there[..., None], parts, 0).sum(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert (means * stored["fused"]).sum(axis=1).min() > 0.9995
    statuses = set(field.sample(points, modalities="text")["text_status"])
    assert statuses == {"valid", "no observation"}


@pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.ProbeWarning")  # few points
def test_words_and_probes_reach_every_modality(product: Path) -> None:
    field = client.open_field(product / "own.zarr")
    for modality in ("landcover", "fused"):
        assert len(field.search("downtown", modality=modality)) > 0
    points = np.array(PARIS) + np.random.default_rng(1).uniform(-0.25, 0.25, (300, 2))
    table = pd.DataFrame({"lon": points[:, 0], "lat": points[:, 1], "value": points[:, 0]})
    probe = field.probe(table, "value", modalities=["landcover", "months"], block_km=5)
    assert {"landcover", "months", "joined"} <= set(probe.scores["features"])


def test_only_what_covers_the_land_is_stored_unless_named(own: FolderObservations) -> None:
    region = region_of_bbox((PARIS[0] - 0.3, PARIS[1] - 0.3, PARIS[0] + 0.3, PARIS[1] + 0.3))
    run = choose(region, own, resolution_m=2_000)
    assert run.layout.modalities == ("coordinate", "landcover", "months", "fused")
    with pytest.raises(LayoutError, match=r"cannot store radar; .*coordinate, text, landcover"):
        choose(region, own, resolution_m=2_000, modalities="coordinate,radar")
    world = choose(region_of_bbox((-106, 38, -102, 41)), World(), resolution_m=20_000)
    assert world.layout.modalities == ("coordinate", "aerial", "dsm", "fused")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.ProbeWarning")
def test_land_cover_and_greenness_by_month_become_fields(shared_data: Path, tmp_path: Path) -> None:
    """The example of the guide, with real data: trained, stored, published, probed, searched."""
    more = open_observations(MORE_VIEWS, shared_data)
    region = region_of_bbox((-110.0, 36.0, -98.0, 46.0), "plains")
    changes = {"model.greenness.depth": "2", "model.landcover.embedding": "4"}
    run = choose(
        region, more, resolution_m=40_000, out=str(tmp_path / "more.zarr"), changes=changes
    )
    expected = ("coordinate", "aerial", "nightlights", "greenness", "landcover", "fused")
    assert run.layout.modalities == expected
    training = replace(run.training, locations=2_500, batch=64, steps=15, warmup=3, gallery=60)
    run = replace(run, model=tmp_path / "model", training=training)
    list(carry_out(run, more, options=ExecutionOptions(progress=False)))
    model, _ = load_model(tmp_path / "model")
    tower: Any = model.settings.towers["greenness"]
    assert tower.dtype == "float32" and -0.2 < min(tower.pixel_mean) < max(tower.pixel_mean) < 1
    field = client.open_field(tmp_path / "more.zarr")
    assert field.modalities == expected
    table = pd.read_parquet(shared_data / "tables" / "hardiness_points.parquet")
    inside = table["lon"].between(-109.5, -98.5) & table["lat"].between(36.5, 45.5)
    rows = table[inside].reset_index(drop=True)
    probe = field.probe(rows, "min_temp_zone_c", expected, block_km=150)
    scores = probe.scores.query("split == 'random'").set_index("features")["r2"]
    assert set(expected) <= set(scores.index)
    # Winters of the plains are seen in what grows, and not from where a constant would be drawn.
    assert scores["greenness"] > scores["mean"] + 0.2 and scores["landcover"] > scores["mean"]
    assert len(field.search("forest", modality="landcover")) > 0
