"""Targets, controls, groups and weights as names of columns or as values: the same inputs."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from unigeo.client.probing.probe_inputs import ProbeInputs, read_inputs
from unigeo.client.probing.targets import Labels
from unigeo.schemas.errors import PointsError, ProbeError
from unigeo.schemas.tables.points import read_points

RNG = np.random.default_rng(0)
COUNT = 120
TABLE = pd.DataFrame(
    {
        "lon": RNG.uniform(-110, -80, COUNT),
        "lat": RNG.uniform(33, 45, COUNT),
        "rent": RNG.normal(size=COUNT),
        "kind": RNG.choice(["house", "flat"], COUNT),
        "age": RNG.integers(0, 90, COUNT),
        "people": RNG.integers(1, 9, COUNT),
        "county": np.arange(COUNT) % 7,
    },
    index=[f"row {k}" for k in range(COUNT)],
)
PAIRS = list(zip(TABLE["lon"], TABLE["lat"], strict=True))


def inputs(table: Any, targets: Any, **options: Any) -> ProbeInputs:
    how = {"task": None, "crs": None, "columns": None, "otherwise": "EPSG:8858", "groups": None}
    return read_inputs(table, targets, **{**how, "folds": 3, **options})[0]


def same(one: ProbeInputs, other: ProbeInputs) -> None:
    np.testing.assert_array_equal(one.lonlat, other.lonlat)
    for ours, theirs in zip(one.targets.values(), other.targets.values(), strict=True):
        if isinstance(theirs, Labels):
            assert isinstance(ours, Labels)
            assert ours.classes == theirs.classes
            ours, theirs = ours.codes, theirs.codes
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("column", ["rent", "kind"])
@pytest.mark.parametrize(
    "give",
    [
        lambda column: column,
        lambda column: column.reset_index(drop=True),
        lambda column: column.to_numpy(),
        lambda column: column.tolist(),
        lambda column: pa.array(column.to_numpy()),
        lambda column: pa.chunked_array([column.to_numpy()]),
        lambda column: pl.Series("other", column.to_numpy()),
        lambda column: column.to_frame(),
        lambda column: pa.table({"any": column.to_numpy()}),
        lambda column: pl.DataFrame({"any": column.to_numpy()}),
        lambda column: {"any": column.tolist()},
    ],
)
def test_values_are_the_column_that_is_named(give: Any, column: str) -> None:
    expected, values = inputs(TABLE, column), give(TABLE[column])
    bare = TABLE[["lon", "lat"]]
    for table in (TABLE, bare, pl.from_pandas(TABLE), pa.Table.from_pandas(TABLE)):
        same(inputs(table, values), expected)
    if not isinstance(values, pd.Series | pd.DataFrame) or values.index[0] == 0:
        for points in (PAIRS, bare.to_numpy(), {"lon": TABLE["lon"], "lat": TABLE["lat"]}):
            same(inputs(points, values), expected)


def test_a_target_has_the_name_that_it_brings() -> None:
    assert list(inputs(PAIRS, TABLE["rent"].to_numpy()).targets) == ["target"]
    assert list(inputs(TABLE, TABLE["rent"].rename(7)).targets) == ["7"]
    several = inputs(PAIRS, {"rent": TABLE["rent"].to_numpy(), "age": TABLE["age"].tolist()})
    assert list(several.targets) == ["rent", "age"]


def test_integer_names_of_columns_are_names() -> None:
    table = TABLE[["lon", "lat", "rent"]].set_axis([0, 1, 2], axis=1)
    for targets in (2, [2], np.array([2])):
        same(inputs(table, targets, columns=(0, 1)), inputs(TABLE, "rent"))


def test_controls_groups_and_weights_are_given_alike() -> None:
    named = inputs(TABLE, "rent", controls=["age", "kind"], groups="county", weights="people")
    given = inputs(
        TABLE,
        "rent",
        controls=TABLE[["age", "kind"]],
        groups=TABLE["county"].tolist(),
        weights=pa.array(TABLE["people"].to_numpy()),
    )
    assert named.controls is not None and given.controls is not None
    assert named.controls.names == given.controls.names
    np.testing.assert_array_equal(named.controls.values, given.controls.values)
    np.testing.assert_array_equal(named.groups, given.groups)
    np.testing.assert_array_equal(named.weights, given.weights)


@pytest.mark.parametrize(
    ("table", "targets", "options", "message"),
    [
        (TABLE, TABLE["rent"].iloc[::-1], {}, "the rows of the target have other labels"),
        (TABLE, TABLE["rent"][:50], {}, "the rows of the target have other labels"),
        (TABLE, TABLE["rent"].to_numpy()[:50], {}, "'target' has 50 values for 120 points"),
        (TABLE, ["rent", "rooms"], {}, "no column 'rooms'"),
        (PAIRS, "rent", {}, "'rent' is the name of a column, and the points, a list, have none"),
        (TABLE, {"a": [1.0, 2.0], "b": [1.0]}, {}, r"have \[1, 2\] rows"),
        (TABLE, "rent", {"weights": TABLE["people"].iloc[::-1]}, "rows of the weights have other"),
        (TABLE, "rent", {"groups": TABLE["county"].iloc[::-1]}, "rows of the groups have other"),
        (PAIRS, TABLE["rent"].to_numpy(), {"groups": "county"}, "groups 'county' is the name"),
        (TABLE, "rent", {"controls": TABLE["age"].iloc[::-1]}, "rows of the control have other"),
    ],
)
def test_values_of_other_rows_are_refused(
    table: Any, targets: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProbeError, match=message):
        inputs(table, targets, **options)


@pytest.mark.parametrize("columns", [3, (3,)])
def test_the_column_of_positions_may_be_named_by_a_number(columns: Any) -> None:
    found = read_points(pd.DataFrame({3: ["39.5, -105.2"], "lon": 1.0}), columns=columns)
    np.testing.assert_array_equal(found.lonlat, [[-105.2, 39.5]])


@pytest.mark.parametrize("columns", ["where", ("where",)])
def test_a_named_column_holds_positions_as_text(columns: Any) -> None:
    texts = ["39.5, -105.2", "POINT (-105.2 39.5)", "39.5° N 105.2° W", None]
    for table in (
        pd.DataFrame({"where": texts, "location": "unknown", "rent": 1.0}),
        pl.DataFrame({"where": texts, "location": ["unknown"] * 4}),
        pa.table({"where": texts, "location": ["unknown"] * 4}),
    ):
        found = read_points(table, columns=columns, missing="keep").lonlat
        np.testing.assert_array_equal(found, [[-105.2, 39.5]] * 3 + [[np.nan] * 2])
    with pytest.raises(PointsError, match="no one column 'here' among where, rent"):
        read_points(pd.DataFrame({"where": texts, "rent": 1.0}), columns="here")


def test_two_columns_of_numbers_are_no_rows_of_points() -> None:
    lon, lat = TABLE["lon"], TABLE["lat"]
    for two in ((lon, lat), [lon.tolist(), lat.tolist()], np.stack([lon, lat])):
        with pytest.raises(PointsError, match="two rows of 120 numbers are no points"):
            read_points(two)
    assert read_points([(1.0, 2.0), (3.0, 4.0)]).lonlat.shape == (2, 2)
    np.testing.assert_array_equal(read_points(zip(lon, lat, strict=True)).lonlat, PAIRS)
