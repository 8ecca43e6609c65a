"""Whether a store is whole: each object against the manifest, each chunk against its CRC.

The manifest lists every object but the root's metadata, which holds the digest of the manifest. The
root's attributes are compared with the copy that the manifest holds, and the root as a whole with
the hash in the catalogue beside the store, where there is one.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.verifying.node_metadata import Nodes, document, node_problems, plain_problems
from unigeo.client.verifying.other_objects import (
    digest_problems,
    forgotten_problems,
    other_objects,
    other_problems,
    root_problems,
)
from unigeo.client.verifying.root_attributes import held_problems
from unigeo.client.verifying.shard_objects import Level, ListedShard, look_at_shards
from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.limits import check_memory
from unigeo.schemas.io.stores import damage_errors, open_group, unreachable_errors
from unigeo.schemas.store.attributes import UnigeoAttributes, attribute_problems
from unigeo.schemas.store.layout import COVARIATES, Layout, status_name
from unigeo.schemas.store.manifest import GROUP as MANIFEST
from unigeo.schemas.store.manifest import ArrayManifest, shard_key
from unigeo.schemas.store.validation import field_problems

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store


@dataclass(frozen=True)
class VerificationReport:
    """What a verification found."""

    level: Level
    problems: tuple[str, ...]
    """One sentence each: which object, and what is wrong with it."""
    notes: tuple[str, ...]
    """What could not be checked, and why."""
    objects: int
    """Objects of the manifest that were looked at."""
    chunks: int
    """Chunks whose CRC was computed; none at the level `presence`."""
    size_bytes: int
    """Bytes read of these objects; none at the level `presence`."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def __str__(self) -> str:
        found = f"{len(self.problems)} problems" if self.problems else "no problem"
        read = f", {self.chunks:,} chunks, {self.size_bytes:,} bytes" if self.chunks else ""
        head = f"{self.objects:,} objects{read} checked ({self.level}): {found}"
        return "\n".join([*self.problems, *(f"Note: {note}" for note in self.notes), head])


