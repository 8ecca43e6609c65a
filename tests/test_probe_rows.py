"""Which rows of a table a probe stands on, and what is refused before a vector is read."""

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.commands import point_table

from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.schemas.errors import LayoutError, PointsError, ProbeError, ProbeWarning

HOW = {"modalities": "coordinate", "block_km": 500, "folds": 3, "baselines": False}


@pytest.fixture(scope="module")
def field(gulf: Path) -> Field:
    return open_field(str(gulf))


def table_with_vectors(field: Field, count: int = 300) -> pd.DataFrame:
    """Rows that all have a vector."""
    table = point_table(count)
    valid = field.sample(table, "coordinate")["coordinate_status"] == "valid"
    return table[valid.to_numpy()].reset_index(drop=True)


def test_rows_without_a_position_are_left_out_and_counted(field: Field) -> None:
    table = table_with_vectors(field)
    table.loc[[3, 5], "lon"] = np.nan
    table.loc[7, "lat"] = np.nan
    table.loc[[7, 9], "height"] = np.nan
    rows = len(table)
    said = rf"'height' are of {rows - 4} points of {rows} rows \(2 without the target, 2 without a "
    with pytest.warns(ProbeWarning, match=rf"{said}vector: no position\)"):
        probe = field.probe(table, "height", **HOW)
    assert set(probe.scores["points"]) == {rows - 4}
    assert set(probe.scores["dropped"]) == {2}
    assert f"{rows - 4} points of {rows} rows" in repr(probe)
    whole = field.probe(table.drop(index=[3, 5, 7, 9]), "height", **HOW)
    pd.testing.assert_frame_equal(
        probe.scores.drop(columns="dropped"), whole.scores.drop(columns="dropped")
    )


def test_one_warning_says_how_many_rows_take_part_and_why_not(field: Field) -> None:
    table = point_table(300)
    table.loc[:19, "height"] = np.nan
    table.loc[20:39, "lon"] = np.nan
    status = field.sample(table.iloc[40:], "coordinate")["coordinate_status"]
    water = int((status == "water").sum())
    assert water > 0
    with pytest.warns(ProbeWarning) as caught:
        field.probe(table.drop(columns="high"), "height", **HOW)
    assert len(caught) == 1
    said = str(caught[0].message)
    for part in ("of 300 rows", "20 without the target", f"{water} water", "20 no position"):
        assert part in said


def test_targets_that_lack_the_same_rows_share_a_warning(field: Field) -> None:
    table = table_with_vectors(field)
    table.loc[0, "lon"] = np.nan
    table["again"], table["other"] = table["height"], table["height"]
    table.loc[5, "other"] = np.nan
    with pytest.warns(ProbeWarning) as caught:
        field.probe(table, ["height", "again", "other"], **HOW)
    assert [str(one.message).partition(" are of")[0] for one in caught] == [
        "the scores of 'height', 'again'", "the scores of 'other'",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["arrow", "polars", "geopandas", "number", "levels"])
def test_every_kind_of_table_has_the_same_scores(field: Field, kind: str) -> None:
    table = table_with_vectors(field).assign(part=lambda rows: rows.index % 30)[
        ["lon", "lat", "height", "part"]
    ]
    expected = field.probe(table, "height", groups="part", seed=1, **HOW | {"folds": 5})
    target, groups, own = "height", "part", table
    if kind == "arrow":
        own = pa.Table.from_pandas(table)
    elif kind == "polars":
        own = pl.from_pandas(table)
    elif kind == "geopandas":
        points = gpd.points_from_xy(table["lon"], table["lat"], crs="EPSG:4326")
        own = gpd.GeoDataFrame(table[["height", "part"]], geometry=points)
    elif kind == "number":
        own, target, groups = table.set_axis(["lon", "lat", 7, 8], axis=1), 7, 8
    else:
        names = [("lon", ""), ("lat", ""), ("height", "m"), ("part", "")]
        own, target = table.set_axis(pd.MultiIndex.from_tuples(names), axis=1), ("height", "m")
    found = field.probe(own, target, groups=groups, seed=1, **HOW | {"folds": 5})
    label = {"number": "7", "levels": "height m"}.get(kind, "height")
    assert set(found.scores["target"]) == {label}
    pd.testing.assert_frame_equal(
        found.scores.drop(columns="target"), expected.scores.drop(columns="target")
    )
    assert found.predict(table[["lon", "lat"]]).columns[0] == label
    assert found.model(target) is found.model(label)


