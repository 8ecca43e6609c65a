"""Time the coordinate encoder on cells: the model's own forward against the folded one.

    python -m benchmarks.producer.encode_cells                         # base, width 768, 12 blocks
    python -m benchmarks.producer.encode_cells --width 128 --depth 3   # of tiny's size
    python -m benchmarks.producer.encode_cells --compile               # blocks compiled too

Ways alternate within one run; figures are medians. Prints cells per second of the clock and of the
processor (where other programs share the machine, the second counts), times the first way, and the
lowest cosine to it.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from unigeo.producer.encoders.folded import FoldedEncoder, cpu_flags, fused, product
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import CoordinateSettings

Way = Callable[[Tensor], Tensor]


def all_ways(model: UniGeoCLIP, compiled: bool) -> dict[str, Way]:
    """Every way to encode cells; the first is the one that the others must equal."""
    encoder: Any = model.encoders["coordinate"]

    def unfolded(lonlat: Tensor) -> Tensor:
        return model.encode("coordinate", lonlat)

    def autocast(lonlat: Tensor) -> Tensor:
        with torch.autocast(lonlat.device.type, torch.bfloat16):
            return unfolded(lonlat)

    ways: dict[str, Way] = {"module float32": unfolded, "module autocast": autocast}
    for precision in (torch.float32, torch.bfloat16):
        name = str(precision).removeprefix("torch.")
        for attention in (product, fused):
            ways[f"folded {name} {attention.__name__}"] = FoldedEncoder(
                encoder, model.rotation, precision, attention=attention
            )
        if compiled:
            ways[f"folded {name} compiled"] = FoldedEncoder(
                encoder, model.rotation, precision, compiled=True
            )
    return ways


def flops(way: Way, lonlat: Tensor) -> float:
    """Operations per cell."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        way(lonlat)
    return counter.get_total_flops() / len(lonlat)


def measure(ways: dict[str, Way], lonlat: Tensor, repeat: int) -> dict[str, dict[str, float]]:
    """Time the ways in turn."""
    clock: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    expected = None
    cosine = {}
    for turn in range(repeat + 1):
        for name, way in ways.items():
            begin = time.perf_counter(), time.process_time()
            with torch.inference_mode():
                vectors = way(lonlat)
            spent = time.perf_counter() - begin[0], time.process_time() - begin[1]
            if turn == 0:  # warms up
                expected = vectors if expected is None else expected
                cosine[name] = torch.cosine_similarity(vectors, expected).min().item()
                continue
            clock[name].append(spent[0])
            processor[name].append(spent[1])
    first = next(iter(ways))
    middle = {name: statistics.median(processor[name]) for name in ways}
    return {
        name: {
            "cells_per_second": round(len(lonlat) / statistics.median(clock[name]), 1),
            "cells_per_processor_second": round(len(lonlat) / middle[name], 1),
            "times_the_first": round(middle[first] / middle[name], 2),
            "lowest_cosine": round(cosine[name], 7),
        }
        for name in ways
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128, help="cells at once")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, help="2 where there are two cores")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = CoordinateSettings(
        width=options.width, depth=options.depth, heads=max(1, options.width // 64)
    )
    model = UniGeoCLIP(
        ModelSettings(dimension=options.width, towers={"coordinate": settings})
    ).eval()
    rng = np.random.default_rng(0)
    lonlat = torch.from_numpy(rng.uniform((-125, 25), (-67, 49), (options.batch, 2)))
    ways = all_ways(model, options.compile)
    about = {
        "width": options.width,
        "depth": options.depth,
        "batch": options.batch,
        "threads": torch.get_num_threads(),
        "bfloat16": sorted(flag for flag in cpu_flags() if "bf16" in flag or "amx" in flag),
        "gflop_per_cell": round(flops(ways["module float32"], lonlat) / 1e9, 4),
        "gflop_per_cell_folded": round(flops(ways["folded float32 product"], lonlat) / 1e9, 4),
    }
    print(json.dumps(about))
    for name, figures in measure(ways, lonlat, options.repeat).items():
        print(json.dumps({"way": name} | figures), flush=True)


if __name__ == "__main__":
    main()
