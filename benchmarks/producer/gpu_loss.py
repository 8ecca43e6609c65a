"""Time and memory of the contrastive loss on a device: 32,768 samples in five modalities.

    python -m benchmarks.producer.gpu_loss --out loss.json                        # an H100 or H200
    python -m benchmarks.producer.gpu_loss --device cpu --size tiny

Forward and backward by tiles, in bfloat16 with sums in float32. Memory is the peak beside the
vectors and their gradients; it must grow with the number of samples, not its square.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from benchmarks.producer.profiles import profiled
from benchmarks.producer.report import reporting
from unigeo.producer.training.loss.contrast import contrastive_loss

MODALITIES = ("coordinate", "aerial", "street", "dsm", "text")
SIZES = {"base": ((8192, 16_384, 32_768), 768), "tiny": ((256, 512, 1024), 32)}
"""Numbers of samples, and of dimensions."""
ROUNDS = 5
LINEAR = 1.1
"""Largest ratio of the bytes per sample, of the most samples to the fewest."""


def draw_vectors(samples: int, dimension: int, device: torch.device) -> dict[str, Tensor]:
    """Draw leaf tensors by modality, similar enough that no softmax is flat."""
    torch.manual_seed(0)
    common = torch.randn(samples, dimension, device=device)
    return {
        name: normalize(common + 2 * torch.randn_like(common), dim=1).requires_grad_()
        for name in MODALITIES
    }


def once(vectors: dict[str, Tensor]) -> Tensor:
    """Find the loss, and leave gradients in the vectors."""
    first = next(iter(vectors.values()))
    present = {
        name: torch.ones(len(first), dtype=torch.bool, device=first.device) for name in vectors
    }
    for values in vectors.values():
        values.grad = None
    with torch.autocast(first.device.type, torch.bfloat16):
        loss = contrastive_loss(vectors, present, torch.tensor(1 / 0.07, device=first.device))
    loss.backward()
    return loss.detach()


def seconds(vectors: dict[str, Tensor], device: torch.device) -> float:
    """Median time of a loss with its gradients."""
    elapsed_s = []
    for _ in range(ROUNDS + 1):
        _wait(device)
        start = time.perf_counter()
        once(vectors)
        _wait(device)
        elapsed_s.append(time.perf_counter() - start)
    return statistics.median(elapsed_s[1:])


def bytes_beside(vectors: dict[str, Tensor], device: torch.device) -> int | None:
    """Most memory beside vectors and gradients; None on a CPU, whose memory `loss` measures."""
    if device.type != "cuda":
        return None
    for values in vectors.values():
        values.grad = None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    once(vectors)
    gradients = sum(values.nbytes for values in vectors.values())
    return torch.cuda.max_memory_allocated(device) - before - gradients


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", help="cuda or cpu; CUDA where there is one")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--profile", action="store_true", help="profile whatever the figures are")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    sizes, dimension = SIZES[options.size]
    with reporting(options.out, device, options.size) as report:
        peaks: dict[int, int] = {}
        for count in sizes:
            vectors = draw_vectors(count, dimension, device)
            elapsed_s = seconds(vectors, device)
            flop = 3 * len(MODALITIES) * (len(MODALITIES) - 1) / 2 * 2 * count**2 * dimension
            report.figure(f"loss of {count:,} places", elapsed_s, "s")
            report.figure(f"its products, {count:,} places", flop / elapsed_s / 1e12, "TFLOP/s")
            beside = bytes_beside(vectors, device)
            if beside is not None:
                peaks[count] = beside
                report.figure(f"its memory, {count:,} places", beside / 1e6, "MB")
        short = False
        if peaks:
            ratio = (peaks[sizes[-1]] / sizes[-1]) / (peaks[sizes[0]] / sizes[0])
            short = report.figure("memory per place, most to fewest places", ratio, most=LINEAR)
        if short or options.profile:
            report.add(profile=profiled(lambda: once(vectors), device))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
