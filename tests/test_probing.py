from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from unigeo.client.probing.cross_validation import evaluate, probe_table
from unigeo.client.probing.folds import project, spatial_blocks
from unigeo.client.probing.metrics import r2_score
from unigeo.client.probing.models import BASELINES
from unigeo.client.probing.probe_data import prepare
from unigeo.client.probing.probe_inputs import check_inputs
from unigeo.client.probing.score_tables import by_features, by_target, mean_scores, to_markdown
from unigeo.client.probing.targets import Labels, class_labels, read_numbers, read_target
from unigeo.schemas.errors import PointsError, ProbeError, ProbeWarning


def conus(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((-120, 30), (-75, 48), (count, 2))


def hills(lonlat: np.ndarray, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    """A smooth field with hills of some 600 km, and noise."""
    x, y = project(lonlat, "EPSG:5070").T / 1e5
    rng = np.random.default_rng(seed)
    return np.sin(x) + np.cos(y) + noise * rng.standard_normal(len(lonlat))


def in_the_fullest_block(lonlat: np.ndarray) -> np.ndarray:
    blocks = spatial_blocks(lonlat, 300.0)
    return blocks == np.bincount(blocks).argmax()


def scores(report: pd.DataFrame) -> dict[tuple[str, str], float]:
    return report.set_index(["features", "split"])["r2"].to_dict()


def test_a_target_that_is_in_the_features_is_read_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    lonlat = conus(400)
    target = rng.standard_normal(400)
    holds = np.concatenate([rng.standard_normal((400, 9)), target[:, None] * 3 + 1], axis=1)
    features = {"holds": holds, "noise": rng.standard_normal((400, 10))}
    found = scores(probe_table(features, {"y": target}, lonlat, baselines=False))
    for split in ("random", "blocked"):
        assert found["holds", split] > 0.99
        assert -0.1 < found["noise", split] < 0.03


def test_shuffled_targets_are_not_predicted_by_anything() -> None:
    """A leak of held-out rows into the fit or into the choice of a penalty would show here."""
    lonlat = conus(200)
    rng = np.random.default_rng(1)
    features = rng.standard_normal((200, 150))  # could fit most of the rows by heart
    shuffled = rng.permutation(hills(lonlat))
    report = probe_table({"many": features}, {"y": shuffled}, lonlat)
    assert set(report["features"]) == {"many", *BASELINES}
    assert report["r2"].max() < 0.05


def test_neighbours_do_well_in_random_folds_and_worse_in_blocked_ones() -> None:
    lonlat = conus(800)
    found = scores(probe_table({}, {"y": hills(lonlat)}, lonlat))
    assert found["lonlat kNN", "random"] > 0.5
    assert found["lonlat kNN", "blocked"] < found["lonlat kNN", "random"] - 0.1
    assert found["lonlat trees", "blocked"] < found["lonlat trees", "random"]
    assert found["lonlat kNN", "random"] > found["lonlat ridge", "random"]


def test_the_score_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import r2_score as reference

    truth, guess = np.random.default_rng(0).standard_normal((2, 50))
    assert r2_score(truth, guess) == pytest.approx(reference(truth, guess), abs=1e-12)
    assert np.isnan(r2_score(np.ones(4), np.zeros(4)))


def test_a_row_without_a_vector_in_one_set_is_left_out_of_all_and_counted() -> None:
    lonlat = conus(200)
    rng = np.random.default_rng(0)
    one, other = rng.standard_normal((2, 200, 4))
    target = one[:, 0] + 0.1 * rng.standard_normal(200)
    one[:10], other[5:30] = np.nan, np.nan
    target[28:40] = np.nan
    said = r"160 points of 200 rows \(12 without the target, 28 without a vector\)"
    with pytest.warns(ProbeWarning, match=said):
        report = probe_table({"one": one, "other": other}, {"y": target}, lonlat)
    assert set(report["points"]) == {160}
    assert set(report["dropped"]) == {28}
    keep = slice(30, None)
    alone = probe_table({"one": one[keep]}, {"y": target[keep]}, lonlat[keep], baselines=False)
    mine = report[report["features"] == "one"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine.drop(columns="dropped"), alone.drop(columns="dropped"))


def test_a_target_s_missing_rows_are_its_own_affair() -> None:
    lonlat = conus(150)
    features = np.random.default_rng(0).standard_normal((150, 3))
    whole = features @ [1.0, 2.0, 3.0]
    gaps = np.where(np.arange(150) % 3 == 0, np.nan, whole)
    with pytest.warns(ProbeWarning, match="'gaps' are of 100 points of 150 rows"):
        together = probe_table(
            {"x": features}, {"whole": whole, "gaps": gaps}, lonlat, baselines=False
        )
    alone = probe_table({"x": features}, {"whole": whole}, lonlat, baselines=False)
    mine = together[together["target"] == "whole"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone)
    assert set(together.loc[together["target"] == "gaps", "points"]) == {100}


def test_the_seed_repeats_a_report() -> None:
    lonlat = conus(120)
    features = {"x": np.random.default_rng(0).standard_normal((120, 3))}
    first, again, other = (
        probe_table(features, {"y": hills(lonlat)}, lonlat, seed=seed) for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first, again)
    assert (first["r2"] != other["r2"]).any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"targets": {}}, "no target"),
        ({"targets": {"y": np.ones(200)}}, "'y' is 1 everywhere"),
        ({"targets": {"y": np.full(200, np.inf)}}, "'y' is infinite in row 0"),
        ({"features": {"x": np.full((200, 2), np.nan)}}, "none of the 200 points has a vector"),
        ({"features": {"lonlat kNN": np.zeros((200, 2))}}, "named like the baseline"),
        ({"folds": 2}, "2 folds are too few"),
        ({"folds": 30}, "30 folds need at least 300"),
        ({"block_km": 5000.0}, "make the blocks smaller"),
        ({"groups": np.arange(200) % 3}, "3 groups cannot fill 5 folds"),
        ({"groups": ["a", None] * 100}, "100 of 200 points have no group, the first in row 1"),
        ({"groups": ["a"]}, "1 group labels for 200 points"),
        ({"level": 90.0}, "must lie between 0 and 1"),
        ({"baselines": ["kNN"]}, "there is no baseline 'kNN'"),
        ({"targets": {"y": class_labels(["a"] * 200)}}, "'y' is 'a' everywhere"),
        (
            {"targets": {"y": class_labels(np.arange(200))}},
            "have one point only.*task='regression'",
        ),
    ],
)
def test_a_probe_that_its_data_cannot_support_is_refused(change: dict, words: str) -> None:
    lonlat = conus(200)
    given = {"features": {"x": lonlat * 2.0}, "targets": {"y": hills(lonlat)}} | change
    with pytest.raises(ProbeError, match=words):
        probe_table(lonlat=lonlat, **given)


