"""From vectors on the device to stored numbers in memory, without waiting for the device."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int8

from unigeo.schemas.store.quantization import LEVELS


def quantize_on_device(
    vectors: Float[torch.Tensor, "point band"],
) -> tuple[Int8[torch.Tensor, "point band"], Bool[torch.Tensor, " point"]]:
    """Quantize as `schemas` does, bit for bit, and return whether each vector has a direction."""
    largest = vectors.abs().amax(dim=-1, keepdim=True)
    sound = torch.isfinite(largest) & (largest > 0)
    scaled = torch.round(vectors * (LEVELS / torch.where(sound, largest, 1.0)))
    return scaled.to(torch.int8), sound[:, 0]


def fetch(values: torch.Tensor) -> Callable[[], np.ndarray]:
    """Start a copy to the CPU; the result waits for its end."""
    if values.device.type != "cuda":
        return lambda: values.numpy()
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)  # else the copy blocks
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def wait() -> np.ndarray:
        copied.synchronize()
        return host.numpy()

    return wait
