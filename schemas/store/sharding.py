"""The index of a shard: offset and length of each inner chunk in the stored object.

A shard consists of its chunks, in any order, and then the index: for each chunk, row by row, its
offset and length in bytes as little-endian uint64 (both 2^64 - 1 for a chunk without data, which is
not stored), and a CRC-32C of these numbers. Chunks hold all bands, so the index is a table of chunk
rows and chunk columns.

Source: Zarr v3, codec `sharding_indexed` version 1.0, with `index_location` "end".
"""

import numpy as np
from jaxtyping import Int64

from unigeo.schemas.errors import LayoutError

EMPTY = -1
"""Offset and length that `parse_index` returns for a chunk that is not stored."""
CRC_BYTES = 4
"""Size of a CRC-32C, little-endian, which follows the bytes that it covers."""

_ENTRY_BYTES = 16
NOT_STORED = np.uint64(2**64 - 1)
"""Offset and length of a missing chunk in the stored index."""


def index_bytes(chunks_shape: tuple[int, int]) -> int:
    """Return the size of a shard's index with its CRC, which end the object.

    >>> index_bytes((16, 16))
    4100
    """
    return chunks_shape[0] * chunks_shape[1] * _ENTRY_BYTES + CRC_BYTES


def parse_index(
    tail: bytes, chunks_shape: tuple[int, int], shard_bytes: int | None = None
) -> Int64[np.ndarray, "chunk_row chunk_col 2"]:
    """Read the index from the last bytes of a shard.

    Args:
        tail: last bytes of the object, at least `index_bytes(chunks_shape)` of them.
        chunks_shape: rows and columns of chunks in a shard.
        shard_bytes: size of the object, if known; chunks must lie inside it.

    Returns:
        Offset and length of each chunk, in bytes from the start of the object; `EMPTY` for both if
        it is not stored.

    Raises:
        LayoutError: if there are too few bytes, they do not match their CRC, or a chunk lies
            outside the object.
    """
    size = index_bytes(chunks_shape)
    if len(tail) < size:
        raise LayoutError(
            f"the shard ends after {len(tail)} bytes; its index alone takes {size}. The object is "
            "cut off: copy it anew."
        )
    index = tail[len(tail) - size :]
    if not crc_matches(index):
        raise LayoutError(
            "the shard's index does not match its CRC-32C. The object is damaged or cut off: copy "
            "it anew."
        )
    entries = np.frombuffer(index[:-CRC_BYTES], "<u8").reshape(*chunks_shape, 2)
    stored = (entries != NOT_STORED).any(axis=-1)
    # Two numbers below 2^63 cannot overflow when added as uint64.
    end = np.where((entries < 2**63).all(axis=-1), entries.sum(axis=-1), NOT_STORED)
    limit = 2**63 - 1 if shard_bytes is None else shard_bytes - size
    outside = stored & (end > max(limit, 0))
    if outside.any():
        row, col = np.argwhere(outside)[0].tolist()
        raise LayoutError(
            f"the shard's index puts {outside.sum()} chunks outside the object, the first in chunk "
            f"row {row}, column {col}: {entries[row, col, 1]} bytes at {entries[row, col, 0]}, "
            f"where chunks end at {limit}. The object is damaged: copy it anew."
        )
    # As int64 only now: 2^64 - 1 would wrap.
    return np.where(stored[..., None], entries, 0).astype(np.int64) + np.where(
        stored[..., None], 0, EMPTY
    )


def crc_matches(stored: bytes) -> bool:
    """Tell whether the last four bytes of a chunk or index are the CRC-32C of the others."""
    import google_crc32c  # here, as training imports layouts and need not have it

    if len(stored) < CRC_BYTES:
        return False
    expected = int.from_bytes(stored[-CRC_BYTES:], "little")
    return bool(google_crc32c.value(stored[:-CRC_BYTES]) == expected)
