"""The choice of a ridge's penalty: by the errors on folds that training sets leave out."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.folded_rows import FoldedRows
from unigeo.client.probing.unseen_folds import SPREAD_BYTES
from unigeo.client.threads import Run

_STRIDE = 4  # penalties between those that are tried first
_FIRST = 6  # position of the lowest of these
_ALL = 8  # so few are all tried


def choose_penalties(
    data: FoldedRows, lefts: Sequence[tuple[int, ...]], penalties: Sequence[float], run: Run
) -> Int[np.ndarray, "fold column"]:
    """Choose each target's penalty by the errors on folds that were left out.

    Args:
        data: the rows, in folds.
        lefts: folds that each training set leaves out: two each, or one.
        penalties: to choose from, sorted.
        run: does the work.

    Returns:
        For each fold the number of the penalty that does best on the others, of models that
        have not seen it either; the same for all folds where each set leaves out one.
    """
    if any(data.has_bands(data.all_but(*left)) for left in lefts):
        data.moments(run)
    errors = np.full((len(lefts), 2, len(penalties), len(data.columns)), np.nan)
    likely = _likely_penalties(data, lefts, errors, penalties, run)
    first = {number + side for number in likely for side in (-1, 0, 1)} & {*range(len(penalties))}
    # Each fold walks on by itself from the same penalties, until it has its least error.
    folds = data.count if len(lefts[0]) == 2 else 1
    tried = np.zeros((folds, len(penalties)), bool)
    wanted = [sorted(first)] * folds
    while any(wanted):
        for fold, numbers in enumerate(wanted):
            tried[fold, numbers] = True
        _judge(data, lefts, errors, _of_sets(lefts, wanted), penalties, run, keep=likely)
        cases = _cases(lefts, errors, tried)
        wanted = [next_penalties(each, known) for each, known in zip(cases, tried, strict=True)]
    return np.broadcast_to(cases.argmin(axis=2), (data.count, len(data.columns)))


def _likely_penalties(
    data: FoldedRows,
    lefts: Sequence[tuple[int, ...]],
    errors: Float[np.ndarray, "left side penalty column"],
    penalties: Sequence[float],
    run: Run,
) -> set[int]:
    """The best penalty of each target in the first training set alone; of few penalties all.

    One set costs a tenth of all pairs of five folds, and its best is near that of the others.
    """
    count = len(penalties)
    if count <= _ALL:
        return set(range(count))
    tried = np.zeros(count, bool)
    while numbers := next_penalties(np.nansum(errors[0], axis=0).T, tried):
        _judge(data, lefts, errors, {0: numbers}, penalties, run)
        tried[numbers] = True
    sums = np.where(tried[:, None], np.nansum(errors[0], axis=0), np.inf)
    return set(sums.argmin(axis=0).tolist())


def _of_sets(
    lefts: Sequence[tuple[int, ...]], wanted: Sequence[Sequence[int]]
) -> dict[int, list[int]]:
    """Penalties that each training set has to try, from those that folds want.

    A set that leaves out a pair tells something about both of its folds.
    """
    alone = len(wanted) == 1  # all folds want the same
    return {
        number: sorted({n for fold in ((0,) if alone else left) for n in wanted[fold]})
        for number, left in enumerate(lefts)
    }


def next_penalties(
    errors: Float[np.ndarray, "case penalty"], tried: Bool[np.ndarray, " penalty"]
) -> list[int]:
    """Choose which penalties to try next, of a list that is sorted.

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
        low = max((number for number in known if number < best), default=best - 2 * _STRIDE)
        high = min((number for number in known if number > best), default=best + 2 * _STRIDE)
        low, high = max(low, -1), min(high, count)
        wanted |= {(best + low) // 2, (best + high + 1) // 2}
    return sorted(number for number in wanted if 0 <= number < count and not tried[number])


def _judge(
    data: FoldedRows,
    lefts: Sequence[tuple[int, ...]],
    errors: Float[np.ndarray, "left side penalty column"],
    wanted: Mapping[int, Sequence[int]],
    penalties: Sequence[float],
    run: Run,
    keep: Collection[int] = (),
) -> None:
    """Fill in the errors of training sets at some penalties each, where they are not known.

    The models at the penalties to `keep` are kept for `predict_unseen`, if they fit into memory.
    """
    if len(lefts) * len(keep) * 4 * data.bands**2 > SPREAD_BYTES:
        keep = ()

    def judge(task: tuple[int, list[int]]) -> None:
        number, new = task
        left = lefts[number]
        train = data.all_but(*left)
        training = data.training(train)
        solutions = []
        for n in new:
            if n in keep:
                solution, spread = training.solve_with_spread(penalties[n])
                data.kept[tuple(train), n] = solution, spread
            else:
                solution = training.solve(penalties[n])
            solutions.append(solution)
        for side, fold in enumerate(left):
            errors[number, side, new] = data.errors(fold, solutions)

    tasks = [
        (number, [n for n in numbers if np.isnan(errors[number, 0, n]).any()])
        for number, numbers in wanted.items()
    ]
    if len(tasks) == 1:  # its penalties side by side
        tasks = [(number, [n]) for number, new in tasks for n in new]
    tasks = [task for task in tasks if task[1]]
    for (number, new), _ in zip(tasks, run(judge, tasks), strict=True):
        data.push(len(new) * data.factor_operations(lefts[number]))


def _cases(
    lefts: Sequence[tuple[int, ...]],
    errors: Float[np.ndarray, "left side penalty column"],
    tried: Bool[np.ndarray, "case penalty"],
) -> Float[np.ndarray, "case column penalty"]:
    """Errors of each fold and target; infinite where not tried.

    A fold's are those on the other fold that a set leaves out with it. Where sets leave out one
    fold each, there is one case: the errors on all folds.
    """
    sums = np.zeros((len(tried), errors.shape[-1], tried.shape[1]))
    for number, left in enumerate(lefts):
        for side in range(len(left)):
            sums[left[1 - side] if len(left) == 2 else 0] += errors[number, side].T
    return np.where(tried[:, None, :], sums, np.inf)
