"""The coordinate encoder of rasterization is the model's own, folded."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.gpu_marks import on_gpu
from torch.utils.flop_counter import FlopCounterMode

from unigeo.producer.encoders import folded
from unigeo.producer.encoders.coordinates import CoordinateEncoder
from unigeo.producer.encoders.folded import FoldedEncoder, cell_encoder, fold, fused
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import CoordinateSettings


def model_of(seed: int = 0, dimension: int = 16, noise: float = 0.1, **options: Any) -> UniGeoCLIP:
    """A model whose biases and norms differ from their initial values."""
    chosen = {"width": 32, "depth": 2, "heads": 4} | options
    coordinate = CoordinateSettings(**chosen)
    model = UniGeoCLIP(
        ModelSettings(dimension=dimension, towers={"coordinate": coordinate}, seed=seed)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.encoders["coordinate"].parameters():
            parameter += noise * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def draw_points(seed: int, count: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform((-180, -90), (180, 90), (count, 2)))


def unfolded(model: UniGeoCLIP, lonlat: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.encode("coordinate", lonlat)


SCALES: dict[str, Any] = {
    "sigmas": st.lists(st.sampled_from([1.0, 16.0, 256.0, 4096.0]), min_size=1, max_size=4).map(
        tuple
    ),
    "depth": st.integers(0, 3),
    "registers": st.integers(0, 3),
    "features": st.sampled_from(["plane", "sphere"]),
    "scale_embedding": st.booleans(),
    "mlp_ratio": st.sampled_from([1.0, 2.5]),
    "scale_layers": st.integers(0, 2),
    "readout": st.sampled_from(["mean", "concat", "registers"]),
}


@settings(max_examples=30, deadline=None)
@given(st.fixed_dictionaries(SCALES), st.sampled_from([16, 32]), st.integers(0, 99))
def test_folded_it_is_the_same_function(options: Any, dimension: int, seed: int) -> None:
    assume(options["registers"] > 0 or options["readout"] != "registers")
    model, lonlat = model_of(seed, dimension, **options), draw_points(seed, 50)
    assert (fold(model)(lonlat) - unfolded(model, lonlat)).abs().max() <= 1e-6
    encoder = model.encoders["coordinate"]
    assert isinstance(encoder, CoordinateEncoder)
    other = FoldedEncoder(encoder, model.rotation, attention=fused)
    assert (other(lonlat) - unfolded(model, lonlat)).abs().max() <= 1e-6


@settings(max_examples=10, deadline=None)
@given(st.fixed_dictionaries(SCALES), st.integers(0, 99))
def test_in_bfloat16_directions_stay(options: Any, seed: int) -> None:
    assume(options["registers"] > 0 or options["readout"] != "registers")
    model = model_of(seed, 64, 0.02, width=folded.WIDE, **options)
    lonlat = draw_points(seed, 40)
    cosine = (fold(model, torch.bfloat16)(lonlat) * unfolded(model, lonlat)).sum(dim=1)
    assert cosine.min() >= folded.LOWEST_COSINE


@pytest.mark.parametrize("kind", ["geoclip", "satclip", "fourier"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_encoders_of_other_kinds_are_given_as_they_are(kind: Any, precision: torch.dtype) -> None:
    model, lonlat = model_of(kind=kind, degree=7, w0=3.0), draw_points(0, 50)
    assert (fold(model, precision)(lonlat) - unfolded(model, lonlat)).abs().max() <= 1e-6


def test_bfloat16_is_taken_where_the_processor_has_it_and_vectors_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def precision(model: UniGeoCLIP) -> torch.dtype:
        encoder = cell_encoder(model)
        assert isinstance(encoder, FoldedEncoder)
        return encoder.precision

    wide = model_of(width=folded.WIDE, noise=0.02)
    monkeypatch.setattr(folded, "cpu_flags", lambda: {"avx2"})
    assert precision(wide) == torch.float32
    monkeypatch.setattr(folded, "cpu_flags", lambda: {"avx512_bf16"})
    assert precision(wide) == torch.bfloat16
    assert precision(model_of()) == torch.float32  # small
    rough = model_of(width=folded.WIDE, noise=1.0, depth=3)
    lonlat = draw_points(1, 200)
    lowest = (fold(rough, torch.bfloat16)(lonlat) * unfolded(rough, lonlat)).sum(dim=1).min()
    assert lowest < folded.LOWEST_COSINE
    assert precision(rough) == torch.float32


def test_only_what_the_readout_reads_is_computed() -> None:
    width, hidden, scales, registers = 32, 128, 4, 4
    tokens = scales + registers
    attend = 2 * tokens * width  # products of queries with keys, and with values, a query
    for readout, read, narrow in (("mean", 4, 1), ("registers", 4, 1), ("concat", 4, 4)):
        model = model_of(depth=1, readout=readout, registers=registers, dimension=width)
        cells = fold(model)
        with FlopCounterMode(display=False) as counter:
            cells(draw_points(0, 1))
        linear = tokens * 2 * width * width + read * (2 * width * width + width * hidden)
        linear += narrow * hidden * width
        last = (scales if readout == "concat" else 1) * width * width
        phases = scales * 2 * width // 2
        assert counter.get_total_flops() == 2 * (linear + read * attend + last + phases)


@on_gpu
def test_compiled_on_a_gpu_it_is_the_same_function() -> None:
    model = model_of(width=folded.WIDE, noise=0.02).to("cuda")
    lonlat = draw_points(0, 256).to("cuda")
    cells = cell_encoder(model)
    assert isinstance(cells, FoldedEncoder) and cells.precision == torch.bfloat16
    assert (cells(lonlat) * unfolded(model, lonlat)).sum(dim=1).min() >= folded.LOWEST_COSINE
