"""The tables that come with the client are real, small and described."""

import hashlib
import importlib.util
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from support.commands import done, refused

from unigeo import client
from unigeo.client.errors import PointsError
from unigeo.client.examples import example_tables
from unigeo.schemas.geo.us_outlines import us_region
from unigeo.schemas.tables.points import read_points

ROOT = Path(__file__).parents[1]
COUNTIES = client.example("counties")
SHEET = example_tables.datasheet("counties")


def test_the_table_is_what_its_datasheet_says() -> None:
    content = example_tables.example_csv("counties")
    assert hashlib.sha256(content).hexdigest() == SHEET["sha256"]
    assert len(content) <= 300_000
    assert list(COUNTIES) == [*SHEET["keys"], *SHEET["targets"]]
    assert COUNTIES.attrs["targets"] == list(SHEET["targets"]) and len(SHEET["targets"]) == 10
    assert len(COUNTIES) == SHEET["rows"] == COUNTIES["fips"].nunique()
    assert COUNTIES["fips"].str.fullmatch(r"\d{5}").all()


def test_targets_are_real_numbers() -> None:
    targets = COUNTIES[COUNTIES.attrs["targets"]]
    assert targets.isna().sum().to_dict() == dict.fromkeys(targets, 0) | {"temp_mean_2019_c": 1}
    percent = [name for name in targets if "percent" in SHEET["targets"][name]["meaning"]]
    assert len(percent) == 6 and targets[percent].stack().between(0, 100).all()
    # Known facts: Florida is warm, the Dakotas are not; Los Angeles breathes worse than Maine.
    by_state = targets.groupby(COUNTIES["state"]).mean()
    assert by_state["temp_mean_2019_c"].idxmax() == "FL"
    assert by_state["temp_mean_2019_c"].idxmin() in ("ND", "MN")
    assert by_state.loc["CA", "pm25_2014_2018"] > 1.5 * by_state.loc["WY", "pm25_2014_2018"]


def test_points_lie_in_their_county() -> None:
    lonlat = read_points(COUNTIES).lonlat
    rows = range(0, len(COUNTIES), 311)
    inside = [us_region(COUNTIES["fips"][row]).contains(lonlat[row : row + 1])[0] for row in rows]
    assert sum(inside) >= len(rows) - 1  # 9 of 3,108 lie just outside the simplified outline


def test_the_command_writes_the_same_table(tmp_path: Path) -> None:
    text = done("example", "counties")
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(text), dtype={"fips": str}), COUNTIES)
    assert done("example", "counties", "-o", tmp_path / "a.parquet") == ""
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), COUNTIES)
    assert json.loads(done("example", "--datasheet")) == SHEET
    assert "did you mean 'counties'" in refused("example", "countys")
    with pytest.raises(PointsError, match="there are: counties"):
        client.example("houses")


def test_the_script_makes_it_from_the_sources(shared_data: Path) -> None:
    path = ROOT / "tests/data/make_counties_example.py"
    spec = importlib.util.spec_from_file_location("make_counties_example", path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    content, datasheet = script.make(shared_data / "tables")
    assert content == example_tables.example_csv("counties")
    assert datasheet == SHEET