def test_idw_and_neighbours_beat_the_mean_where_neighbours_are_alike() -> None:
    lonlat = conus(500)
    found = scores(probe_table({}, {"y": hills(lonlat)}, lonlat))
    assert abs(found["mean", "random"]) < 0.02
    assert found["mean", "blocked"] < 0.01
    assert found["lonlat IDW", "random"] > 0.6
    assert found["lonlat IDW", "blocked"] < found["lonlat IDW", "random"] - 0.1


def test_intervals_hold_the_stated_share_of_points_that_did_not_calibrate_them() -> None:
    lonlat = conus(1500)
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1500, 20))
    target = features.sum(axis=1) + rng.standard_t(4, 1500)
    for level, tolerance in ((0.9, 0.025), (0.5, 0.04)):
        report = probe_table(
            {"x": features}, {"y": target}, lonlat, baselines=["mean"], level=level
        ).set_index("features")
        percent = f"{100 * level:g}"
        assert report.loc["x", f"coverage_{percent}"].sub(level).abs().max() < tolerance
        expected = np.quantile(np.abs(target - features.sum(axis=1)), level)
        assert report.loc["x", f"interval_{percent}"].to_numpy() == pytest.approx(expected, rel=0.1)
        assert report.loc["mean", f"coverage_{percent}"].isna().all()


def test_intervals_are_wider_where_the_whole_block_is_unknown() -> None:
    lonlat = conus(800)
    waves = np.sin(lonlat @ np.random.default_rng(0).normal(0, 0.3, (2, 150)))
    report = probe_table({"waves": waves}, {"y": hills(lonlat)}, lonlat, baselines=False)
    width = report.set_index("split")["interval_90"]
    assert width["blocked"] > 1.2 * width["random"]


def test_whole_groups_are_held_out() -> None:
    """A number that only the group knows is read in random folds, and not in unknown groups."""
    rng = np.random.default_rng(0)
    lonlat = conus(400)
    group = rng.integers(0, 40, 400)
    names = np.array([f"county {number}" for number in group])
    indicator = np.eye(40)[group]
    target = rng.standard_normal(40)[group] + 0.1 * rng.standard_normal(400)
    report = probe_table({"group": indicator}, {"y": target}, lonlat, groups=names, baselines=False)
    found = scores(report)
    assert [split for _, split in found] == ["random", "blocked", "grouped"]
    assert found["group", "random"] > 0.9
    assert found["group", "grouped"] < 0.1
    assert ("y", "grouped") in by_features(report).columns


