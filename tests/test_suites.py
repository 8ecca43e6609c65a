import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely

from unigeo.client.probing.suite_probe import probe_suite
from unigeo.client.probing.suite_report import suite_markdown
from unigeo.client.probing.suites import load_suite
from unigeo.schemas.errors import ProbeError, ProbeWarning

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def write_suite(folder: Path, text: str) -> Path:
    path = folder / "suite.toml"
    path.write_text(text, encoding="utf-8")
    return path


def small_data(folder: Path) -> Path:
    """Two tables of the same points and one of others."""
    rng = np.random.default_rng(0)
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        lonlat = np.random.default_rng(seed).uniform((-120, 30), (-75, 48), (150, 2))
        table = pd.DataFrame(lonlat, columns=["lon", "lat"])
        table["warmth"] = 30 - 0.5 * table["lat"] + 0.1 * rng.standard_normal(150)
        table["luck"] = rng.standard_normal(150)
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder


SMALL = """
[[table]]
file = "one.csv"
targets = ["warmth"]
family = "sky"
[[table]]
file = "other.csv"
targets = ["warmth", "luck"]
block_km = 400
[[table]]
file = "two.csv"
targets = ["luck"]
"""


def vectors(lonlat: np.ndarray) -> dict[str, np.ndarray]:
    return {"north": lonlat[:, 1:] / 10.0, "both": lonlat / 10.0}


def test_a_suite_is_probed_in_its_order_and_equal_points_are_sampled_once(tmp_path: Path) -> None:
    calls = []

    def counted(lonlat: np.ndarray) -> dict[str, np.ndarray]:
        calls.append(len(lonlat))
        return vectors(lonlat)

    suite = load_suite(write_suite(tmp_path, SMALL))
    report = probe_suite(suite, small_data(tmp_path), counted, baselines=False)
    assert calls == [150, 150]
    pairs = report.drop_duplicates(["table", "target"])[["table", "target"]]
    assert pairs.to_numpy().tolist() == [
        ["one", "warmth"], ["other", "warmth"], ["other", "luck"], ["two", "luck"],
    ]  # fmt: skip
    assert report.loc[report["target"] == "warmth", "r2"].min() > 0.98
    assert report.loc[report["target"] == "luck", "r2"].max() < 0.1

    text = suite_markdown(report, {"command": "`unigeo probe`"})
    assert "- command: `unigeo probe`" in text
    for heading in ("Mean over 4 targets", "Blocked R2", "Random R2", "Points"):
        assert f"## {heading}" in text


def test_a_suite_leaves_out_rows_without_a_position_and_holds_repeats_together(
    tmp_path: Path,
) -> None:
    table = pd.read_csv(small_data(tmp_path) / "one.csv")
    long = pd.concat([table] * 3, ignore_index=True)
    long.loc[[0, 1], "lon"] = np.nan
    long.to_csv(tmp_path / "one.csv", index=False)
    asked = []

    def seen(lonlat: np.ndarray) -> dict[str, np.ndarray]:
        assert np.isfinite(lonlat).all()
        asked.append(len(lonlat))
        return vectors(lonlat)

    text = '[[table]]\nfile = "one.csv"\ntargets = ["luck"]'
    with pytest.warns(ProbeWarning) as caught:
        report = probe_suite(
            load_suite(write_suite(tmp_path, text)), tmp_path, seen, baselines=False
        )
    assert asked == [448]
    told = [str(one.message) for one in caught]
    assert any("448 points of 450 rows (2 without a vector: no position)" in t for t in told)
    assert any("of 448 points of 'luck' (100%) have the position of another" in t for t in told)
    assert set(report["dropped"]) == {2}
    assert report["r2"].max() < 0.05


@pytest.mark.parametrize(
    "name",
    [
        "standard14",
        "standard14_zonal",
        "county_families",
        "county_means",
        "county_zonal",
        "county_lit",
    ],
)
def test_the_examples_name_columns_that_are_there(name: str, shared_data: Path) -> None:
    suite = load_suite(EXAMPLES / f"{name}.toml")
    tables = list(suite.tables(shared_data))
    targets = [target for table in tables for target in table.targets]
    assert len(targets) == (14 if name.startswith("standard14") else 53)
    for table in tables:
        # A county's point lies among the points of its polygon.
        apart = np.abs(table.sampled_lonlat.mean(axis=1) - table.lonlat).max(axis=1)
        has_areas = suite.areas is not None and table.name.startswith("county_")
        assert table.has_areas == has_areas
        assert table.is_of_cells == (has_areas and name.endswith(("zonal", "lit")))
        assert table.sampled_lonlat.shape[1] == (8 if has_areas else 1)
        assert np.median(apart) < 0.1 and apart.max() < 2
        assert table.crs == "EPSG:5070"
        assert table.block_km == (50 if table.name == "california_housing" else 300)
        for values in table.targets.values():
            assert np.isfinite(values).mean() > 0.9


