"""Which penalties to try: from coarse to fine, towards the least error of each case."""

import numpy as np
from jaxtyping import Bool, Float

_STRIDE = 4  # penalties between those that are tried first
_FIRST = 6  # position of the lowest of these
_ALL = 8  # so few are all tried at once


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
        return list(range(count)) if count <= _ALL else list(range(_FIRST, count - 1, _STRIDE))
    known = np.flatnonzero(tried).tolist()
    wanted: set[int] = set()
    for best in {known[position] for position in errors[:, known].argmin(axis=1)}:
        low = max((number for number in known if number < best), default=best - 2 * _STRIDE)
        high = min((number for number in known if number > best), default=best + 2 * _STRIDE)
        low, high = max(low, -1), min(high, count)
        wanted |= {(best + low) // 2, (best + high + 1) // 2}
    return sorted(number for number in wanted if 0 <= number < count and not tried[number])
