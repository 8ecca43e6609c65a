"""Measure rasterization on a GPU against what its multipliers can do, in one call.

    python -m benchmarks.producer.gpu --out gpu.json      # one H100 or H200: a few minutes
    python -m benchmarks.producer.gpu --size tiny         # anywhere, to see that it runs

It needs torch, timm, transformers, safetensors and numpy; unigeo need not be installed. Rates are
medians over repeats within this call, the first of each left out:

* the bfloat16 rate of matrix products, large and square;
* the coordinate raster of the `base` encoder, from degrees in memory to int8 vectors in memory, as
  operations that the vectors need over that rate; every form of attention; and against the public
  encoder's design, float32 with torch's general transformer layers, at equal results;
* the aerial raster of SigLIP-2 B/16 at 224 pixels, weights drawn at random, from blocks of a mosaic
  on the device to int8 vectors in memory; its towers alone, also with channels last.
"""

import argparse
import json
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from benchmarks.producer.mosaics import Cutter, image_model
from benchmarks.producer.profiles import profiled
from benchmarks.producer.report import Report, reporting
from unigeo.producer.encoders import presets
from unigeo.producer.encoders.coordinates import CoordinateEncoder
from unigeo.producer.encoders.folded import FoldedEncoder, fused, product
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import CoordinateSettings
from unigeo.producer.raster.device_transfer import fetch, quantize_on_device
from unigeo.producer.training.step import compile_blocks

LEAST_COSINE = 0.9999
GOALS = {
    "coordinate_share": (0.6, "share of the rate of products"),
    "times_general": (10.0, "times the rate of the general float32 encoder"),
    "aerial_share": (0.5, "share of the rate of products"),
}
"""Least value, on an H100 or H200, and what is measured."""
SIZES: dict[str, dict[str, int]] = {
    "base": {"matrix": 8192, "cells": 2048, "images": 1024, "side": 224, "repeat": 20},
    "tiny": {"matrix": 128, "cells": 32, "images": 8, "side": 32, "repeat": 3},
}


