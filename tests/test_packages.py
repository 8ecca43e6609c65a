"""What is in the folders is what is installed."""

import doctest
import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SIDES = ("client", "producer", "schemas")
MOST_PACKAGES = 24
"""Of the light client, itself among them."""
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def folders() -> set[str]:
    """Packages by the folders that hold an __init__.py."""
    found = (path.parent for side in SIDES for path in (ROOT / side).rglob("__init__.py"))
    return {"unigeo." + ".".join(path.relative_to(ROOT).parts) for path in found}


def test_the_listed_packages_are_the_folders() -> None:
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == folders()


def test_the_source_distribution_has_every_folder_that_is_tracked() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    tracked = {line.split("/")[0] for line in listed.stdout.splitlines() if "/" in line}
    rules = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    grafted = {rule.removeprefix("graft ") for rule in rules if rule.startswith("graft ")}
    assert {name for name in tracked if not name.startswith(".")} == grafted | set(SIDES)


def test_every_folder_of_modules_is_a_package() -> None:
    modules = {path.parent for side in SIDES for path in (ROOT / side).rglob("*.py")}
    assert [path for path in modules if not (path / "__init__.py").is_file()] == []


WITH_EXAMPLES = sorted(
    ".".join(("unigeo", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for side in SIDES
    for path in (ROOT / side).rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_in_docstrings_hold(name: str) -> None:
    module = importlib.import_module(name)
    examples = {"np": np, **vars(module)}
    results = doctest.testmod(module, extraglobs=examples)
    assert results.attempted > 0
    assert results.failed == 0


def kept(path: Path) -> bool:
    return "__pycache__" not in path.parts and path.suffix != ".pyc"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the sources, as a clone has them."""
    return copied(tmp_path / "source")


def copied(source: Path) -> Path:
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for side in SIDES:
        shutil.copytree(ROOT / side, source / side, ignore=shutil.ignore_patterns("__pycache__"))
    return source


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that setuptools builds from a copy of the sources."""
    source = copied(tmp_path_factory.mktemp("wheel") / "source")
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    built = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return zipfile.ZipFile(next((source / "dist").glob("*.whl")))


def test_the_wheel_holds_every_module_and_data_file(wheel: zipfile.ZipFile) -> None:
    wanted = {
        "unigeo/" + path.relative_to(ROOT).as_posix()
        for side in SIDES
        for path in (ROOT / side).rglob("*")
        if path.is_file() and kept(path.relative_to(ROOT))
    }
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_the_wheel_adds_one_name_and_two_commands(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"unigeo"}
    assert "unigeo/__init__.py" not in wheel.namelist()  # a namespace
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(entry).decode()
    assert "unigeo = unigeo.client.commands.cli:main" in text
    assert "unigeo-produce = unigeo.producer.commands.cli:main" in text


def test_the_installed_wheel_imports_from_elsewhere(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """As a user has it: no source folder near, data files found."""
    wheel.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        # An editable installation hooks the import of the same name.
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "from unigeo.schemas.geo import regions\n"
        "import unigeo.client\n"
        "print(regions.__file__, len(regions.named_regions()), regions.region('conus').crs)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    where, count, crs = done.stdout.split()
    assert where.startswith(str(tmp_path))
    assert int(count) >= 4
    assert crs == "EPSG:8858"


CONUS = ROOT / "packages/unigeo-conus"


def test_the_data_of_conus_1_stay_small() -> None:
    """No file above 15 MB, together at most 30 MB, so that all of it can be carried."""
    sizes = [path.stat().st_size for path in CONUS.rglob("*") if path.is_file()]
    assert max(sizes) <= 15e6 and sum(sizes) <= 30e6


@pytest.mark.slow
@pytest.mark.parametrize("form", ["*.whl", "*.tar.gz"])
def test_both_distributions_are_built_and_read_a_field_without_an_address(
    form: str, tmp_path: Path, gulf: Path
) -> None:
    """`python -m build` of both; what is built is installed, and the default field is read."""
    source, data = copied(tmp_path / "source"), tmp_path / "data"
    shutil.copytree(CONUS, data)
    held = data / "unigeo_conus/fields/conus-1/field.zarr"
    if not held.exists():  # a stand-in, where the released field is not there
        shutil.copytree(gulf, held)
    ours = ("PYTHON", "COV", "VIRTUAL_ENV", "UNIGEO", "XDG")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}

    def told(*command: object) -> str:
        done = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=clean, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    there = tmp_path / "there/bin"
    told(sys.executable, "-m", "venv", tmp_path / "builder")
    told(tmp_path / "builder/bin/pip", "install", "--quiet", "build")
    for folder in (source, data):
        told(tmp_path / "builder/bin/python", "-m", "build", "--outdir", tmp_path / "dist", folder)
    built = sorted((tmp_path / "dist").glob(form))
    assert len(built) == 2
    told(sys.executable, "-m", "venv", tmp_path / "there")
    told(there / "pip", "install", "--quiet", *built)
    assert told(there / "unigeo", "fields").startswith("conus-1 ")
    assert "no problem" in told(there / "unigeo", "verify", "conus-1")
    read = (
        "from unigeo import client; counties = client.example('counties'); "
        "print(client.join(counties).shape[0], client.__version__)"
    )
    assert told(there / "python", "-c", read).split()[0] == "3108"


@pytest.mark.slow
def test_the_light_client_installs_alone_and_reads_a_field(
    source: Path, tmp_path: Path, gulf: Path
) -> None:
    """`pip install .` into a new environment: few packages, no torch, and the command works."""
    ours = ("PYTHON", "COV", "VIRTUAL_ENV")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}

    def told(*command: object) -> str:
        done = subprocess.run(
            [*map(str, command)], cwd=tmp_path, env=clean, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    there = tmp_path / "light/bin"
    told(sys.executable, "-m", "venv", tmp_path / "light")
    told(there / "pip", "install", "--quiet", source)
    listed = json.loads(told(there / "pip", "list", "--format", "json"))
    packages = {one["name"] for one in listed} - {"pip"}
    assert "unigeo" in packages and "torch" not in packages
    assert len(packages) <= MOST_PACKAGES, sorted(packages)
    assert told(there / "unigeo", "info", gulf).startswith("gulf ")
    read = (
        "import sys; from unigeo import client; "
        "print(client.sample([(0.5, 0.5)], sys.argv[1]).shape, 'torch' in sys.modules)"
    )
    assert told(there / "python", "-W", "error", "-c", read, gulf).strip() == "(1, 18) False"
