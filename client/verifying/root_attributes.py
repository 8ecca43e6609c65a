"""Compares the root's attributes with those that were published."""

from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.io.limits import check_memory
from unigeo.schemas.io.store_errors import damage_errors
from unigeo.schemas.store.manifest import GROUP
from unigeo.schemas.store.problems import Problem
from unigeo.schemas.store.published_attributes import (
    ARRAY,
    DIGEST,
    attribute_changes,
    attributes_digest,
    attributes_of_bytes,
    held_attributes,
)

if TYPE_CHECKING:
    import zarr

_NO_COPY = (
    "the store was published before the root's attributes were held by a hash: a changed licence, "
    "citation, region or model's name goes unnoticed"
)


def root_attribute_problems(
    group: "zarr.Group", attributes: dict[str, Any]
) -> tuple[list[Problem], list[str]]:
    """Compare the root's attributes with the copy in the manifest, or else with their hash.

    Args:
        group: the root.
        attributes: its attributes as parsed from JSON.

    Returns:
        The problems, each with its attribute's name; and notes on what could not be compared.
    """
    import zarr

    field_attributes = attributes.get("unigeo")
    field_attributes = field_attributes if isinstance(field_attributes, dict) else {}
    array, digest = group.get(f"{GROUP}/{ARRAY}"), field_attributes.get(DIGEST)
    if array is None and digest is None:
        return [], [_NO_COPY]
    problems = []
    if field_attributes.get("state") != "published":
        state = field_attributes.get("state")
        text = f"attribute unigeo.state is {state!r}, and the store was published"
        problems.append(Problem("unigeo.state", text))
    if "manifest_sha256" not in field_attributes:
        name = "unigeo.manifest_sha256"
        problems.append(Problem(name, f"attribute {name} is missing"))
    current = held_attributes(attributes)
    try:
        if not isinstance(array, zarr.Array):
            raise LayoutError(f"array '{GROUP}/{ARRAY}' is missing")
        check_memory(array, "the store")
        published = attributes_of_bytes(np.asarray(array[...]))
    except damage_errors() as error:
        if GROUP in group:
            # Damaged bytes have no key, so that the manifest's digest is compared as well.
            key = None if isinstance(array, zarr.Array) else f"{GROUP}/{ARRAY}"
            problems.append(Problem(key, str(error)))
        if attributes_digest(current) != digest:
            text = "the root's attributes are not those whose hash it holds"
            problems.append(Problem(None, text))
        return problems, []
    problems += attribute_changes(published, current)
    expected = attributes_digest(published)
    if digest != expected:
        name = f"unigeo.{DIGEST}"
        problems.append(Problem(name, f"attribute {name} is {digest!r}, published as {expected!r}"))
    return problems, []
