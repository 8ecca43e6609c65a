"""The manifest: what each stored object should be, as Zarr arrays on the grid of shards.

The group `manifest` holds, for each array A of the field (vectors, statuses, covariates),
`A_sha256` (shard row, shard column, 32 bytes) and `A_bytes` (0 where the shard holds no data and so
is no object), and for each modality `A_valid_cells`, `A_run`, the number of the run that made the
shard in the group's attribute `runs`, and `A_task`, the SHA-256 of what decided its content.
`shard_bounds` holds each shard's west, south, east and north in degrees. Every other object
of the store (metadata, coordinates, encoder, concepts, preview, overviews) is a row of
`objects_keys`, `objects_sha256` and `objects_bytes`. `root_attributes` holds the root's attributes
as they were published (see `held_attributes`). The root's attribute `unigeo.manifest_sha256`
is the digest of all of it. Plain Zarr, so that the client plans and verifies with what it has.
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
"""Dimensions of what is noted of each shard."""
BYTE = "byte"
"""Dimension of the 32 bytes of a SHA-256."""
KEY_BYTE, ATTRIBUTE_BYTE = "key_byte", "attribute_byte"
"""Dimensions of the bytes of `objects_keys` and of `root_attributes`."""


@dataclass(frozen=True)
class ArrayManifest:
    """What is stored of one array, shard by shard."""

    sha256: UInt8[np.ndarray, "shard_row shard_col 32"]
    size_bytes: Int[np.ndarray, "shard_row shard_col"]

    @classmethod
    def empty(cls, shards: tuple[int, int]) -> "ArrayManifest":
        """A manifest of no objects."""
        return cls(np.zeros((*shards, 32), np.uint8), np.zeros(shards, np.int64))


def shard_key(array: str, row: int, col: int, dimensions: int) -> str:
    """Key of the object that holds one shard, by Zarr v3's default chunk key encoding.

    >>> shard_key("aerial", 2, 5, dimensions=3)
    'aerial/c/2/5/0'
    """
    return "/".join([array, "c", str(row), str(col), *["0"] * (dimensions - 2)])


def run_name(modality: str) -> str:
    """Array of the numbers of the runs that made a modality's shards."""
    return f"{modality}_run"


def task_name(modality: str) -> str:
    """Array of the digests of what decided each shard's content."""
    return f"{modality}_task"


def manifest_keys(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Keys of the manifest's objects, below the store's root.

    Args:
        shapes: of its arrays, by path; each is one chunk, or none where a side is 0.

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
    """What `unigeo.manifest_sha256` says: SHA-256 over the keys and hashes of the group's objects.

    Args:
        objects: by key, below the store's root.
    """
    whole = hashlib.sha256()
    for key in sorted(objects):
        whole.update(f"{hashlib.sha256(objects[key]).hexdigest()}  {key}\n".encode())
    return whole.hexdigest()
