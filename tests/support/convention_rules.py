"""The rules of public conventions, and what they say against a store's groups and arrays."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import FormatChecker
from jsonschema.validators import validator_for
from pyproj.datadir import get_data_dir
from referencing import Registry, Resource

from unigeo.schemas.store.conventions import CONVENTIONS, KEY

DATA = Path(__file__).parents[1] / "data" / "conventions"
RULES: dict[str, Any] = {
    prefix: json.loads((DATA / f"{prefix.rstrip(':')}.json").read_text()) for prefix in CONVENTIONS
}
PROJJSON = json.loads((Path(get_data_dir()) / "projjson.schema.json").read_text())
REGISTRY: Any = Registry().with_resource(
    "https://proj.org/schemas/v0.7/projjson.schema.json", Resource.from_contents(PROJJSON)
)
FORMATS = FormatChecker(formats=())


@FORMATS.checks("uri")
def is_uri(value: object) -> bool:
    """Whether a text has a scheme and nothing that must be quoted."""
    return not isinstance(value, str) or (bool(urlsplit(value).scheme) and value.split() == [value])


def nodes_of(store: Path) -> dict[str, dict[str, Any]]:
    """Every group and array as it is stored, by its path."""
    return {
        path.parent.relative_to(store).as_posix(): json.loads(path.read_text())
        for path in sorted(store.rglob("zarr.json"))
    }


def prefixes(node: dict[str, Any]) -> set[str]:
    """Conventions, known or not, whose keys a node has."""
    keys = node.get("attributes", {})
    return {f"{key.split(':')[0]}:" for key in keys if ":" in key} | ({"multiscales"} & keys.keys())


def faults(name: str, node: dict[str, Any]) -> Iterator[str]:
    """What the rules of the conventions say against a node."""
    used = prefixes(node)
    if used - RULES.keys():
        yield f"{name}: no rules are known for {', '.join(sorted(used - RULES.keys()))}"
    named = [one["name"] for one in node.get("attributes", {}).get(KEY, [])]
    expected = [one["name"] for prefix, one in CONVENTIONS.items() if prefix in used]
    if named != expected:
        yield f"{name} registers {named}, and has keys of {expected}"
    for prefix in sorted(used & RULES.keys()):
        rules = RULES[prefix]
        validator = validator_for(rules)(rules, registry=REGISTRY, format_checker=FORMATS)
        yield from (f"{name}, {prefix}: {e.message}" for e in validator.iter_errors(node))


def store_faults(store: Path) -> list[str]:
    """What the rules say against the groups and arrays of a store, each as it is stored."""
    return [fault for name, node in nodes_of(store).items() for fault in faults(name, node)]
