"""Suites held against hand-made numbers: the same rows, the same folds, several foldings."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from support.commands import done, refused, run
from support.stores import COVARIATES

from unigeo.client.field.opening import open_field
from unigeo.client.probing.folding_tables import above_numbers, foldings_table
from unigeo.client.probing.folds import blocked_folds, spatial_blocks
from unigeo.client.probing.metrics import r2_score
from unigeo.client.probing.suite_numbers import SuiteNumbers, open_numbers
from unigeo.client.probing.suite_probe import probe_suite
from unigeo.client.probing.suite_report import suite_markdown
from unigeo.client.probing.suites import load_suite
from unigeo.schemas.errors import MissingExtraError, ProbeError

COUNT = 120
FOLDS, FOLDINGS = 3, 2
COLUMNS = ["height", "light"]
SUITE = """
[[table]]
file = "plots.csv"
targets = ["warmth"]
family = "sky"
note = "Height gives warmth away."
[[table]]
file = "points.csv"
targets = ["damp"]
family = "ground"
areas = false
[areas]
file = "plots.geojson"
key = "plot"
mean_of = "cells"
places = 2
"""


def write_tables(folder: Path, lonlat: np.ndarray, side: float) -> Path:
    """Two tables of the same rows, squares round them, and their numbers."""
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((len(lonlat), 2))
    table = pd.DataFrame(lonlat, columns=["lon", "lat"])
    table["plot"] = [f"p{number}" for number in range(len(table))]
    table["warmth"] = numbers[:, 0] ** 2 + 0.1 * rng.standard_normal(len(table))
    table["damp"] = lonlat[:, 1] + rng.standard_normal(len(table))
    features = []
    for name, (lon, lat) in zip(table["plot"], lonlat, strict=True):
        square = shapely.box(lon - side, lat - side, lon + side, lat + side)
        shape = json.loads(shapely.to_geojson(square))
        features.append({"type": "Feature", "properties": {"plot": name}, "geometry": shape})
    (folder / "plots.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": features[::-1]})
    )
    (folder / "suite.toml").write_text(SUITE)
    made = folder / "numbers"
    for form in ("points", "areas"):
        (made / form).mkdir(parents=True)
    tables = {"plots": ("points", "areas"), "points": ("points",)}
    for name, forms in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
        for form in forms:
            own = table[["lon", "lat"]].assign(**dict(zip(COLUMNS, numbers.T, strict=True)))
            own.loc[3, "light"] = np.nan if form == "points" else 0.5
            own.to_csv(made / form / f"{name}.csv", index=False)
    facts = {
        "version": 1,
        "observations": "noise",
        "recipe": {"name": "two numbers"},
        "columns": COLUMNS,
        "tables": {
            name: {form: f"{form}/{name}.csv" for form in forms} for name, forms in tables.items()
        },
    }
    (made / "numbers.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lonlat = np.random.default_rng(2).uniform((-120, 30), (-75, 48), (COUNT, 2))
    return write_tables(tmp_path_factory.mktemp("suite"), lonlat, 0.2)


@pytest.fixture(scope="module")
def numbers(tables: Path) -> SuiteNumbers:
    return open_numbers(tables / "numbers")


def vectors(lonlat: np.ndarray) -> Mapping[str, np.ndarray]:
    return {"north": lonlat[:, 1:] / 10.0}


def averages(polygons: object, weights: str | None) -> Mapping[str, np.ndarray]:
    return {"north": np.arange(COUNT, dtype=np.float64)[:, None]}


@pytest.fixture(scope="module")
def report(tables: Path, numbers: SuiteNumbers) -> pd.DataFrame:
    return probe_suite(
        load_suite(tables / "suite.toml"),
        tables,
        vectors,
        averages=averages,
        numbers=numbers,
        baselines=("mean",),
        folds=FOLDS,
        foldings=FOLDINGS,
    )


def test_trees_on_numbers_and_position_are_scikit_learn_s_in_the_probe_s_folds(
    tables: Path, numbers: SuiteNumbers, report: pd.DataFrame
) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    assert set(report["seed"]) == {0, 1}
    _, table = load_suite(tables / "suite.toml").tables(tables)
    known = numbers.sets_of(table)["numbers ridge"]
    rows = np.isfinite(known).all(axis=1)
    assert (~rows).sum() == 1
    own = report[report["table"] == "points"]
    # The row without a number is left out of every set of features alike.
    assert set(own["points"]) == {COUNT - 1} and set(own["dropped"]) == {1}
    lonlat, truth = table.lonlat[rows], table.targets["damp"][rows]
    features = np.concatenate([known[rows], lonlat], axis=1)
    for seed in (0, 1):
        folds = blocked_folds(spatial_blocks(lonlat, 300.0), FOLDS, seed)
        guess = np.empty(len(truth))
        for fold in range(FOLDS):
            model = HistGradientBoostingRegressor(
                max_iter=120, max_leaf_nodes=15, learning_rate=0.08, early_stopping=False,
                random_state=seed,
            )  # fmt: skip
            model.fit(features[folds != fold], truth[folds != fold])
            guess[folds == fold] = model.predict(features[folds == fold])
        found = own[
            (own["features"] == "numbers trees")
            & (own["split"] == "blocked")
            & (own["seed"] == seed)
        ]
        assert found["r2"].item() == pytest.approx(r2_score(truth, guess), abs=1e-9)


def test_a_report_says_how_far_vectors_are_above_the_trees_of_the_better_form(
    report: pd.DataFrame,
) -> None:
    blocked = report[report["split"] == "blocked"]
    r2 = blocked.set_index(["target", "features", "seed"])["r2"].sort_index()
    # A square is for trees, not for a line.
    assert r2["warmth", "numbers trees"].min() > r2["warmth", "numbers ridge"].max() + 0.2
    above = above_numbers(report)
    assert above is not None
    assert list(above.columns) == ["north"]
    assert list(above.index) == [
        "warmth", "damp", "mean of sky", "mean of ground", "targets above 0"
    ]  # fmt: skip
    apart = [
        r2["warmth", "north", seed]
        - max(r2["warmth", f"numbers{form} trees", seed] for form in ("", " over areas"))
        for seed in range(FOLDINGS)
    ]
    expected = f"{np.mean(apart):.3f} ({min(apart):.3f} to {max(apart):.3f})"
    assert above.loc["warmth", "north"] == expected == above.loc["mean of sky", "north"]
    assert above.loc["targets above 0", "north"] in ("0 of 2", "1 of 2")

    spread = foldings_table(report)
    trees = r2[:, "numbers trees"].groupby("seed").mean()
    assert spread.loc["numbers trees", "mean"].startswith(f"{trees.mean():.3f} ({trees.min():.3f}")
    # Means of other targets are not set beside those of all.
    assert spread.loc["numbers over areas trees", "mean"] == ""
    assert spread.loc["numbers over areas trees", "sky"] != ""

    text = suite_markdown(report, {})
    for heading in ("Blocked R2 over 2 foldings", "Blocked R2 above trees on hand-made numbers"):
        assert f"## {heading}" in text
    one = suite_markdown(report[report["seed"] == 0].drop(columns="seed"), {})
    assert "foldings" not in one and "above trees" in one


def test_numbers_with_position_are_no_vectors(tables: Path, numbers: SuiteNumbers) -> None:
    report = probe_suite(
        load_suite(tables / "suite.toml"), tables, vectors, averages=averages, numbers=numbers,
        baselines=False, folds=FOLDS, spatial="residuals",
    )  # fmt: skip
    assert "numbers ridge + position" in set(report["features"])
    above = above_numbers(report)
    assert above is not None and list(above.columns) == ["north", "north + position"]


def test_without_scikit_learn_no_vector_is_read(
    tables: Path, numbers: SuiteNumbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    for module in ("sklearn.ensemble", "sklearn.neighbors"):
        monkeypatch.setitem(sys.modules, module, None)
    for options in ({}, {"baselines": False, "numbers": numbers}):
        with pytest.raises(MissingExtraError, match="scikit-learn"):
            probe_suite(load_suite(tables / "suite.toml"), tables, read.append, **options)
    assert read == []


def test_a_mean_over_cells_needs_a_store(tables: Path) -> None:
    with pytest.raises(ProbeError, match="a model has none: probe its store"):
        probe_suite(load_suite(tables / "suite.toml"), tables, vectors, baselines=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"columns": [3]}, "malformed"),
        ({"tables": {"plots": {"points": "../../secret.csv"}}}, "malformed"),
        ({"tables": 3}, "no folder of numbers"),
        ({"tables": {}}, "no numbers of the table 'plots'"),
        ({"columns": ["depth"]}, "cannot read the numbers"),
    ],
)
def test_numbers_that_cannot_be_used_are_refused(
    tables: Path, tmp_path: Path, change: Mapping[str, object], words: str
) -> None:
    made = tmp_path / "numbers"
    shutil.copytree(tables / "numbers", made)
    facts = json.loads((made / "numbers.json").read_text())
    (made / "numbers.json").write_text(json.dumps(facts | dict(change)))
    suite = load_suite(tables / "suite.toml")
    with pytest.raises(ProbeError, match=words):
        probe_suite(suite, tables, vectors, averages=averages, numbers=open_numbers(made))


SUITE_OF_POINTS = """
[[table]]
file = "points.csv"
targets = ["damp"]
crs = "EPSG:8857"
block_km = 400
"""


@pytest.fixture(scope="module")
def plots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same tables, where the store `gulf` has vectors."""
    lonlat = np.random.default_rng(4).uniform((-18, -14), (18, 11), (COUNT, 2))
    folder = write_tables(tmp_path_factory.mktemp("plots"), lonlat, 1.0)
    text = SUITE.replace("[[table]]", '[[table]]\ncrs = "EPSG:8857"\nblock_km = 400')
    (folder / "suite.toml").write_text(text)
    return folder


