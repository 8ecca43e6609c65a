"""Columns as targets: what is a number, what is a class, and what is neither."""

import datetime
import decimal
from fractions import Fraction

import geopandas as gpd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unigeo.client.probing.checks import warn_of_marks
from unigeo.client.probing.table_columns import chosen_names, read_column
from unigeo.client.probing.targets import (
    Labels,
    class_labels,
    read_numbers,
    read_target,
    read_targets,
)
from unigeo.schemas.errors import ProbeError, ProbeWarning

DAY = datetime.date(2020, 1, 31)
MOMENT = datetime.datetime(2020, 1, 31, 12)


def frame(values: object) -> pd.DataFrame:
    return pd.DataFrame({"y": values})


@pytest.mark.parametrize(
    "column",
    [
        pd.date_range("2020", periods=3),
        pd.date_range("2020", periods=3, tz="UTC"),
        pd.to_timedelta([1, 2, 3], "D"),
        pd.period_range("2020", periods=3, freq="M"),
        [DAY, None, DAY],
        [None, MOMENT, DAY],
        [datetime.time(3), datetime.time(4), None],
        pd.Series([np.datetime64("2020")] * 3, dtype=object),
        pd.Series([DAY] * 3, dtype=pd.ArrowDtype(pa.date32())),
        pd.Series([datetime.timedelta(1)] * 3, dtype=pd.ArrowDtype(pa.duration("us"))),
    ],
)
@pytest.mark.parametrize("task", [None, "regression", "classification"])
def test_dates_are_neither_numbers_nor_classes(column: object, task: str | None) -> None:
    with pytest.raises(ProbeError, match=r"'y' holds dates or times.*days since a date"):
        read_target(frame(column), "y", task)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"y": [DAY, None]}),
        pa.table({"y": [MOMENT, None]}),
        pa.table({"y": [datetime.timedelta(1), None]}),
        pa.RecordBatch.from_pydict({"y": [DAY, None]}),
        pl.DataFrame({"y": [DAY, None]}),
        pl.DataFrame({"y": [MOMENT, None]}),
        pl.DataFrame({"y": [datetime.timedelta(1), None]}),
    ],
)
def test_dates_of_arrow_and_polars_are_refused_too(table: object) -> None:
    with pytest.raises(ProbeError, match=r"'y' holds dates or times, the first in row 0"):
        read_target(table, "y")


@pytest.mark.parametrize(
    "dates",
    [
        ["2020-01-31", "2020-02-01", None],
        ["2020-01-31T12:00:00Z", "2020-02-01 08:15"],
        ["1/31/2020", "2/1/2020"],
        ["31.01.2020", "1.2.2020"],
        ["2004-07", "2004-08"],
        ["12:30", "07:15:30"],
    ],
)
def test_dates_as_text_are_classes_only_where_that_is_asked(dates: list) -> None:
    with pytest.raises(ProbeError, match=r"dates or times as text.*task='classification'"):
        read_target(frame(dates), "y")
    assert len(read_target(frame(dates), "y", "classification").classes) == 2
    assert len(read_target(frame(pd.Categorical(dates)), "y").classes) == 2


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (["1.5", "2.5", None], "numbers as text, such as '1.5': make them numbers .task='reg"),
        (["12%", "15 %", "12%"], "numbers as text, such as '12%'"),
        (["1,250", "$1,400"], "numbers as text, such as '1,250'"),
        (["12,5", "13,5"], "numbers as text, such as '12,5'"),
        (["1", "2", "3", "-"], "numbers as text in 3 rows.*words in 1, such as '-'"),
        ([1, "b", 2.5, None], r"mixes numbers \(2\), words \(1\), such as 1 and 'b'"),
        ([True, "b"], r"mixes flags \(1\), words \(1\)"),
        ([True, 2], r"mixes flags \(1\), numbers \(1\)"),
        ([1j, 2j], "complex numbers, the first in row 0"),
        (np.ones(2) * 1j, "complex numbers, the first in row 0"),
        ([None, [1], [2]], "list values, the first in row 1"),
        ([{}, {}], "dict values"),
        (gpd.GeoSeries.from_wkt(["POINT (1 2)"]), "Point values, the first in row 0"),
    ],
)
def test_what_is_neither_numbers_nor_classes_is_refused(column: object, words: str) -> None:
    with pytest.raises(ProbeError, match=words):
        read_target(frame(column), "y")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([1.0, np.inf, 2.0], "infinite in row 1"),
        ([1, 2, 10**400], "infinite in row 2, or beyond the range of float64"),
        ([decimal.Decimal("1e400"), decimal.Decimal(1)], "infinite in row 0"),
        (np.array([1, np.longdouble("1e400")], np.longdouble), "infinite in row 1"),
        ([1.0, 2.0, 1e200], "is 1e.200 in row 2, whose square is beyond"),
        ([0.0, 1e-200], "differs by 1e-200 at most"),
    ],
)
def test_numbers_beyond_the_range_are_refused_with_their_row(column: object, words: str) -> None:
    with pytest.raises(ProbeError, match=words):
        read_numbers(frame(column), "y")
    with pytest.raises(ProbeError, match=words):
        read_targets({"y": column}, len(column))


