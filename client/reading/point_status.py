"""Why a point has or lacks a vector: the statuses of cells, and one of a point's own."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int, UInt8

from unigeo.schemas.store.status import Status

NO_POSITION = 255
"""Code of a point without a position. No cell has it, so a store's `flag_values` lack it."""

WORDS = {int(code): code.words for code in Status} | {NO_POSITION: "no position"}
"""What each code means, as tables and messages print it."""


def positions_in_words(codes: UInt8[np.ndarray, " point"]) -> Int[np.ndarray, " point"]:
    """Find each code's position among `WORDS`, as `pandas.Categorical.from_codes` takes it.

    >>> positions_in_words(np.array([1, 255], np.uint8)).tolist()
    [1, 6]
    """
    table = np.full(256, -1, np.int64)
    table[list(WORDS)] = np.arange(len(WORDS))
    positions: np.ndarray = table[codes]
    return positions


def count_reasons(codes: UInt8[np.ndarray, " point"], words: Mapping[int, str] = WORDS) -> str:
    """Count the points without a vector by reason.

    Args:
        codes: why each point has or lacks one.
        words: what each code means.

    >>> count_reasons(np.array([1, 2, 2, 255], np.uint8))
    '2 outside region, 1 no position'
    """
    counts = np.bincount(codes, minlength=256)
    return ", ".join(
        f"{counts[code]:,} {reason}"
        for code, reason in words.items()
        if code != Status.VALID and counts[code]
    )
