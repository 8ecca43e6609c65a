"""Text tables: dialects are found, rows stay as they are written, what is not clear is refused."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unigeo.schemas.errors import PointsError
from unigeo.schemas.tables.dialects import SEPARATORS
from unigeo.schemas.tables.part_readers import read_parts
from unigeo.schemas.tables.text_records import LONGEST_FIELD
from unigeo.schemas.tables.text_tables import TextTable, open_text
from unigeo.schemas.tables.text_values import column_kind, parse_number, parse_values

FIELD = st.text(st.characters(codec="utf-8"), max_size=8)


def opened(content: str | bytes, columns: tuple[str, str] | None = None) -> TextTable:
    raw = content.encode() if isinstance(content, str) else content
    return open_text(io.BytesIO(raw), 1000, columns)


def lonlat(content: str | bytes, columns: tuple[str, str] | None = None) -> list[list[float]]:
    (part,) = opened(content, columns).parts()
    found: list[list[float]] = part.points().tolist()
    return found


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize("separator", list(SEPARATORS))
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_separator_encoding_and_line_end_are_found(
    encoding: str, separator: str, line_end: str
) -> None:
    rows = [["name", "Lon", "LAT"], ["Zoë", "-105.5", "39"], ['"a|;,\t"', "-104", "40"]]
    text = line_end.join(separator.join(row) for row in rows)
    table = opened(text.encode(encoding))
    assert table.names == ("name", "Lon", "LAT")
    assert table.dialect.separator == separator
    assert table.dialect.line_end == ("\r\n" if line_end == "\r\n" else "\n")
    (part,) = table.parts()
    assert part.points().tolist() == [[-105.5, 39], [-104, 40]]
    assert list(part.columns[0]) == ["Zoë", "a|;,\t"]
    again = table.dialect.mark + line_end.join([table.header, *part.texts]).encode(
        table.dialect.encoding
    )
    assert again == text.encode(encoding)


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("lon;lat", ";"),
        ("lon,lat\n", ","),
        ("lon\tlat\r\n", "\t"),
        ("name, first;lon;lat\nSmith, John;1;2\n", ";"),
        ("lon,lat,note\n1,2,a;b;c\n3,4,d;e;f\n", ","),
        ("lon;lat\n1,5;2,5\n", ";"),
        ('"x;y",lon,lat\n"1;2",3,4\n', ","),
        ("a;b;c;d,lon,lat\n1,2,3\n", ","),
        ('lon,lat,note\n1,2,"' + "a;b;c;d\n" * 3 + '"\n', ","),
    ],
)
def test_a_separator_in_a_field_misleads_nobody(text: str, separator: str) -> None:
    assert opened(text).dialect.separator == separator


def test_columns_that_are_named_decide_too() -> None:
    text = "east;north,a;b\n1;2,3;4\n"
    assert opened(text, ("east", "b")).dialect.separator == ";"
    assert lonlat(text, ("east", "b")) == [[1, 4]]


def test_columns_that_are_not_found_say_how_the_table_was_read() -> None:
    with pytest.raises(PointsError, match=r"no longitude column among lon height.*comma-separated"):
        lonlat("lon height\n1 2\n")
    with pytest.raises(PointsError, match=r"among a, b.* as semicolon-separated UTF-8, columns: 2"):
        lonlat("a;b\n1;2\n")
    with pytest.raises(PointsError, match="2 columns may be meant"):
        lonlat("lon,lat,lon\n1,2,3\n")


@pytest.mark.parametrize(
    ("text", "places", "rows"),
    [
        ("lon,lat,v\n1,2,3,\n4,5,6,\n", [[1, 2], [4, 5]], ["1,2,3", "4,5,6"]),
        ("lon,lat,v,\n1,2,3,\n4,5,6,\n", [[1, 2], [4, 5]], ["1,2,3,", "4,5,6,"]),
        ("lon,lat,v,\n1,2,3\n", [[1, 2]], ["1,2,3,"]),
        ("lon,lat,v,w\n1,2\n4,5,6\n", [[1, 2], [4, 5]], ["1,2,,", "4,5,6,"]),
        ("\nlon,lat\n\n1,2\n \n\n4,5\n\x1a", [[1, 2], [4, 5]], ["1,2", "4,5"]),
        ("lon,lat,v\n,,\n", [[np.nan, np.nan]], [",,"]),
    ],
)
def test_delimiters_at_the_end_shift_no_column(
    text: str, places: list[list[float]], rows: list[str]
) -> None:
    (part,) = opened(text).parts()
    np.testing.assert_array_equal(part.points(), places)
    assert list(part.texts) == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "lon,lat,v\n1,2,3\n4,5,6,7\n",
            "line 3 has 4 fields and the header 3, separated by comma",
        ),
        ("lon;lat\n1;2\n3\n", "line 3 has 1 fields and the header 2, separated by semicolons"),
        ("v,lon,lat\n\n1,2\n", "line 3 has 2 fields"),
        ('v,lon,lat\n"a\nb",1,2\nc,1\n', "line 4 has 2 fields"),
        ("lon,lat,v\n1,2,3\n4,5", "line 3 has 2 fields.*is the file cut short"),
        ('lon,lat\n1,"2\n', "line 2: unexpected end of data. A quoted field ends with a quote"),
        ('lon,lat\n1,"2" m\n', "line 2: ',' expected after"),
        ("", "it is empty"),
        ("\n \n", "it is empty"),
    ],
)
def test_a_line_that_does_not_fit_is_refused_with_its_number(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with (
        pytest.raises(PointsError, match=rf"cannot read the table .*t.csv as csv: .*{words}"),
        read_parts(str(tmp_path / "t.csv"), None, 10),
    ):
        pass


def test_a_long_field_is_read_and_one_without_an_end_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert LONGEST_FIELD > 10**8
    wkt = "x" * 1_000_000
    assert lonlat(f"lon,lat,shape\n1,2,{wkt}\n") == [[1, 2]]
    old = csv.field_size_limit()
    monkeypatch.setattr("unigeo.schemas.tables.text_records.LONGEST_FIELD", 1000)
    csv.field_size_limit(1000)
    try:
        with pytest.raises(ValueError, match=r"line 2: field larger than field limit"):
            opened('lon,lat\n1,"' + "2\n" * 2000)
    finally:
        csv.field_size_limit(old)


@pytest.mark.parametrize(
    ("text", "number"),
    [("-105.0 ", -105), ("+1", 1), ("1e3", 1000), (".5", 0.5), ("5.", 5), ("\u221239", -39)]
    + [("\u00a07\t", 7), ("00.5", 0.5)]
    + [(word, np.nan) for word in ("", " ", "NA", "n/a", "NaN", "None", "null", "-", "\\N")],
)
def test_numbers_are_read_leniently(text: str, number: float) -> None:
    np.testing.assert_equal(parse_number(text), number)
    np.testing.assert_equal(lonlat(f'lon,lat\n"{text}",2\n')[0][0], number)


@pytest.mark.parametrize(
    "text", ["39°", "1_000", "0x10", "inf", "1e999", "1,5", "1 2", "x", "W105"]
)
def test_text_that_is_no_number_is_named_with_its_row_and_line(text: str) -> None:
    with pytest.raises(PointsError, match=r"the field 'lat' of row 1 \(line 4\) is .* no number"):
        lonlat(f'lon,lat,v\n1,2,"a\nb"\n1,"{text}",\n')


def test_decimal_commas_are_read_where_they_separate_no_fields() -> None:
    assert lonlat("lon;lat\n-105,5;39\n") == [[-105.5, 39]]
    for text, decimal in (("lon;lat\n-105,5;39\n", ","), ("lon;lat;v\n-105.5;39;1,5\n", ".")):
        table = open_text(io.BytesIO(text.encode()), 1000, check_positions=True)
        assert table.dialect.decimal == decimal
    with pytest.raises(PointsError, match="decimal commas are read where no comma"):
        lonlat('lon,lat\n"-105,5",39\n')
    with pytest.raises(PointsError, match=r"'1\.234,5', which is no number"):
        lonlat("lon;lat\n1.234,5;39\n")


@given(
    st.lists(st.lists(FIELD, min_size=3, max_size=3), max_size=5),
    st.sampled_from(list(SEPARATORS)),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_field_comes_through(
    own: list[list[str]], separator: str, quoting: int, encoding: str
) -> None:
    rows = [["lon", "lat", "a", "a", ""], *([f"{k}", "2", *row] for k, row in enumerate(own))]
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    table = opened(text.getvalue().encode(encoding))
    assert [list(table.names), *(row for part in table.parts() for row in part.fields)] == rows
    end = table.dialect.line_end
    said = [table.header, *(one for part in table.parts() for one in part.texts)]
    assert end.join(said) + end == text.getvalue()


@given(st.lists(st.one_of(FIELD, st.integers().map(str), st.floats().map(repr)), min_size=1))
def test_a_type_is_given_only_where_every_text_comes_back(texts: list[str]) -> None:
    kind = column_kind(texts)
    make = {"int": int, "float": float}.get(kind or "", str)
    assert [str(make(text)) if text else "" for text in texts] == texts
    halves = column_kind(texts[1:], column_kind(texts[:1]))
    assert halves == kind


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", "2"], np.array([1, 2])),
        (["1.10", "NA", ""], np.array([1.1, np.nan, np.nan])),
        (["", ""], np.array([np.nan, np.nan])),
        (["NA", "DE", ""], np.array(["NA", "DE", None], object)),
        (["NA", ""], np.array(["NA", None], object)),
        (["01001", "06037"], np.array(["01001", "06037"], object)),
        (["9007199254740993"], np.array([9007199254740993])),
        (["9007199254740993", ""], np.array(["9007199254740993", None], object)),
        (["TRUE", "FALSE"], np.array(["TRUE", "FALSE"], object)),
        (["1", "x"], np.array(["1", "x"], object)),
        (["0.5", "-0.5", "0"], np.array([0.5, -0.5, 0])),
    ],
)
def test_values_are_numbers_where_all_are(texts: list[str], values: np.ndarray) -> None:
    found = parse_values(texts)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
