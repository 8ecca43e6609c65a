import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from safetensors.numpy import load_file, save_file
from support.probe_tables import linear_table

from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.client.probing.probe import Probe
from unigeo.client.probing.probe_folders import FACTS, WEIGHTS
from unigeo.schemas.errors import ProbeError, StoreError


@pytest.fixture(scope="module")
def field(gulf: Path) -> Field:
    return open_field(str(gulf))


@pytest.fixture(scope="module")
def probe(field: Field) -> Probe:
    table = linear_table(field, 320)
    table["few"] = table["height"].round()
    with pytest.warns(UserWarning):
        table.loc[table.index[::3], "few"] = np.nan
        return field.probe(
            table,
            ["height", "north", "few"],
            controls="county",
            block_km=350,
            groups="county",
            baselines=["mean"],
        )


@pytest.fixture(scope="module")
def saved(probe: Probe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return probe.save(tmp_path_factory.mktemp("saved") / "height", ["joined", "coordinate"])


def test_a_loaded_probe_predicts_and_maps_as_it_did(
    field: Field, probe: Probe, saved: Path
) -> None:
    loaded = Probe.load(saved, open_field(field.url))
    new = linear_table(field, 200, seed=4)
    for features in ("joined", "coordinate"):
        pd.testing.assert_frame_equal(
            loaded.predict(new, features), probe.predict(new, features), rtol=1e-9
        )
    box = (-5.0, -5.0, 5.0, 5.0)
    xr.testing.assert_allclose(
        loaded.map("height", box).compute(), probe.map("height", box).compute(), rtol=1e-5
    )
    with pytest.raises(ProbeError, match=r"no model of the features aerial, only of joined, coo"):
        loaded.predict(new, "aerial")


def test_scores_counts_and_folds_come_back(field: Field, probe: Probe, saved: Path) -> None:
    loaded = Probe.load(str(saved), field)
    for name in ("scores", "fold_scores", "gains", "intervals"):
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(probe, name))
    assert loaded.counts == probe.counts
    assert (loaded.controls, loaded.splits) == (probe.controls, probe.splits)
    for split, folds in probe.folds.items():
        np.testing.assert_array_equal(loaded.folds[split], folds)
    np.testing.assert_array_equal(loaded.rows, probe.rows)
    ours, theirs = (one.text().split(" Predicted by default: ") for one in (loaded, probe))
    assert ours[0] == theirs[0]
    assert "aerial" not in ours[1].split("\n")[0]  # of the models that were saved
    again = loaded.save(saved.parent / "again", ["joined", "coordinate"])
    first, second = (json.loads((path / FACTS).read_text()) for path in (saved, again))
    assert first == second


def test_what_is_saved_says_what_it_is_of(field: Field, saved: Path) -> None:
    facts = json.loads((saved / FACTS).read_text())
    model = field.attributes.model
    assert facts["model"] == {"name": model.name, "sha256": model.sha256}
    assert facts["modalities"] == dict.fromkeys(field.modalities, field.bands)
    assert facts["splits"]["folds"] == 5
    assert sorted(path.name for path in saved.iterdir()) == [FACTS, WEIGHTS]
    assert sorted(path.name for path in saved.parent.iterdir() if "." in path.name) == []


def test_the_keys_of_a_saved_model_stay(saved: Path) -> None:
    """Probes that earlier versions saved have these, whatever the code calls them."""
    model = json.loads((saved / FACTS).read_text())["models"][0]
    assert list(model) == [
        "target",
        "features",
        "penalty",
        "strangeness",
        "spread",
        "classes",
        "bounds",
        "kernel",
    ]
    assert model["strangeness"] > 0


def test_a_probe_of_another_model_is_refused_with_both_hashes(
    field: Field, probe: Probe, saved: Path
) -> None:
    own = field.attributes
    model = own.model.model_copy(update={"sha256": "c0de" * 16})
    other = replace(field, attributes=own.model_copy(update={"model": model}))
    for refuse in (lambda: Probe.load(saved, other), lambda: probe.on(other)):
        with pytest.raises(ProbeError) as caught:
            refuse()
        assert own.model.sha256 in str(caught.value)
        assert "c0de" * 16 in str(caught.value)
    assert probe.on(field).predict([(0.0, 0.0)]).equals(probe.predict([(0.0, 0.0)]))


