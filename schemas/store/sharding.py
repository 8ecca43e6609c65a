"""The index of a shard: where each inner chunk lies in the stored object.

A shard is its chunks one after another, in any order, and then the index: for each chunk, row by
row, its offset and its length in bytes as little-endian uint64 (both 2^64 - 1 for a chunk of no
data, which is not stored), and a CRC-32C of these numbers. Bands are not cut, so the index is a
table of chunk rows and chunk columns.

Source: Zarr v3, codec `sharding_indexed` version 1.0, with `index_location` "end".
"""

import numpy as np
from jaxtyping import Int64

from unigeo.schemas.errors import LayoutError

EMPTY = -1
"""Offset and length, as read, of a chunk that is not stored."""
CRC_BYTES = 4
"""A CRC-32C, little-endian, after what it covers."""

_ENTRY_BYTES = 16
_NOT_STORED = np.uint64(2**64 - 1)


def index_bytes(chunks_shape: tuple[int, int]) -> int:
    """Length of a shard's index with its CRC: what to ask for at the end of the object.

    >>> index_bytes((16, 16))
    4100
    """
    return chunks_shape[0] * chunks_shape[1] * _ENTRY_BYTES + CRC_BYTES


def parse_index(
    tail: bytes, chunks_shape: tuple[int, int], shard_bytes: int | None = None
) -> Int64[np.ndarray, "chunk_row chunk_col 2"]:
    """Read the index from the last bytes of a shard.

    Args:
        tail: the end of the stored object, `index_bytes(chunks_shape)` bytes or more of it.
        chunks_shape: rows and columns of chunks in a shard.
        shard_bytes: size of the whole object, where it is known: chunks must lie inside it.

    Returns:
        Offset and length of each chunk, in bytes from the start of the object; -1 and -1 for a
        chunk of no data, which is not stored.

    Raises:
        LayoutError: if the bytes are too few, do not match their CRC, or name chunks that lie
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
    stored = (entries != _NOT_STORED).any(axis=-1)
    # Two numbers below 2^63 cannot overflow when added as uint64.
    end = np.where((entries < 2**63).all(axis=-1), entries.sum(axis=-1), _NOT_STORED)
    limit = 2**63 - 1 if shard_bytes is None else shard_bytes - size
    outside = stored & (end > max(limit, 0))
    if outside.any():
        row, col = np.argwhere(outside)[0].tolist()
        raise LayoutError(
            f"the shard's index puts {outside.sum()} chunks outside the object, the first in chunk "
            f"row {row}, column {col}: {entries[row, col, 1]} bytes at {entries[row, col, 0]}, "
            f"where chunks end at {limit}. The object is damaged: copy it anew."
        )
    return np.where(stored[..., None], entries, 0).astype(np.int64) + np.where(
        stored[..., None], 0, EMPTY
    )


def crc_matches(stored: bytes) -> bool:
    """Whether the last four bytes of a stored chunk or index are the CRC-32C of the rest."""
    import google_crc32c  # not where a model is trained, which knows layouts all the same

    if len(stored) < CRC_BYTES:
        return False
    own = int.from_bytes(stored[-CRC_BYTES:], "little")
    return bool(google_crc32c.value(stored[:-CRC_BYTES]) == own)
