import numpy as np
import pandas as pd
import pytest

from unigeo.client.folds import project
from unigeo.client.probing import BASELINES, numbers_of, probe_table, r2_score
from unigeo.client.reporting import by_features, by_target, mean_scores, to_markdown
from unigeo.schemas.errors import PointsError, ProbeError


def conus(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((-120, 30), (-75, 48), (count, 2))


def hills(lonlat: np.ndarray, noise: float = 0.3, seed: int = 0) -> np.ndarray:
    """A smooth field with hills of some 600 km, and noise."""
    x, y = project(lonlat, "EPSG:5070").T / 1e5
    rng = np.random.default_rng(seed)
    return np.sin(x) + np.cos(y) + noise * rng.standard_normal(len(lonlat))


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
    together = probe_table({"x": features}, {"whole": whole, "gaps": gaps}, lonlat, baselines=False)
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
    ],
)
def test_a_probe_that_its_data_cannot_support_is_refused(change: dict, words: str) -> None:
    lonlat = conus(200)
    given = {"features": {"x": lonlat * 2.0}, "targets": {"y": hills(lonlat)}} | change
    with pytest.raises(ProbeError, match=words):
        probe_table(lonlat=lonlat, **given)


def test_coordinates_that_are_no_places_are_refused() -> None:
    lonlat = conus(100)
    target = hills(lonlat)
    lonlat[7, 0] = np.nan
    with pytest.raises(PointsError, match="row 7"):
        probe_table({}, {"y": target}, lonlat)


def test_columns_are_numbers_or_refused() -> None:
    table = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "flag": [True, False, True],
            "text": ["1", "two", "3"],
        }
    )
    np.testing.assert_array_equal(numbers_of(table, "whole"), [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(numbers_of(table, "flag"), [1.0, 0.0, 1.0])
    with pytest.raises(ProbeError, match="'text' must hold numbers"):
        numbers_of(table, "text")
    with pytest.raises(ProbeError, match="no column 'price'; there are whole, flag, text"):
        numbers_of(table, "price")


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