MISSING = [1.0, np.nan, 3.0]


@pytest.mark.parametrize(
    "column",
    [
        [1, None, 3],
        [1, pd.NA, 3],
        [decimal.Decimal(1), None, Fraction(3)],
        pd.array([1, None, 3], "Int64"),
        pd.array([1, None, 3], "Float64"),
        pd.Series([1, None, 3], dtype="int64[pyarrow]"),
        pd.arrays.SparseArray([1.0, np.nan, 3.0]),
        np.ma.masked_equal([1, 2, 3], 2),
        np.ma.masked_equal([1.0, np.inf, 3.0], np.inf),
        pl.Series([1, None, 3]),
        pl.Series([1.0, None, 3.0]),
        pa.chunked_array([[1, None], [3]]),
        pa.array([decimal.Decimal("1.0"), None, decimal.Decimal("3.0")]),
    ],
)
def test_what_is_masked_or_null_is_missing(column: object) -> None:
    np.testing.assert_array_equal(read_targets({"y": column}, 3)["y"], MISSING)


@pytest.mark.parametrize(
    "column",
    [
        [True, None, False],
        pd.array([True, None, False], "boolean"),
        pl.Series([True, None, False]),
        pa.array([True, None, False]),
        np.ma.masked_array([True, True, False], [False, True, False]),
    ],
)
def test_flags_are_classes_and_may_be_missing(column: object) -> None:
    found = class_labels(column)
    assert found.classes == (False, True)
    np.testing.assert_array_equal(found.codes, [1, np.nan, 0])


@pytest.mark.parametrize(
    "column",
    [
        ["a", None, "b"],
        pd.array(["a", None, "b"], "string"),
        pd.Categorical(["a", None, "b"], categories=["c", "b", "a"]),
        pa.array(["a", None, "b"]).dictionary_encode(),
        pl.Series(["a", None, "b"], dtype=pl.Categorical),
    ],
)
def test_texts_of_every_kind_are_the_same_classes(column: object) -> None:
    found = class_labels(column)
    assert found.classes == ("a", "b")
    np.testing.assert_array_equal(found.codes, [0, np.nan, 1])


def test_class_codes_written_as_whole_numbers_stay_classes() -> None:
    assert read_target(frame(["01", "11", "01"]), "y").classes == ("01", "11")
    assert read_target(frame(["R1", "R2", "3"]), "y").classes == ("3", "R1", "R2")
    large = pa.table({"y": [2**53 + 1, None, 2**53]})
    assert read_target(large, "y", "classification").classes == (2**53, 2**53 + 1)


