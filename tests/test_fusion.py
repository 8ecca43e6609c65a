"""A fused vector is the mean of those of a location, turned: its leading numbers say most."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unigeo.producer.encoders.fusion import Fusion, block_edges, fit_rotation


def unit(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    vectors = rng.standard_normal(shape)
    return torch.from_numpy(
        (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    )


def fitted(rng: np.random.Generator, dimension: int) -> tuple[Fusion, torch.Tensor]:
    """A fusion fitted to locations that differ in a few directions most, and their vectors."""
    scales = np.geomspace(1, 1e-3, dimension)
    common = rng.standard_normal((400, dimension)) * scales
    both = [common + 0.1 * rng.standard_normal(common.shape) * scales for _ in range(2)]
    mixed = np.linalg.qr(rng.standard_normal((dimension, dimension))).Q
    parts = [torch.from_numpy((one @ mixed).astype(np.float32)) for one in both]
    parts = [one / one.norm(dim=1, keepdim=True) for one in parts]
    named = dict(zip("ab", parts, strict=True))
    fusion = Fusion(dimension)
    everywhere = torch.ones(400, dtype=torch.bool)
    fusion.rotation.copy_(fit_rotation(named, dict.fromkeys("ab", everywhere), seed=0))
    return fusion, torch.stack(parts, dim=1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([3, 64, 130]))
def test_a_fused_vector_is_the_turned_mean_of_those_present(seed: int, dimension: int) -> None:
    """Against numpy in float64; a missing vector's numbers, whatever they are, play no part."""
    rng = np.random.default_rng(seed)
    fusion = Fusion(dimension)
    turned = np.linalg.qr(rng.standard_normal((dimension, dimension))).Q
    fusion.rotation.copy_(torch.from_numpy(turned.astype(np.float32)))
    vectors, present = unit(rng, 20, 3, dimension), torch.from_numpy(rng.random((20, 3)) < 0.6)
    vectors[~present] = torch.nan
    fused = fusion(vectors, present).numpy()
    for row in range(20):
        chosen = vectors[row][present[row]].double().numpy()
        if not len(chosen):
            assert not fused[row].any()
            continue
        mean = chosen.mean(axis=0) @ turned
        assert np.allclose(fused[row], mean / np.linalg.norm(mean), atol=1e-5)


def test_cosines_to_words_are_those_of_the_shared_space() -> None:
    rng = np.random.default_rng(1)
    fusion, vectors = fitted(rng, 96)
    words = unit(rng, 5, 96)
    everything = torch.ones(400, 2, dtype=torch.bool)
    mean = torch.nn.functional.normalize(vectors.mean(dim=1), dim=1)
    expected = mean @ words.T
    assert torch.allclose(fusion(vectors, everything) @ fusion.turn(words).T, expected, atol=1e-5)


def test_leading_numbers_span_the_directions_that_differ_most() -> None:
    """The first 64 keep as much as any 64 directions can; a rotation loses nothing."""
    rng = np.random.default_rng(2)
    fusion, vectors = fitted(rng, 200)
    identity = fusion.rotation.T @ fusion.rotation
    assert torch.allclose(identity, torch.eye(200), atol=1e-5)
    fused = fusion(vectors, torch.ones(400, 2, dtype=torch.bool)).double().numpy()
    energy = (fused**2).sum(axis=0)
    best = np.linalg.svd(fused, compute_uv=False) ** 2
    for first, last in block_edges(200):
        assert energy[:last].sum() == pytest.approx(best[:last].sum(), rel=1e-4)
        # No axis of a block stands out: its numbers share the block's length.
        assert energy[first:last].max() < 12 * energy[first:last].mean()


def test_the_rotation_is_fitted_to_what_was_observed() -> None:
    rng = np.random.default_rng(3)
    first, second = unit(rng, 50, 16), unit(rng, 50, 16)
    seen = torch.from_numpy(rng.random(50) < 0.5)
    present = {"a": torch.ones(50, dtype=torch.bool), "b": seen}
    one = fit_rotation({"a": first, "b": second}, present, seed=0)
    second = torch.where(seen[:, None], second, 99.0)  # what was not observed means nothing
    again = fit_rotation({"a": first, "b": second}, present, seed=0)
    assert torch.equal(one, again)
