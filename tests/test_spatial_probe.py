"""`spatial="residuals"` of a field's probe: scored, predicted, mapped, saved with and without."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from safetensors.numpy import load_file
from support.commands import done, refused, run
from support.probe_tables import linear_table

from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.client.probing.position_models import PositionModel
from unigeo.client.probing.probe import Probe
from unigeo.client.probing.probe_folders import FACTS
from unigeo.client.probing.spatial_option import with_position, without_position
from unigeo.schemas.errors import ProbeError, ProbeWarning

BOX = (-8.0, -9.0, 6.0, 7.0)


@pytest.fixture(scope="module")
def field(gulf: Path) -> Field:
    return open_field(str(gulf))


def hilly_table(field: Field, count: int = 400, seed: int = 0) -> pd.DataFrame:
    """A target that vectors tell (`height`), and one with hills that they do not (`rain`)."""
    table = linear_table(field, count, seed)
    rng = np.random.default_rng(seed)
    hills = np.sin(table["lon"] / 1.5) + np.cos(table["lat"] / 1.5)
    table["rain"] = 5 * hills + table["height"] + 0.2 * rng.standard_normal(len(table))
    return table


@pytest.fixture(scope="module")
def probe(field: Field) -> Probe:
    return field.probe(
        hilly_table(field), ["rain", "height"], block_km=150, spatial="residuals",
        baselines=["lonlat IDW"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def saved(probe: Probe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return probe.save(tmp_path_factory.mktemp("saved") / "rain")


def test_position_is_added_to_vectors_with_controls_too(field: Field) -> None:
    """A target of vectors, of a variable that they do not tell, and of hills needs all three."""
    table = hilly_table(field)
    table["age"] = np.random.default_rng(5).standard_normal(len(table))
    table["rain"] += 4 * table["age"]
    found = field.probe(
        table, "rain", "coordinate", block_km=150, spatial="residuals", controls=["age"],
        baselines=False,
    )  # fmt: skip
    blocked = found.scores.query("split == 'blocked'").set_index("features")["score"]
    together = blocked.pop("coordinate + controls + position")
    assert together > blocked.max() + 0.1
    assert set(blocked.index) == {
        "coordinate", "coordinate + position", "controls", "coordinate + controls",
    }  # fmt: skip


def test_position_is_scored_beside_the_others_with_intervals(probe: Probe) -> None:
    score = probe.scores.set_index(["target", "features", "split"])["score"]
    assert score["rain", "joined + position", "blocked"] > score["rain", "joined", "blocked"] + 0.1
    assert score["rain", "joined + position", "blocked"] > score["rain", "lonlat IDW", "blocked"]
    named = set(probe.intervals["features"])
    assert named == {*probe.sets, *(f"{name} + position" for name in probe.sets)}
    assert probe.intervals["coverage"].between(0.75, 0.99).all()
    assert f"Predicted by default: rain by {probe.default_features('rain')}; " in probe.text()
    assert probe.default_features("rain").endswith(" + position")
    # What is gained over position is counted, of all targets.
    best = score.xs("blocked", level="split").unstack("target")
    own = [best.loc[probe.default_features(target), target] for target in best]
    others = best[best.index.str.startswith("lonlat")].max()
    above = f"on {(own > others).sum()} of {len(own)} targets: {np.mean(own):.3f} on average"
    assert above in probe.text()


def test_the_default_prediction_is_by_the_model_that_scored_best_for_each_target(
    field: Field, probe: Probe
) -> None:
    new = hilly_table(field, 200, seed=1)
    assert isinstance(probe.model("rain"), PositionModel)
    scores = probe.scores[probe.scores["split"] == "blocked"].set_index(["target", "features"])
    found = probe.predict(new)
    for target in ("rain", "height"):
        best = scores["score"][target][list(probe.features)].idxmax()
        assert probe.default_features(target) == best
        expected = probe.predict(new, best)
        for column in (target, f"{target}_lower", f"{target}_upper"):
            np.testing.assert_allclose(found[column], expected[column], rtol=1e-6)
    error = (found["rain"] - new["rain"]).abs().mean()
    assert error < 0.5 * (probe.predict(new, "joined")["rain"] - new["rain"]).abs().mean()
    inside = new["rain"].between(found["rain_lower"], found["rain_upper"])
    assert inside.mean() > 0.85


def test_files_of_a_map_hold_the_map(probe: Probe, tmp_path: Path) -> None:
    drawn = probe.map("rain", BOX)
    cells = drawn["prediction"].values
    assert np.isfinite(cells).sum() > 50
    probe.to_geotiff(tmp_path / "rain.tif", "rain", BOX)
    probe.to_zarr(tmp_path / "rain.zarr", "rain", BOX)
    with rasterio.open(tmp_path / "rain.tif") as raster:
        np.testing.assert_allclose(raster.read(1), cells, rtol=1e-5)
    with xr.open_zarr(tmp_path / "rain.zarr") as stored:
        np.testing.assert_allclose(stored["prediction"].values, cells, rtol=1e-5)


def test_the_whole_map_agrees_with_predictions_at_the_centres(field: Field, probe: Probe) -> None:
    centres = field.grid.centres().reshape(-1, 2)
    on_globe = np.isfinite(centres).all(axis=1)
    expected = probe.predict(centres[on_globe])["rain"]
    cells = probe.map("rain")["prediction"].values.ravel()[on_globe]
    np.testing.assert_allclose(cells, expected, rtol=1e-4, atol=1e-4)


def test_a_saved_probe_predicts_and_maps_as_it_did(field: Field, probe: Probe, saved: Path) -> None:
    loaded = Probe.load(saved, open_field(field.url))
    new = hilly_table(field, 150, seed=4)
    bases = {without_position(probe.default_features(target)) for target in probe.targets}
    assert set(loaded.fitted) == bases | set(map(with_position, bases))
    for features in (None, *loaded.fitted):
        pd.testing.assert_frame_equal(
            loaded.predict(new, features), probe.predict(new, features), rtol=1e-6
        )
    xr.testing.assert_allclose(
        loaded.map("rain", BOX).compute(), probe.map("rain", BOX).compute(), rtol=1e-5
    )
    again = Probe.load(loaded.save(saved.parent / "again"), field)
    pd.testing.assert_frame_equal(again.predict(new), loaded.predict(new), rtol=1e-6)


def test_without_locations_nothing_tells_them_and_loading_says_so(
    field: Field, probe: Probe, saved: Path, tmp_path: Path
) -> None:
    assert any(name.startswith("residuals") for name in load_file(saved / "weights.safetensors"))
    path = probe.save(tmp_path / "without", locations=False)
    arrays = load_file(path / "weights.safetensors")
    assert [name for name in arrays if name.startswith("residuals")] == []
    with pytest.warns(ProbeWarning, match="saved without its locations: it predicts by linear mod"):
        loaded = Probe.load(path, field)
    new = hilly_table(field, 50, seed=4)
    found = loaded.predict(new)
    for target in probe.targets:
        alone = probe.default_features(target, locations=False)
        expected = probe.predict(new, alone)[target]
        pd.testing.assert_series_equal(found[target], expected, rtol=1e-6)
    with pytest.raises(ProbeError, match=r"no model of the features .* \+ position, only of"):
        loaded.predict(new, with_position(alone))
    with pytest.raises(ProbeError, match="holds locations that it was fitted on"):
        probe.save(tmp_path / "named", "joined + position", locations=False)
    assert not (tmp_path / "named").exists()


def test_earlier_readers_refuse_residuals_and_read_what_has_none(
    probe: Probe, saved: Path, tmp_path: Path
) -> None:
    """They would take a model with position for the ridge alone, without a word."""
    assert json.loads((saved / FACTS).read_text())["format"] == 2
    alone = probe.save(tmp_path / "alone", "joined")
    assert json.loads((alone / FACTS).read_text())["format"] == 1


@pytest.mark.parametrize(
    "change", [{"residuals": []}, {"share": 2.0}, {"model": 0}, {"model": 9}, {"range_m": -1.0}]
)
def test_damage_of_residuals_is_refused(
    field: Field, saved: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(saved, broken)
    facts = json.loads((broken / FACTS).read_text())
    if "residuals" in change:
        facts |= change
    else:
        facts["residuals"][0] |= change
    (broken / FACTS).write_text(json.dumps(facts))
    with pytest.raises(ProbeError, match=r"damaged|do not belong together"):
        Probe.load(broken, field)


def test_classes_are_refused_before_a_vector_is_read(field: Field) -> None:
    with pytest.raises(ProbeError, match="target 'north' is of classes: probe it without spatial"):
        field.probe(hilly_table(field), ["rain", "north"], spatial="residuals")


def test_the_command_scores_predicts_maps_and_saves(field: Field, tmp_path: Path) -> None:
    table, new = tmp_path / "rain.csv", tmp_path / "new.csv"
    hilly_table(field)[["lon", "lat", "rain"]].to_csv(table, index=False)
    hilly_table(field, 50, seed=2)[["lon", "lat"]].to_csv(new, index=False)
    out, map_, kept = tmp_path / "out.csv", tmp_path / "map.tif", tmp_path / "kept"
    arguments = [
        "probe", field.url, table, "--target", "rain", "--spatial", "residuals",
        "--block-km", 150, "--predict", new, out, "--map", "all", map_,
        "--save", kept, "--without-locations", "--quiet",
    ]  # fmt: skip
    assert "joined + position" in done(*arguments)
    assert np.isfinite(pd.read_csv(out)["ug_rain"]).mean() > 0.9
    assert map_.exists() and (kept / FACTS).exists()
    again = run("probe", field.url, "--load", kept, "--predict", new, out, "--quiet")
    assert again.exit_code == 0 and "without its locations" in again.stderr
    assert "leave out --spatial" in refused(
        "probe", field.url, "--load", kept, "--spatial", "residuals"
    )
    assert "--without-locations goes with --save" in refused(*arguments[:5], "--without-locations")
