"""A table without coordinates is joined by the keys of its rows."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import stores
from support.commands import done, refused, run

from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.client.points.keys import read_keys
from unigeo.schemas.errors import PointsError, PointsWarning, RegionWarning
from unigeo.schemas.geo.regions import region_of_bbox
from unigeo.schemas.tables.cell_ids import _LETTERS, as_h3, geohash_centres

FIPS = ["08013", "08001", "08013", "08059"]


@pytest.fixture(scope="module")
def rockies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store round Boulder, Colorado."""
    path = tmp_path_factory.mktemp("stores") / "rockies.zarr"
    stores.build(path, region_of_bbox((-106.5, 38.8, -103.5, 41.0), "rockies"))
    return path


@pytest.fixture(scope="module")
def field(rockies: Path) -> Field:
    return open_field(rockies)


def test_rows_get_the_means_of_their_counties(field: Field) -> None:
    table = pd.DataFrame({"fips": FIPS, "own": range(4)}, index=[*"abcd"])
    expected = field.zonal(FIPS, "aerial", prefix="ug_").to_numpy()[:, :-1].astype(float)
    joined = field.join(table, "aerial", by="fips")
    assert joined.index.tolist() == [*"abcd"]
    assert joined["fips"].tolist() == FIPS
    np.testing.assert_allclose(joined.iloc[:, 2:-1].to_numpy(float), expected)
    numbers = table.assign(fips=[float(code) for code in FIPS])  # as spreadsheets read them
    same = field.join(numbers, "aerial", by="fips")
    assert same.iloc[:, 2:].equals(joined.iloc[:, 2:])
    names = table.assign(fips=["Boulder, CO", "adams county, colorado", "08013", "0500000US08059"])
    assert field.join(names, "aerial", by="fips").iloc[:, 2:].equals(joined.iloc[:, 2:])
    for other in (pa.Table.from_pandas(table), pl.from_pandas(table)):
        values = field.join(other, "aerial", by="fips")
        found = (
            values["ug_aerial_003"].to_pylist()
            if isinstance(other, pa.Table)
            else (values["ug_aerial_003"].to_list())
        )
        assert found == joined["ug_aerial_003"].tolist()


def test_rows_without_an_outline_say_so(field: Field) -> None:
    table = pd.DataFrame({"GEOID": ["08013", "02020", None, "08001", "08013"]})
    with pytest.warns(RegionWarning, match=r"1 of 3 keys of 'GEOID' have no outline: '02020'"):
        joined = field.join(table, "aerial", by="GEOID")
    status = joined["ug_aerial_status"].astype(str).tolist()
    assert status == ["valid", "no polygon", "no polygon", "valid", "valid"]
    assert joined["ug_aerial_000"].isna().tolist() == [False, True, True, False, False]
    with pytest.warns(RegionWarning):
        assert len(field.join(table, "aerial", by="GEOID", missing="drop")) == 3
    with pytest.warns(RegionWarning), pytest.raises(PointsError, match=r"2 of 5 rows .* row 1"):
        field.join(table, "aerial", by="GEOID", missing="raise")
    for options in ({"method": "bilinear"}, {"snap_km": 3.0}, {"radius_m": 10.0}):
        with pytest.raises(ValueError, match="means over their outlines"):
            field.join(table.iloc[:1], by="GEOID", **options)


def test_keys_of_cells_are_read_at_their_centres(field: Field) -> None:
    codes = ["9xj5", "9xj64", "9xj5sm"]
    centres = geohash_centres(codes)
    with pytest.warns(PointsWarning, match="1 of 4 points have no position"):
        joined = field.join(pd.DataFrame({"g": [*codes, None]}), "aerial", by="g")
    expected = field.sample(centres, "aerial").to_numpy()[:, :-1].astype(float)
    np.testing.assert_array_equal(joined.iloc[:3, 1:-1].to_numpy(float), expected)
    assert joined["ug_aerial_status"].tolist()[3] == "no position"
    h3 = pytest.importorskip("h3")
    cells = [h3.latlng_to_cell(40.0, -105.0 + k / 100, 8) for k in range(5)]
    places = np.array([h3.cell_to_latlng(cell)[::-1] for cell in cells])
    vectors = field.sample(places, "aerial").to_numpy()[:, :-1].astype(float)
    for keys in (cells, [int(cell, 16) for cell in cells]):
        found = field.join(pd.DataFrame({"cell": keys}), "aerial", by="cell")
        np.testing.assert_array_equal(found.iloc[:, 1:-1].to_numpy(float), vectors)


