"""The sources speak one language: no `place` for what has a name of its own."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for side in ("schemas", "client", "producer")
    for path in (ROOT / side).rglob("*.py")
)
KEPT = {
    "client/probing/suite_areas.py": {"places"},  # the key `[areas] places` of a suite
    "producer/commands/cli.py": {"places"},  # the command `unigeo-produce places`
}


def parse(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def identifiers(tree: ast.AST) -> set[str]:
    """Every name that a syntax tree defines or uses."""
    names = set()
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr", "name", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                names.add(value)
    return names


def test_a_place_is_a_location_a_point_a_slot_or_a_path() -> None:
    found = {path: identifiers(parse(path)) & {"place", "places"} for path in SOURCES}
    assert {path: names for path, names in found.items() if names} == KEPT


def test_no_docstring_of_a_field_is_a_fragment() -> None:
    fragments = [
        f"{path}: {node.value.value}"
        for path in SOURCES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and str(node.value.value).startswith("Of ")
    ]
    assert fragments == []
