"""Ranges of integers, concatenated: how each item becomes several without a loop."""

import numpy as np
from jaxtyping import Int


def expand_ranges(
    first: Int[np.ndarray, " item"], count: Int[np.ndarray, " item"]
) -> tuple[Int[np.ndarray, " piece"], Int[np.ndarray, " piece"]]:
    """Concatenate the ranges from `first` to `first + count` of all items.

    Returns:
        For each number the index of its item, and the number.


    >>> [part.tolist() for part in expand_ranges(np.array([5, 0]), np.array([2, 3]))]
    [[0, 0, 1, 1, 1], [5, 6, 0, 1, 2]]
    """
    item = np.repeat(np.arange(len(first)), count)
    before = np.repeat(np.cumsum(count) - count, count)  # pieces of the items before this one
    return item, first[item] + np.arange(len(item)) - before
