"""Attention over the few tokens of a cell, many cells to a tile, as a Triton kernel.

Matrix units multiply tiles of some 128 rows, and a cell has about ten tokens. A kernel made for
long texts gives each cell a tile of its own and leaves most of it empty; here as many whole cells
as fit share one, and what cells would read of each other is masked out.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

ROWS = 128
"""Largest number of tokens in a tile that matrix units multiply."""
EXACT_ROWS = 32
"""Largest number in float32, whose products have no matrix units: more would overflow registers."""


@triton.jit
@no_type_check  # a hook that checks annotations would wrap it, and Triton lose the globals it names
def _attend_packed(
    query, key, value, out, points,
    query_point, query_token, key_point, key_token, value_point, value_token,
    reads: tl.constexpr, tokens: tl.constexpr, cells: tl.constexpr, channels: tl.constexpr,
    queries: tl.constexpr, keys: tl.constexpr, wide: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    """One head of `cells` cells: softmax(query key') value, cell by cell."""
    head = tl.program_id(1)
    first = tl.program_id(0).to(tl.int64) * cells
    remaining = points - first
    channel = tl.arange(0, wide)
    has_channel = (channel < channels)[None, :]
    channel_offset = (head * channels + channel)[None, :]

    row = tl.arange(0, queries)
    cell, token = row // reads, row % reads
    has_query = ((cell < cells) & (cell < remaining))[:, None] & has_channel
    offset = ((first + cell) * query_point + token * query_token)[:, None] + channel_offset
    query_rows = tl.load(query + offset, mask=has_query, other=0.0)

    col = tl.arange(0, keys)
    key_cell, key_index = col // tokens, col % tokens
    has_key = ((key_cell < cells) & (key_cell < remaining))[:, None] & has_channel
    offset = ((first + key_cell) * key_point + key_index * key_token)[:, None] + channel_offset
    key_rows = tl.load(key + offset, mask=has_key, other=0.0)
    offset = ((first + key_cell) * value_point + key_index * value_token)[:, None] + channel_offset
    value_rows = tl.load(value + offset, mask=has_key, other=0.0)

    # Products of all cells in the tile with each other; only those of a cell with itself count.
    scores = tl.dot(query_rows, tl.trans(key_rows), input_precision="ieee")
    scores = tl.where(cell[:, None] == key_cell[None, :], scores, -1e9)
    weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    weights = weights / tl.sum(weights, axis=1)[:, None]
    joined = tl.dot(weights.to(value_rows.dtype), value_rows, input_precision="ieee")
    offset = ((first + cell) * reads + token)[:, None] * width + channel_offset
    tl.store(out + offset, joined.to(out.dtype.element_ty), mask=has_query)


def packed(
    query: Float[Tensor, "point read width"],
    key: Float[Tensor, "point token width"],
    value: Float[Tensor, "point token width"],
    heads: int,
) -> Float[Tensor, "point read width"]:
    """Attend, in the form of `folded.Attention`: on CUDA, or anywhere with TRITON_INTERPRET=1.

    Queries come times their scale. The last axes must be contiguous, as slices of one product are.
    """
    points, read, width = query.shape
    out = torch.empty((points, read, width), dtype=query.dtype, device=query.device)
    sizes: dict[str, Any] = tile_sizes(read, key.shape[1], width, heads, query.dtype)
    _attend_packed[-(-points // sizes["cells"]), heads](
        query, key, value, out, points,
        *query.stride()[:2], *key.stride()[:2], *value.stride()[:2], **sizes,
    )  # fmt: skip
    return out


def tile_sizes(
    reads: int, tokens: int, width: int, heads: int, dtype: torch.dtype
) -> dict[str, int]:
    """Return the constants that the kernel is compiled for: as many cells to a tile as fit."""
    rows = EXACT_ROWS if dtype == torch.float32 else ROWS
    cells, channels = max(rows // max(tokens, reads), 1), width // heads
    return {
        "reads": reads,
        "tokens": tokens,
        "cells": cells,
        "channels": channels,
        "queries": _tile_size(cells * reads),
        "keys": _tile_size(cells * tokens),
        "wide": _tile_size(channels),
        "width": width,
    }


def _tile_size(size: int) -> int:
    """Round a number of rows or channels up to a power of two, at least the 16 of matrix units."""
    return max(1 << (size - 1).bit_length(), 16)