class GeneralEncoder(nn.Module):
    """The public encoder's design: torch's own layers in float32, every token in each."""

    def __init__(self, encoder: CoordinateEncoder, rotation: Tensor) -> None:
        super().__init__()
        settings = encoder.settings
        self.encoder, self.rotation = encoder, rotation
        layers = []
        for block in encoder.blocks:
            layer = nn.TransformerEncoderLayer(
                settings.width,
                settings.heads,
                settings.hidden,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            source: Any = block
            for theirs, ours in (
                (layer.self_attn.out_proj, source.attention_out),
                (layer.linear1, source.mlp[0]),
                (layer.linear2, source.mlp[2]),
                (layer.norm1, source.attention_norm),
                (layer.norm2, source.mlp_norm),
            ):
                theirs.load_state_dict(ours.state_dict())
            with torch.no_grad():
                layer.self_attn.in_proj_weight.copy_(source.query_key_value.weight)
                layer.self_attn.in_proj_bias.copy_(source.query_key_value.bias)
            layers.append(layer)
        self.layers = nn.ModuleList(layers)

    def forward(self, lonlat: Tensor) -> Tensor:
        """Encode points as unit vectors."""
        encoder = self.encoder
        tokens = encoder.tokens(lonlat)
        scales = tokens.shape[1]
        if encoder.scale_embedding is not None:
            tokens = tokens + encoder.scale_embedding
        tokens = torch.cat([tokens, encoder.registers.expand(len(tokens), -1, -1)], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        read = encoder.projection(encoder.norm(tokens[:, :scales].mean(dim=1)))
        return nn.functional.normalize(read @ self.rotation, dim=-1)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(work: Callable[[], Any], device: torch.device, count: float, repeat: int) -> float:
    """How many per second: `count` are done by one call of `work`."""
    work()
    wait(device)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(repeat):
            work()
        wait(device)
        seconds.append((time.perf_counter() - start) / repeat)
    return count / statistics.median(seconds)


def matrix_rate(device: torch.device, side: int, repeat: int) -> float:
    """Operations per second of square products in bfloat16."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return rate(lambda: left @ right, device, 2.0 * side**3, repeat)


def to_memory(encode: Callable[[], Tensor]) -> Callable[[], None]:
    """As the pipeline does it: quantize, begin to copy, and take what came before."""
    waiting: deque[Any] = deque()

    def work() -> None:
        codes, sound = quantize_on_device(encode())
        waiting.append((fetch(codes), fetch(sound)))
        if len(waiting) > 1:
            for result in waiting.popleft():
                result()

    return work


def flops(work: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        work()
    return int(counter.get_total_flops())


def coordinate(
    device: torch.device, size: str, peak: float, compiled: bool
) -> tuple[dict[str, Any], Callable[[], None]]:
    """The coordinate raster in every form; also the work of production's."""
    cells, repeat = SIZES[size]["cells"], SIZES[size]["repeat"]
    settings = presets.base(pretrained=None).coordinate
    if size == "tiny":
        settings = CoordinateSettings(width=64, depth=2, heads=2)
    assert settings is not None
    model = UniGeoCLIP(ModelSettings(dimension=settings.width, towers={"coordinate": settings}))
    model = model.to(device).eval()
    encoder: Any = model.encoders["coordinate"]
    rng = np.random.default_rng(0)
    on_cpu = torch.from_numpy(rng.uniform((-125, 25), (-67, 49), (cells, 2)))
    on_cpu = on_cpu.pin_memory() if device.type == "cuda" else on_cpu
    lonlat = on_cpu.to(device)
    general = GeneralEncoder(encoder, model.rotation).to(device).eval()
    half = torch.bfloat16
    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "general float32": general,
        "folded product": FoldedEncoder(encoder, model.rotation, half),
        "folded fused": FoldedEncoder(encoder, model.rotation, half, attention=fused),
    }
    attentions = [product, fused]
    if device.type == "cuda":
        from benchmarks.producer.packed_attention import packed

        attentions.append(packed)
        forms["folded packed"] = FoldedEncoder(encoder, model.rotation, half, attention=packed)
    if compiled:
        for attention in attentions:
            forms[f"folded {attention.__name__} compiled"] = FoldedEncoder(
                encoder, model.rotation, half, attention=attention, compiled=True
            )
    plain = FoldedEncoder(encoder, model.rotation)
    needed = flops(lambda: plain(lonlat)) / cells
    result: dict[str, Any] = {"flop_per_cell": needed, "forms": {}}
    with torch.inference_mode():
        true = model.encode("coordinate", lonlat)
        for name, form in forms.items():
            try:
                lowest = (form(lonlat) * true).sum(dim=1).min().item()
            except Exception as error:  # of a compiler; the other forms are timed all the same
                result["forms"][name] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
                continue
            assert lowest >= LEAST_COSINE, f"{name} differs: cosine {lowest}"

            def encode(form: Callable[[Tensor], Tensor] = form) -> Tensor:
                return form(on_cpu.to(device, non_blocking=True))

            times = max(2, repeat // 10) if name.startswith("general") else repeat
            per_second = rate(to_memory(encode), device, cells, times)
            result["forms"][name] = {
                "cells_per_second": per_second,
                "share_of_matrix_rate": per_second * needed / peak,
                "lowest_cosine": lowest,
            }
    rates = {
        name: form["cells_per_second"]
        for name, form in result["forms"].items()
        if "failed" not in form
    }
    best = max((name for name in rates if name.startswith("folded")), key=lambda name: rates[name])
    production = "folded product compiled" if compiled else "folded product"
    result |= {
        "production": production,
        "fastest": best,
        "cells_per_second": rates[production],
        "coordinate_share": result["forms"][production]["share_of_matrix_rate"],
        "times_general": rates[production] / rates["general float32"],
    }
    produce = forms[production]
    return result, to_memory(lambda: produce(on_cpu.to(device, non_blocking=True)))


def aerial(
    device: torch.device, size: str, peak: float, compiled: bool
) -> tuple[dict[str, Any], Callable[[], None]]:
    """The aerial raster, and cutting alone; also its work."""
    count, side, repeat = (SIZES[size][key] for key in ("images", "side", "repeat"))
    model = image_model(size, side).to(device).eval()
    image = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device)
    needed = flops(lambda: model.encode("aerial", image))
    if compiled:
        compile_blocks(model)
    cutter = Cutter.of(count, side, device)

    def cut() -> Tensor:
        return cutter.cut()[0]

    def encode(pixels: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return model.encode("aerial", pixels)

    work = to_memory(lambda: encode(cut()))
    with torch.inference_mode():
        pixels = cut()
        assert pixels.float().std() > 10, "patches show the noise"
        rates = {
            "cut_per_second": rate(cut, device, count, repeat),
            "encode_per_second": rate(lambda: encode(pixels), device, count, max(1, repeat // 4)),
            "cells_per_second": rate(work, device, count, max(1, repeat // 4)),
        }
        last: dict[str, Any] = {"memory_format": torch.channels_last}
        model.to(**last)
        rates["encode_channels_last_per_second"] = rate(
            lambda: encode(pixels.contiguous(**last)), device, count, max(1, repeat // 4)
        )
        model.to(memory_format=torch.contiguous_format)
    share = rates["cells_per_second"] * needed / peak
    return {"flop_per_cell": needed, **rates, "aerial_share": share}, work


def table(details: dict[str, Any]) -> str:
    """The figures in lines."""
    lines = [
        f"device                  {details['device']}, torch {details['torch']}",
        f"bfloat16 products       {details['matrix_tflop_per_second']:.4g} TFLOP/s",
    ]
    for name, form in details["coordinate"]["forms"].items():
        if "failed" in form:
            lines.append(f"{name:24}FAILED: {form['failed'].splitlines()[0]}")
            continue
        lines.append(
            f"{name:24}{form['cells_per_second']:,.0f} cells/s, "
            f"{100 * form['share_of_matrix_rate']:.1f} % of that, "
            f"lowest cosine {form['lowest_cosine']:.6f}"
        )
    aerial = details["aerial"]
    lines += [
        f"aerial, cut alone       {aerial['cut_per_second']:,.0f} patches/s",
        f"aerial, encoded alone   {aerial['encode_per_second']:,.0f} patches/s",
        f"aerial, channels last   {aerial['encode_channels_last_per_second']:,.0f} patches/s",
        f"aerial                  {aerial['cells_per_second']:,.0f} cells/s, "
        f"{100 * aerial['aerial_share']:.1f} % of the rate of products",
    ]
    values = {**details["coordinate"], **aerial}
    judged = details["size"] == "base" and details["device"] != "CPU"
    for name, (goal, _) in GOALS.items():
        kept = ("kept" if values[name] >= goal else "MISSED") if judged else "not judged here"
        lines.append(f"{name:24}{values[name]:.3g} (goal {goal:g}: {kept})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--device", help="cuda or cpu; CUDA where there is one")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--profile", action="store_true", help="profile whatever the figures are")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    compiled = device.type == "cuda" and not options.no_compile
    with reporting(options.out, device, options.size) as report:
        measure(report, device, options.size, compiled, options.profile)
        print(json.dumps(report.details))
        print(table(report.details))


def measure(
    report: Report, device: torch.device, size: str, compiled: bool, always_profile: bool
) -> None:
    """Measure everything; what falls short of its goal is profiled."""
    sizes = SIZES[size]
    peak = matrix_rate(device, sizes["matrix"], sizes["repeat"])
    report.add(matrix_tflop_per_second=peak / 1e12)
    report.figure("bfloat16 products", peak / 1e12, "TFLOP/s")
    for name, measured in (("coordinate", coordinate), ("aerial", aerial)):
        result, work = measured(device, size, peak, compiled)
        report.add(**{name: result})
        per_second = result["cells_per_second"]
        report.figure(f"{name} raster", per_second, "cells/s")
        broken = sum("failed" in form for form in result.get("forms", {}).values())
        report.figure(f"{name} raster: forms that fail", broken, most=0, everywhere=True)
        short = [
            report.figure(f"{name} raster: {GOALS[key][1]}", result[key], least=GOALS[key][0])
            for key in GOALS
            if key in result
        ]
        if any(short) or always_profile:
            with torch.inference_mode():
                report.add(**{f"{name}_profile": profiled(work, device)})
    after = matrix_rate(device, sizes["matrix"], sizes["repeat"])
    report.add(matrix_tflop_per_second_after=after / 1e12)


if __name__ == "__main__":
    main()
