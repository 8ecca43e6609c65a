"""Facts of one modality's shards that a publication collects for the manifest."""

from dataclasses import dataclass

import numpy as np

from unigeo.schemas.store.manifest import ArrayManifest


@dataclass(frozen=True, eq=False)
class ShardFacts:
    """Hashes, sizes and counts of one modality's shards, each array row by column."""

    vectors: ArrayManifest
    status: ArrayManifest
    valid_cells: np.ndarray
    """Number of valid cells in each shard."""
    tasks: np.ndarray
    """Task digest of each shard, 32 bytes; see `task_digests.task_digest`."""

    @classmethod
    def empty(cls, shards: tuple[int, int]) -> "ShardFacts":
        """Return the facts of a field without objects."""
        return cls(
            ArrayManifest.empty(shards),
            ArrayManifest.empty(shards),
            np.zeros(shards, np.int64),
            np.zeros((*shards, 32), np.uint8),
        )
