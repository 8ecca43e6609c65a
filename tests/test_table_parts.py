"""A table read in parts is the whole table, and so is one that was written in parts."""

import gzip
import io
import sys
from pathlib import Path
from typing import Any

import geopandas
import geopandas.testing
import numpy as np
import pandas as pd
import pytest

from unigeo.schemas.errors import PointsError, StoreError
from unigeo.schemas.reading_parts import parts_of, read_parts
from unigeo.schemas.tables import read_table, write_table
from unigeo.schemas.writing_parts import write_parts

ENDINGS = [".csv", ".csv.gz", ".parquet", ".geojson", ".arrow"]


def table(rows: int = 25) -> pd.DataFrame:
    """Columns whose first rows look like another type than the whole."""
    number = np.arange(rows)
    return pd.DataFrame(
        {
            "name": [f"n{k}" if k % 3 else 'a,"b"\nc' for k in number],
            "late": [None if k < 12 else f"w{k}" for k in number],
            "real": np.where(number < 15, number, number + 0.5),
            "gap": np.where(number == 20, np.nan, number),
            "count": number,
            "flag": number % 2 == 0,
            "mixed": [str(k) if k < 14 else "x" for k in number],
            "lon": np.linspace(-10, 10, rows),
            "lat": np.linspace(-5, 5, rows),
        }
    )


def read_whole(path: Path, rows: int) -> pd.DataFrame:
    with read_parts(str(path), None, rows) as parts:
        first, second = list(parts), list(parts)
        assert max(map(len, first)) <= rows
        assert len(parts) == sum(map(len, first))
        for one, other in zip(first, second, strict=True):
            pd.testing.assert_frame_equal(one, other)
        return pd.concat(first, ignore_index=True)


@pytest.mark.parametrize("rows", [1, 7, 25, 100])
@pytest.mark.parametrize("ending", ENDINGS)
def test_parts_make_the_whole_table(tmp_path: Path, ending: str, rows: int) -> None:
    path = tmp_path / f"t{ending}"
    write_table(table(), str(path))
    expected = read_table(str(path))
    pd.testing.assert_frame_equal(read_whole(path, rows), expected, check_dtype=ending == ".csv")


@pytest.mark.parametrize("rows", [4, 7, 100])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_table_written_in_parts_is_the_whole(tmp_path: Path, ending: str, rows: int) -> None:
    path, whole = tmp_path / f"parts{ending}", tmp_path / f"whole{ending}"
    write_table(table(), str(whole))
    with write_parts(str(path)) as write:
        for part in parts_of(table(), rows):
            write(part)
    pd.testing.assert_frame_equal(read_table(str(path)), read_table(str(whole)))
    assert sorted(tmp_path.iterdir()) == sorted([path, whole])


def test_geometry_stays_in_the_parts(tmp_path: Path) -> None:
    own = table()
    points = geopandas.points_from_xy(own["lon"], own["lat"], crs="EPSG:4326")
    frame = geopandas.GeoDataFrame(own[["name"]], geometry=points).to_crs("EPSG:3857")
    write_table(frame, str(tmp_path / "whole.parquet"))
    with (
        read_parts(str(tmp_path / "whole.parquet"), None, 10) as parts,
        write_parts(str(tmp_path / "parts.parquet")) as write,
    ):
        for part in parts:
            assert part.crs == "EPSG:3857"
            write(part)
    geopandas.testing.assert_geodataframe_equal(
        geopandas.read_parquet(tmp_path / "parts.parquet"), frame
    )


def test_a_table_without_rows_is_one_empty_part(tmp_path: Path) -> None:
    for ending in (".csv", ".parquet"):
        path = tmp_path / f"t{ending}"
        write_table(table().head(0), str(path))
        with read_parts(str(path), None, 10) as parts:
            assert [list(part.columns) for part in parts] == [list(table().columns)]
            assert len(parts) == 0


def test_a_pipe_is_read_as_often_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("csv", "parquet"):
        content = io.BytesIO()
        getattr(table(), f"to_{kind}")(content, index=False)
        pipe = io.TextIOWrapper(io.BytesIO(content.getvalue()))
        monkeypatch.setattr(sys, "stdin", pipe)
        with read_parts("-", kind, 10) as parts:
            assert [len(part) for part in parts] == [10, 10, 5]
            assert [len(part) for part in parts] == [10, 10, 5]


def test_csv_goes_out_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    with write_parts(None) as write:
        for part in parts_of(table(), 10):
            write(part)
            assert capsys.readouterr().out == part.to_csv(index=False, header=part.index[0] == 0)


def test_parquet_goes_out_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    with write_parts("-", "parquet") as write:
        for part in parts_of(table(), 10):
            write(part)
    read = pd.read_parquet(io.BytesIO(out.buffer.getvalue()))  # type: ignore[attr-defined]
    assert len(read) == 25


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_write_that_is_broken_off_leaves_what_was_there(
    tmp_path: Path, ending: str, error: type[BaseException]
) -> None:
    path = tmp_path / f"t{ending}"
    path.write_bytes(b"before")
    with pytest.raises(error), write_parts(str(path)) as write:
        write(table())
        raise error
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_that_a_format_cannot_hold_is_one_clear_error(tmp_path: Path) -> None:
    wrong = table().assign(count="word")
    with (
        pytest.raises(StoreError, match=r"cannot write the table .*t.parquet as parquet"),
        write_parts(str(tmp_path / "t.parquet")) as write,
    ):
        write(table())
        write(wrong)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_named_at_once_or_when_it_is_reached(tmp_path: Path) -> None:
    def read(name: str) -> list[Any]:
        with read_parts(str(tmp_path / name), None, 2) as parts:
            return list(parts)

    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n5,6,7,8\n")
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 9000)[:-10])
    for name in ("t.csv", "t.parquet", "t.csv.gz", "gone.csv", "gone.parquet", "t.doc"):
        with pytest.raises(PointsError, match=rf"cannot read .*{name}"):
            read(name)