@pytest.mark.parametrize(
    ("change", "share", "message"),
    [
        ({"format": 99}, 1.0, "upgrade it"),
        ({"level": 2.0}, 1.0, "damaged: level"),
        ({"spreads": []}, 1.0, "do not belong together"),
        ({"models": None}, 1.0, "damaged: models"),
        ({"models": []}, 1.0, "damaged: models"),
        ({"model": {"name": "unigeo"}}, 1.0, r"damaged: model\.sha256"),
        ({"targets": {"height": {"rows": 9, "points": "x"}}}, 1.0, r"damaged: targets\.height"),
        ({"targets": {}}, 1.0, "damaged: targets"),
        ({"features": []}, 1.0, "damaged: features"),
        ({"features": ["coordinate"]}, 1.0, "features that were not scored"),
        ({"modalities": {"coordinate": 16}}, 1.0, "bands"),
        ({}, 0.5, "cannot read the weights"),
        ({}, 0.0, "cannot read the weights"),
    ],
)
def test_a_damaged_probe_is_refused_in_one_sentence(
    field: Field, saved: Path, tmp_path: Path, change: dict[str, object], share: float, message: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(saved, folder)
    facts = json.loads((folder / FACTS).read_text())
    (folder / FACTS).write_text(json.dumps(facts | change))
    weights = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(weights[: int(share * len(weights))])
    with pytest.raises(ProbeError, match=message):
        Probe.load(folder, field)


def test_what_is_no_probe_is_refused(field: Field, tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"no probe: it has no probe\.json"):
        Probe.load(tmp_path, field)
    (tmp_path / FACTS).write_text("[" * 100_000)
    with pytest.raises(ProbeError, match="cannot read the probe"):
        Probe.load(tmp_path, field)
    with pytest.raises(ProbeError, match="local folder"):
        Probe.load("s3://bucket/probe", field)
    with pytest.raises(ProbeError, match="name its folder"):
        Probe.load(None, field)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("models/0/weights", lambda values: values * np.nan),
        ("models/0/centre", lambda values: values[:5]),
        ("spreads/0/mean", lambda values: values[:5]),
        ("folds/random", lambda values: values[:5]),
    ],
)
def test_weights_of_another_shape_or_none_are_refused(
    field: Field, saved: Path, tmp_path: Path, name: str, change: Callable[..., np.ndarray]
) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "broken"))
    arrays = load_file(folder / WEIGHTS)
    arrays[name] = np.ascontiguousarray(change(arrays[name]))
    save_file(arrays, folder / WEIGHTS)
    with pytest.raises(ProbeError, match="do not belong together"):
        Probe.load(folder, field)


def test_the_address_of_a_field_is_no_field(field: Field, probe: Probe, saved: Path) -> None:
    for load in (lambda: Probe.load(saved, field.url), lambda: probe.on(Path(field.url))):
        with pytest.raises(ProbeError, match="open the field first"):
            load()


def test_a_probe_without_controls_comes_back_alike(field: Field, tmp_path: Path) -> None:
    probe = field.probe(linear_table(field), "height", "coordinate", block_km=350, baselines=False)
    loaded = Probe.load(probe.save(tmp_path / "height"), field)
    pd.testing.assert_frame_equal(loaded.gains, probe.gains)
    assert list(loaded.folds) == list(probe.folds) == ["random", "blocked"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s3://bucket/probe", "local folder"),
        ("x" * 300, "too long"),
        ("a\0b", "null byte"),
        ("", "name a folder"),
        (7, "name its folder"),
    ],
)
def test_what_cannot_be_a_folder_is_refused(
    probe: Probe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: object, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=message):
        probe.save(path)  # type: ignore[arg-type]
    with pytest.raises(ProbeError, match="no features are named"):
        probe.save("empty", [])
    assert list(tmp_path.iterdir()) == []


def test_files_beside_a_probe_are_not_lost(probe: Probe, saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "mine"))
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds more than a probe, such as 'thesis\.txt'"):
        probe.save(folder, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "mine"


def test_what_is_there_is_kept(field: Field, probe: Probe, saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "notes"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    for folder, overwrite, message in (
        (saved, False, "overwrite=True"),
        (other, True, r"^\S+notes is there already and is no probe"),
        (Path(field.url) / "probe", False, r"^cannot write the probe .*it lies inside the Zarr"),
    ):
        with pytest.raises(StoreError, match=message):
            probe.save(folder, overwrite=overwrite)
    assert (other / "mine.txt").read_text() == "mine"
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    probe.save(copy, "coordinate", overwrite=True)
    assert Probe.load(copy, field).predict([(0.0, 0.0)], "coordinate")["height"].notna().all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "notes"]