def test_a_column_is_found_by_a_name_of_any_type() -> None:
    levels = pd.MultiIndex.from_tuples([("lon", ""), ("income", "mean"), ("income", "top")])
    deep = pd.DataFrame([[1.0, 2.0, 3.0]], columns=levels)
    assert read_column(deep, "lon").tolist() == [1.0]
    assert read_column(deep, ("income", "top")).tolist() == [3.0]
    assert read_column(deep, "income top").tolist() == [3.0]
    with pytest.raises(ProbeError, match="no column 'income'; there are lon, income mean, income"):
        read_column(deep, "income")
    assert read_column(pd.DataFrame([[1, 2]]), 1).tolist() == [2]
    assert read_column(pd.DataFrame([[1, 2]]), np.int64(1)).tolist() == [2]
    named = pd.DataFrame({"columns": [1], "crs": [2], "column_names": [3]})  # as attributes are
    for table in (named, pa.Table.from_pandas(named), pl.from_pandas(named)):
        assert [read_column(table, name).tolist() for name in named] == [[1], [2], [3]]


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame([[1, 2]], columns=["y", "y"]),
        pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["y", "y"]),
    ],
)
def test_a_name_that_two_columns_have_is_refused(table: object) -> None:
    with pytest.raises(ProbeError, match="2 columns of the table are named 'y'"):
        read_target(table, "y")


def test_targets_are_one_name_or_several_each_once() -> None:
    table = pd.DataFrame({"a": [1], "b": [2], 7: [3]})
    assert chosen_names(table, "a") == ["a"]
    assert chosen_names(table, 7) == [7]
    assert chosen_names(table, ("a", 7)) == ["a", 7]
    assert chosen_names(table, pd.Index(["a", "b"])) == ["a", "b"]
    assert chosen_names(table, table.columns[:1]) == ["a"]
    pair = pd.DataFrame({("a", "b"): [1], "a": [2]})
    assert chosen_names(pair, ("a", "b")) == [("a", "b")]
    for none in ([], (), np.array([])):
        with pytest.raises(ProbeError, match="no target is named"):
            chosen_names(table, none)
    for twice in (["a", "b", "a"], [7, "7"]):
        with pytest.raises(ProbeError, match="named twice"):
            chosen_names(table, twice)


@pytest.mark.parametrize(
    "table", [None, "table.csv", {"y": [1]}, np.ones((3, 3)), pl.LazyFrame({"y": [1]})]
)
def test_what_is_no_table_is_refused(table: object) -> None:
    with pytest.raises(ProbeError, match=f"cannot probe a {type(table).__name__}"):
        read_target(table, "y")


LONG = "x" * 5000


@given(
    values=st.lists(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.dates(),
            st.complex_numbers(), st.just(LONG), st.binary(max_size=2), st.just([1]),
        ),
        min_size=1,
        max_size=6,
    ),
    task=st.sampled_from([None, "regression", "classification"]),
)  # fmt: skip
def test_any_column_is_read_or_refused_in_one_short_sentence(
    values: list, task: str | None
) -> None:
    table = pd.DataFrame({LONG: pd.Series(values, dtype=object)})
    try:
        found = read_target(table, LONG, task)
    except ProbeError as error:
        assert len(str(error)) < 1000
        assert "\n" not in str(error)
        return
    assert len(found) == len(values)
    codes = found.codes if isinstance(found, Labels) else found
    np.testing.assert_array_equal(np.isnan(codes), pd.isna(pd.Series(values, dtype=object)))


def test_a_number_that_may_mark_missing_values_is_told() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(20, 90, 200)
    for mark in (-999.0, -9999.0):
        marked = np.where(np.arange(200) % 9 == 0, mark, values)
        with pytest.warns(
            ProbeWarning, match=rf"'y' is {mark:g} in 23 rows and 2\d.* in all others"
        ):
            warn_of_marks("y", marked)
    # Of a target that goes as far down anyway, and where nothing is marked, nothing is said.
    for plain in (values, np.append(rng.uniform(-9000, 9000, 200), -9999), np.full(5, -9999.0)):
        warn_of_marks("y", np.append(plain, np.nan))
