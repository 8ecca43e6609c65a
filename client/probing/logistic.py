"""Logistic ridge on frozen vectors: classes where ridge has numbers.

Minimises mean log loss + penalty / 2 x squared length of the weights, of features standardized on
the training rows; the intercept is free. Two classes have one column of weights, more have one
each. (scikit-learn's `C` is 1 / (penalty x number of training rows).) The penalty is chosen inside
the training folds by log loss, as in `ridge`: a model without two folds serves both.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.feature_rows import FeatureRows, all_of
from unigeo.client.probing.metrics import log_loss
from unigeo.client.probing.normal_equations import inverse_deviation
from unigeo.client.threads import Run, workers
from unigeo.schemas.errors import ProbeError

LOGISTIC_PENALTIES = tuple(10.0**power for power in range(1, -6, -1))
"""From 10 to 1e-5, one per decade; the largest first, since each solution starts the next."""

_TOLERANCE = 1e-5
"""Of the gradient's length against that at the start, zero weights."""
_MOST_STEPS = 300
_MEMORY = 10  # steps that L-BFGS remembers
_STEPS_OF_A_PATH = 200  # of L-BFGS, over all penalties, for estimates
_OF_EIGENVECTORS = 14  # times the work of a Cholesky factor

Push = Callable[[float], None]
"""Callback for the share of the work that is newly done."""


@dataclass(frozen=True, kw_only=True, repr=False)
class FittedLogistic:
    """A map from vectors to probabilities of classes."""

    centre: Float[np.ndarray, " band"]
    """Taken off the vectors first."""
    weights: Float[np.ndarray, "band column"]
    """One column for two classes, else one per class."""
    intercepts: Float[np.ndarray, " column"]
    penalty: float
    """The chosen one."""

    def __repr__(self) -> str:
        bands, columns = self.weights.shape
        classes = 2 if columns == 1 else columns
        return f"FittedLogistic({bands} bands, {classes} classes, penalty {self.penalty:g})"

    def predict(
        self, features: Float[np.ndarray, "point band"]
    ) -> Float[np.ndarray, "point class"]:
        """Probability of each class; a row with NaN gives NaN."""
        return _softmax(_with_reference((features - self.centre) @ self.weights + self.intercepts))


@dataclass(frozen=True, kw_only=True)
class LogisticProbe:
    """Chooses the penalty inside the folds, then fits."""

    penalties: tuple[float, ...] = field(default=LOGISTIC_PENALTIES)
    """To choose from; positive, best falling."""

    def __post_init__(self) -> None:
        if not self.penalties or min(self.penalties) <= 0:
            raise ProbeError(f"logistic penalties must be positive numbers, not {self.penalties}")

    def held_out(
        self,
        features: FeatureRows,
        codes: Int[np.ndarray, " point"],
        folds: Int[np.ndarray, " point"],
        *,
        strength: Float[np.ndarray, " band"] | float = 1.0,
        push: Push = lambda share: None,
    ) -> Float[np.ndarray, "point class"]:
        """Probabilities of every row by a model fitted, and its penalty chosen, on other folds.

        Args:
            features: point by band, without NaN.
            codes: class numbers from 0, each occurring.
            folds: fold number of each row; at least three different ones.
            strength: of each band: its penalty is divided by the square.
            push: called with the share of the work that is newly done.

        Raises:
            ProbeError: with fewer than three folds.
        """
        data = _Rows(all_of(features), codes, folds, strength, push)
        count = len(data.labels)
        if count < 3:
            raise ProbeError(
                f"{count} folds leave none to choose the penalty in: at least 3 are needed"
            )
        pairs = list(combinations(range(count), 2))
        share = 1 / (len(pairs) + count)
        probabilities = np.empty((len(codes), data.classes))
        with data.workers() as run:
            best = _least(pairs, self.penalties, data, run, share)

            def predict(fold: int) -> None:
                path = data.path((fold,), self.penalties[: best[fold] + 1])
                held = data.rows((fold,))
                probabilities[held] = list(path)[-1].predict(data.features[held])
                push(share)

            list(run(predict, range(count)))
        return probabilities

    def fit(
        self,
        features: FeatureRows,
        codes: Int[np.ndarray, " point"],
        folds: Int[np.ndarray, " point"],
    ) -> FittedLogistic:
        """Fit all rows, the penalty chosen by predicting each fold from the others."""
        data = _Rows(all_of(features), codes, folds, 1.0, lambda share: None)
        singles = [(fold,) for fold in range(len(data.labels))]
        with data.workers() as run:
            best = _least(singles, self.penalties, data, run, 0.0)[0]
        return list(data.path((), self.penalties[: best + 1]))[-1]


