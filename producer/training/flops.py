"""Floating-point operations of a step, and the share of the device's peak that they make.

A product and its sum are two operations. What is computed again to save memory is counted apart:
model FLOPs utilization (MFU) counts only what the model needs (Chowdhery et al. 2022, PaLM,
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
"""Dense bfloat16 FLOP/s by part of a device's name, the longer names first.

Source: NVIDIA's data sheets of each product; where they give the rate with sparsity, half of it.
"""


@dataclass(frozen=True)
class SampleFlops:
    """Operations for one place, by modality."""

    forward: Mapping[str, int]
    backward: Mapping[str, int]

    def step(self, step: int, settings: TrainingSettings, dimension: int) -> tuple[float, float]:
        """Operations of a step, all processes together: those needed, and those done again.

        The loss is one product per unordered pair forward and two backward.
        """
        batch = settings.batch
        learning = {name for name in self.forward if learns(name, step, settings)}
        forward = sum(self.forward.values())
        backward = sum(self.backward[name] for name in learning)
        pairs = len(settings.contrast.selected(tuple(self.forward)))
        loss = 3 * pairs * 2 * batch**2 * dimension
        once = sum(self.forward[name] for name in learning)
        repeats = (settings.chunk is not None) + settings.activation_checkpointing
        return float(batch * (forward + backward) + loss), float(batch * repeats * once)


def place_flops(model: UniGeoCLIP, places: Samples) -> SampleFlops:
    """Count the operations of each tower on the first place, forward and backward.

    To be called before the blocks are compiled. Attention's backward is counted as fused kernels do
    it, with its scores computed again.
    """
    forward: dict[str, int] = {}
    backward: dict[str, int] = {}
    for name in model.modalities:
        counter = FlopCounterMode(display=False)
        with counter:
            vectors = model.encode(name, places.inputs[name][:1])
            forward[name] = counter.get_total_flops()
            if vectors.requires_grad:
                vectors.sum().backward()
        backward[name] = counter.get_total_flops() - forward[name]
    model.zero_grad(set_to_none=True)
    return SampleFlops(forward, backward)


def peak_flops(device: torch.device, settings: TrainingSettings) -> float | None:
    """Operations per second that the device can do at best; None where that is not known.

    Of a GPU by NVIDIA's data sheets, in bfloat16; of a CPU as a large product shows.
    """
    bfloat16 = in_bfloat16(device, settings)
    if device.type == "cpu":
        return _measured(torch.bfloat16 if bfloat16 else torch.float32, torch.get_num_threads())
    if device.type != "cuda" or not bfloat16:
        return None
    return data_sheet_peak(torch.cuda.get_device_name(device))


def data_sheet_peak(name: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device by its name, None where it is not in the table."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


@cache
def _measured(dtype: torch.dtype, threads: int) -> float:
    """Time a square product on the CPU, the best of five."""
    side = 1024
    first, second = torch.ones(2, side, side, dtype=dtype)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        first @ second
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)
