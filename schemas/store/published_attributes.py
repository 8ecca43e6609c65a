"""The root's attributes as they were published, against which later changes are reported.

The manifest's array `root_attributes` holds them as the bytes of a JSON document, and the root
their SHA-256, `unigeo.attributes_sha256`. They lack what is set later: the state and two hashes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.store.problems import Problem

ARRAY = "root_attributes"
DIGEST = "attributes_sha256"
_LEFT_OUT = ("state", "manifest_sha256", DIGEST)
_MOST_SHOWN = 80
"""Number of characters of a value that a message shows."""


def held_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a root that are held, as they are after a round trip through JSON.

    >>> held_attributes({"license": "CC0-1.0", "unigeo": {"state": "published", "seed": 0}})
    {'license': 'CC0-1.0', 'unigeo': {'seed': 0}}
    """
    held: dict[str, Any] = json.loads(json.dumps(attributes))
    unigeo = held.get("unigeo")
    if isinstance(unigeo, dict):
        held["unigeo"] = {key: value for key, value in unigeo.items() if key not in _LEFT_OUT}
    return held


def attributes_to_bytes(held: Mapping[str, Any]) -> UInt8[np.ndarray, " byte"]:
    """Encode attributes as canonical JSON: keys sorted, no spaces."""
    text = json.dumps(held, sort_keys=True, separators=(",", ":"))
    return np.frombuffer(text.encode(), np.uint8)


def attributes_digest(held: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON, hexadecimal."""
    return hashlib.sha256(attributes_to_bytes(held).tobytes()).hexdigest()


def attributes_of_bytes(stored: UInt8[np.ndarray, " byte"]) -> dict[str, Any]:
    """Decode the bytes of attributes.

    Raises:
        LayoutError: if the bytes are not JSON of attributes.
    """
    try:
        held = load_json(stored.tobytes())
    except ValueError as error:
        raise LayoutError(f"{ARRAY} is no JSON: {error}") from error
    if not isinstance(held, dict):
        raise LayoutError(f"{ARRAY} is no JSON of attributes")
    return held


def attribute_changes(
    published: Mapping[str, Any], current: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield every attribute that is not as it was published, by its name.

    >>> changes = attribute_changes({"unigeo": {"seed": 0}}, {"unigeo": {"seed": 7}, "new": 1})
    >>> for problem in changes:
    ...     print(problem.text)
    attribute new is 1, and was not published
    attribute unigeo.seed is 7, published as 0
    """
    yield from _changes(published, current, "")


def _changes(
    published: Mapping[str, Any], current: Mapping[str, Any], prefix: str
) -> Iterator[Problem]:
    for key in sorted(published.keys() | current.keys()):
        name = f"{prefix}{key}"
        if key not in published:
            text = f"attribute {name} is {_shorten(current[key])}, and was not published"
            yield Problem(name, text)
        elif key not in current:
            text = f"attribute {name} is missing, published as {_shorten(published[key])}"
            yield Problem(name, text)
        elif isinstance(published[key], dict) and isinstance(current[key], dict):
            yield from _changes(published[key], current[key], f"{name}.")
        elif _differ(published[key], current[key]):
            shown = _shorten(current[key])
            text = f"attribute {name} is {shown}, published as {_shorten(published[key])}"
            yield Problem(name, text)


def _differ(one: Any, other: Any) -> bool:
    """Tell whether two values differ as JSON, in which 1, 1.0 and true are different."""
    return json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
