"""The root's attributes as they were published, so that a later change can be named.

The root holds their SHA-256, `unigeo.attributes_sha256`, and the manifest's array `root_attributes`
holds themselves, as JSON in bytes. Left out are what changes or is known after them: the state and
the two hashes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.problems import Problem

ARRAY = "root_attributes"
DIGEST = "attributes_sha256"
_LEFT_OUT = ("state", "manifest_sha256", DIGEST)
_MOST_SHOWN = 80
"""Characters of a value in a sentence."""


def held_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a root that are held, as JSON gives them back.

    >>> held_attributes({"license": "CC0-1.0", "unigeo": {"state": "published", "seed": 0}})
    {'license': 'CC0-1.0', 'unigeo': {'seed': 0}}
    """
    whole: dict[str, Any] = json.loads(json.dumps(attributes))
    own = whole.get("unigeo")
    if isinstance(own, dict):
        whole["unigeo"] = {key: value for key, value in own.items() if key not in _LEFT_OUT}
    return whole


def attributes_to_bytes(held: Mapping[str, Any]) -> UInt8[np.ndarray, " byte"]:
    """Canonical JSON: keys sorted, no spaces."""
    text = json.dumps(held, sort_keys=True, separators=(",", ":"))
    return np.frombuffer(text.encode(), np.uint8)


def attributes_digest(held: Mapping[str, Any]) -> str:
    """SHA-256 of that, hexadecimal."""
    return hashlib.sha256(attributes_to_bytes(held).tobytes()).hexdigest()


def attributes_of_bytes(stored: UInt8[np.ndarray, " byte"]) -> dict[str, Any]:
    """Read the attributes back.

    Raises:
        LayoutError: if the bytes are no JSON of attributes.
    """
    try:
        held = json.loads(stored.tobytes())
    except (ValueError, RecursionError) as error:
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
    """Whether two values differ as JSON, in which 1, 1.0 and true do."""
    return json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
