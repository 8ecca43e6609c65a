import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from unigeo.client.probing.metrics import average_precision, balanced_accuracy


@given(
    classes=st.integers(2, 5),
    seed=st.integers(0, 2**31),
    steps=st.sampled_from([2, 5, 1000]),  # few steps make ties
)
def test_scores_of_classes_are_those_of_scikit_learn(classes: int, seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(classes), rng.integers(0, classes, 40)])
    guess = np.round(rng.dirichlet(np.ones(classes), len(codes)) * steps) / steps
    counts = np.bincount(codes)
    if classes == 2:
        rarer = 0 if counts[0] < counts[1] else 1
        expected = average_precision_score(codes == rarer, guess[:, rarer])
    else:
        expected = average_precision_score(np.eye(classes)[codes], guess, average="macro")
    assert average_precision(codes, guess) == pytest.approx(expected, abs=1e-12)
    expected = balanced_accuracy_score(codes, guess.argmax(axis=1))
    assert balanced_accuracy(codes, guess) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_a_constant_guess_has_the_balanced_accuracy_of_chance(classes: int) -> None:
    codes = np.repeat(np.arange(classes), np.arange(classes) * 5 + 1)
    guess = np.tile(np.eye(classes)[-1], (len(codes), 1))
    assert balanced_accuracy(codes, guess) == pytest.approx(1 / classes)
    share = np.bincount(codes).min() / len(codes) if classes == 2 else 1 / classes
    assert average_precision(codes, guess) == pytest.approx(share)
