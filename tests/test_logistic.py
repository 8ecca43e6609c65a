import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as reference_log_loss
from sklearn.preprocessing import StandardScaler

from unigeo.client.probing.folds import random_folds
from unigeo.client.probing.logistic import LogisticProbe
from unigeo.client.probing.logistic_path import LOGISTIC_PENALTIES, logistic_path
from unigeo.schemas.errors import ProbeError


def class_problem(
    rows: int, bands: int, classes: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features, and class numbers drawn by a softmax of linear scores."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, bands)) * rng.uniform(0.1, 3, bands) + 1.0
    scores = features @ rng.standard_normal((bands, classes)) / np.sqrt(bands)
    codes = (scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    codes[:classes] = np.arange(classes)
    return features, codes


def sklearn_probabilities(
    features: np.ndarray, codes: np.ndarray, penalty: float, new: np.ndarray
) -> np.ndarray:
    """Probabilities of new rows by scikit-learn's logistic regression on standardized features."""
    scaler = StandardScaler().fit(features)
    model = LogisticRegression(C=1 / (penalty * len(features)), tol=1e-8, max_iter=10_000)
    return model.fit(scaler.transform(features), codes).predict_proba(scaler.transform(new))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("rows", "bands"), [(300, 7), (60, 90)])
def test_every_penalty_gives_the_model_of_scikit_learn(rows: int, bands: int, classes: int) -> None:
    features, codes = class_problem(rows, bands, classes)
    new, _ = class_problem(20, bands, classes, seed=1)
    for model in logistic_path(features, codes, LOGISTIC_PENALTIES[:5], classes, tolerance=1e-8):
        expected = sklearn_probabilities(features, codes, model.penalty, new)
        np.testing.assert_allclose(model.predict(new), expected, atol=1e-4)


def test_held_out_probabilities_equal_the_plain_nested_loops() -> None:
    features, codes = class_problem(120, 6, 3)
    folds = random_folds(120, 4, seed=1)
    penalties = (1.0, 0.1, 0.01)
    got = LogisticProbe(penalties=penalties).held_out(features, codes, folds)
    np.testing.assert_allclose(got.sum(axis=1), 1)
    for fold in range(4):
        losses = [
            sum(
                reference_log_loss(
                    codes[k],
                    sklearn_probabilities(features[t], codes[t], penalty, features[k]),
                    labels=[0, 1, 2],
                    normalize=False,
                )
                for inner in set(range(4)) - {fold}
                for t in [(folds != fold) & (folds != inner)]
                for k in [folds == inner]
            )
            for penalty in penalties
        ]
        best = penalties[int(np.argmin(losses))]
        train, held = folds != fold, folds == fold
        expected = sklearn_probabilities(features[train], codes[train], best, features[held])
        np.testing.assert_allclose(got[held], expected, atol=2e-3)


def test_a_class_that_a_training_set_lacks_has_almost_no_probability_there() -> None:
    features, codes = class_problem(90, 3, 2)
    (model,) = logistic_path(features, codes, (0.1,), 3)
    probabilities = model.predict(features)
    assert np.isfinite(probabilities).all()
    assert probabilities[:, 2].max() < 0.02


def test_a_row_without_a_vector_has_no_probability() -> None:
    features, codes = class_problem(90, 3, 2)
    fitted = LogisticProbe().fit(features, codes, random_folds(90, 3))
    features[4, 1] = np.nan
    assert np.isnan(fitted.predict(features)[4]).all()
    assert np.isfinite(fitted.predict(features)[5]).all()


def test_what_leaves_nothing_to_choose_by_is_refused() -> None:
    features, codes = class_problem(40, 3, 2)
    with pytest.raises(ProbeError, match="at least 3"):
        LogisticProbe().held_out(features, codes, random_folds(40, 2))
    with pytest.raises(ProbeError, match="positive"):
        LogisticProbe(penalties=(0.0,))
