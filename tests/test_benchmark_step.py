"""The timing of a step runs where unigeo is not installed, nor what only observations need."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
BARE = """
import runpy, sys
sys.path = [path for path in sys.path if "__editable__" not in path]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.modules |= dict.fromkeys(("pyproj", "rasterio", "zarr", "xarray", "obstore", "click"))
runpy.run_module("benchmarks.producer.step", run_name="__main__")
"""


def measured(out: Path, code: str, *arguments: str) -> tuple[str, dict[str, Any]]:
    """Run a benchmark on the CPU; return what it prints and what it writes."""
    done = subprocess.run(
        [sys.executable, "-c", code, "--device", "cpu", *arguments, "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, json.loads(out.read_text())


def test_a_step_is_timed_on_a_bare_machine(tmp_path: Path) -> None:
    few = ("--batch", "12", "--chunk", "5", "--steps", "3", "--workers", "2")
    output, result = measured(tmp_path / "step.json", BARE, "--preset", "tiny", *few)
    assert result["places_per_second"] > 0 and 0 < result["loss_share"] < 1
    assert result["computed_again_tflop"] > 0 and "MFU" in output


def test_rasterization_on_a_gpu_is_measured_on_a_bare_machine(tmp_path: Path) -> None:
    bare = BARE.replace("benchmarks.producer.step", "benchmarks.producer.gpu")
    missing = '"pyproj", "jaxtyping", "pydantic", "affine", "dask", '
    bare = bare.replace('"pyproj", ', missing)
    output, result = measured(tmp_path / "gpu.json", bare, "--size", "tiny")
    forms = result["coordinate"]["forms"]
    assert {"general float32", "folded product", "folded fused"} == set(forms)
    assert all(form["lowest_cosine"] >= 0.9999 for form in forms.values())
    assert result["aerial"]["cells_per_second"] > 0 and "goal 10" in output
