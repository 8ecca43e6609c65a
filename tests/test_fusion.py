"""A fused vector is the mean of those of a location."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unigeo.producer.encoders.fusion import fuse


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([3, 64, 130]))
def test_a_fused_vector_is_the_mean_of_those_present(seed: int, dimension: int) -> None:
    """Against numpy in float64; a missing vector's numbers, whatever they are, play no part."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((20, 3, dimension))
    unit = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    vectors = torch.from_numpy(unit.astype(np.float32))
    present = torch.from_numpy(rng.random((20, 3)) < 0.6)
    vectors[~present] = torch.nan
    fused = fuse(vectors, present).numpy()
    for row in range(20):
        chosen = unit[row][present[row].numpy()]
        if not len(chosen):
            assert not fused[row].any()
            continue
        mean = chosen.mean(axis=0)
        assert np.allclose(fused[row], mean / np.linalg.norm(mean), atol=1e-5)
