"""Time and memory of the contrastive loss by tiles beside the plain form, held to its goals.

    python -m benchmarks.producer.loss                # about 5 minutes on one core, 4 GB of memory
    python -m benchmarks.producer.loss --only time --threads 2
    python -m benchmarks.producer.loss --out loss.json

Both forms multiply in bfloat16 (autocast): five modalities of 4,096 samples and 768 dimensions,
forward and backward. The plain form keeps every matrix of logits, and multiplies by the CPU's
bfloat16 products; `plain float32` is without autocast, for a CPU whose float32 is faster.

Memory is the largest resident set of a process of its own, above what it held before the loss and
above the gradients it returns. Time is the least of rounds in which the forms alternate: CPU time
with one thread, which other work on the machine hardly changes, else wall time. Linux.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unigeo.producer.training.loss.contrast import contrastive_loss
from unigeo.producer.training.loss.contrast_settings import ContrastSettings

MODALITIES = ("coordinate", "aerial", "street", "dsm", "text")
FORMS = ("tiles", "plain", "plain float32")
SIZES = (4096, 8192, 16384, 32768, 65536)
PREFIXES = (64, 128, 256)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Random unit vectors."""

    samples: int = 4096
    dimension: int = 768
    modalities: int = 5
    double: bool = False

    def draw(self) -> dict[str, Tensor]:
        """Leaf tensors by modality, alike enough that no softmax is flat."""
        torch.manual_seed(0)
        dtype = torch.float64 if self.double else torch.float32
        common = torch.randn(self.samples, self.dimension, dtype=dtype)
        return {
            name: normalize(common + 2 * torch.randn_like(common), dim=1).requires_grad_()
            for name in MODALITIES[: self.modalities]
        }


def once(
    embeddings: dict[str, Tensor], form: str, settings: ContrastSettings
) -> tuple[Tensor, Tensor]:
    """Loss, with gradients left in the embeddings, and the gradient of the scale."""
    present = {name: torch.ones(len(v), dtype=torch.bool) for name, v in embeddings.items()}
    scale = torch.tensor(1 / 0.07, requires_grad=True)
    for vectors in embeddings.values():
        vectors.grad = None
    low = nullcontext() if form == "plain float32" else torch.autocast("cpu", torch.bfloat16)
    with low:
        loss = contrastive_loss(
            embeddings,
            present,
            scale,
            settings,
            backend="tiles" if form == "tiles" else "plain",
        )
    loss.backward()
    assert scale.grad is not None
    return loss.detach(), scale.grad


def peak_bytes(inputs: Inputs, form: str, settings: ContrastSettings) -> int:
    """Largest resident set while the loss is computed, above inputs and gradients."""
    once(Inputs(samples=64, modalities=2).draw(), form, settings)  # loads the libraries
    embeddings = inputs.draw()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory that is still held would hide new memory
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    once(embeddings, form, settings)
    gradients = sum(v.grad.nbytes for v in embeddings.values() if v.grad is not None)
    return _resident("VmHWM") - before - gradients


def seconds(
    inputs: Inputs, variants: dict[str, tuple[str, ContrastSettings]], rounds: int
) -> dict[str, float]:
    """Least time of each variant over rounds of all of them."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    embeddings = inputs.draw()
    least = dict.fromkeys(variants, float("inf"))
    for _ in range(rounds):
        for name, (form, settings) in variants.items():
            start = clock()
            once(embeddings, form, settings)
            least[name] = min(least[name], clock() - start)
    return least


def largest_difference(inputs: Inputs) -> float:
    """Between tiles and plain, of the loss and all gradients, relative to the largest of each."""
    results: list[list[Tensor]] = []
    for form in ("tiles", "plain"):
        embeddings = inputs.draw()
        values = once(embeddings, form, ContrastSettings())
        results.append([*values, *(v.grad for v in embeddings.values() if v.grad is not None)])
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*results, strict=True))


def equal(run: Callable[..., Any]) -> dict[str, float]:
    """Equality in float64."""
    return {"largest difference": run(largest_difference, Inputs(samples=2048, double=True))}


def memory(run: Callable[..., Any]) -> dict[str, float]:
    """Peak memory of each form."""
    peaks = {
        f"{form} MB": run(peak_bytes, Inputs(), form, ContrastSettings()) / 1e6
        for form in FORMS[:2]
    }
    return peaks | {"tiles / plain": peaks["tiles MB"] / peaks["plain MB"]}


def timing(run: Callable[..., Any]) -> dict[str, float]:
    """Time of each form, in one process."""
    variants = {form: (form, ContrastSettings()) for form in FORMS}
    least = run(seconds, Inputs(), variants, 2)
    return {f"{form} s": value for form, value in least.items()} | {
        f"tiles / {form}": least["tiles"] / least[form] for form in FORMS[1:]
    }


def growth(run: Callable[..., Any]) -> dict[str, float]:
    """Peak memory by batch: one pair, 64 dimensions, so that 65,536 samples take a minute."""
    peaks = {
        size: run(
            peak_bytes,
            Inputs(samples=size, dimension=64, modalities=2),
            "tiles",
            ContrastSettings(),
        )
        for size in SIZES
    }
    ratio = (peaks[SIZES[-1]] / SIZES[-1]) / (peaks[SIZES[0]] / SIZES[0])
    return {f"{size} places MB": value / 1e6 for size, value in peaks.items()} | {
        "bytes per place, last / first": ratio
    }


def prefixes(run: Callable[..., Any]) -> dict[str, float]:
    """What the nested loss costs beside that of whole vectors."""
    variants = {
        "whole": ("tiles", ContrastSettings()),
        "nested": ("tiles", ContrastSettings(prefixes=PREFIXES)),
    }
    least = run(seconds, Inputs(modalities=2), variants, 3)
    return {f"{name} s": value for name, value in least.items()} | {
        "nested / whole": least["nested"] / least["whole"]
    }


CASES = {
    "equal": equal,
    "memory": memory,
    "time": timing,
    "growth": growth,
    "prefixes": prefixes,
}
GOALS = {
    "largest difference": 1e-12,
    "tiles / plain": {"memory": 1 / 30, "time": 1 / 3},
    "bytes per place, last / first": 1.1,
}


def _resident(field: str) -> int:
    """Bytes of a field of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}; this benchmark needs Linux")


def _goal(case: str, name: str) -> float | None:
    goal = GOALS.get(name)
    return goal[case] if isinstance(goal, dict) else goal


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=CASES, metavar="CASE", default=list(CASES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")

    def run(function: Callable[..., Any], *arguments: Any) -> Any:
        """Call it in a process of its own."""
        with ProcessPoolExecutor(
            1, mp_context=spawn, initializer=torch.set_num_threads, initargs=(options.threads,)
        ) as pool:
            return pool.submit(function, *arguments).result()

    results = {"threads": options.threads, "load": os.getloadavg()[0], "torch": torch.__version__}
    missed = False
    for case in options.only:
        results[case] = CASES[case](run)
        for name, value in results[case].items():
            goal = _goal(case, name)
            kept = "kept" if goal is None or value <= goal else "MISSED"
            verdict = "" if goal is None else f"  goal {goal:.3g}: {kept}"
            missed |= goal is not None and value > goal
            print(f"{case:9}{name:32}{value:10.3g}{verdict}", flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(missed)


if __name__ == "__main__":
    main()