@given(st.floats(-179.9, 179.9), st.floats(-89.9, 89.9), st.integers(4, 12))
def test_a_geohash_holds_the_point_that_it_was_made_of(lon: float, lat: float, size: int) -> None:
    """Its bits are those of the point's fractions, longitude first."""
    bits = 5 * size
    share = [(lon + 180) / 360, (lat + 90) / 180]
    count = [(bits + 1) // 2, bits // 2]
    whole = [int(one * 2**n) for one, n in zip(share, count, strict=True)]
    text = [format(one, f"0{n}b") for one, n in zip(whole, count, strict=True)]
    mixed = "".join(text[k % 2][k // 2] for k in range(bits))
    code = "".join(_LETTERS[int(mixed[k : k + 5], 2)] for k in range(0, bits, 5))
    centre = geohash_centres([code])[0]
    assert abs(centre[0] - lon) <= 180 / 2 ** count[0] + 1e-12
    assert abs(centre[1] - lat) <= 90 / 2 ** count[1] + 1e-12
    assert as_h3(code) is None


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["08013012101", "08013012102"], "census tracts or blocks"),
        (["80302", "80303", "80304"], "ZIP codes have no outline"),
        (["a", "b"], "no keys that are known, such as 'a'"),
        (["", ""], "has no keys"),
    ],
)
def test_keys_of_no_known_kind_are_refused(keys: list[str], said: str) -> None:
    with pytest.raises(PointsError, match=said):
        read_keys(keys, "key")


def test_the_command_joins_by_keys_and_keeps_the_table(rockies: Path, tmp_path: Path) -> None:
    field = open_field(rockies)
    text = "fips;rate\r\n08013;1,50\r\n8059;2,00\r\nAlaska;\r\n08013;0,10\r\n"
    (tmp_path / "t.csv").write_bytes(text.encode())
    result = run("join", rockies, tmp_path / "t.csv", "--by", "fips", "--modality", "aerial")
    assert "Warning: 1 of 3 keys of 'fips' have no outline: 'Alaska'" in result.stderr
    assert "1 of 4 rows has no vector: 1 no polygon" in result.stderr
    lines = result.stdout.split("\n")
    for line, own in zip(lines, text.split("\r\n"), strict=False):
        assert line.startswith(own)
    found = pd.read_csv(io.StringIO(result.stdout), sep=";", decimal=",", dtype={"fips": str})
    expected = field.zonal(["08013", "08059"], "aerial")
    np.testing.assert_allclose(
        found["ug_aerial_000"][[0, 1]], expected["aerial_000"].to_numpy(), rtol=1e-6
    )
    table = pd.DataFrame({"cell": ["9xj5", "9xj64"]})
    table.to_parquet(tmp_path / "t.parquet")
    out = done("join", rockies, tmp_path / "t.parquet", "--by", "cell", "--modality", "aerial")
    assert pd.read_csv(io.StringIO(out))["ug_aerial_status"].tolist() == ["valid"] * 2
    assert "no column 'x'" in refused("join", rockies, tmp_path / "t.csv", "--by", "x")
    with_places = ("--by", "fips", "-o", tmp_path / "o.geojson")
    refusal = run("join", rockies, tmp_path / "t.csv", *with_places)
    assert "states and counties are no points" in refusal.stderr
    assert not (tmp_path / "o.geojson").exists()
