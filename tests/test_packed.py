"""Attention of many cells per tile: the same as of each cell by itself."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.gpu_marks import on_gpu
from test_folded import draw_points, model_of, unfolded

from unigeo.producer.encoders.folded import FoldedEncoder

pytest.importorskip("triton", reason="torch brings it on Linux with CUDA's libraries")
from benchmarks.producer.packed_attention import packed

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
"""Without a GPU Triton's interpreter runs the kernel (see `conftest`)."""
SIZES = st.fixed_dictionaries(
    {
        "points": st.integers(1, 40),
        "tokens": st.integers(1, 13),
        "channels": st.sampled_from([4, 6, 16, 20]),
        "heads": st.integers(1, 3),
        "share": st.floats(0, 1),
    }
)


@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(0, 99))
def test_every_cell_reads_its_own_tokens_only(size: dict[str, Any], seed: int) -> None:
    points, tokens, heads = size["points"], size["tokens"], size["heads"]
    width = heads * size["channels"]
    reads = max(1, round(size["share"] * tokens))
    generator = torch.Generator().manual_seed(seed)
    product = torch.randn(points, tokens, 3 * width, generator=generator).to(DEVICE)
    query, key, value = product.chunk(3, dim=-1)  # rows three times as far apart as they are long
    query = query[:, :reads]
    actual = packed(query, key, value, heads)

    parts = [part.double().unflatten(-1, (heads, -1)) for part in (query, key, value)]
    weights = torch.einsum("prhc,pthc->phrt", *parts[:2]).softmax(dim=-1)
    expected = torch.einsum("phrt,pthc->prhc", weights, parts[2]).flatten(2)
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("readout", ["mean", "concat", "registers"])
def test_the_encoder_is_the_same_function(readout: str) -> None:
    model, lonlat = model_of(readout=readout).to(DEVICE), draw_points(0, 37).to(DEVICE)
    encoder: Any = model.encoders["coordinate"]
    cells = FoldedEncoder(encoder, model.rotation, attention=packed)
    assert (cells(lonlat) - unfolded(model, lonlat)).abs().max() <= 1e-6


@on_gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_too(compiled: bool) -> None:
    model = model_of(width=256, noise=0.02).to("cuda")
    lonlat = draw_points(0, 256).to("cuda")
    encoder: Any = model.encoders["coordinate"]
    half = torch.bfloat16
    cells = FoldedEncoder(encoder, model.rotation, half, attention=packed, compiled=compiled)
    assert (cells(lonlat) * unfolded(model, lonlat)).sum(dim=1).min() >= 0.9999
