"""Verifies a store: each object against the manifest, each chunk against its CRC.

The manifest lists every object except the root's metadata, which hold the digest of the manifest.
The root's attributes are compared with the copy in the manifest, and the root's metadata with the
hash in the catalogue beside the store, if there is one.
"""

import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.verifying.node_metadata import Nodes, chunk_problems, node_problems, read_json
from unigeo.client.verifying.other_objects import (
    manifest_problems,
    object_problems,
    other_objects,
    root_problems,
    unlisted_problems,
)
from unigeo.client.verifying.root_attributes import root_attribute_problems
from unigeo.client.verifying.shard_objects import Level, ListedShard, check_shards
from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.limits import check_memory
from unigeo.schemas.io.store_errors import damage_errors, unreachable_errors
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.attributes import UnigeoAttributes, attribute_problems
from unigeo.schemas.store.layout import Layout, status_name
from unigeo.schemas.store.manifest import GROUP as MANIFEST
from unigeo.schemas.store.manifest import ArrayManifest, shard_key
from unigeo.schemas.store.problems import Problem, texts_of
from unigeo.schemas.store.validation import field_problems

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store


@dataclass(frozen=True)
class VerificationReport:
    """The result of a verification."""

    level: Level
    problems: tuple[str, ...]
    """One sentence per problem: which object, and what is wrong with it."""
    notes: tuple[str, ...]
    """One sentence on each check that could not be made, and why."""
    objects: int
    """Number of the manifest's shards that were checked."""
    chunks: int
    """Number of chunks whose CRC was computed; 0 at the level `presence`."""
    size_bytes: int
    """Bytes of these shards that were read; 0 at the level `presence`."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __repr__(self) -> str:
        return f"<VerificationReport: {len(self.problems)} problems, {self.objects:,} objects>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    def __str__(self) -> str:
        count = f"{len(self.problems)} problems" if self.problems else "no problem"
        read = f", {self.chunks:,} chunks, {self.size_bytes:,} bytes" if self.chunks else ""
        head = f"{self.objects:,} objects{read} checked ({self.level}): {count}"
        return "\n".join([*self.problems, *(f"Note: {note}" for note in self.notes), head])


def verify_store(url: Any, *, level: Level = "hash", progress: bool = False) -> VerificationReport:
    """Compare every object of a published store with the store's manifest.

    Args:
        url: the store as `schemas.io.stores.open_store` takes it.
        level: `presence`: metadata, and each object's presence and size; `hash`: also read every
            object, and compare its SHA-256, the CRC of its index and of each chunk, and the
            number of valid cells.
        progress: show a bar on stderr.

    Raises:
        StoreError: if there is no published store, or it cannot be reached.
    """
    from zarr.core.sync import sync

    if level not in ("presence", "hash"):
        raise ValueError(f"level must be 'presence' or 'hash', not {level!r}")
    group = open_group(url)
    invalid = attribute_problems(dict(group.attrs))
    changed, root_notes = root_attribute_problems(group, dict(group.attrs))
    changed = [problem for problem in changed if problem.key not in _keys_of(invalid)]
    if invalid:  # without grid and layout nothing else can be compared
        return VerificationReport(level, (*texts_of(invalid), *texts_of(changed)), (), 0, 0, 0)
    attributes = UnigeoAttributes.model_validate(group.attrs["unigeo"])
    layout = attributes.field_layout()
    shards = layout.shards(attributes.grid.grid())
    try:
        problems = [Problem(None, text) for text in field_problems(group)] + changed
        nodes = sync(read_json(group.store, "zarr.json"))["consolidated_metadata"]["metadata"]
        listed, of_manifest = _listed_shards(group, layout, shards)
        problems += of_manifest + _valid_without_object(listed)
        keys, notes = sync(_stored_keys(group.store))
        problems += sync(node_problems(group.store, nodes))
        problems += sync(chunk_problems(group.store, nodes))
        others, of_manifest = other_objects(group, url)
        problems += of_manifest + unlisted_problems(others, nodes)
        reported = _keys_of(problems)
        others = [other for other in others if other.key not in reported]
        problems += sync(object_problems(group.store, others, level))
        # A manifest that is known to be damaged has another digest too: report it once.
        if level == "hash" and not any(map(_is_of_manifest, _keys_of(problems))):
            problems += sync(manifest_problems(group.store, attributes, nodes))
        problems += root_problems(url, group.store)
    except unreachable_errors() as error:
        raise StoreError(f"cannot read the store at {url}: {error}") from error
    problems += _stray_objects(keys or set(), listed, nodes, layout)
    # Where the store was listed, an object of a shard that should be empty is a stray object.
    # Otherwise look for each such shard.
    expected = [shard for shard in listed if shard.size_bytes or keys is None]
    results = sync(check_shards(group.store, expected, layout, level, progress))
    problems += [problem for result in results for problem in result.problems]
    return VerificationReport(
        level,
        tuple(texts_of(problems)),
        (*root_notes, *notes),
        sum(shard.size_bytes > 0 for shard in expected),
        sum(result.chunks for result in results),
        sum(result.size_bytes for result in results),
    )


def _keys_of(problems: list[Problem]) -> set[str]:
    """Return the keys that problems name."""
    return {problem.key for problem in problems if problem.key is not None}


def _is_of_manifest(key: str) -> bool:
    return key == MANIFEST or key.startswith(f"{MANIFEST}/") or key == "unigeo.manifest_sha256"


def _listed_shards(
    group: "zarr.Group", layout: Layout, shards: tuple[int, int]
) -> tuple[list[ListedShard], list[Problem]]:
    """Read every shard of the layout from the manifest, and what is wrong with the manifest."""
    import zarr

    manifest = group.get(MANIFEST)
    if not isinstance(manifest, zarr.Group):
        text = "the store has no group 'manifest', so its objects cannot be verified"
        return [], [Problem(MANIFEST, text)]
    listed: list[ListedShard] = []
    problems: list[Problem] = []

    def read(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        path, array = f"{MANIFEST}/{name}", manifest.get(name)
        if not isinstance(array, zarr.Array) or array.shape != shape:
            actual = array.shape if isinstance(array, zarr.Array) else "missing"
            text = f"array '{path}' is {actual}, expected the shape {shape}"
            problems.append(Problem(path, text))
            return None
        try:
            check_memory(array, "the store")
            return np.asarray(array[...])
        except damage_errors() as error:
            problems.append(Problem(path, f"array '{path}' cannot be read: {error}"))
            return None

    for name in layout.arrays:
        valid = read(f"{name}_valid_cells", shards)
        for array, dimensions in ((name, 3), (status_name(name), 2)):
            sha256 = read(f"{array}_sha256", (*shards, 32))
            size_bytes = read(f"{array}_bytes", shards)
            if sha256 is not None and size_bytes is not None and valid is not None:
                entries = ArrayManifest(sha256, size_bytes)
                listed += _shards_of(array, entries, valid if dimensions == 2 else None)
    return listed, problems


def _shards_of(array: str, entries: ArrayManifest, valid: np.ndarray | None) -> list[ListedShard]:
    """Return every shard of an array; `valid` counts the valid cells of a status array."""
    return [
        ListedShard(
            array,
            row,
            col,
            shard_key(array, row, col, 3 if valid is None else 2),
            int(entries.size_bytes[row, col]),
            entries.sha256[row, col].tobytes(),
            None if valid is None else int(valid[row, col]),
        )
        for row, col in np.ndindex(*entries.size_bytes.shape)
    ]


async def _stored_keys(store: "Store") -> tuple[set[str] | None, list[str]]:
    """Return every key of the store; or None, and a note that says why it cannot be listed."""
    why = "it cannot be listed"
    failures: tuple[type[BaseException], ...] = (NotImplementedError, *unreachable_errors())
    if store.supports_listing:
        try:
            return {key async for key in store.list()}, []
        except failures as error:
            why = f"listing it failed: {str(error).splitlines()[0]:.200}"
    return None, [f"objects that do not belong to the store were not looked for, since {why}"]


def _stray_objects(
    keys: set[str], listed: list[ListedShard], nodes: Nodes, layout: Layout
) -> list[Problem]:
    """Find objects that belong to nothing, such as a shard that the manifest does not list."""
    field = {name for array in layout.arrays for name in (array, status_name(array))}
    known = {"zarr.json"} | {f"{name}/zarr.json" for name in nodes}
    known |= {shard.key for shard in listed if shard.size_bytes}
    # Chunks of other arrays are not listed one by one: any key of the right form belongs to them.
    # Without a manifest that is so of the field's arrays too.
    others = [name for name, node in nodes.items() if node.get("node_type") == "array"]
    others = [name for name in others if name not in field or not listed]
    chunks = re.compile(f"(?:{'|'.join(map(re.escape, others))})/c(?:/[0-9]+)*")
    return [
        Problem(key, f"{key} is not in the manifest and belongs to no array")
        for key in sorted(keys - known)
        if not (others and chunks.fullmatch(key))
    ]


def _valid_without_object(listed: list[ListedShard]) -> list[Problem]:
    """Find shards for which the manifest lists valid cells but no object: it contradicts itself."""
    return [
        Problem(
            f"{MANIFEST}/{shard.array}_bytes",
            f"{shard}: the manifest says {shard.valid_cells} valid cells, and no object",
        )
        for shard in listed
        if shard.valid_cells and not shard.size_bytes
    ]
