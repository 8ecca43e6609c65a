"""What a publication finds in the shards of one modality, before it is listed in the manifest."""

from dataclasses import dataclass

import numpy as np

from unigeo.schemas.store.manifest import ArrayManifest


@dataclass(frozen=True, eq=False)
class ShardFacts:
    """What is stored of one modality."""

    vectors: ArrayManifest
    status: ArrayManifest
    valid_cells: np.ndarray
    tasks: np.ndarray
    """SHA-256 of what decided each shard's content."""

    @classmethod
    def empty(cls, shards: tuple[int, int]) -> "ShardFacts":
        """Of a field without objects."""
        return cls(
            ArrayManifest.empty(shards),
            ArrayManifest.empty(shards),
            np.zeros(shards, np.int64),
            np.zeros((*shards, 32), np.uint8),
        )
