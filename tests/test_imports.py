"""The client starts fast, and loads nothing before it is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "numpy", "pandas", "xarray", "zarr", "pyproj", "pydantic", "sklearn", "dask")

CPU = """
import resource
{code}
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime)
"""


def run(code: str) -> str:
    """Run code in a fresh interpreter, without the checks and coverage of the test run."""
    # Coverage's start-up file would be measured too.
    env = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_after(code: str) -> set[str]:
    return set(json.loads(run(f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))")))


@pytest.mark.parametrize(
    "module", ["unigeo.client", "unigeo.client.errors", "unigeo.client.commands.cli"]
)
def test_importing_the_client_loads_no_library(module: str) -> None:
    loaded = modules_after(f"import {module}") - modules_after("")
    assert not loaded & set(HEAVY)


def test_importing_the_client_takes_less_than_importing_numpy() -> None:
    """About a tenth of it, on one machine at one time; `benchmarks.client` has the seconds."""
    client, numpy = (
        min(float(run(CPU.format(code=f"import {module}"))) for _ in range(3))
        for module in ("unigeo.client", "numpy")
    )
    assert client < numpy


def test_the_importtime_report_names_no_heavy_module() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import unigeo.client"]
    bare = [*command[:-1], "pass"]
    lines = [
        {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in report.splitlines()}
        for report in (
            subprocess.run(part, capture_output=True, text=True, check=True).stderr
            for part in (command, bare)
        )
    ]
    assert not (lines[0] - lines[1]) & set(HEAVY)


def test_sampling_never_loads_torch_or_the_producer(gulf: Path) -> None:
    loaded = modules_after(
        f"from unigeo import client; client.sample([(0.0, 0.0)], {str(gulf)!r}, method='bilinear')"
    )
    assert "unigeo.client.reading.sampling" in loaded
    assert not {"torch", "transformers", "timm", "unigeo.producer"} & loaded


@pytest.mark.parametrize(
    "before",
    [
        "import unigeo.client, xarray",
        "import xarray, unigeo.client",
        "import unigeo.client, importlib.util\nimportlib.util.find_spec('xarray')\nimport xarray",
        "import importlib.util, unigeo.client\nfrom xarray import Dataset",
        "import unigeo.client, xarray, importlib\nimportlib.reload(unigeo.client)",
    ],
)
def test_the_accessor_is_there_whichever_is_imported_first(before: str) -> None:
    """Also when a library looked for xarray without loading it."""
    watching = "[f for f in sys.meta_path if 'unigeo' in type(f).__module__]"
    code = f"{before}\nimport sys, xarray\nprint(hasattr(xarray.Dataset, 'unigeo'), {watching})"
    assert run(code).split() == ["True", "[]"]


def test_a_name_that_is_not_there_is_named() -> None:
    code = (
        "from unigeo import client\ntry:\n    client.nothing\nexcept AttributeError as e: print(e)"
    )
    assert "has no attribute 'nothing'" in run(code)


def test_the_package_is_typed_and_its_own_name_only() -> None:
    assert run("import unigeo; print(getattr(unigeo, '__file__', None))").strip() == "None"
