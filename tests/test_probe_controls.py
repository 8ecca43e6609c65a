from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.linear_model import LinearRegression
from support.probe_tables import linear_table

from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.client.probing.controls import beside_ranks
from unigeo.client.probing.folds import spatial_blocks
from unigeo.client.probing.gains import accuracy_gain, r2_gain
from unigeo.client.probing.metrics import r2_score
from unigeo.client.probing.probe import Probe
from unigeo.schemas.errors import ProbeError, ProbeWarning


def survey(field: Field) -> pd.DataFrame:
    """A target made of the vectors, two variables of the user's own, and a category."""
    table = linear_table(field)
    rng = np.random.default_rng(5)
    table["rooms"] = rng.integers(1, 9, len(table))
    table["kind"] = rng.choice(["house", "flat"], len(table))
    spread = table["height"].std()
    table["price"] = table["height"] + spread * (
        0.5 * table["rooms"] + 2 * (table["kind"] == "house")
    )
    table["price"] += 0.2 * spread * rng.standard_normal(len(table))
    return table


@pytest.fixture(scope="module")
def field(gulf: Path) -> Field:
    return open_field(str(gulf))


@pytest.fixture(scope="module")
def probe(field: Field) -> Probe:
    return field.probe(
        survey(field),
        ["price", "north"],
        "coordinate",
        controls=["rooms", "kind"],
        block_km=350,
        baselines=False,
    )


def test_vectors_are_scored_beside_the_controls(probe: Probe) -> None:
    gains = probe.gains.set_index(["target", "split"])
    for split in ("random", "blocked"):
        price = gains.loc[("price", split)]
        assert price["metric"] == "r2"
        # A third of the variance each, and noise: the sum is what both tell.
        assert price["both"] > price["vectors"] + 0.1
        assert price["both"] > price["controls"] + 0.1
        assert price["gain"] == pytest.approx(price["both"] - price["controls"], abs=1e-9)
        assert 0 < price["low"] < price["gain"] < price["high"]
        north = gains.loc[("north", split)]  # of the vectors alone
        assert north["metric"] == "accuracy"
        assert north["controls"] < 0.65
        assert north["gain"] > 0.2
    assert {"coordinate", "controls", "coordinate + controls"} == set(probe.scores["features"])
    text = probe.text()
    assert "What vectors add to the controls rooms, kind" in text
    assert probe.predict([(0.0, 0.0)])["price"].notna().all()  # by the vectors alone


def test_controls_that_say_it_all_are_not_held_back(field: Field) -> None:
    """A few columns beside many bands: the penalty of these must not shrink those."""
    table = survey(field)
    table["sum"] = 3.0 * table["rooms"]
    probe = field.probe(
        table, "sum", controls="rooms", modalities="coordinate", block_km=350, baselines=False
    )
    assert (probe.gains["both"] > 0.999).all()
    assert (probe.gains["gain"].abs() < 1e-3).all()


