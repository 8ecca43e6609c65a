"""Floating-point operations of a training step, and the peak rate of the device.

A multiply-add is two operations. Recomputation that saves memory is counted apart: model FLOPs
utilization (MFU) counts only the operations that the model needs (Chowdhery et al. 2022, PaLM,
arXiv 2204.02311, appendix B).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.schedule import learns
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import in_bfloat16

PEAKS = {
    "B200": 2250e12,
    "H200": 989.4e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989.4e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
}
"""Dense bfloat16 FLOP/s by a part of the device's name; the first part that occurs in it counts.

Source: NVIDIA's data sheets of each product; where they give the rate with sparsity, half of it.
"""


@dataclass(frozen=True)
class SampleFlops:
    """Operations of each modality's tower for one sample."""

    forward: Mapping[str, int]
    backward: Mapping[str, int]

    def step(self, step: int, settings: TrainingSettings, dimension: int) -> tuple[float, float]:
        """Return the operations of a step in all processes: needed ones, and recomputed ones."""
        batch = settings.batch
        learning = {name for name in self.forward if learns(name, step, settings)}
        forward = sum(self.forward.values())
        backward = sum(self.backward[name] for name in learning)
        pairs = len(settings.contrast.selected(tuple(self.forward)))
        # Per unordered pair one matrix product forward and two backward, of 2 * n^2 * d each.
        loss = 3 * pairs * 2 * batch**2 * dimension
        learning_forward = sum(self.forward[name] for name in learning)
        # Chunks and activation checkpointing each repeat the forward pass once.
        repeats = (settings.chunk is not None) + settings.activation_checkpointing
        return float(batch * (forward + backward) + loss), float(batch * repeats * learning_forward)


def sample_flops(model: UniGeoCLIP, samples: Samples) -> SampleFlops:
    """Count the operations of each tower on the first sample, forward and backward.

    The blocks must not be compiled yet. The backward pass of attention is counted as in fused
    kernels, which recompute the scores.
    """
    forward: dict[str, int] = {}
    backward: dict[str, int] = {}
    for name in model.modalities:
        counter = FlopCounterMode(display=False)
        with counter:
            vectors = model.encode(name, samples.inputs[name][:1])
            forward[name] = counter.get_total_flops()
            if vectors.requires_grad:  # false for a frozen tower
                vectors.sum().backward()
        backward[name] = counter.get_total_flops() - forward[name]
    model.zero_grad(set_to_none=True)
    return SampleFlops(forward, backward)


def peak_flops(device: torch.device, settings: TrainingSettings) -> float | None:
    """Return the largest FLOP/s of the device in the towers' precision; None if unknown.

    A GPU's peak is that of its data sheet, in bfloat16 only; a CPU's is measured.
    """
    bfloat16 = in_bfloat16(device, settings)
    if device.type == "cpu":
        return _measure_cpu(torch.bfloat16 if bfloat16 else torch.float32, torch.get_num_threads())
    if device.type != "cuda" or not bfloat16:
        return None
    return data_sheet_peak(torch.cuda.get_device_name(device))


def data_sheet_peak(name: str) -> float | None:
    """Look up the dense bfloat16 FLOP/s of a device by its name; None if it is not in `PEAKS`."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


@cache
def _measure_cpu(dtype: torch.dtype, threads: int) -> float:
    """Time a product of square matrices on the CPU, the best of five; `threads` is a cache key."""
    side = 1024
    first, second = torch.ones(2, side, side, dtype=dtype)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        first @ second
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)