def test_the_command_probes_means_over_cells_beside_numbers(
    gulf: Path, plots: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.csv"
    text = done(
        "probe", gulf, "--suite", plots / "suite.toml", "--data", plots, "--modality", "coordinate",
        "--numbers", plots / "numbers", "--foldings", 2, "--folds", 3, "--quiet", "-o", out,
    )  # fmt: skip
    for part in (
        "area mean over the cells of each polygon of plots.geojson; at the points of points",
        "- numbers: 2 of two numbers, noise",
        "- note on plots: Height gives warmth away.",
        "- folds: 3, 2 foldings from seed 0",
        "## Blocked R2 over 2 foldings",
    ):
        assert part in text
    report = pd.read_csv(out)
    field = open_field(gulf)
    table = next(load_suite(plots / "suite.toml").tables(plots))
    shapes = json.loads((plots / "plots.geojson").read_text())
    means = field.zonal(shapes, "coordinate").filter(regex=r"coordinate_\d+").to_numpy()[::-1]
    expected = probe_suite(
        load_suite(plots / "suite.toml"),
        plots,
        lambda lonlat: field.features(lonlat, "coordinate"),
        averages=lambda polygons, weights: {"coordinate": means[::-1]},
        numbers=open_numbers(plots / "numbers"),
        folds=3,
        baselines=False,
    )
    keys = ["table", "features", "split", "target"]
    own = report[report["seed"] == 0].set_index(keys)["r2"]
    again = expected.set_index(keys)["r2"]
    np.testing.assert_allclose(own[again.index], again, atol=1e-4)
    assert np.isfinite(means).all(axis=1).sum() > table.lonlat.shape[0] / 2


def test_a_joined_set_may_come_without_its_parts_or_beside_other_sets(
    gulf: Path, plots: Path
) -> None:
    """As the producer's evaluation gives them, which joins the images, too."""
    field = open_field(gulf)
    (plots / "points.toml").write_text(SUITE_OF_POINTS)

    def given(*names: str) -> pd.Series:
        def sets(lonlat: np.ndarray) -> dict[str, np.ndarray]:
            found = field.features(lonlat, ["coordinate", "aerial"])
            found["images joined"] = found["aerial"]
            return {name: found[name] for name in names}

        suite = load_suite(plots / "points.toml")
        report = probe_suite(suite, plots, sets, folds=3, baselines=False)
        return report[report["features"] == "joined"].set_index("split")["r2"]

    alone, beside = given("joined"), given("coordinate", "aerial", "images joined", "joined")
    parts = given("coordinate", "aerial", "joined")
    pd.testing.assert_series_equal(alone, parts, atol=1e-6)
    pd.testing.assert_series_equal(beside, parts, atol=1e-6)


def test_numbers_and_foldings_go_with_a_suite(gulf: Path, plots: Path) -> None:
    for option in (("--foldings", 2), ("--numbers", plots / "numbers")):
        told = refused("probe", gulf, plots / "points.csv", "--target", "damp", *option)
        assert f"{option[0]} goes with a --suite" in told


@pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.ProbeWarning")  # few rows have all
def test_covariates_of_the_store_are_scored_alone_and_beside_vectors(
    wide: Path, plots: Path, tmp_path: Path
) -> None:
    """At points and over polygons; numbers of rasters are held against all of them."""
    out = tmp_path / "scores.csv"
    ended = run(
        "probe", wide, "--suite", plots / "suite.toml", "--data", plots, "--modality", "coordinate",
        "--numbers", plots / "numbers", "--covariates", "--folds", 3, "--quiet", "-o", out,
    )  # fmt: skip
    assert ended.exit_code == 0, ended.stderr
    report = pd.read_csv(out)
    for name in ("plots", "points"):
        named = list(dict.fromkeys(report[report["table"] == name]["features"]))
        numbers = [one for one in named if one.startswith("numbers")]
        assert [one for one in named if "covariates" in one] == [
            "covariates", "coordinate + covariates"
        ]  # fmt: skip
        assert "numbers ridge" in numbers and len(numbers) == (4 if name == "plots" else 2)

    field = open_field(wide)
    names = [one.name for one in COVARIATES if not one.is_class]
    shapes = json.loads((plots / "plots.geojson").read_text())
    over = {
        "coordinate": field.zonal(shapes, "coordinate").filter(regex=r"_\d+$").to_numpy(),
        "covariates": field.zonal(shapes, [], covariates=names)[names].to_numpy(),
    }
    expected = probe_suite(
        load_suite(plots / "suite.toml"),
        plots,
        lambda lonlat: {
            "coordinate": field.features(lonlat, "coordinate")["coordinate"],
            "covariates": field.sample(lonlat, [], covariates=names)[names].to_numpy(),
        },
        averages=lambda polygons, weights: over,
        numbers=open_numbers(plots / "numbers"),
        folds=3,
        baselines=False,
    )
    keys = ["table", "features", "split", "target"]
    own, again = report.set_index(keys)["r2"], expected.set_index(keys)["r2"]
    np.testing.assert_allclose(own[again.index], again, atol=1e-4)


def test_dims_probes_the_leading_numbers(gulf: Path, plots: Path, tmp_path: Path) -> None:
    """Of a suite, at points and over cells, and of a table, whose saved probe needs them again."""
    field = open_field(gulf).leading(3)
    out = tmp_path / "scores.csv"
    arguments = ("--modality", "coordinate", "--dims", 3, "--folds", 3, "--quiet", "-o", out)
    suite = load_suite(plots / "suite.toml")
    text = done("probe", gulf, "--suite", suite.path, "--data", plots, *arguments)
    assert ", 3 bands" in text
    shapes = json.loads((plots / "plots.geojson").read_text())
    means = field.zonal(shapes, "coordinate").filter(regex=r"_\d+$").to_numpy()
    expected = probe_suite(
        suite,
        plots,
        lambda lonlat: field.features(lonlat, "coordinate"),
        averages=lambda polygons, weights: {"coordinate": means},
        folds=3,
        baselines=False,
    )
    keys = ["table", "features", "split", "target"]
    again = expected.set_index(keys)["r2"]
    np.testing.assert_allclose(
        pd.read_csv(out).set_index(keys)["r2"][again.index], again, atol=1e-4
    )

    table, saved = plots / "points.csv", tmp_path / "probe"
    options = ("--modality", "coordinate", "--folds", 3, "--block-km", 400, "--quiet")
    done("probe", gulf, table, "--target", "damp", *options, "--dims", 3, "--save", saved)
    new = tmp_path / "new.csv"
    done("probe", gulf, "--load", saved, "--dims", 3, "--predict", table, new, "--quiet")
    probe = field.probe(pd.read_csv(table), "damp", "coordinate", folds=3, block_km=400.0)
    predicted = probe.predict(pd.read_csv(table))["damp"].to_numpy()
    np.testing.assert_allclose(pd.read_csv(new)["ug_damp"], predicted, rtol=1e-4)
    assert "3" in refused("probe", gulf, "--load", saved, "--predict", table, new)


@pytest.mark.parametrize(("key", "is_file"), [("light^2", False), ("light.tif^2", True)])
def test_means_over_cells_take_the_weights_of_the_suite(
    tmp_path: Path, key: str, is_file: bool
) -> None:
    """By the name of a covariate as it is, by that of a file within the data folder."""
    lonlat = np.random.default_rng(2).uniform((-120, 30), (-75, 48), (COUNT, 2))
    write_tables(tmp_path, lonlat, 0.2)
    (tmp_path / "suite.toml").write_text(SUITE + f'weights = "{key}"\n')
    if is_file:
        (tmp_path / "light.tif").touch()
    seen = []

    def weighted(polygons: object, weights: str | None) -> Mapping[str, np.ndarray]:
        seen.append(weights)
        return averages(polygons, weights)

    suite = load_suite(tmp_path / "suite.toml")
    probe_suite(suite, tmp_path, vectors, averages=weighted, baselines=False, folds=FOLDS)
    assert seen == [str(tmp_path / key) if is_file else key]
    assert f"weighted by {key}" in suite.sampling