@dataclass(frozen=True)
class _Rows:
    """What is fitted, cut into folds."""

    features: Float[np.ndarray, "point band"]
    codes: Int[np.ndarray, " point"]
    folds: Int[np.ndarray, " point"]
    strength: Float[np.ndarray, " band"] | float
    push: Push

    @property
    def labels(self) -> Int[np.ndarray, " fold"]:
        """Of the folds."""
        return np.unique(self.folds)

    @property
    def classes(self) -> int:
        """How many there are."""
        return int(self.codes.max()) + 1

    def rows(self, folds: Sequence[int]) -> Bool[np.ndarray, " point"]:
        """Which rows some folds hold."""
        return np.isin(self.folds, self.labels[list(folds)])

    def path(self, left: Sequence[int], penalties: Sequence[float]) -> Iterator[FittedLogistic]:
        """Solve for one penalty after the other on all folds but some."""
        train = ~self.rows(left)
        return logistic_path(
            self.features[train], self.codes[train], penalties, self.classes, self.strength
        )

    def workers(self) -> AbstractContextManager[Run]:
        """Threads for the training sets of this data."""
        rows, bands = self.features.shape
        work = logistic_operations(rows, bands, len(self.labels), self.classes)
        train = rows * (len(self.labels) - 1) // len(self.labels)
        return workers(work, int(8 * (2.5 * train * bands + 4 * min(train, bands) ** 2)))


def _least(
    lefts: Sequence[tuple[int, ...]],
    penalties: Sequence[float],
    data: _Rows,
    run: Run,
    share: float,
) -> list[int]:
    """Choose the penalty by the log loss on folds that were left out.

    Each training set is solved from the largest penalty down, until two in a row have done worse
    than the best before on every fold that it leaves out: the loss has one valley as a rule. Where
    the best of a fold could lie further down, all sets are solved to the end.

    Returns:
        For each fold the number of the penalty that does best on the others (the same for all where
        each set leaves out one fold).
    """
    count = len(data.labels)

    def losses(left: tuple[int, ...], stop: bool = True) -> list[list[float]]:
        held = [data.rows((fold,)) for fold in left]
        found: list[list[float]] = []
        for model in data.path(left, penalties):
            found.append([_loss(model, data.features[at], data.codes[at]) for at in held])
            table = np.array(found)
            if stop and len(table) > 2 and (table[-2:] > table[:-2].min(axis=0)).all():
                break
        data.push(share)
        return found

    def choose(every: list[list[list[float]]]) -> tuple[list[int], int]:
        solved = min(map(len, every))
        sums = np.zeros((count, solved))
        for left, found in zip(lefts, every, strict=True):
            for fold, loss in zip(left, np.array(found[:solved]).T, strict=True):
                if len(left) == 1:
                    sums += loss
                else:
                    sums[left[0] if left[1] == fold else left[1]] += loss
        return sums.argmin(axis=1).tolist(), solved

    best, solved = choose(list(run(losses, lefts)))
    if solved < len(penalties) and max(best) == solved - 1:
        best, _ = choose(list(run(lambda left: losses(left, stop=False), lefts)))
    return best


