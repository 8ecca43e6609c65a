import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from unigeo.client.probing.penalty_choice import next_penalties
from unigeo.client.probing.ridge import RidgeProbe


def tried_penalties(errors: np.ndarray) -> np.ndarray:
    """What is tried of a table of errors (case by penalty), and that it ends."""
    tried = np.zeros(errors.shape[1], bool)
    for _ in range(errors.shape[1] + 1):
        numbers = next_penalties(np.where(tried, errors, 0.0), tried)
        if not numbers:
            return tried
        assert not tried[numbers].any()
        tried[numbers] = True
    raise AssertionError("the search does not end")


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.floats(-5, 45), st.floats(0.1, 3)), min_size=1, max_size=8),
)
def test_the_least_error_of_a_curve_with_one_valley_is_found(
    count: int, valleys: list[tuple[float, float]]
) -> None:
    at = np.arange(count)
    errors = np.stack([slope * np.abs(at - bottom) for bottom, slope in valleys])
    tried = tried_penalties(errors)
    best = np.where(tried, errors, np.inf).min(axis=1)
    np.testing.assert_array_equal(best, errors.min(axis=1))


@given(st.integers(9, 40), st.integers(0, 2**32 - 1))
def test_the_error_found_is_no_more_than_that_of_its_neighbours(count: int, seed: int) -> None:
    errors = np.random.default_rng(seed).random((3, count))
    tried = tried_penalties(errors)
    for best in np.where(tried, errors, np.inf).argmin(axis=1):
        for beside in (best - 1, best + 1):
            assert not 0 <= beside < count or tried[beside]


def test_a_valley_in_the_middle_takes_seven_of_nineteen() -> None:
    at = np.arange(19)
    tried = tried_penalties((at[None] - 10.0) ** 2)
    assert tried.sum() == 7


def test_of_few_penalties_every_one_is_tried() -> None:
    """As the plain nested loops, which try all."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 90))
    target = features[:, :3].sum(axis=1) + rng.standard_normal(60)
    folds = np.arange(60) % 5
    grid = (1e-6, 1e-3, 0.1, 3.0, 1000.0)
    got = RidgeProbe(penalties=grid).held_out(features, target[:, None], folds)
    for fold in range(5):
        errors = []
        for penalty in grid:
            error = 0.0
            for other in {*range(5)} - {fold}:
                train = (folds != fold) & (folds != other)
                scaler = StandardScaler().fit(features[train])
                model = Ridge(penalty * train.sum()).fit(
                    scaler.transform(features[train]), target[train]
                )
                guess = model.predict(scaler.transform(features[folds == other]))
                error += ((guess - target[folds == other]) ** 2).sum()
            errors.append(error)
        assert got.penalties[fold, 0] == grid[int(np.argmin(errors))]
