"""Means of neighbouring cells, the content of the overviews."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Int8, UInt8

from unigeo.schemas.store.quantization import FILL, dequantize, quantize
from unigeo.schemas.store.status import Status

_ROWS = 16
"""Number of rows of cells processed at once, which bounds the float32 copies in memory."""


def overviews_of(
    stored: Int8[np.ndarray, "row col band"],
    status: UInt8[np.ndarray, "row col"],
    factors: tuple[int, ...],
) -> Iterator[tuple[int, Int8[np.ndarray, "row2 col2 band"], UInt8[np.ndarray, "row2 col2"]]]:
    """Aggregate one shard by each factor to directions of mean unit vectors, with their status.

    Args:
        stored: the shard's quantized vectors.
        status: status code of each cell.
        factors: 2, 4, 8, ...; each divides the shard's sides.

    Yields:
        Factor, quantized vectors, status. A coarse cell is valid if any cell that it covers is
        valid; otherwise it has the most frequent of their codes.
    """
    # Sums, not means: quantization keeps only the direction, so the count divides out. Each factor
    # continues from the sums of the one before, hence every vector is dequantized once.
    sums, reached = _sums_of_stored(stored, status), 2
    for factor in factors:
        while reached < factor:
            sums, reached = _sums(sums), reached * 2
        codes = coarse_status(status, factor)
        # Vectors that cancel each other out have no mean direction.
        codes[(codes == Status.VALID) & ~sums.any(axis=-1)] = Status.FAILED
        vectors = np.full(sums.shape, FILL, np.int8)
        for first in range(0, len(sums), _ROWS):
            rows = slice(first, first + _ROWS)
            valid = codes[rows] == Status.VALID
            vectors[rows][valid] = quantize(sums[rows][valid])
        yield factor, vectors, codes


def coarse_status(
    status: UInt8[np.ndarray, "row col"], factor: int
) -> UInt8[np.ndarray, "row2 col2"]:
    """Aggregate status codes: valid if any covered cell is, else the most frequent code.

    Of two equally frequent codes the smaller is taken.
    """
    rows, cols = status.shape[0] // factor, status.shape[1] // factor
    blocks = status.reshape(rows, factor, cols, factor)
    counts = np.stack([(blocks == code).sum(axis=(1, 3)) for code in Status])
    # argmax takes the first of equal counts, and Status lists its codes in rising order.
    codes = np.array([int(code) for code in Status], np.uint8)[counts.argmax(axis=0)]
    return np.asarray(np.where(counts[Status.VALID] > 0, np.uint8(Status.VALID), codes))


def _sums_of_stored(
    stored: Int8[np.ndarray, "row col band"], status: UInt8[np.ndarray, "row col"]
) -> Float32[np.ndarray, "row2 col2 band"]:
    """Sum the unit vectors of every two by two cells, a few rows at a time."""
    rows, cols, bands = stored.shape
    sums = np.zeros((rows // 2, cols // 2, bands), np.float32)
    for first in range(0, rows, _ROWS):
        part = slice(first, first + _ROWS)
        if (status[part] == Status.VALID).any():
            units = dequantize(stored[part])
            # A cell without a vector dequantizes to NaN, which would spread into the sum.
            units[status[part] != Status.VALID] = 0
            sums[first // 2 : (first + _ROWS) // 2] = _sums(units)
    return sums


def _sums(vectors: Float32[np.ndarray, "row col band"]) -> Float32[np.ndarray, "row2 col2 band"]:
    """Sum every two by two vectors."""
    # The parentheses fix the order of the additions, so that stored bytes repeat exactly.
    upper, lower = vectors[0::2], vectors[1::2]
    total: np.ndarray = (upper[:, 0::2] + upper[:, 1::2]) + (lower[:, 0::2] + lower[:, 1::2])
    return total