def test_classes_that_are_in_the_features_are_read() -> None:
    rng = np.random.default_rng(0)
    lonlat = conus(300)
    crop = np.array(["corn", "rice", "wheat"], object)[rng.integers(0, 3, 300)]
    known = crop.copy()
    known[:20] = None
    features = {
        "holds": (crop[:, None] == ["corn", "rice"]) + 0.1 * rng.standard_normal((300, 2)),
        "noise": rng.standard_normal((300, 5)),
    }
    targets = {"crop": class_labels(known), "south": -lonlat[:, 1]}
    report = probe_table(features, targets, lonlat)
    crops = report[report["target"] == "crop"].set_index(["features", "split"])
    assert set(crops["metric"]) == {"accuracy"}
    assert set(crops["points"]) == {280}
    share = max(np.mean(known[20:] == name) for name in ("corn", "rice", "wheat"))
    for split in ("random", "blocked"):
        assert crops.loc[("holds", split), "score"] > 0.98
        assert crops.loc[("holds", split), "log_loss"] < 0.1
        assert crops.loc[("mean", split), "balanced_accuracy"] < 0.4
        for name in ("noise", *BASELINES):
            assert crops.loc[(name, split), "score"] < share + 0.12
    south = report[report["target"] == "south"].set_index(["features", "split"])
    assert south.loc[("lonlat ridge", "blocked"), "r2"] > 0.99
    assert set(south["metric"]) == {"r2"}


def test_baselines_of_classes_know_where_a_class_is() -> None:
    lonlat = conus(400)
    side = {"east": class_labels(lonlat[:, 0] > -98)}
    report = probe_table({}, side, lonlat).set_index(["features", "split"])["score"]
    assert report["mean", "random"] < 0.6
    for name in ("lonlat ridge", "lonlat kNN", "lonlat IDW", "lonlat trees"):
        assert report[name, "random"] > 0.93


def test_the_scores_of_each_fold_are_those_of_the_table() -> None:
    lonlat = conus(200)
    data = prepare(check_inputs({"y": hills(lonlat)}, lonlat), {"x": lonlat})
    evaluation = evaluate(data, baselines=["mean"])
    folds = evaluation.fold_scores
    assert len(folds) == 2 * 2 * 5
    assert folds.groupby(["features", "split"])["points"].sum().eq(200).all()
    keys = ["features", "split"]
    spread = folds.groupby(keys)["score"].std(ddof=0)
    table = evaluation.scores.set_index(keys)["score_folds_std"]
    pd.testing.assert_series_equal(spread.sort_index(), table.sort_index(), check_names=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"block_km": 1200.0}, r"lie in \d+ blocks, about \d+ in each of 5 folds"),
        ({"groups": np.arange(200) % 7}, "lie in 7 groups, about 1 in each of 5 folds"),
        (
            {"features": {"wide": np.random.default_rng(0).standard_normal((200, 300))}},
            "'wide' has 300 bands and target 'y' 1[56]. training rows",
        ),
        (
            {"targets": {"y": class_labels(in_the_fullest_block(conus(200)))}, "folds": 3},
            "1 of 2 classes of target 'y' lie in one of the blocked folds only",
        ),
    ],
)
def test_thin_data_are_scored_with_a_warning(change: dict, words: str) -> None:
    lonlat = conus(200)
    given = {"features": {"x": lonlat * 2.0}, "targets": {"y": hills(lonlat)}} | change
    with pytest.warns(ProbeWarning, match=words):
        report = probe_table(lonlat=lonlat, baselines=False, **given)
    assert report["score"].notna().all()


def test_coordinates_off_the_globe_are_refused() -> None:
    lonlat = conus(100)
    target = hills(lonlat)
    for wrong, words in ((np.inf, "infinite"), (400.0, "longitude beyond 360")):
        lonlat[7, 0] = wrong
        with pytest.raises(PointsError, match=f"{words}.*row 7"):
            probe_table({}, {"y": target}, lonlat)


