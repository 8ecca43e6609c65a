"""Triton kernels fit an H100's multiprocessor; they are compiled for it here, without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="torch brings it on Linux with CUDA's libraries")

ROOT = Path(__file__).parents[1]
HOOKED = """
import runpy, support.typecheck
from jaxtyping import install_import_hook
install_import_hook("unigeo", "support.typecheck.check")
runpy.run_module("benchmarks.producer.kernels", run_name="__main__")
"""
"""As tests import it on a machine with a GPU: each function checks its annotations."""
REGISTERS_OF_A_THREAD, REGISTERS = 255, 65_536
SHARED_BYTES = 227 * 1024
"""Of one block of threads, at most. Source: NVIDIA, Hopper tuning guide."""


@pytest.mark.slow
def test_every_kernel_fits_an_h100_without_spills(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        ),
        "TRITON_CACHE_DIR": str(tmp_path),
    }
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", HOOKED],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)["kernels"]
    assert {name.split(",")[0] for name in found} == {"base", "small", "tiny"}
    for name, kernel in found.items():
        assert 0 < kernel["registers"] <= REGISTERS_OF_A_THREAD, name
        assert kernel["registers"] * kernel["threads"] <= REGISTERS, name
        assert 0 < kernel["shared_bytes"] <= SHARED_BYTES, name
        assert kernel["stack_bytes"] == kernel["spills"] == 0, name
        assert kernel["products"] == (["HGMMA"] if name.endswith("bfloat16") else []), name
