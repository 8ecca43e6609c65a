"""The probe's models as scikit-learn estimators, for its pipelines and searches.

scikit-learn is imported with this module, not with `unigeo.client`. As its conventions demand, a
constructor accepts anything, and `fit` checks.
"""

from typing import Any

import numpy as np

from unigeo.client.probing.conformal import check_level, conformal_quantile
from unigeo.client.probing.folds import (
    blocked_folds,
    group_numbers,
    position_folds,
    random_folds,
)
from unigeo.client.probing.logistic import LogisticProbe
from unigeo.client.probing.logistic_path import LOGISTIC_PENALTIES
from unigeo.client.probing.ridge import PENALTIES, RidgeProbe
from unigeo.schemas.errors import MissingExtraError

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise MissingExtraError(
        "the estimators need scikit-learn: pip install 'unigeo[probe]'"
    ) from error

_MIN_FOLDS = 2


class ProbeRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge whose penalty is chosen, for each target by itself, by predicting held-out folds.

    Args:
        penalties: penalties to choose from; `ridge.PENALTIES` by default.
        folds: number of folds; fewer if there are fewer rows or groups.
        seed: seed of the folds.

    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(50, 3, random_state=0)
    >>> round(ProbeRegressor().fit(X, y).score(X, y), 3)
    1.0
    """

    def __init__(self, penalties: Any = None, folds: Any = 5, seed: Any = 0) -> None:
        self.penalties = penalties
        self.folds = folds
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> "ProbeRegressor":  # noqa: N803
        """Choose the penalties and fit all rows.

        Args:
            X: vectors, one per row.
            y: one target, or one per column.
            groups: labels, such as the numbers of spatial blocks; a fold then holds whole groups.
                Without them the copies of a row, equal in X and y, stay in one fold; rows of one
                position that differ need a group to stay together.
        """
        vectors, targets = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        table = np.asarray(targets, np.float64).reshape(len(targets), -1)
        folds = _folds(vectors, table, groups, self.folds, self.seed)
        self.ridge_ = RidgeProbe(penalties=tuple(self.penalties or PENALTIES)).fit(
            vectors, table, folds
        )
        self.flat_ = targets.ndim == 1
        self.penalties_ = self.ridge_.penalties
        self.coef_ = self.ridge_.weights[:, 0] if self.flat_ else self.ridge_.weights.T
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Predict the target, or each target in a column."""
        check_is_fitted(self)
        vectors = validate_data(self, X, dtype=np.float64, reset=False)
        return self._squeeze(self.ridge_.predict(vectors))

    def predict_interval(
        self,
        X: Any,  # noqa: N803
        level: float = 0.9,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of intervals that are calibrated on held-out folds; see `conformal`."""
        check_is_fitted(self)
        check_level(level)
        vectors = validate_data(self, X, dtype=np.float64, reset=False)
        middle = self.ridge_.predict(vectors)
        quantiles = [conformal_quantile(column, level) for column in self.ridge_.nonconformity.T]
        half_width = np.array(quantiles) * self.ridge_.difficulty(vectors)
        return self._squeeze(middle - half_width), self._squeeze(middle + half_width)

    def _squeeze(self, table: np.ndarray) -> np.ndarray:
        """Drop the column axis if the targets had none."""
        return table[:, 0] if self.flat_ else table

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class ProbeClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic ridge whose penalty is chosen by the log loss of held-out folds.

    Args:
        penalties: penalties to choose from; `logistic_path.LOGISTIC_PENALTIES` by default.
        folds: number of folds; fewer if there are fewer rows or groups.
        seed: seed of the folds.
    """

    def __init__(self, penalties: Any = None, folds: Any = 5, seed: Any = 0) -> None:
        self.penalties = penalties
        self.folds = folds
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> "ProbeClassifier":  # noqa: N803
        """Choose the penalty and fit all rows; `groups` as in `ProbeRegressor.fit`."""
        vectors, labels = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"there is one class only, {self.classes_[0]!r}: nothing to tell apart"
            )
        folds = _folds(vectors, codes[:, None], groups, self.folds, self.seed)
        probe = LogisticProbe(penalties=tuple(self.penalties or LOGISTIC_PENALTIES))
        self.logistic_ = probe.fit(vectors, codes, folds)
        self.penalty_ = self.logistic_.penalty
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Predict the probability of each of `classes_`."""
        check_is_fitted(self)
        return self.logistic_.predict(validate_data(self, X, dtype=np.float64, reset=False))

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Predict the most probable class."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])


def _folds(
    vectors: np.ndarray, targets: np.ndarray, groups: Any, folds: int, seed: int
) -> np.ndarray:
    """Assign rows to folds: whole groups, or at random with the copies of a row together."""
    count = len(vectors)
    if groups is None:
        rows = np.ascontiguousarray(np.concatenate([vectors, targets], axis=1, dtype=np.float64))
        # A row as one value, of its bytes: far faster than np.unique(axis=0) on many columns.
        each = rows.view(np.dtype((np.void, rows.strides[0]))).reshape(-1)
        _, copies = np.unique(each, return_inverse=True)
        number = int(copies.max()) + 1
        if number == count or number < _MIN_FOLDS:
            return random_folds(count, min(folds, count), seed)
        return position_folds(copies, min(folds, number), seed)
    numbers = group_numbers(groups, count)
    return blocked_folds(numbers, min(folds, int(numbers.max()) + 1), seed, "groups")