def logistic_operations(rows: int, bands: int, folds: int, classes: int) -> float:
    """About how many floating-point operations `LogisticProbe.held_out` takes."""
    train = rows * (folds - 1) / folds
    size = min(train, bands)
    columns = 1.0 if classes == 2 else classes**0.5  # side by side they take less time each
    steps = _STEPS_OF_A_PATH * 4 * train * size * columns
    sets = folds * (folds - 1) / 2 + folds
    return float(sets * (_OF_EIGENVECTORS * size**3 / 3 + 3 * train * bands * size + 8 * steps))


def logistic_path(
    features: Float[np.ndarray, "point band"],
    codes: Int[np.ndarray, " point"],
    penalties: Sequence[float],
    classes: int | np.integer,
    strength: Float[np.ndarray, " band"] | float = 1.0,
    tolerance: float = _TOLERANCE,
) -> Iterator[FittedLogistic]:
    """Solve for every penalty in turn, each solution starting the next.

    The rows are turned into the eigenvectors of the bands' correlation matrix. There the largest
    curvature that log loss can have is diagonal (Böhning 1992): 1/4 of the eigenvalue for two
    classes, 1/2 for more, plus the penalty. Divided by its root, every direction is alike, and
    L-BFGS needs tens of steps. One eigendecomposition serves all penalties.
    """
    centre = np.mean(features, axis=0, dtype=np.float64)
    moved = features - centre
    square = (moved**2).mean(axis=0)
    inverse = strength * inverse_deviation(square, square + centre**2)
    standard = moved * inverse
    values, turn = _directions(standard)
    turned = standard @ turn
    present = np.eye(int(classes))[codes]
    truth = present[:, 1:] if classes == 2 else present
    steepest = 0.25 if classes == 2 else 0.5
    weights = np.zeros((len(values), truth.shape[1]))
    shares = np.maximum(present.mean(axis=0), 1 / (2 * len(codes)))
    intercepts = np.log(shares[1:] / shares[0]) if classes == 2 else np.log(shares)
    for penalty in penalties:
        scale = 1 / np.sqrt(steepest * values + penalty)
        scaled = turned * scale
        weights, intercepts = _minimise(
            scaled,
            truth,
            penalty * scale**2,
            weights / scale[:, None],
            intercepts,
            steepest,
            tolerance,
        )
        weights = weights * scale[:, None]
        yield FittedLogistic(
            centre=centre,
            weights=inverse[:, None] * (turn @ weights),
            intercepts=intercepts,
            penalty=float(penalty),
        )


def _directions(
    standard: Float[np.ndarray, "point band"],
) -> tuple[Float[np.ndarray, " value"], Float[np.ndarray, "band value"]]:
    """Eigenvalues and eigenvectors of the bands' correlation; no more of them than rows."""
    count, bands = standard.shape
    if bands <= count:
        values, vectors = np.linalg.eigh(standard.T @ standard / count)
        return np.maximum(values, 0), vectors
    values, sides = np.linalg.eigh(standard @ standard.T / count)
    real = values > 1e-12 * max(values.max(), 1e-300)
    return values[real], standard.T @ sides[:, real] / np.sqrt(count * values[real])


