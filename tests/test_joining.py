"""A table comes back as it was, whatever its kind, with the vectors at its right."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unigeo import client
from unigeo.client.points.join import joined_columns
from unigeo.schemas.errors import PointsError

MIXED = np.array([[-10.0, 3.0], [5.0, 5.0], [24.0, 17.0], [100.0, 0.0], [10.0, -4.0]])
"""A vector, water, no aerial observation, off the grid, a vector."""
NAMES = joined_columns({"coordinate": 8, "aerial": 8}, "ug_")
KINDS = ["pandas", "geopandas", "arrow", "batch", "polars"]


def table_of(kind: str, rows: list[int]) -> Any:
    """The places of these rows in one kind of table, among columns of several types."""
    frame = pd.DataFrame(
        {
            "name": list("pqrst"),
            "lon": MIXED[:, 0],
            "count": np.arange(5, dtype=np.int16),
            "lat": MIXED[:, 1],
            "kind": pd.Categorical(list("xyxyx")),
        }
    ).iloc[rows]
    if kind == "pandas":
        return frame
    if kind == "geopandas":
        points = geopandas.points_from_xy(frame["lon"], frame["lat"], crs="EPSG:4326")
        return geopandas.GeoDataFrame(frame, geometry=points).rename_geometry("place")
    if kind == "polars":
        return pl.from_pandas(frame.reset_index(drop=True))
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata({"a": "b"})
    return table if kind == "arrow" else table.combine_chunks().to_batches()[0]


def columns_of(table: Any) -> list[str]:
    return list(table.column_names if hasattr(table, "column_names") else table.columns)


def as_numpy(table: Any, name: str) -> np.ndarray:
    column = table[name]
    if hasattr(column, "to_pylist"):
        return np.array(column.to_pylist(), object)
    return np.array(column.to_list() if isinstance(column, pl.Series) else list(column), object)


@pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.PointsWarning")
@settings(max_examples=30)
@given(
    st.sampled_from(KINDS),
    st.lists(st.integers(0, 4), min_size=1, max_size=8),
    st.sampled_from(["nearest", "bilinear"]),
)
def test_every_kind_of_table_gets_the_same_vectors_and_keeps_its_own(
    gulf: Path, kind: str, rows: list[int], method: Any
) -> None:
    table = table_of(kind, rows)
    joined = client.join(table, gulf, method=method)
    assert type(joined) is type(table)
    assert columns_of(joined) == columns_of(table) + NAMES
    expected = client.sample(MIXED[rows], gulf, prefix="ug_", method=method)
    for name in NAMES:
        got = as_numpy(joined, name)
        if name.endswith("status"):
            assert got.tolist() == expected[name].tolist()
        else:
            values = np.array([np.nan if v is None else v for v in got], np.float32)
            assert np.array_equal(values, expected[name].to_numpy(), equal_nan=True)
    for name in columns_of(table):
        assert as_numpy(joined, name).tolist() == as_numpy(table, name).tolist()


def test_dtypes_are_the_kind_s_own_and_what_is_missing_is_its_missing(gulf: Path) -> None:
    words = client.sample(MIXED, gulf)["aerial_status"].tolist()
    arrow = client.join(table_of("arrow", [0, 1, 2, 3, 4]), gulf)
    assert arrow.schema.metadata == {b"a": b"b"}
    assert arrow.schema.field("count").type == pa.int16()
    assert arrow.schema.field("ug_aerial_000").type == pa.float32()
    assert arrow.schema.field("ug_aerial_status").type == pa.dictionary(pa.int8(), pa.string())
    assert arrow["ug_aerial_000"].null_count == 3
    polars = client.join(table_of("polars", [0, 1, 2, 3, 4]), gulf)
    assert polars.schema["count"] == pl.Int16
    assert polars.schema["ug_aerial_000"] == pl.Float32
    assert isinstance(polars.schema["ug_aerial_status"], pl.Enum)
    assert polars["ug_aerial_000"].null_count() == 3
    assert polars["ug_aerial_status"].to_list() == words
    pandas = client.join(table_of("pandas", [0, 1, 2, 3, 4]), gulf)
    assert pandas["ug_aerial_status"].dtype == "category"
    assert arrow.to_pandas()["ug_aerial_status"].tolist() == words


def test_an_arrow_table_made_by_pandas_goes_back_with_its_index(gulf: Path) -> None:
    frame = table_of("pandas", [4, 1]).set_axis(["b", "a"])
    back = client.join(pa.Table.from_pandas(frame), gulf).to_pandas()
    assert back.index.tolist() == ["b", "a"]
    pd.testing.assert_frame_equal(back[list(frame)], frame)


def test_columns_of_several_levels_stay_so(gulf: Path) -> None:
    columns = pd.MultiIndex.from_tuples(
        [("lon", ""), ("lat", ""), ("price", "low")], names=["what", "which"]
    )
    values = np.column_stack([MIXED, np.arange(5)])
    table = pd.DataFrame(values, columns=columns, index=[7, 7, 3, 3, 7])
    joined = client.join(table, gulf)
    assert joined.columns[:3].equals(columns)
    assert joined.columns.names == ["what", "which"]
    assert joined.columns[3:].tolist() == [(name, "") for name in NAMES]
    assert joined.index.tolist() == [7, 7, 3, 3, 7]
    pd.testing.assert_frame_equal(joined[columns.tolist()], table)
    with pytest.raises(PointsError, match="already has 18"):
        client.join(joined, gulf)
    other = table.set_axis(
        pd.MultiIndex.from_tuples([("at", "east"), ("at", "north"), ("price", "low")]), axis=1
    )
    named = client.join(other, gulf, columns=(("at", "east"), ("at", "north")))
    assert np.array_equal(named.iloc[:, 3:-2], joined.iloc[:, 3:-2], equal_nan=True)


def test_an_index_of_several_levels_with_repeats_and_the_attributes_stay(gulf: Path) -> None:
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 1), ("b", 2), ("b", 2), ("a", 1)])
    table = table_of("pandas", [0, 1, 2, 3, 4]).set_axis(index)
    table.attrs["source"] = "census"
    table.columns.name = "column"
    joined = client.join(table, gulf)
    assert joined.index.equals(index)
    assert joined.attrs == {"source": "census"}
    assert joined.columns.name == "column"
    pd.testing.assert_frame_equal(joined[list(table)], table)


def test_a_geodataframe_keeps_its_geometry_s_name_and_crs(gulf: Path) -> None:
    table = table_of("geopandas", [3, 0]).to_crs("EPSG:3857")
    joined = client.join(table, gulf)
    assert joined.geometry.name == "place"
    assert joined.crs == "EPSG:3857"
    assert joined.geometry.equals(table.geometry)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_there_already_is_refused_in_every_kind(gulf: Path, kind: str) -> None:
    once = client.join(table_of(kind, [0, 1]), gulf)
    with pytest.raises(PointsError, match=r"already has 18 .*'ug_coordinate_000'.*another prefix"):
        client.join(once, gulf)


@pytest.mark.parametrize("missing", [None, float("nan")])
@pytest.mark.parametrize("kind", ["arrow", "polars", "pandas"])
def test_a_row_without_a_position_says_so_and_stays_is_left_out_or_refused(
    gulf: Path, kind: str, missing: float | None
) -> None:
    make = {"arrow": pa.table, "polars": pl.DataFrame, "pandas": pd.DataFrame}[kind]
    table = make({"lon": [missing, -10.0, 10.0], "lat": [1.0, 3.0, -4.0], "id": [1, 2, 3]})
    said = "1 of 3 points have no position .* the first in row 0"
    with pytest.warns(client.PointsWarning, match=said):
        joined = client.join(table, gulf)
    assert as_numpy(joined, "ug_aerial_status").tolist() == ["no position", "valid", "valid"]
    with pytest.warns(client.PointsWarning, match=said):
        dropped = client.join(table, gulf, missing="drop")
    assert type(dropped) is type(table)
    assert as_numpy(dropped, "id").tolist() == [2, 3]
    with pytest.raises(PointsError, match=r"1 of 3 points .* \(1 no position\): row 0 no position"):
        client.join(table, gulf, missing="raise")


@pytest.mark.parametrize(
    "table", [MIXED, {"lon": [1.0], "lat": [2.0]}, pl.LazyFrame({"lon": [1.0], "lat": [2.0]})]
)
def test_what_is_no_table_is_refused_by_name(gulf: Path, table: Any) -> None:
    with pytest.raises(PointsError, match=rf"cannot join vectors to a {type(table).__name__}"):
        client.join(table, gulf)


def test_a_lazy_frame_is_to_be_collected() -> None:
    from unigeo.schemas.tables.points import read_points

    with pytest.raises(PointsError, match="collect"):
        read_points(pl.LazyFrame({"lon": [1.0], "lat": [2.0]}))


@pytest.mark.parametrize("kind", ["pandas", "arrow", "polars"])
def test_a_table_without_rows_gets_the_columns(gulf: Path, kind: str) -> None:
    joined = client.join(table_of(kind, []), gulf)
    assert columns_of(joined)[5:] == NAMES
    assert len(joined) == 0


@pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.PointsWarning")
def test_rows_that_are_left_out_take_nothing_of_the_others_along(gulf: Path) -> None:
    for kind in KINDS:
        table = table_of(kind, [3, 0, 1, 4, 2])
        dropped = client.join(table, gulf, modalities="coordinate", missing="drop")
        assert type(dropped) is type(table)
        assert as_numpy(dropped, "name").tolist() == ["p", "t", "r"]
        assert set(as_numpy(dropped, "ug_coordinate_status")) == {"valid"}
    labelled = table_of("geopandas", [3, 0, 0, 4]).set_axis([7, 7, 3, 3])
    dropped = client.join(labelled, gulf, missing="drop")
    assert dropped.index.tolist() == [7, 3, 3]
    assert dropped.crs == labelled.crs
    expected = client.sample(MIXED[[0, 0, 4]], gulf, prefix="ug_")
    pd.testing.assert_frame_equal(dropped[NAMES].reset_index(drop=True), expected)
