"""The indexes of an array's shards, each read once and kept."""

import threading
from collections import OrderedDict

import numpy as np
from jaxtyping import Bool, Int

from unigeo.client.reading.array_layout import StoredArray
from unigeo.client.reading.object_listing import Sizes, damaged_error, lost_error
from unigeo.client.reading.range_requests import Body, ObjectSource, Span
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.sharding import index_bytes, parse_index

_MOST_INDEXES = 4096
"""Indexes that are kept; each takes 4 KiB in the usual layout."""


class ShardIndexes:
    """The offsets and lengths of the chunks in each shard of an array; see `parse_index`."""

    def __init__(self, array: StoredArray, source: ObjectSource) -> None:
        self._array, self._source = array, source
        self._kept: OrderedDict[tuple[int, int], np.ndarray | None] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, shard: tuple[int, int]) -> bool:
        """Return whether a shard's index has been read."""
        return shard in self._kept

    def read(
        self,
        shards: Int[np.ndarray, "shard 2"],
        present: Bool[np.ndarray, " shard"],
        sizes: Sizes | None,
    ) -> dict[int, np.ndarray]:
        """Return the index of each present shard, by its number in `shards`.

        Args:
            shards: rows and columns on the grid of shards.
            present: whether each shard may exist.
            sizes: sizes of all shards by the manifest, if there is one.

        Returns:
            Arrays (chunk, 2) of offset and length; none for a shard that does not exist.

        Raises:
            DamagedError: if a shard of the manifest does not exist, or its index is damaged.
        """
        keys = [(row, col) for row, col in shards.tolist()]
        numbers = np.flatnonzero(present).tolist()
        indexes: dict[int, np.ndarray | None] = {}
        with self._lock:
            for number in numbers:
                if keys[number] in self._kept:
                    self._kept.move_to_end(keys[number])
                    indexes[number] = self._kept[keys[number]]
        missing = [number for number in numbers if number not in indexes]
        length = index_bytes(self._array.chunks)
        spans = [Span(self._array.object_key(*keys[number]), -length) for number in missing]

        def keep(position: int, body: Body | None) -> None:
            shard = keys[missing[position]]
            index = None
            if body is None and sizes is not None:
                raise lost_error(spans[position].key)
            if body is not None:
                size = None if sizes is None else int(sizes[shard])
                try:
                    index = parse_index(body.tobytes(), self._array.chunks, size).reshape(-1, 2)
                except LayoutError as error:
                    raise damaged_error(spans[position].key, error) from error
            with self._lock:
                indexes[missing[position]] = self._kept[shard] = index
                while len(self._kept) > _MOST_INDEXES:
                    self._kept.popitem(last=False)

        if spans:
            self._source.fetch(spans, keep)
        return {number: index for number, index in indexes.items() if index is not None}