def _minimise(
    design: Float[np.ndarray, "point value"],
    truth: Float[np.ndarray, "point column"],
    ridge: Float[np.ndarray, " value"],
    weights: Float[np.ndarray, "value column"],
    intercepts: Float[np.ndarray, " column"],
    steepest: float,
    tolerance: float,
) -> tuple[Float[np.ndarray, "value column"], Float[np.ndarray, " column"]]:
    """Weights and intercepts of least loss, by L-BFGS from the given ones."""
    count, columns = truth.shape
    free = np.sqrt(steepest)  # the intercept's own scale

    def loss(flat: Float[np.ndarray, " number"]) -> tuple[float, Float[np.ndarray, " number"]]:
        table = flat.reshape(-1, columns)
        slope, constant = table[1:], table[0] / free
        scores = _with_reference(design @ slope + constant)
        top = scores.max(axis=1, keepdims=True)
        log_sum = top + np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
        own = scores[:, -columns:]
        value = (log_sum.sum() - (truth * own).sum()) / count
        value += 0.5 * (ridge[:, None] * slope**2).sum()
        error = (np.exp(own - log_sum) - truth) / count
        gradient = np.concatenate(
            [error.sum(axis=0, keepdims=True) / free, design.T @ error + ridge[:, None] * slope]
        )
        return float(value), gradient.reshape(-1)

    start = np.concatenate([intercepts[None] * free, weights]).reshape(-1)
    blank = np.concatenate([intercepts[None] * free, np.zeros_like(weights)]).reshape(-1)
    short = tolerance * max(float(np.linalg.norm(loss(blank)[1])), 1e-12)
    table = lbfgs(loss, start, short).reshape(-1, columns)
    return table[1:], table[0] / free


def lbfgs(
    loss: Callable[[Float[np.ndarray, " number"]], tuple[float, Float[np.ndarray, " number"]]],
    start: Float[np.ndarray, " number"],
    tolerance: float,
) -> Float[np.ndarray, " number"]:
    """Minimise a smooth convex function whose curvature is about 1 at most.

    Args:
        loss: gives value and gradient.
        start: where to begin.
        tolerance: stop where the gradient is shorter.

    Source: Nocedal & Wright (2006), "Numerical Optimization", algorithm 7.4.
    """
    point = start
    value, gradient = loss(point)
    steps: list[tuple[np.ndarray, np.ndarray, float]] = []
    for _ in range(_MOST_STEPS):
        if np.linalg.norm(gradient) <= tolerance:
            break
        direction = -_newton_like(gradient, steps)
        slope = float(direction @ gradient)
        length = 1.0
        while True:
            trial = point + length * direction
            trial_value, trial_gradient = loss(trial)
            if trial_value <= value + 1e-4 * length * slope or length < 1e-10:
                break
            length /= 2
        moved, turned = trial - point, trial_gradient - gradient
        if length < 1e-10:
            break  # rounding: no step lowers the loss any more
        curvature = float(moved @ turned)
        if curvature > 1e-12 * float(moved @ moved):
            steps = [*steps[1 - _MEMORY :], (moved, turned, 1 / curvature)]
        point, value, gradient = trial, trial_value, trial_gradient
    return point


def _newton_like(
    gradient: Float[np.ndarray, " number"], steps: list[tuple[np.ndarray, np.ndarray, float]]
) -> Float[np.ndarray, " number"]:
    """The gradient times an inverse of the curvature that the past steps saw."""
    result = gradient.copy()
    shares = []
    for moved, turned, inverse in reversed(steps):
        share = inverse * float(moved @ result)
        result -= share * turned
        shares.append(share)
    if steps:
        moved, turned, inverse = steps[-1]
        result /= inverse * float(turned @ turned)
    for (moved, turned, inverse), share in zip(steps, reversed(shares), strict=True):
        result += (share - inverse * float(turned @ result)) * moved
    return result


def _with_reference(scores: Float[np.ndarray, "point column"]) -> Float[np.ndarray, "point class"]:
    """Two classes have one column: the first class's score is 0."""
    if scores.shape[1] > 1:
        return scores
    return np.concatenate([np.zeros_like(scores), scores], axis=1)


def _softmax(scores: Float[np.ndarray, "point class"]) -> Float[np.ndarray, "point class"]:
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def _loss(
    model: FittedLogistic,
    features: Float[np.ndarray, "point band"],
    codes: Int[np.ndarray, " point"],
) -> float:
    """Sum of log loss."""
    return log_loss(codes, model.predict(features)) * len(codes)
