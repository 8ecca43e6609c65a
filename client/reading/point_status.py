"""Status codes of points: those of cells, and one for a point without a position."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int, UInt8

from unigeo.schemas.store.status import Status

NO_POSITION = 255
"""Code of a point without a position. No cell has it, so a store's `flag_values` lack it."""

STATUS_TEXTS = {int(code): code.label for code in Status} | {NO_POSITION: "no position"}
"""Text of each code, as tables and messages print it."""


def text_positions(codes: UInt8[np.ndarray, " point"]) -> Int[np.ndarray, " point"]:
    """Return each code's position in `STATUS_TEXTS`, as `pandas.Categorical.from_codes` takes it.

    >>> text_positions(np.array([1, 255], np.uint8)).tolist()
    [1, 6]
    """
    table = np.full(256, -1, np.int64)
    table[list(STATUS_TEXTS)] = np.arange(len(STATUS_TEXTS))
    positions: np.ndarray = table[codes]
    return positions


def count_reasons(
    codes: UInt8[np.ndarray, " point"], texts: Mapping[int, str] = STATUS_TEXTS
) -> str:
    """Count the points without a vector by reason.

    Args:
        codes: the status of each point.
        texts: the text of each code.

    >>> count_reasons(np.array([1, 2, 2, 255], np.uint8))
    '2 outside region, 1 no position'
    """
    counts = np.bincount(codes, minlength=256)
    return ", ".join(
        f"{counts[code]:,} {reason}"
        for code, reason in texts.items()
        if code != Status.VALID and counts[code]
    )