def test_masked_groups_and_groups_of_rows_that_take_no_part(field: Field) -> None:
    table = table_with_vectors(field)
    labels = pd.Series(table.index % 30, dtype=object)
    labels[4] = None
    with pytest.raises(ProbeError, match=r"1 of .* points have no group, the first in row 4"):
        field.probe(table, "height", groups=labels, **HOW)
    table.loc[4, "height"] = np.nan
    field.probe(table, "height", groups=labels, **HOW)
    with pytest.raises(ProbeError, match="groups must be labels"):
        field.probe(table, "height", groups=[[1]] * len(table), **HOW)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"targets": "word"}, ProbeError, "'word' is 'a' everywhere"),
        ({"targets": "day"}, ProbeError, "dates or times"),
        ({"targets": "none"}, ProbeError, "'none' is missing in all 300 rows"),
        ({"targets": "few"}, ProbeError, "'few' has 20 points of 300 rows.*3 folds need at least"),
        ({"targets": "number"}, ProbeError, "'number' is 3 everywhere"),
        ({"targets": "name"}, ProbeError, "have one point only or none, such as '0'"),
        ({"targets": []}, ProbeError, "no target is named"),
        ({"targets": ["height", "height"]}, ProbeError, "'height' is named twice"),
        ({"targets": "depth"}, ProbeError, "no column 'depth'"),
        ({"groups": "state"}, ProbeError, "no column 'state'"),
        ({"groups": [1, 2]}, ProbeError, "2 group labels for 300 points"),
        ({"groups": "word"}, ProbeError, "1 groups cannot fill 3 folds"),
        ({"block_km": 9000, "folds": 5}, ProbeError, "make the blocks smaller"),
        ({"folds": 2}, ProbeError, "2 folds are too few"),
        ({"seed": -1}, ProbeError, "seed must be 0 or more"),
        ({"level": 90}, ProbeError, "between 0 and 1"),
        ({"baselines": ["kNN"]}, ProbeError, "no baseline 'kNN'"),
        ({"baselines": "mean"}, ProbeError, "baselines must be True, False or a list"),
        ({"block_km": -1.0}, ProbeError, "positive number of km"),
        ({"modalities": "radar"}, LayoutError, "no modality 'radar'"),
        ({"columns": ("lon", "north")}, PointsError, "no column 'north'"),
    ],
)
def test_what_cannot_be_probed_is_refused_before_a_vector_is_read(
    field: Field, change: dict, error: type[Exception], words: str
) -> None:
    def unread(name: str) -> object:
        raise AssertionError(f"{name} was read")

    table = point_table(300)
    table["day"], table["none"], table["number"] = pd.Timestamp("2020-01-01"), None, 3
    table["few"] = table["height"].where(table.index < 20)
    table["name"] = table.index.astype(str)
    blind = replace(field, cells=unread)
    given = {"targets": "height"} | HOW | change
    with pytest.raises(error, match=words):
        blind.probe(table, given.pop("targets"), **given)


def test_no_position_at_all_is_refused(field: Field) -> None:
    with pytest.raises(ProbeError, match="none of the table's 300 rows has a position"):
        field.probe(point_table().assign(lon=np.nan), "height", **HOW)


def test_a_coordinate_as_a_target_is_warned_of(field: Field) -> None:
    with pytest.warns(ProbeWarning, match="'lat' is a coordinate of the points"):
        field.probe(table_with_vectors(field), ["height", "lat"], **HOW)


def test_what_a_probe_holds_is_shown_in_short(field: Field) -> None:
    table = table_with_vectors(field)
    many = {f"height number {number}": table["height"] + number for number in range(40)}
    table = pd.concat([table, pd.DataFrame(many)], axis=1)
    probe = field.probe(table, ["high", "part", *many], task=None, **HOW)
    model, classes = probe.model("height number 0"), probe.model("high")
    shown = [
        probe, model, classes, model.ridge, classes.logistic, *model.ridge.spreads[0][1:],
        probe.data, probe.evaluation, probe.data.splits[0], probe.data.targets["high"],
        probe.data.counts["high"],
    ]  # fmt: skip
    for one in shown:
        assert len(repr(one)) <= 2000, type(one)
    assert "of 42 targets" in repr(probe)
    assert "height number 39" in probe.text()