def test_vectors_of_noise_add_nothing_that_the_interval_takes_for_something() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(40):
        truth = rng.standard_normal(400)
        first = truth + rng.standard_normal(400)
        second = truth + rng.standard_normal(400)  # as good, by other errors
        gain = r2_gain(truth, first, second, np.arange(400) // 8, 0.9, seed)
        assert gain.difference == pytest.approx(r2_score(truth, second) - r2_score(truth, first))
        inside += gain.low <= 0 <= gain.high
    assert 28 <= inside <= 40  # of 40 at 90 %: fewer than 29 once in 10,000


def test_blocks_that_are_alike_give_wider_intervals_than_points() -> None:
    rng = np.random.default_rng(1)
    block = np.arange(500) // 25
    truth = rng.standard_normal(500)
    first = truth + rng.standard_normal(20)[block]
    second = truth + rng.standard_normal(20)[block]
    alone = r2_gain(truth, first, second, np.arange(500), 0.9)
    whole = r2_gain(truth, first, second, block, 0.9)
    assert whole.high - whole.low > 2 * (alone.high - alone.low)
    right = (rng.random(500) < 0.7).astype(float)
    same = accuracy_gain(right, right, block, 0.9)
    assert (same.difference, same.low, same.high) == (0, 0, 0)


def test_the_controls_alone_score_as_a_regression_does(field: Field, probe: Probe) -> None:
    table = survey(field).iloc[probe.rows]
    x = np.stack([table["rooms"], table["kind"] == "house"], axis=1).astype(float)
    y = table["price"].to_numpy()
    folds = probe.folds["blocked"]
    guess = np.empty(len(y))
    for fold in np.unique(folds):
        held = folds == fold
        guess[held] = LinearRegression().fit(x[~held], y[~held]).predict(x[held])
    found = probe.gains.set_index(["target", "split"])
    assert found.loc[("price", "blocked"), "controls"] == pytest.approx(
        r2_score(y, guess), abs=0.01
    )


def test_a_row_without_a_control_takes_no_part_and_is_counted(field: Field) -> None:
    table = survey(field)
    table["rooms"] = table["rooms"].astype(float)
    table.iloc[::10, table.columns.get_loc("rooms")] = np.nan
    lost = len(table.iloc[::10])
    with pytest.warns(UserWarning, match=f"{lost} without a control"):
        probe = field.probe(
            table, "price", "coordinate", controls="rooms", block_km=350, baselines=False
        )
    count = probe.counts["price"]
    assert (count.points, count.without_control) == (len(table) - lost, lost)
    assert table["rooms"].iloc[probe.rows].notna().all()


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ("price", "is a control and a target"),
        ("nothing", "there is no column 'nothing'"),
        ([], "no control is named"),
        (["rooms", "rooms"], "the control 'rooms' is named twice"),
        ("day", "control 'day' holds dates or times"),
        ("label", "categories, more than 100"),
        ("text", r"such as '0\.5': make them numbers, or give a column of categories"),
        ("lost", "control 'lost' is missing in all 554 rows"),
        ("none", "control 'none' is missing in all 554 rows"),
    ],
)
def test_what_is_no_control_is_refused(field: Field, controls: object, message: str) -> None:
    table = survey(field)
    table["day"] = pd.Timestamp("2020-01-01")
    table["label"] = [f"row {number}" for number in range(len(table))]
    table["lost"] = np.nan
    table["text"] = "0.5"
    table["none"] = pd.Categorical([None] * len(table), categories=["house"])
    with pytest.raises(ProbeError, match=message):
        field.probe(table, "price", controls=controls, block_km=350, baselines=False)


def test_a_control_that_is_the_same_everywhere_is_warned_of(field: Field) -> None:
    table = survey(field).assign(year=2020)
    with pytest.warns(ProbeWarning, match="control 'year' is 2020 everywhere"):
        probe = field.probe(
            table, "price", "coordinate", controls="year", block_km=350, baselines=False
        )
    assert (probe.gains["both"] == probe.gains["vectors"]).all()


def test_units_are_whole_blocks_of_the_split(field: Field, probe: Probe) -> None:
    table = survey(field).iloc[probe.rows]
    blocks = spatial_blocks(table[["lon", "lat"]].to_numpy(), 350, probe.splits["crs"])
    folds = probe.folds["blocked"]
    pairs = np.unique(np.stack([blocks, folds], axis=1), axis=0)
    assert len(pairs) == len(np.unique(blocks))


@given(
    st.lists(
        st.sampled_from([0.0, 1.0, 2.0, 1e30, -1e30, np.nan]) | st.floats(-1e6, 1e6), max_size=30
    )
)
def test_ranks_are_those_of_scipy_from_0_to_1(column: list[float]) -> None:
    numbers = np.array([column, [1.0] * len(column)]).T.reshape(-1, 2)
    own, found = np.split(beside_ranks(numbers), 2, axis=1)
    np.testing.assert_array_equal(own, numbers)
    known = np.isfinite(numbers[:, 0])
    expected = (rankdata(numbers[known, 0]) - 1) / max(known.sum() - 1, 1)
    np.testing.assert_allclose(found[known, 0], expected, atol=1e-12)
    assert np.isnan(found[~known, 0]).all()
    middle = 0.5 if len(column) > 1 else 0.0
    np.testing.assert_allclose(found[:, 1], middle)


@pytest.mark.filterwarnings("ignore:the scores of")
def test_a_covariate_counts_by_itself_and_by_its_rank(wide: Path) -> None:
    field = open_field(str(wide))
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"lon": rng.uniform(-18, 18, 150), "lat": rng.uniform(-14, 11, 150)})
    heights = field.sample(table, [], covariates="height")[["height"]].to_numpy(np.float64)
    table["y"] = np.nan_to_num(heights[:, 0]) + rng.standard_normal(len(table))
    table[["own", "rank"]] = beside_ranks(heights)
    options = {"baselines": False, "block_km": 350, "folds": 3}
    scored = field.probe(table, "y", "coordinate", covariates=["height"], **options).scores
    again = field.probe(table, "y", "coordinate", controls=["own", "rank"], **options).scores
    for one, other in (("covariates", "controls"), ("coordinate", "coordinate")):
        own, expected = (
            frame[frame["features"] == name] for frame, name in ((scored, one), (again, other))
        )
        np.testing.assert_allclose(own["r2"], expected["r2"], rtol=1e-9)
