"""Logistic ridge on frozen vectors, its penalty chosen inside the training folds.

It does for classes what `ridge` does for numbers: the penalty is chosen by log loss, and a model
without two folds serves the choice for both.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.band_scaling import EACH_BAND, BandScaling
from unigeo.client.probing.feature_rows import FeatureRows, as_array
from unigeo.client.probing.logistic_path import LOGISTIC_PENALTIES, FittedLogistic, logistic_path
from unigeo.client.probing.metrics import log_loss
from unigeo.client.threads import Run, workers
from unigeo.schemas.errors import ProbeError

_STEPS_OF_A_PATH = 200
"""Steps of L-BFGS over all penalties, for estimates."""
_EIGENVECTOR_COST = 14
"""Operations of an eigendecomposition / those of a Cholesky factor, for estimates."""

Advance = Callable[[float], None]
"""Callback that adds a newly done share of the work to the progress."""


@dataclass(frozen=True, kw_only=True)
class LogisticProbe:
    """Chooses the penalty inside the folds, then fits."""

    penalties: tuple[float, ...] = field(default=LOGISTIC_PENALTIES)
    """Positive penalties to choose from, best falling."""

    def __post_init__(self) -> None:
        if not self.penalties or min(self.penalties) <= 0:
            raise ProbeError(f"logistic penalties must be positive numbers, not {self.penalties}")

    def held_out(
        self,
        features: FeatureRows,
        codes: Int[np.ndarray, " point"],
        folds: Int[np.ndarray, " point"],
        *,
        scaling: BandScaling = EACH_BAND,
        advance: Advance = lambda share: None,
        weights: Float[np.ndarray, " point"] | None = None,
    ) -> Float[np.ndarray, "point class"]:
        """Predict every row by a model fitted, and its penalty chosen, on the other folds.

        Args:
            features: point by band, without NaN.
            codes: class numbers from 0, each occurring.
            folds: fold number of each row; at least three different ones.
            scaling: scale of each band.
            advance: called with newly done shares of the work.
            weights: positive weight of each row in the log loss; 1 by default.

        Returns:
            Probabilities of the classes.

        Raises:
            ProbeError: with fewer than three folds.
        """
        data = _FoldedClassRows(as_array(features), codes, folds, scaling, advance, weights)
        count = len(data.labels)
        if count < 3:
            raise ProbeError(
                f"{count} folds leave none to choose the penalty in: at least 3 are needed"
            )
        pairs = list(combinations(range(count), 2))
        share = 1 / (len(pairs) + count)
        probabilities = np.empty((len(codes), data.classes))
        with data.workers() as run:
            best = _choose_penalties(pairs, self.penalties, data, run, share)

            def predict(fold: int) -> None:
                path = data.path((fold,), self.penalties[: best[fold] + 1])
                held = data.rows((fold,))
                probabilities[held] = list(path)[-1].predict(data.features[held])
                advance(share)

            list(run(predict, range(count)))
        return probabilities

    def fit(
        self,
        features: FeatureRows,
        codes: Int[np.ndarray, " point"],
        folds: Int[np.ndarray, " point"],
        *,
        scaling: BandScaling = EACH_BAND,
        weights: Float[np.ndarray, " point"] | None = None,
    ) -> FittedLogistic:
        """Fit all rows, the penalty chosen by predicting each fold from the others.

        The arguments are those of `held_out`.
        """
        data = _FoldedClassRows(
            as_array(features), codes, folds, scaling, lambda share: None, weights
        )
        singles = [(fold,) for fold in range(len(data.labels))]
        with data.workers() as run:
            best = _choose_penalties(singles, self.penalties, data, run, 0.0)[0]
        return list(data.path((), self.penalties[: best + 1]))[-1]


@dataclass(frozen=True)
class _FoldedClassRows:
    """Vectors and classes of the rows, cut into folds."""

    features: Float[np.ndarray, "point band"]
    codes: Int[np.ndarray, " point"]
    folds: Int[np.ndarray, " point"]
    scaling: BandScaling
    advance: Advance
    weights: Float[np.ndarray, " point"] | None
    """Weight of each row; None if all are 1."""

    @property
    def labels(self) -> Int[np.ndarray, " fold"]:
        """Numbers of the folds, sorted; they may have gaps."""
        return np.unique(self.folds)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.codes.max()) + 1

    def rows(self, folds: Sequence[int]) -> Bool[np.ndarray, " point"]:
        """Mark the rows of some folds, by their positions in `labels`."""
        return np.isin(self.folds, self.labels[list(folds)])

    def path(self, omitted: Sequence[int], penalties: Sequence[float]) -> Iterator[FittedLogistic]:
        """Solve for one penalty after the other on all folds but the omitted ones."""
        train = ~self.rows(omitted)
        return logistic_path(
            self.features[train],
            self.codes[train],
            penalties,
            self.classes,
            self.scaling,
            weights=None if self.weights is None else self.weights[train],
        )

    def loss(self, model: FittedLogistic, rows: Bool[np.ndarray, " point"]) -> float:
        """Sum the log loss over some rows."""
        guess, codes = model.predict(self.features[rows]), self.codes[rows]
        if self.weights is None:
            return log_loss(codes, guess) * len(codes)
        weights = self.weights[rows]
        return log_loss(codes, guess, weights) * float(weights.sum())

    def workers(self) -> AbstractContextManager[Run]:
        """Start threads for the training sets of this data."""
        rows, bands = self.features.shape
        operations = logistic_operations(rows, bands, len(self.labels), self.classes)
        train = rows * (len(self.labels) - 1) // len(self.labels)
        # About 2.5 copies of the training rows, and 4 matrices of the eigendecomposition.
        return workers(operations, int(8 * (2.5 * train * bands + 4 * min(train, bands) ** 2)))


def _choose_penalties(
    omissions: Sequence[tuple[int, ...]],
    penalties: Sequence[float],
    data: _FoldedClassRows,
    run: Run,
    share: float,
) -> list[int]:
    """Choose the penalty by the log loss on omitted folds.

    Each training set is solved from the largest penalty down, until two in a row have done worse
    than the best before on every fold that it omits: the loss has one valley as a rule. If the best
    penalty of a fold could lie further down, all sets are solved to the end.

    Args:
        omissions: folds that each training set omits: all pairs, or each fold alone.
        penalties: penalties to choose from, best falling.
        data: rows, in folds.
        run: runs the training sets.
        share: share of the work that one training set is.

    Returns:
        For each fold, the number of the penalty with the least loss on the other folds by models
        that have not seen it. If each set omits one fold, there is one choice for all folds.
    """
    count = len(data.labels)

    def path_losses(omitted: tuple[int, ...], stop: bool = True) -> list[list[float]]:
        """Compute the loss on each omitted fold, penalty by penalty."""
        held = [data.rows((fold,)) for fold in omitted]
        losses: list[list[float]] = []
        for model in data.path(omitted, penalties):
            losses.append([data.loss(model, rows) for rows in held])
            table = np.array(losses)
            if stop and len(table) > 2 and (table[-2:] > table[:-2].min(axis=0)).all():
                break
        data.advance(share)
        return losses

    def choose(every: list[list[list[float]]]) -> tuple[list[int], int]:
        """Return the best penalty of each fold, of those that all training sets have solved."""
        solved = min(map(len, every))
        sums = np.zeros((count, solved))
        for omitted, losses in zip(omissions, every, strict=True):
            for fold, loss in zip(omitted, np.array(losses[:solved]).T, strict=True):
                if len(omitted) == 1:
                    sums += loss  # one choice for all folds
                else:  # the loss on one fold of a pair is part of the choice for the other
                    sums[omitted[0] if omitted[1] == fold else omitted[1]] += loss
        return sums.argmin(axis=1).tolist(), solved

    best, solved = choose(list(run(path_losses, omissions)))
    if solved < len(penalties) and max(best) == solved - 1:
        best, _ = choose(list(run(lambda omitted: path_losses(omitted, stop=False), omissions)))
    return best


def logistic_operations(rows: int, bands: int, folds: int, classes: int) -> float:
    """Estimate the floating-point operations of `LogisticProbe.held_out`."""
    train = rows * (folds - 1) / folds
    size = min(train, bands)
    columns = 1.0 if classes == 2 else classes**0.5  # side by side they take less time each
    steps = _STEPS_OF_A_PATH * 4 * train * size * columns
    sets = folds * (folds - 1) / 2 + folds
    return float(sets * (_EIGENVECTOR_COST * size**3 / 3 + 3 * train * bands * size + 8 * steps))
