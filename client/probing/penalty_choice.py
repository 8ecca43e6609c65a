"""The choice of a ridge's penalty by the errors on the folds that training sets omit."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.folded_rows import FoldedRows
from unigeo.client.probing.unseen_folds import SPREAD_BYTES
from unigeo.client.threads import Run

_STRIDE = 4
"""Distance in the list between the penalties that are tried first."""
_FIRST = 6
"""Position of the lowest penalty that is tried first."""
_TRY_ALL = 8
"""Length of a list, up to which all of its penalties are tried."""


def choose_penalties(
    data: FoldedRows, omissions: Sequence[tuple[int, ...]], penalties: Sequence[float], run: Run
) -> Int[np.ndarray, "fold column"]:
    """Choose each target's penalty by the errors on omitted folds.

    A model without folds f and k serves twice: its errors on k help to choose the penalty for f,
    and its errors on f that for k. So the choice for a fold is by errors on other folds alone.

    Args:
        data: rows, in folds.
        omissions: folds that each training set omits: all pairs, or each fold alone.
        penalties: penalties to choose from, sorted.
        run: runs the factorizations.

    Returns:
        For each fold, the number of the penalty with the least error on the other folds by models
        that have not seen it. If each set omits one fold, there is one choice for all folds.
    """
    if any(data.is_primal(data.all_but(*omitted)) for omitted in omissions):
        data.moments(run)
    errors = np.full((len(omissions), 2, len(penalties), len(data.columns)), np.nan)
    likely = _likely_penalties(data, omissions, errors, penalties, run)
    first = {number + step for number in likely for step in (-1, 0, 1)} & {*range(len(penalties))}
    # Each choice goes on by itself from the same penalties, until both neighbours of its best one
    # are tried. What only another choice has tried is masked: some training sets lack its errors.
    choices = data.count if len(omissions[0]) == 2 else 1
    tried = np.zeros((choices, len(penalties)), bool)
    wanted = [sorted(first)] * choices
    while any(wanted):
        for choice, numbers in enumerate(wanted):
            tried[choice, numbers] = True
        by_set = _penalties_of_sets(omissions, wanted)
        _compute_errors(data, omissions, errors, by_set, penalties, run, keep=likely)
        sums = _errors_of_choices(omissions, errors, tried)
        wanted = [next_penalties(each, known) for each, known in zip(sums, tried, strict=True)]
    return np.broadcast_to(sums.argmin(axis=2), (data.count, len(data.columns)))


def _likely_penalties(
    data: FoldedRows,
    omissions: Sequence[tuple[int, ...]],
    errors: Float[np.ndarray, "set side penalty column"],
    penalties: Sequence[float],
    run: Run,
) -> set[int]:
    """Find the best penalty of each target in the first training set; all of a short list.

    One set costs a tenth of all pairs of five folds, and its best is near that of the others.
    """
    count = len(penalties)
    if count <= _TRY_ALL:
        return set(range(count))
    tried = np.zeros(count, bool)
    while numbers := next_penalties(np.nansum(errors[0], axis=0).T, tried):
        _compute_errors(data, omissions, errors, {0: numbers}, penalties, run)
        tried[numbers] = True
    # nansum turns an error that is not computed into 0, the least of all.
    sums = np.where(tried[:, None], np.nansum(errors[0], axis=0), np.inf)
    return set(sums.argmin(axis=0).tolist())


def _penalties_of_sets(
    omissions: Sequence[tuple[int, ...]], wanted: Sequence[Sequence[int]]
) -> dict[int, list[int]]:
    """List the penalties that each training set has to try, from those that choices want.

    A set that omits a pair of folds takes part in the choices for both.
    """
    common = len(wanted) == 1  # one choice for all folds
    return {
        number: sorted({n for choice in ((0,) if common else omitted) for n in wanted[choice]})
        for number, omitted in enumerate(omissions)
    }


def next_penalties(
    errors: Float[np.ndarray, "case penalty"], tried: Bool[np.ndarray, " penalty"]
) -> list[int]:
    """Choose which penalties of a sorted list to try next.

    First every fourth, without the ends, where the least error is seldom. Then, about the least
    error of each case, the middle of the gap on either side, until the penalties next to it in the
    list have been tried. The error over the logarithm of the penalty has one valley as a rule;
    where it has several, the deepest of those that the first penalties saw is found.

    Args:
        errors: of each case (such as a fold and a target) at the penalties tried.
        tried: which those are.

    Returns:
        Positions in the list; none when each case has its least error.

    >>> next_penalties(np.empty((1, 19)), np.zeros(19, bool))
    [6, 10, 14]
    """
    count = len(tried)
    if not tried.any():
        return list(range(_FIRST, count - 1, _STRIDE)) or list(range(count))
    known = np.flatnonzero(tried).tolist()
    wanted: set[int] = set()
    for best in {known[position] for position in errors[:, known].argmin(axis=1)}:
        # Beyond the outermost that was tried, the gap is taken to be two strides wide.
        low = max((number for number in known if number < best), default=best - 2 * _STRIDE)
        high = min((number for number in known if number > best), default=best + 2 * _STRIDE)
        low, high = max(low, -1), min(high, count)
        wanted |= {(best + low) // 2, (best + high + 1) // 2}
    return sorted(number for number in wanted if 0 <= number < count and not tried[number])


def _compute_errors(
    data: FoldedRows,
    omissions: Sequence[tuple[int, ...]],
    errors: Float[np.ndarray, "set side penalty column"],
    wanted: Mapping[int, Sequence[int]],
    penalties: Sequence[float],
    run: Run,
    keep: Collection[int] = (),
) -> None:
    """Compute the errors of training sets on the folds that they omit, where they are NaN.

    Args:
        data: rows, in folds.
        omissions: folds that each training set omits.
        errors: overwritten; a side is a position in the set's omitted folds.
        wanted: numbers of the penalties by number of the training set.
        penalties: penalties, sorted.
        run: runs the training sets.
        keep: penalties whose models are kept for `predict_unseen`, if they fit into memory.
    """
    if len(omissions) * len(keep) * 4 * data.bands**2 > SPREAD_BYTES:
        keep = ()

    def solve(task: tuple[int, list[int]]) -> None:
        number, new = task
        omitted = omissions[number]
        train = data.all_but(*omitted)
        equations = data.equations(train)
        solutions = []
        for n in new:
            if n in keep:
                solution, spread = equations.solve_with_spread(penalties[n])
                data.kept[tuple(train), n] = solution, spread
            else:
                solution = equations.solve(penalties[n])
            solutions.append(solution)
        for side, fold in enumerate(omitted):
            errors[number, side, new] = data.errors(fold, solutions)

    tasks = [
        (number, [n for n in numbers if np.isnan(errors[number, 0, n]).any()])
        for number, numbers in wanted.items()
    ]
    if len(tasks) == 1:  # a set alone would keep one thread busy: its penalties run side by side
        tasks = [(number, [n]) for number, new in tasks for n in new]
    tasks = [task for task in tasks if task[1]]
    for (number, new), _ in zip(tasks, run(solve, tasks), strict=True):
        data.advance(len(new) * data.factor_operations(omissions[number]))


def _errors_of_choices(
    omissions: Sequence[tuple[int, ...]],
    errors: Float[np.ndarray, "set side penalty column"],
    tried: Bool[np.ndarray, "choice penalty"],
) -> Float[np.ndarray, "choice column penalty"]:
    """Sum the errors that each choice is made by; infinite at penalties that it has not tried.

    A fold's choice is by the errors on the other fold of each pair that it is omitted with. If sets
    omit one fold each, there is one choice, by the errors on all folds.
    """
    sums = np.zeros((len(tried), errors.shape[-1], tried.shape[1]))
    for number, omitted in enumerate(omissions):
        for side in range(len(omitted)):
            choice = omitted[1 - side] if len(omitted) == 2 else 0
            sums[choice] += errors[number, side].T
    return np.where(tried[:, None, :], sums, np.inf)