def verify_store(url: Any, *, level: Level = "hash", progress: bool = False) -> VerificationReport:
    """Compare everything in a published store with what it says of itself.

    Args:
        url: as `schemas.stores.open_store` takes it.
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
    broken = attribute_problems(dict(group.attrs))
    changed, unheld = held_problems(group, dict(group.attrs))
    changed = [one for one in changed if not _told(one, broken)]
    if broken:  # without grid and layout there is nothing to compare with
        return VerificationReport(level, (*broken, *changed), (), 0, 0, 0)
    own = UnigeoAttributes.model_validate(group.attrs["unigeo"])
    layout, shards = own.field_layout(), own.field_layout().shards(own.grid.grid())
    try:
        problems = field_problems(group) + changed
        nodes = sync(document(group.store, "zarr.json"))["consolidated_metadata"]["metadata"]
        listed, more = _manifest(group, layout, shards)
        problems += more + _valid_without_object(listed)
        keys, notes = sync(_keys(group.store))
        problems += sync(node_problems(group.store, nodes))
        problems += sync(plain_problems(group.store, nodes))
        others, more = other_objects(group, url)
        problems += more + forgotten_problems(others, nodes)
        told = {word.rstrip(":,") for problem in problems for word in problem.split()}
        others = [other for other in others if other.key not in told]
        problems += sync(other_problems(group.store, others, level))
        if level == "hash" and not any(MANIFEST in problem for problem in problems):
            problems += sync(digest_problems(group.store, own, nodes))
        problems += root_problems(url, group.store)
    except unreachable_errors() as error:
        raise StoreError(f"cannot read the store at {url}: {error}") from error
    problems += _strays(keys or set(), listed, nodes, layout)
    expected = [shard for shard in listed if shard.size_bytes or keys is None]
    found = sync(look_at_shards(group.store, expected, layout, level, progress))
    return VerificationReport(
        level,
        tuple(problems + [problem for one in found for problem in one.problems]),
        (*unheld, *notes),
        sum(shard.size_bytes > 0 for shard in expected),
        sum(one.chunks for one in found),
        sum(one.size_bytes for one in found),
    )


def _manifest(
    group: "zarr.Group", layout: Layout, shards: tuple[int, int]
) -> tuple[list[ListedShard], list[str]]:
    """Every shard of the layout as the manifest has it, and what is wrong with the manifest."""
    import zarr

    manifest = group.get(MANIFEST)
    if not isinstance(manifest, zarr.Group):
        return [], ["the store has no group 'manifest', so its objects cannot be verified"]
    listed: list[ListedShard] = []
    problems: list[str] = []

    def read(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
        array = manifest.get(name)
        if not isinstance(array, zarr.Array) or array.shape != shape:
            there = array.shape if isinstance(array, zarr.Array) else "missing"
            problems.append(f"array '{MANIFEST}/{name}' is {there}, expected the shape {shape}")
            return None
        try:
            check_memory(array, "the store")
            return np.asarray(array[...])
        except damage_errors() as error:
            problems.append(f"array '{MANIFEST}/{name}' cannot be read: {error}")
            return None

    for modality in layout.modalities:
        valid = read(f"{modality}_valid_cells", shards)
        for array, dimensions in ((modality, 3), (status_name(modality), 2)):
            sha256 = read(f"{array}_sha256", (*shards, 32))
            size_bytes = read(f"{array}_bytes", shards)
            if sha256 is not None and size_bytes is not None and valid is not None:
                one = ArrayManifest(sha256, size_bytes)
                listed += _shards_of(array, one, valid if dimensions == 2 else None)
    if layout.covariates:
        sha256 = read(f"{COVARIATES}_sha256", (*shards, 32))
        size_bytes = read(f"{COVARIATES}_bytes", shards)
        if sha256 is not None and size_bytes is not None:
            listed += _shards_of(COVARIATES, ArrayManifest(sha256, size_bytes), None)
    return listed, problems


def _shards_of(array: str, one: ArrayManifest, valid: np.ndarray | None) -> list[ListedShard]:
    """Every shard of an array as the manifest has it; `valid` cells are those of statuses."""
    return [
        ListedShard(
            array,
            row,
            col,
            shard_key(array, row, col, 3 if valid is None else 2),
            int(one.size_bytes[row, col]),
            one.sha256[row, col].tobytes(),
            None if valid is None else int(valid[row, col]),
        )
        for row, col in np.ndindex(*one.size_bytes.shape)
    ]


async def _keys(store: "Store") -> tuple[set[str] | None, list[str]]:
    """Every key of the store; None, and a note that says why, where it cannot be listed."""
    why = "it cannot be listed"
    failures: tuple[type[BaseException], ...] = (NotImplementedError, *unreachable_errors())
    if store.supports_listing:
        try:
            return {key async for key in store.list()}, []
        except failures as error:
            why = f"listing it failed: {str(error).splitlines()[0]:.200}"
    return None, [f"objects that do not belong to the store were not looked for, since {why}"]


def _strays(keys: set[str], listed: list[ListedShard], nodes: Nodes, layout: Layout) -> list[str]:
    """Objects that belong to nothing: a shard the manifest does not have, a killed write's part."""
    own = {name for modality in layout.modalities for name in (modality, status_name(modality))}
    own |= {COVARIATES} if layout.covariates else set()
    known = {"zarr.json"} | {f"{name}/zarr.json" for name in nodes}
    known |= {shard.key for shard in listed if shard.size_bytes}
    others = [name for name, node in nodes.items() if node.get("node_type") == "array"]
    others = [name for name in others if name not in own or not listed]
    chunks = re.compile(f"(?:{'|'.join(map(re.escape, others))})/c(?:/[0-9]+)*")
    return [
        f"{key} is not in the manifest and belongs to no array"
        for key in sorted(keys - known)
        if not (others and chunks.fullmatch(key))
    ]


def _valid_without_object(listed: list[ListedShard]) -> list[str]:
    """Shards of which the manifest says that cells are valid, and that nothing is stored."""
    return [
        f"{shard}: the manifest says {shard.valid_cells} valid cells, and no object"
        for shard in listed
        if shard.valid_cells and not shard.size_bytes
    ]


def _told(problem: str, others: list[str]) -> bool:
    """Whether another sentence is of the same attribute."""
    name = problem.split(" ")[1]
    return any(other.split(" ")[1:2] in ([name], [f"{name}:"]) for other in others)
