"""The manifest of a store: size and SHA-256 of every object, as Zarr arrays on the grid of shards.

For each array A of the field (vectors, statuses, covariates) the group `manifest` holds `A_sha256`
(shard row, shard column, 32 bytes) and `A_bytes` (0 where a shard has no data and thus no object).
For each modality it also holds `A_valid_cells`; `A_run`, the number of the run that made the shard,
in the group's attribute `runs`; and `A_task`, the SHA-256 of all that determines its content.
`shard_bounds` holds each shard's west, south, east and north in degrees. Every other object of the
store (metadata, coordinates, encoder, concepts, preview, overviews) is a row of `objects_keys`,
`objects_sha256` and `objects_bytes`. `root_attributes` holds the root's attributes as they were
published (see `published_attributes`). The root's attribute `unigeo.manifest_sha256` is the digest
of the whole group. It is plain Zarr, so that the client reads it as it reads the rest.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

GROUP = "manifest"
BOUNDS = "shard_bounds"
OBJECTS = "objects"
SHARDS = ("shard_row", "shard_col")
"""Dimensions of the arrays with one entry per shard."""
BYTE = "byte"
"""Name of the dimension of the 32 bytes of a SHA-256."""
KEY_BYTE, ATTRIBUTE_BYTE = "key_byte", "attribute_byte"
"""Names of the dimensions of the bytes of `objects_keys` and of `root_attributes`."""


@dataclass(frozen=True)
class ArrayManifest:
    """Objects of one array, shard by shard."""

    sha256: UInt8[np.ndarray, "shard_row shard_col 32"]
    """Digest of each object; zeros where there is none."""
    size_bytes: Int[np.ndarray, "shard_row shard_col"]
    """Size of each object; 0 where there is none."""

    @classmethod
    def empty(cls, shards: tuple[int, int]) -> "ArrayManifest":
        """Return a manifest of no objects."""
        return cls(np.zeros((*shards, 32), np.uint8), np.zeros(shards, np.int64))


def shard_key(array: str, row: int, col: int, dimensions: int) -> str:
    """Return the key of a shard's object, by Zarr v3's default chunk key encoding.

    >>> shard_key("aerial", 2, 5, dimensions=3)
    'aerial/c/2/5/0'
    """
    return "/".join([array, "c", str(row), str(col), *["0"] * (dimensions - 2)])


def run_name(modality: str) -> str:
    """Return the name of the array of the runs that made a modality's shards."""
    return f"{modality}_run"


def task_name(modality: str) -> str:
    """Return the name of the array of the digests of what determined each shard's content."""
    return f"{modality}_task"


def manifest_keys(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return the keys of the manifest's objects, below the store's root.

    Args:
        shapes: shape of each array by its path; each is one chunk, or none where a side is 0.

    >>> manifest_keys({"manifest/aerial_run": (2, 2)})
    ['manifest/zarr.json', 'manifest/aerial_run/zarr.json', 'manifest/aerial_run/c/0/0']
    """
    keys = [f"{GROUP}/zarr.json"]
    for path, shape in shapes.items():
        keys.append(f"{path}/zarr.json")
        if all(shape):
            keys.append("/".join([path, "c", *["0"] * len(shape)]))
    return keys


def manifest_digest(objects: Mapping[str, bytes]) -> str:
    """Return `unigeo.manifest_sha256`: the SHA-256 over keys and hashes of the group's objects.

    Args:
        objects: bytes of each object by its key, below the store's root.
    """
    digest = hashlib.sha256()
    # The lines of `sha256sum` in the order of keys, so that a shell can compute the digest.
    for key in sorted(objects):
        digest.update(f"{hashlib.sha256(objects[key]).hexdigest()}  {key}\n".encode())
    return digest.hexdigest()