def test_columns_are_numbers_or_refused() -> None:
    table = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "flag": [True, False, True],
            "text": ["1", "two", "3"],
        }
    )
    np.testing.assert_array_equal(read_numbers(table, "whole"), [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(read_numbers(table, "flag"), [1.0, 0.0, 1.0])
    with pytest.raises(ProbeError, match="'text' must hold numbers"):
        read_numbers(table, "text")
    with pytest.raises(ProbeError, match="no column 'price'; there are whole, flag, text"):
        read_numbers(table, "price")


def test_texts_categories_and_flags_are_classes_and_numbers_are_numbers() -> None:
    table = pd.DataFrame(
        {
            "flag": [True, False, True],
            "word": ["b", None, "a"],
            "kind": pd.Categorical(["x", "y", "x"], categories=["z", "y", "x"]),
            "number": [1.5, np.nan, 2.0],
            "code": [3, 1, 3],
        }
    )
    assert read_target(table, "flag").classes == (False, True)
    np.testing.assert_array_equal(read_target(table, "word").codes, [1, np.nan, 0])
    assert set(read_target(table, "kind").classes) == {"x", "y"}
    assert isinstance(read_target(table, "number"), np.ndarray)
    assert isinstance(read_target(table, "code"), np.ndarray)
    assert isinstance(read_target(table, "code", "classification"), Labels)
    np.testing.assert_array_equal(read_target(table, "flag", "regression"), [1, 0, 1])
    with pytest.raises(ProbeError, match="'word' must hold numbers"):
        read_target(table, "word", "regression")


def test_reports_become_tables() -> None:
    scores = {
        ("a", "random"): 0.5,
        ("a", "blocked"): 0.25,
        ("b", "random"): 1.0,
        ("b", "blocked"): 0,
    }
    report = pd.DataFrame(
        [
            {"family": target, "target": target, "features": name, "split": split, "r2": r2 * share}
            for (target, split), r2 in scores.items()
            for name, share in (("x", 1.0), ("z", 0.5))
        ]
    )
    wide = by_features(report)
    assert list(wide.columns) == [(t, s) for t in "ab" for s in ("random", "blocked")]
    assert wide.loc["z"].tolist() == [0.25, 0.125, 0.5, 0]
    assert by_target(report, "blocked").loc["a"].tolist() == [0.25, 0.125]
    means = mean_scores(report)
    assert list(means.columns) == ["random", "blocked", "blocked, a", "blocked, b"]
    assert means.loc["x"].tolist() == [0.75, 0.125, 0.25, 0]
    lines = to_markdown(means, digits=2).splitlines()
    assert lines[0].startswith("| features | random")
    assert lines[2].split("|")[1:4] == [" x        ", "   0.75 ", "    0.12 "]
    assert len({len(line) for line in lines}) == 1


def test_trees_that_are_taught_one_class_only_are_sure_of_it() -> None:
    from unigeo.client.probing.baselines import lonlat_tree_classes

    lonlat = np.random.default_rng(0).uniform(-10, 10, (60, 2))
    codes, folds = np.zeros(60, np.int64), np.repeat([0, 1, 2], 20)
    codes[:3] = 1  # a rare class, in one fold alone
    found = lonlat_tree_classes(lonlat, codes, folds)
    assert found[:20].tolist() == [[1.0, 0.0]] * 20
    assert np.allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda vectors: vectors[:, 0], r"of the shape \(200,\)"),
        (lambda vectors: vectors[:, :0], r"of the shape \(200, 0\)"),
        (lambda vectors: vectors[:, :, None], r"of the shape \(200, 4, 1\)"),
        (pd.DataFrame, "not a DataFrame"),
        (lambda vectors: np.ma.masked_less(vectors, 0), "not a MaskedArray"),
        (lambda vectors: vectors + 0j, "of complex128"),
        (lambda vectors: vectors.astype(object), "of object"),
        (lambda vectors: vectors.astype(str), "of <U"),
        (lambda vectors: vectors * 1e160, r"infinite, or beyond 1e\+100, in row 0"),
    ],
)
def test_vectors_that_are_no_table_of_numbers_are_refused(
    change: Callable[[np.ndarray], object], words: str
) -> None:
    lonlat = conus(200)
    vectors = change(np.random.default_rng(0).standard_normal((200, 4)))
    with pytest.raises(ProbeError, match=words):
        probe_table({"v": vectors}, {"y": hills(lonlat)}, lonlat, baselines=False)


@pytest.mark.parametrize("kind", [np.float16, ">f4", np.int8, bool])
def test_vectors_of_any_numbers_score_as_in_float64(kind: object) -> None:
    lonlat = conus(200)
    vectors = (20 * np.random.default_rng(0).standard_normal((200, 4))).astype(kind)
    first, second = (
        probe_table({"v": values}, {"y": hills(lonlat)}, lonlat, baselines=False)["score"]
        for values in (vectors, vectors.astype(np.float64))
    )
    np.testing.assert_allclose(first, second, atol=1e-12)
