"""Predictions of folds by models that have not seen them, and how difficult each is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.folded_rows import Block, FoldedRows
from unigeo.client.probing.leverage import Spread, difficulty
from unigeo.client.probing.normal_equations import Solution
from unigeo.client.threads import Run

SPREAD_BYTES = 3 * 2**26
"""Of the factors that are held while the rows are read."""


@dataclass(frozen=True)
class UnseenFoldModel:
    """A model that looks at a fold it has not seen."""

    train: tuple[int, ...]
    """Folds that the model is fitted on."""
    fold: int
    """Which it predicts."""
    best: Int[np.ndarray, " column"]
    """Penalty of each target, by its number."""
    without: int | None
    """The fold that the penalty was chosen without, where that is not `fold`."""


_Fitted = dict[tuple[int, ...], dict[int, tuple[Solution, Spread]]]
"""Solutions of each training set, by the number of the penalty."""
FoldPrediction = tuple[UnseenFoldModel, np.ndarray, np.ndarray, np.ndarray]
"""A view; rows; their predictions and difficulties, row by column."""


def predict_unseen(
    data: FoldedRows, views: Sequence[UnseenFoldModel], penalties: Sequence[float], run: Run
) -> Iterator[FoldPrediction]:
    """Predict folds by models that have not seen them.

    As many models are held as fit into memory, and the rows are read once for them.
    """
    by_model: dict[tuple[int, ...], list[UnseenFoldModel]] = {}
    for view in views:
        by_model.setdefault(view.train, []).append(view)
    for models in _portions(data, by_model):

        def fit(train: tuple[int, ...]) -> dict[int, tuple[Solution, Spread]]:
            numbers = np.unique([view.best for view in by_model[train]]).tolist()
            found = {n: data.kept.pop((train, n)) for n in numbers if (train, n) in data.kept}
            if len(found) < len(numbers):
                training = data.training(train)
                for n in numbers:
                    found[n] = found.get(n) or training.solve_with_spread(penalties[n])
            return found

        fitted = dict(zip(models, run(fit, models), strict=True))
        for train in models:
            data.push(len(fitted[train]) * data.factor_operations(data.all_but(*train)))
        seen_by = [view for train in models for view in by_model[train]]
        for block in data.blocks(sorted({view.fold for view in seen_by})):

            def see(
                view: UnseenFoldModel, block: Block = block, fitted: _Fitted = fitted
            ) -> FoldPrediction:
                rows, values = block[view.fold]
                return view, rows, *_see(data, values, fitted[view.train], view.best)

            yield from run(see, [view for view in seen_by if view.fold in block])


def _see(
    data: FoldedRows,
    values: Float[np.ndarray, "row band"],
    fitted: dict[int, tuple[Solution, Spread]],
    best: Int[np.ndarray, " column"],
) -> tuple[Float[np.ndarray, "row column"], Float[np.ndarray, "row column"]]:
    """Predictions, each target by its own penalty, and their difficulty."""
    guess, hard = np.empty((2, len(values), len(best)))
    for number in np.unique(best).tolist():
        solution, spread = fitted[number]
        at = np.flatnonzero(best == number)
        guess[:, at] = solution.only(at).predict(values) + data.target_origin[at]
        hard[:, at] = difficulty(spread.leverage(values))[:, None]
        data.push(len(values) * float(data.bands) ** 2 / 2)
    return guess, hard


def _portions(
    data: FoldedRows, by_model: Mapping[tuple[int, ...], Sequence[UnseenFoldModel]]
) -> Iterator[list[tuple[int, ...]]]:
    """Models whose factors fit into memory together."""
    portion: list[tuple[int, ...]] = []
    held = 0
    for train, views in by_model.items():
        factors = len(np.unique([view.best for view in views]))
        primal = data.has_bands(train)
        size = 4 * data.bands**2 if primal else 8 * data.bands * int(data.sizes[[*train]].sum())
        if portion and held + factors * size > SPREAD_BYTES:
            yield portion
            portion, held = [], 0
        portion.append(train)
        held += factors * size
    yield portion
