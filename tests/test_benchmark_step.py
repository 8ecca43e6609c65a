"""The timing of a step runs where unigeo is not installed, nor what only observations need."""

import json
import os
import subprocess
import sys
from pathlib import Path

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


def measured(out, code, *arguments):
    """Run a benchmark on the CPU; what it prints, and what it writes."""
    done = subprocess.run(
        [sys.executable, "-c", code, "--device", "cpu", *arguments, "--out", str(out)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, json.loads(out.read_text())


def test_a_step_is_timed_on_a_bare_machine(tmp_path):
    few = ("--batch", "12", "--chunk", "5", "--steps", "3", "--workers", "2")
    told, found = measured(tmp_path / "step.json", BARE, "--preset", "tiny", *few)
    assert found["places_per_second"] > 0 and 0 < found["loss_share"] < 1
    assert found["computed_again_tflop"] > 0 and "MFU" in told


def test_rasterization_on_a_gpu_is_measured_on_a_bare_machine(tmp_path):
    bare = BARE.replace("benchmarks.producer.step", "benchmarks.producer.gpu")
    missing = '"pyproj", "jaxtyping", "pydantic", "affine", "dask", '
    bare = bare.replace('"pyproj", ', missing)
    told, found = measured(tmp_path / "gpu.json", bare, "--size", "tiny")
    forms = found["coordinate"]["forms"]
    assert {"general float32", "folded product", "folded fused"} == set(forms)
    assert all(form["lowest_cosine"] >= 0.9999 for form in forms.values())
    assert found["aerial"]["cells_per_second"] > 0 and "goal 10" in told
