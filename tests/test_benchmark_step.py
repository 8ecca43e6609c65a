"""The timing of a step runs where unigeo is not installed, nor what only observations need."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BARE = """
import runpy, sys
sys.path = [path for path in sys.path if "__editable__" not in path]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.modules |= dict.fromkeys(("pyproj", "rasterio", "zarr", "xarray", "obstore", "click"))
runpy.run_module("benchmarks.producer.step", run_name="__main__")
"""


def test_a_step_is_timed_on_a_bare_machine(tmp_path):
    out = tmp_path / "step.json"
    command = [sys.executable, "-c", BARE, "--preset", "tiny", "--device", "cpu", "--batch", "12"]
    command += ["--chunk", "5", "--steps", "3", "--workers", "2", "--out", str(out)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())
    assert found["places_per_second"] > 0 and 0 < found["loss_share"] < 1
    assert found["computed_again_tflop"] > 0 and "MFU" in done.stdout


def test_rasterization_on_a_gpu_is_measured_on_a_bare_machine(tmp_path):
    out = tmp_path / "gpu.json"
    bare = BARE.replace("benchmarks.producer.step", "benchmarks.producer.gpu")
    missing = '"pyproj", "jaxtyping", "pydantic", "affine", "dask", '
    command = [sys.executable, "-c", bare.replace('"pyproj", ', missing)]
    command += ["--size", "tiny", "--device", "cpu", "--out", str(out)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(out.read_text())
    forms = found["coordinate"]["forms"]
    assert {"general float32", "folded product", "folded fused"} == set(forms)
    assert all(form["lowest_cosine"] >= 0.9999 for form in forms.values())
    assert found["aerial"]["cells_per_second"] > 0 and "bar on an H200" in done.stdout
