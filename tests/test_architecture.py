"""`docs/architecture.md` is true: its folders are there, its examples run."""

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIDES = ("schemas", "client", "producer")
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def packages(side: str) -> set[str]:
    """Names of the folders of modules directly below a side."""
    return {path.parent.name for path in (ROOT / side).glob("*/__init__.py")}


@pytest.mark.parametrize("side", SIDES)
def test_every_folder_has_a_line(side: str) -> None:
    table = PAGE.split(f"| `{side}/` |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE)) == packages(side)


def test_modules_of_one_name_are_listed() -> None:
    modules = defaultdict(set)
    for side in SIDES:
        for path in (ROOT / side).rglob("*.py"):
            modules[path.stem].add(path.relative_to(ROOT).as_posix())
    twice = {
        stem: paths for stem, paths in modules.items() if len(paths) > 1 and stem != "__init__"
    }
    section = PAGE.split("## Names used on two sides")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|.*\|$", section, re.MULTILINE)
    assert {stem: set(re.findall(r"`([\w/]+\.py)`", paths)) for stem, paths in rows} == twice


def test_every_class_has_a_name_of_its_own() -> None:
    classes = defaultdict(list)
    for side in SIDES:
        for path in (ROOT / side).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    classes[node.name].append(str(path))
    assert {name: paths for name, paths in classes.items() if len(paths) > 1} == {}


def test_named_files_exist() -> None:
    named = set(re.findall(r"`((?:schemas|client|producer|tests)/[\w/]+\.py)`", PAGE))
    assert len(named) > 15 and [path for path in sorted(named) if not (ROOT / path).is_file()] == []


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path) -> None:
    """The source of observations of the page is trained on, rasterized and published."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "example.py").write_text("\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "published" in done.stdout.splitlines()[-1], done.stdout
