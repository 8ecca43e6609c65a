"""The byte layout of one array of cells in its stored objects."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from jaxtyping import Shaped, UInt8

from unigeo.schemas.errors import StoreError
from unigeo.schemas.store.sharding import CRC_BYTES

if TYPE_CHECKING:
    import zarr

Decode = Callable[[Any], Any]
"""Decompresses a buffer of bytes."""


@dataclass(frozen=True)
class StoredArray:
    """An array of one number or one vector per cell, whose objects hold whole cells.

    An object is a shard (chunks and an index of them) or, without shards, one chunk.
    """

    name: str
    shape: tuple[int, int]
    """Rows and columns."""
    bands: int
    """Numbers in a cell; 1 if the array has no band axis."""
    dtype: np.dtype[Any]
    fill: float
    """Value of every number in a chunk that is not stored."""
    object_cells: tuple[int, int]
    """Rows and columns of cells in one object."""
    chunk_cells: tuple[int, int]
    """Rows and columns of cells in one chunk."""
    sharded: bool
    axes: tuple[int, ...]
    """The axis of rows, of columns and, if there is one, of bands."""
    stored_axes: tuple[int, ...]
    """The array's axes in the memory order of a chunk's bytes, the slowest first."""
    checked: bool
    """Whether each chunk ends with a CRC-32C."""
    decoders: tuple[Decode, ...]
    """Decompressors in the order in which they are applied; empty if chunks are not compressed."""
    key: Callable[[tuple[int, ...]], str]
    """Returns the store key of an object from its indices on the grid of objects."""

    @property
    def cell_bytes(self) -> int:
        """Bytes of one uncompressed cell."""
        return self.bands * self.dtype.itemsize

    @property
    def direct(self) -> bool:
        """Whether a cell's bytes are contiguous in a chunk and can be read alone."""
        return not self.decoders and self.stored_axes == self.axes

    @property
    def objects(self) -> tuple[int, int]:
        """Rows and columns of the grid of objects."""
        rows, cols = self.shape
        return -(-rows // self.object_cells[0]), -(-cols // self.object_cells[1])

    @property
    def chunks(self) -> tuple[int, int]:
        """Rows and columns of chunks in an object."""
        return (
            self.object_cells[0] // self.chunk_cells[0],
            self.object_cells[1] // self.chunk_cells[1],
        )

    def object_key(self, row: int, col: int) -> str:
        """Return the key of the object at a row and column of the grid of objects."""
        indices = [0] * len(self.axes)
        indices[self.axes[0]], indices[self.axes[1]] = row, col
        return self.key(tuple(indices))

    def decode(self, stored: UInt8[np.ndarray, " byte"]) -> Shaped[np.ndarray, "row col band"]:
        """Decode the cells of one chunk.

        Raises:
            StoreError: if the bytes are damaged.
        """
        body: Any = stored
        if self.checked:
            body, crc = stored[:-CRC_BYTES], stored[-CRC_BYTES:]
            if google_crc32c.value(np.ascontiguousarray(body)) != int.from_bytes(crc, "little"):
                raise StoreError("a chunk does not match its CRC-32C: it is damaged")
        for decoder in self.decoders:
            try:
                body = decoder(body)
            except (ValueError, RuntimeError, OSError, EOFError) as error:
                raise StoreError(f"a chunk cannot be decompressed: {error}") from error
        numbers = np.frombuffer(body, self.dtype)
        if numbers.size != math.prod(self._chunk_shape):
            raise StoreError(
                f"a chunk holds {numbers.size} numbers where {math.prod(self._chunk_shape)} belong"
            )
        cells = numbers.reshape(self._chunk_shape).transpose(self._to_cells)
        return cells if cells.ndim == 3 else cells[..., None]

    @cached_property
    def _chunk_shape(self) -> tuple[int, ...]:
        """Lengths of a chunk's axes, in the order of `stored_axes`."""
        lengths = dict(zip(self.axes, (*self.chunk_cells, self.bands), strict=False))
        return tuple(lengths[axis] for axis in self.stored_axes)

    @cached_property
    def _to_cells(self) -> tuple[int, ...]:
        """Permutation from `stored_axes` to rows, columns and bands."""
        return tuple(self.stored_axes.index(axis) for axis in self.axes)


def stored_array(array: "zarr.Array[Any]") -> StoredArray | None:
    """Read an array's byte layout from its metadata.

    Returns:
        None if only Zarr itself can read the array: bands in several chunks, other codecs, or
        numbers that are not as the processor has them.
    """
    metadata: Any = array.metadata
    if metadata.zarr_format != 3 or array.ndim not in (2, 3):
        return None
    if array.dtype.kind not in "iuf" or array.dtype != array.dtype.newbyteorder("<"):
        return None
    axes = _axes(metadata.dimension_names, array.ndim)
    outer = array.shards or array.chunks
    codecs = [codec.to_dict() for codec in metadata.codecs]
    sharded = array.shards is not None
    if sharded:
        if len(codecs) != 1 or codecs[0]["name"] != "sharding_indexed":
            return None
        sharding = codecs[0]["configuration"]
        names = [codec["name"] for codec in sharding["index_codecs"]]
        if sharding.get("index_location", "end") != "end" or names != ["bytes", "crc32c"]:
            return None
        codecs = list(sharding["codecs"])
    chain = _codec_chain(codecs, array.ndim)
    if axes is None or chain is None:
        return None
    if len(axes) == 3 and array.chunks[axes[2]] < array.shape[axes[2]]:
        return None
    stored_axes, checked, decoders = chain
    rows, cols = axes[:2]
    return StoredArray(
        name=array.path.rsplit("/", 1)[-1],
        shape=(array.shape[rows], array.shape[cols]),
        bands=array.shape[axes[2]] if len(axes) == 3 else 1,
        dtype=array.dtype,
        fill=array.fill_value.item(),
        object_cells=(outer[rows], outer[cols]),
        chunk_cells=(array.chunks[rows], array.chunks[cols]),
        sharded=sharded,
        axes=axes,
        stored_axes=stored_axes,
        checked=checked,
        decoders=decoders,
        key=lambda indices: f"{array.path}/{metadata.encode_chunk_key(indices)}".lstrip("/"),
    )


def _axes(names: Any, count: int) -> tuple[int, ...] | None:
    """Return the axes of rows (y), columns (x) and, under whatever name, bands."""
    if names is None:
        return tuple(range(count))
    if not {"y", "x"} <= set(names):
        return None
    others = [name for name in names if name not in ("y", "x")]
    if len(others) != count - 2:
        return None
    return tuple(names.index(name) for name in ("y", "x", *others))


def _codec_chain(
    codecs: list[dict[str, Any]], count: int
) -> tuple[tuple[int, ...], bool, tuple[Decode, ...]] | None:
    """Return the memory order of the axes, whether a CRC follows, and the decompressors.

    None if a codec is unknown.
    """
    order = tuple(range(count))
    decoders: list[Decode] = []
    checked = False
    for codec in codecs:
        name, configuration = codec["name"], codec.get("configuration", {})
        if checked:
            return None  # a codec after the CRC: the CRC is not the last four bytes
        if name == "transpose":
            order = tuple(order[axis] for axis in configuration["order"])
        elif name == "crc32c":
            checked = True
        elif name == "bytes":
            if configuration.get("endian") == "big":
                return None
        else:
            decoder = _decoder(name)
            if decoder is None:
                return None
            decoders.insert(0, decoder)  # decoding reverses the order of encoding
    return order, checked, tuple(decoders)


def _decoder(name: str) -> Decode | None:
    if name == "zstd":
        from numcodecs.zstd import decompress as zstd

        return zstd  # type: ignore[no-any-return]
    if name == "blosc":
        from numcodecs.blosc import decompress as blosc

        return blosc  # type: ignore[no-any-return]
    if name == "gzip":
        from gzip import decompress as gunzip

        return gunzip
    return None
