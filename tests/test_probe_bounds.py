"""Predictions and intervals keep the known bounds of a target."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.probe_tables import linear_table

from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.client.probing.conformal import interval_layers
from unigeo.client.probing.probe import Probe
from unigeo.client.probing.probe_folders import FACTS
from unigeo.client.probing.target_bounds import Bounds
from unigeo.schemas.errors import ProbeError


@pytest.fixture(scope="module")
def field(gulf: Path) -> Field:
    return open_field(str(gulf))


def shares(field: Field, count: int = 400, seed: int = 0) -> pd.DataFrame:
    """A share of which many rows are 0 or 1, as ridge predicts beyond them."""
    table = linear_table(field, count, seed)
    low, high = table["height"].quantile([0.3, 0.7])
    table["share"] = ((table["height"] - low) / (high - low)).clip(0, 1)
    return table


@given(st.floats(-5, 5), st.floats(0, 5), st.floats(-1, 2))
def test_a_truth_within_the_bounds_that_an_interval_holds_stays_in_it(
    middle: float, half: float, truth: float
) -> None:
    names = ("prediction", "lower", "upper", "uncertainty")
    bounds, given_half = Bounds(-1, 2), np.array([half])
    layers = interval_layers(np.array([middle]), lambda: given_half, names, bounds)
    prediction, lower, upper, uncertainty = (layers[name][0] for name in names)
    assert -1 <= lower <= prediction <= upper <= 2
    assert uncertainty == (upper - lower) / 2
    if middle - half <= truth <= middle + half:
        assert lower <= truth <= upper


def test_scores_predictions_maps_and_saved_probes_keep_the_bounds(
    field: Field, tmp_path: Path
) -> None:
    table, options = shares(field), {"block_km": 350, "baselines": False, "folds": 3}
    options["weights"] = np.full(len(table), 2.0)
    free = field.probe(table, "share", "coordinate", **options)
    assert "Rows count by their weights." in repr(free)
    held = field.probe(table, "share", "coordinate", bounds=(0, 1), **options)
    # A prediction beyond a bound errs by more than the bound itself, whatever the truth.
    assert (held.scores["r2"] > free.scores["r2"]).all()
    ours, plain = held.intervals, free.intervals
    assert (ours["half_width"] < plain["half_width"]).all()
    assert (ours["coverage"] >= plain["coverage"]).all()
    new = shares(field, 200, seed=3)
    expected, found = free.predict(new), held.predict(new)
    columns = ["share", "share_lower", "share_upper"]
    assert (expected[columns].to_numpy() < 0).any()
    pd.testing.assert_frame_equal(found[columns], expected[columns].clip(0, 1))
    cells = held.map(region=(-8, -9, 6, 7)).compute()
    for layer in ("prediction", "lower", "upper"):
        assert np.nanmin(cells[layer]) >= 0
        assert np.nanmax(cells[layer]) <= 1
    saved = held.save(tmp_path / "held")
    assert json.loads((saved / FACTS).read_text())["format"] == 3  # earlier readers refuse it
    pd.testing.assert_frame_equal(Probe.load(saved, field).predict(new), found, rtol=1e-6)
    written = free.save(tmp_path / "free")
    assert repr(Probe.load(written, field)) == repr(free)
    assert json.loads((written / FACTS).read_text())["format"] == 1


def test_bounds_of_one_target_or_one_side(field: Field) -> None:
    table = shares(field, 300)
    options = {"block_km": 350, "baselines": False, "folds": 3}
    targets = ["share", "height"]
    probe = field.probe(table, targets, "coordinate", bounds={"share": (0, None)}, **options)
    found = probe.predict(shares(field, 200, seed=3))
    assert found["share_lower"].min() == 0
    assert found["share_upper"].max() > 1
    assert found["height_lower"].min() < 0


@pytest.mark.parametrize(
    ("targets", "bounds", "message"),
    [
        ("share", (1, 0), r"must be rising numbers, not \(1, 0\)"),
        ("share", (0, np.nan), "must be rising numbers"),
        ("share", 1, r"must be two numbers \(low, high\)"),
        ("share", "01", r"must be two numbers \(low, high\)"),
        ("share", ("a", "b"), r"must be two numbers \(low, high\)"),
        ("share", (0, 0.5), r"'share' is .* in row \d+, beyond the bounds \(0, 0.5\)"),
        ("north", (0, 1), "all targets are of classes"),
        (["north", "share"], {"north": (0, 1)}, "'north', which is of classes"),
        ("share", {"price": (0, 1)}, "'price', which does not exist; there are share"),
    ],
)
def test_bounds_that_cannot_be_kept_are_refused(
    field: Field, targets: object, bounds: object, message: str
) -> None:
    with pytest.raises(ProbeError, match=message):
        field.probe(shares(field, 200), targets, "coordinate", bounds=bounds)
