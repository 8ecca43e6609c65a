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
"""Tokens of a tile, at most, where matrix units multiply."""
EXACT_ROWS = 32
"""The same in float32, whose products are made one by one: more would not fit in registers."""


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
    left = points - first
    channel = tl.arange(0, wide)
    has_channel = (channel < channels)[None, :]
    at = (head * channels + channel)[None, :]

    row = tl.arange(0, queries)
    cell, token = row // reads, row % reads
    is_read = ((cell < cells) & (cell < left))[:, None] & has_channel
    place = ((first + cell) * query_point + token * query_token)[:, None] + at
    asked = tl.load(query + place, mask=is_read, other=0.0)

    col = tl.arange(0, keys)
    of_cell, of_token = col // tokens, col % tokens
    is_there = ((of_cell < cells) & (of_cell < left))[:, None] & has_channel
    place = ((first + of_cell) * key_point + of_token * key_token)[:, None] + at
    known = tl.load(key + place, mask=is_there, other=0.0)
    place = ((first + of_cell) * value_point + of_token * value_token)[:, None] + at
    values = tl.load(value + place, mask=is_there, other=0.0)

    scores = tl.dot(asked, tl.trans(known), input_precision="ieee")
    scores = tl.where(cell[:, None] == of_cell[None, :], scores, -1e9)
    weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    weights = weights / tl.sum(weights, axis=1)[:, None]
    joined = tl.dot(weights.to(values.dtype), values, input_precision="ieee")
    place = ((first + cell) * reads + token)[:, None] * width + at
    tl.store(out + place, joined.to(out.dtype.element_ty), mask=is_read)


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
    """Give what the kernel is compiled for: as many whole cells to a tile as fit."""
    rows = EXACT_ROWS if dtype == torch.float32 else ROWS
    cells, channels = max(rows // max(tokens, reads), 1), width // heads
    return {
        "reads": reads,
        "tokens": tokens,
        "cells": cells,
        "channels": channels,
        "queries": _tile(cells * reads),
        "keys": _tile(cells * tokens),
        "wide": _tile(channels),
        "width": width,
    }


def _tile(size: int) -> int:
    """The power of two that holds a number of rows or channels; matrix units want 16."""
    return max(1 << (size - 1).bit_length(), 16)
