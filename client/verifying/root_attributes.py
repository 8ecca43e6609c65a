"""Whether the root's attributes are those that were published."""

from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.io.limits import check_memory
from unigeo.schemas.io.stores import damage_errors
from unigeo.schemas.store.manifest import GROUP
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

_NOT_HELD = (
    "the store was published before the root's attributes were held by a hash: a changed licence, "
    "citation, region or model's name goes unnoticed"
)


def held_problems(group: "zarr.Group", attributes: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Compare the root's attributes with the copy in the manifest, or else with their hash.

    Args:
        group: the root.
        attributes: its own, as JSON gives them.

    Returns:
        What is wrong, each attribute by its name; and notes on what could not be compared.
    """
    import zarr

    own = attributes.get("unigeo")
    own = own if isinstance(own, dict) else {}
    array, digest = group.get(f"{GROUP}/{ARRAY}"), own.get(DIGEST)
    if array is None and digest is None:
        return [], [_NOT_HELD]
    problems = []
    if own.get("state") != "published":
        problems.append(
            f"attribute unigeo.state is {own.get('state')!r}, and the store was published"
        )
    if "manifest_sha256" not in own:
        problems.append("attribute unigeo.manifest_sha256 is missing")
    found = held_attributes(attributes)
    try:
        if not isinstance(array, zarr.Array):
            raise LayoutError(f"array '{GROUP}/{ARRAY}' is missing")
        check_memory(array, "the store")
        published = attributes_of_bytes(np.asarray(array[...]))
    except damage_errors() as error:
        if GROUP in group:
            problems.append(str(error))
        if attributes_digest(found) != digest:
            problems.append("the root's attributes are not those whose hash it holds")
        return problems, []
    problems += attribute_changes(published, found)
    expected = attributes_digest(published)
    if digest != expected:
        problems.append(f"attribute unigeo.{DIGEST} is {digest!r}, published as {expected!r}")
    return problems, []
