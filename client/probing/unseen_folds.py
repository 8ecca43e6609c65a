"""Predictions of folds by models that have not seen them, and how difficult each is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.folded_rows import Block, FoldedRows
from unigeo.client.probing.leverage import TrainingSpread, difficulty
from unigeo.client.probing.normal_equations import RidgeSolution
from unigeo.client.probing.training_predictions import SeenFold
from unigeo.client.threads import Run

SPREAD_BYTES = 3 * 2**26
"""Memory for the factors that are held while the rows are read."""


@dataclass(frozen=True)
class UnseenFold:
    """A fold to predict, and the model of other folds that predicts it."""

    fold: int
    """Fold to predict."""
    train: tuple[int, ...]
    """Folds that the model is fitted on."""
    best: Int[np.ndarray, " column"]
    """Number of the penalty of each target."""
    without: int | None
    """Fold that the penalties were chosen without, if that is not `fold`."""
    wants_difficulty = True


_Fitted = dict[tuple[int, ...], dict[int, tuple[RidgeSolution, TrainingSpread]]]
"""Models of each training set, by the number of the penalty."""
FoldToPredict = UnseenFold | SeenFold
FoldPrediction = tuple[FoldToPredict, np.ndarray, np.ndarray, np.ndarray]
"""A fold, some of its rows, and their predictions and difficulties, row by column."""


def predict_unseen(
    data: FoldedRows, unseen: Sequence[FoldToPredict], penalties: Sequence[float], run: Run
) -> Iterator[FoldPrediction]:
    """Predict folds by models, which have not seen them as a rule.

    As many models are held as fit into memory, and the rows are read once for all of them.

    Args:
        data: rows, in folds.
        unseen: folds to predict; several may have the same training set.
        penalties: penalties, sorted.
        run: runs the factorizations and the predictions.

    Yields:
        The rows of each fold, block by block.
    """
    by_model: dict[tuple[int, ...], list[FoldToPredict]] = {}
    for each in unseen:
        by_model.setdefault(each.train, []).append(each)
    for models in _portions(data, by_model):

        def fit(train: tuple[int, ...]) -> dict[int, tuple[RidgeSolution, TrainingSpread]]:
            numbers = np.unique([each.best for each in by_model[train]]).tolist()
            # The choice of the penalty has solved the likely ones, and leaves them here.
            solved = {n: data.kept.pop((train, n)) for n in numbers if (train, n) in data.kept}
            if len(solved) < len(numbers):
                equations = data.equations(train)
                for n in numbers:
                    solved[n] = solved.get(n) or equations.solve_with_spread(penalties[n])
            return solved

        fitted = dict(zip(models, run(fit, models), strict=True))
        for train in models:
            data.advance(len(fitted[train]) * data.factor_operations(data.all_but(*train)))
        portion = [each for train in models for each in by_model[train]]
        for block in data.blocks(sorted({each.fold for each in portion})):
            # The defaults bind this block and these models: threads run after the loop moves on.
            def predict(
                each: FoldToPredict, block: Block = block, fitted: _Fitted = fitted
            ) -> FoldPrediction:
                rows, values = block[each.fold]
                models, wanted = fitted[each.train], each.wants_difficulty
                return each, rows, *_predict_rows(data, values, models, each.best, wanted)

            yield from run(predict, [each for each in portion if each.fold in block])


def _predict_rows(
    data: FoldedRows,
    values: Float[np.ndarray, "row band"],
    solved: dict[int, tuple[RidgeSolution, TrainingSpread]],
    best: Int[np.ndarray, " column"],
    wants_difficulty: bool,
) -> tuple[Float[np.ndarray, "row column"], Float[np.ndarray, "row column"]]:
    """Predict rows and their difficulties, each target by the model at its own penalty."""
    guesses, difficulties = np.full((2, len(values), len(best)), np.nan)
    for number in np.unique(best).tolist():
        solution, spread = solved[number]
        columns = np.flatnonzero(best == number)
        targets = solution.select(columns).predict(values)
        guesses[:, columns] = targets + data.target_origin[columns]
        if wants_difficulty:
            difficulties[:, columns] = difficulty(spread.leverage(values))[:, None]
            data.advance(len(values) * float(data.bands) ** 2 / 2)
    return guesses, difficulties


def _portions(
    data: FoldedRows, by_model: Mapping[tuple[int, ...], Sequence[FoldToPredict]]
) -> Iterator[list[tuple[int, ...]]]:
    """Group the training sets so that the factors of each group fit into memory."""
    portion: list[tuple[int, ...]] = []
    held = 0
    for train, unseen in by_model.items():
        factors = len(np.unique([each.best for each in unseen]))
        primal = data.is_primal(train)
        # A float32 factor, band by band, or the whitened vectors in float64, band by row.
        size = 4 * data.bands**2 if primal else 8 * data.bands * int(data.sizes[[*train]].sum())
        if portion and held + factors * size > SPREAD_BYTES:
            yield portion
            portion, held = [], 0
        portion.append(train)
        held += factors * size
    yield portion
