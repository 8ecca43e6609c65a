import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.test_probes import places
from unigeo.client.field import Field
from unigeo.client.opening import open_field
from unigeo.client.probing.probes import Probe
from unigeo.client.probing.saving import FACTS, WEIGHTS
from unigeo.schemas.errors import ProbeError, StoreError


@pytest.fixture(scope="module")
def field(gulf: Path) -> Field:
    return open_field(str(gulf))


@pytest.fixture(scope="module")
def probe(field: Field) -> Probe:
    table = places(field)
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
    new = places(field, 200, seed=4)
    for features in (None, "coordinate"):
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
    assert loaded.text() == probe.text()
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
        ({}, 0.5, "cannot read the weights"),
        ({}, 0.0, "cannot read the weights"),
    ],
)
def test_a_damaged_probe_is_refused_in_one_sentence(
    field: Field, saved: Path, tmp_path: Path, change: dict[str, object], share: float, message: str
) -> None:
    place = tmp_path / "broken"
    shutil.copytree(saved, place)
    facts = json.loads((place / FACTS).read_text())
    (place / FACTS).write_text(json.dumps(facts | change))
    whole = (place / WEIGHTS).read_bytes()
    (place / WEIGHTS).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ProbeError, match=message):
        Probe.load(place, field)


def test_what_is_no_probe_is_refused(field: Field, tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match=r"no probe: it has no probe\.json"):
        Probe.load(tmp_path, field)


def test_what_is_there_is_kept(field: Field, probe: Probe, saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "notes"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    for place, overwrite, message in (
        (saved, False, "overwrite=True"),
        (other, True, "is no probe"),
        (Path(field.url) / "probe", False, "store"),
    ):
        with pytest.raises(StoreError, match=message):
            probe.save(place, overwrite=overwrite)
    assert (other / "mine.txt").read_text() == "mine"
    copy = Path(shutil.copytree(saved, tmp_path / "copy"))
    probe.save(copy, "coordinate", overwrite=True)
    assert Probe.load(copy, field).predict([(0.0, 0.0)], "coordinate")["height"].notna().all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "notes"]