def test_real_county_targets_are_scored_beside_position(shared_data: Path, tmp_path: Path) -> None:
    """Temperature follows latitude; a neighbour helps less when whole blocks are held out."""
    text = """
    [[table]]
    file = "tables/county_health.parquet"
    targets = ["diabetes", "smoking"]
    [[table]]
    file = "tables/county_environment.parquet"
    targets = ["temp_mean_2019_c"]
    """
    calls = []

    def counted(lonlat: np.ndarray) -> dict[str, np.ndarray]:
        calls.append(len(lonlat))
        return {"plane": np.sin(np.radians(lonlat))}

    report = probe_suite(load_suite(write_suite(tmp_path, text)), shared_data, counted)
    assert calls == [3108]
    r2 = report.set_index(["target", "features", "split"])["r2"]
    assert r2["temp_mean_2019_c", "plane", "blocked"] > 0.7
    for target in ("diabetes", "smoking"):
        assert 0.5 < r2[target, "lonlat kNN", "random"] < 0.9
        assert r2[target, "lonlat kNN", "blocked"] < r2[target, "lonlat kNN", "random"] - 0.1
    assert set(report.loc[report["target"] == "temp_mean_2019_c", "points"]) == {3107}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("table = 3", "'table' cannot be 3"),
        ("[[table]", "cannot read the suite"),
        ("name = 'x'", "lacks the key 'table'"),
        ("tables_of = '../{folder}/suite.toml'", "takes its tables from itself"),
        ("[[table]]\nfile = 'one.csv'", "lacks the key 'targets'"),
        ("[[table]]\nfile = 'one.csv'\ntargets = ['a', 'a']", "names a column twice"),
        ("[[table]]\nfile = 'one.csv'\ntargets = ['a']\nblocks = 3", "unknown key 'blocks'"),
        ("[[table]]\nfile = 'one.csv'\ntargets = ['a']\nblock_km = 0", "must be positive"),
        ("[[table]]\nfile = 'one.csv'\ntargets = ['a']\nblock_km = nan", "must be positive"),
        ("[[table]]\nfile = 'gone.csv'\ntargets = ['a']", "gone.csv"),
        ("[[table]]\nfile = 'one.csv'\ntargets = ['a']", "no column 'a'"),
        (
            "[[table]]\nfile = 'one.csv'\ntargets = ['warmth']\nblock_km = 9000",
            "table 'one': .*9000",
        ),
    ],
)
def test_a_malformed_suite_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    path = write_suite(tmp_path, text.replace("{folder}", tmp_path.name))
    with pytest.raises(ProbeError, match=words):
        probe_suite(load_suite(path), small_data(tmp_path), vectors, baselines=False)


AREAS = """
tables_of = "suite.toml"
[areas]
file = "areas.geojson"
key = "plot"
places = 5
"""


def with_areas(folder: Path, text: str = AREAS) -> Path:
    """A square of half a degree round each row of each table, in another order than theirs."""
    write_suite(small_data(folder), SMALL)
    features = []
    for name in ("one", "two", "other"):
        table = pd.read_csv(folder / f"{name}.csv")
        table["plot"] = [f"{name.replace('two', 'one')}{number}" for number in range(len(table))]
        table.to_csv(folder / f"{name}.csv", index=False)
        if name == "two":
            continue  # its points are those of `one`, and so are its plots
        for row in table.to_dict("records"):
            square = shapely.box(*(row[c] + d for d in (-0.25, 0.25) for c in ("lon", "lat")))
            features.append(
                {"type": "Feature", "properties": {"plot": row["plot"]},
                 "geometry": json.loads(shapely.to_geojson(square))}
            )  # fmt: skip
    document = {"type": "FeatureCollection", "features": features[::-1]}
    (folder / "areas.geojson").write_text(json.dumps(document))
    path = folder / "areas.toml"
    path.write_text(text)
    return path


def test_a_row_that_stands_for_a_polygon_has_the_mean_vector_of_its_points(tmp_path: Path) -> None:
    suite = load_suite(with_areas(tmp_path))
    asked = []

    def seen(lonlat: np.ndarray) -> dict[str, np.ndarray]:
        asked.append(lonlat)
        found = vectors(lonlat)["both"].copy()
        found[::10] = np.nan  # one of every second row's five has no vector
        return {"both": found}

    tables = list(suite.tables(tmp_path))
    for table in tables:
        assert table.sampled_lonlat.shape == (150, 5, 2)
        assert np.abs(table.sampled_lonlat - table.lonlat[:, None]).max() <= 0.25
    report = probe_suite(suite, tmp_path, seen, baselines=False)
    assert [len(lonlat) for lonlat in asked] == [750, 750]
    assert (report["points"] == 150).all()  # none dropped
    warmth = report[(report["target"] == "warmth") & (report["split"] == "blocked")]
    assert (warmth["r2"] > 0.9).all()
    assert "mean of 5 places" in suite.sampling


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"plot"', '"lot"'), "no column 'lot'"),
        (("areas.geojson", "none.geojson"), "cannot read GeoJSON"),
        (("places = 5", "places = 0"), "must be positive"),
        (("places = 5", "mean_of = 'centres'"), "one of points, cells"),
        (("places = 5", "plates = 5"), "unknown key 'plates'"),
        (("places = 5", "weights = 'light'"), "'weights' needs mean_of = 'cells'"),
        (("[areas]", "[[table]]\nfile='a'\ntargets=['b']\n[areas]"), "leave one out"),
    ],
)
def test_areas_that_cannot_be_used_are_refused(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    path = with_areas(tmp_path, AREAS.replace(*change))
    with pytest.raises(ProbeError, match=words):
        list(load_suite(path).tables(tmp_path))


def test_a_row_without_a_polygon_is_named(tmp_path: Path) -> None:
    path = with_areas(tmp_path)
    table = pd.read_csv(tmp_path / "other.csv")
    table.loc[3, "plot"] = "lost"
    table.to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(ProbeError, match=r"other.csv.*no polygon has plot 'lost'"):
        list(load_suite(path).tables(tmp_path))
