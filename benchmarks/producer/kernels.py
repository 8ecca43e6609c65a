"""Compile the Triton kernels for a GPU that need not be there, and say what they take of it.

    python -m benchmarks.producer.kernels                     # for an H100 or H200
    python -m benchmarks.producer.kernels --capability 80     # for an A100

Prints JSON: by use of a kernel its registers, shared memory, spills and tensor-core instructions.
Triton brings what compiles and reads machine code, so that this needs neither CUDA nor a driver.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # read when Triton is imported

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.producer import packed_attention, uninstalled  # noqa: F401 - before unigeo
from unigeo.producer.encoders import presets
from unigeo.producer.encoders.tower_settings import CoordinateSettings
from unigeo.producer.observations.forms import default_forms

POINTERS = {torch.bfloat16: "*bf16", torch.float32: "*fp32"}
NAMES = ("query", "key", "value", "out")


@dataclass(frozen=True)
class Compiled:
    """Resources of a multiprocessor that one block of threads takes."""

    threads: int
    registers: int
    """Number of registers of a thread."""
    shared_bytes: int
    stack_bytes: int
    spills: int
    """Instructions that store registers to memory and load them back, for want of registers."""
    products: tuple[str, ...]
    """Kinds of tensor-core instructions: HGMMA is Hopper's own."""


def uses() -> Iterator[tuple[str, dict[str, int], torch.dtype]]:
    """Every shape in which rasterization calls the kernel: preset, block, and precision."""
    for name, model in (
        ("base", presets.base(pretrained=None)),
        ("small", presets.small(default_forms({}))),
        ("tiny", presets.tiny(default_forms({}))),
    ):
        settings = model.coordinate
        assert isinstance(settings, CoordinateSettings)
        scales = len(settings.sigmas)
        tokens = scales + settings.registers
        read = settings.registers if settings.readout == "registers" else scales
        for block, reads in {"block": tokens, "last block": read}.items():
            for dtype in POINTERS:
                sizes = packed_attention.tile_sizes(
                    reads, tokens, settings.width, settings.heads, dtype
                )
                yield f"{name}, {block}, {str(dtype).removeprefix('torch.')}", sizes, dtype


def compile_packed(sizes: dict[str, int], dtype: torch.dtype, capability: int) -> Compiled:
    """Compile attention for a GPU of a compute capability, such as 90."""
    kernel: Any = packed_attention._attend_packed
    signature = {
        name: POINTERS[dtype] if name in NAMES else "constexpr" if name in sizes else "i32"
        for name in kernel.arg_names
    }
    # As a launch finds them: tensors begin at whole 16 bytes, rows are whole multiples of 16.
    aligned = [index for index, kind in enumerate(signature.values()) if kind != "constexpr"]
    aligned.remove(kernel.arg_names.index("points"))
    source = ASTSource(kernel, signature, sizes, {(k,): [["tt.divisibility", 16]] for k in aligned})
    made: Any = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(made.asm["cubin"])
        used, code = (_dumped(how, file.name) for how in ("-res-usage", "-sass"))
    return Compiled(
        threads=32 * made.metadata.num_warps,
        registers=_number(r"REG:(\d+)", used),
        shared_bytes=made.metadata.shared,
        stack_bytes=_number(r"STACK:(\d+)", used),
        spills=len(re.findall(r"\b(?:STL|LDL)\b", code)),
        products=tuple(sorted(set(re.findall(r"\b(HGMMA|QGMMA|HMMA)\b", code)))),
    )


def _dumped(how: str, path: str) -> str:
    """What NVIDIA's tool says of machine code; Triton brings it."""
    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return subprocess.run([program, how, path], capture_output=True, text=True, check=True).stdout


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, f"cuobjdump does not say {pattern!r}: {text}"
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--capability", type=int, default=90)
    options = parser.parse_args()
    found = {
        name: asdict(compile_packed(sizes, dtype, options.capability))
        for name, sizes, dtype in uses()
    }
    print(json.dumps({"triton": triton.__version__, "kernels": found}, indent=1))


if __name__ == "__main__":
    main()
