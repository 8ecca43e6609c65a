"""Runs of whole numbers laid one after the other: how one item becomes several in numpy."""

import numpy as np
from jaxtyping import Int


def expand_ranges(
    first: Int[np.ndarray, " item"], count: Int[np.ndarray, " item"]
) -> tuple[Int[np.ndarray, " piece"], Int[np.ndarray, " piece"]]:
    """Repeat each item `count` times; the item and `first`, `first + 1`, ... of each piece.

    >>> [part.tolist() for part in spread(np.array([5, 0]), np.array([2, 3]))]
    [[0, 0, 1, 1, 1], [5, 6, 0, 1, 2]]
    """
    item = np.repeat(np.arange(len(first)), count)
    before = np.repeat(np.cumsum(count) - count, count)
    return item, first[item] + np.arange(len(item)) - before
