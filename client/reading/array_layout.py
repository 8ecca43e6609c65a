"""How the bytes of one array of cells lie in its stored objects."""

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
"""From a buffer of bytes to another."""


@dataclass(frozen=True)
class StoredArray:
    """One number or one vector per cell, in objects of whole cells.

    An object is a shard (chunks and an index of them) or, without shards, one chunk.
    """

    name: str
    shape: tuple[int, int]
    """Rows and columns."""
    bands: int
    """Numbers in a cell; 1 where the array has no band axis."""
    dtype: np.dtype[Any]
    fill: int
    """What a cell of a chunk that is not stored holds."""
    object_cells: tuple[int, int]
    """Rows and columns of cells in one object."""
    chunk_cells: tuple[int, int]
    """Rows and columns of cells in one chunk."""
    sharded: bool
    axes: tuple[int, ...]
    """Where rows, columns and, if there are any, bands stand among the array's axes."""
    stored_axes: tuple[int, ...]
    """The array's axes in the order in which a chunk's bytes run, the slowest first."""
    checked: bool
    """Whether each chunk ends in a CRC-32C."""
    decoders: tuple[Decode, ...]
    """Decompressors, the first to be used first; none where the bytes are the numbers."""
    key: Callable[[tuple[int, ...]], str]
    """From the object's place on the grid of objects to its key in the store."""

    @property
    def cell_bytes(self) -> int:
        """Bytes of one cell, uncompressed."""
        return self.bands * self.dtype.itemsize

    @property
    def direct(self) -> bool:
        """Whether a cell's bytes lie together in a chunk and can be read alone."""
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
        """Key of the object in a row and column of the grid of objects."""
        place = [0] * len(self.axes)
        place[self.axes[0]], place[self.axes[1]] = row, col
        return self.key(tuple(place))

    def decode(self, stored: UInt8[np.ndarray, " byte"]) -> Shaped[np.ndarray, "row col band"]:
        """The cells of one chunk.

        Raises:
            StoreError: if the bytes are damaged.
        """
        body: Any = stored
        if self.checked:
            body, own = stored[:-CRC_BYTES], stored[-CRC_BYTES:]
            if google_crc32c.value(np.ascontiguousarray(body)) != int.from_bytes(own, "little"):
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
        """Lengths of a chunk's axes, in the order in which its bytes run."""
        lengths = dict(zip(self.axes, (*self.chunk_cells, self.bands), strict=False))
        return tuple(lengths[axis] for axis in self.stored_axes)

    @cached_property
    def _to_cells(self) -> tuple[int, ...]:
        """Where rows, columns and bands stand among these axes."""
        return tuple(self.stored_axes.index(axis) for axis in self.axes)


def stored_array(array: "zarr.Array[Any]") -> StoredArray | None:
    """Read from an array's metadata how its bytes lie.

    Returns:
        None if they lie in a way that only Zarr itself knows how to read: bands cut into several
        chunks, other codecs, another kind of number.
    """
    metadata: Any = array.metadata
    if metadata.zarr_format != 3 or array.ndim not in (2, 3) or array.dtype.itemsize != 1:
        return None
    axes = _axes(metadata.dimension_names, array.ndim)
    outer = array.shards or array.chunks
    codecs = [codec.to_dict() for codec in metadata.codecs]
    sharded = array.shards is not None
    if sharded:
        if len(codecs) != 1 or codecs[0]["name"] != "sharding_indexed":
            return None
        inside = codecs[0]["configuration"]
        names = [codec["name"] for codec in inside["index_codecs"]]
        if inside.get("index_location", "end") != "end" or names != ["bytes", "crc32c"]:
            return None
        codecs = list(inside["codecs"])
    chain = _chain(codecs, array.ndim)
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
        fill=int(array.fill_value),
        object_cells=(outer[rows], outer[cols]),
        chunk_cells=(array.chunks[rows], array.chunks[cols]),
        sharded=sharded,
        axes=axes,
        stored_axes=stored_axes,
        checked=checked,
        decoders=decoders,
        key=lambda place: f"{array.path}/{metadata.encode_chunk_key(place)}".lstrip("/"),
    )


def _axes(names: Any, count: int) -> tuple[int, ...] | None:
    """Where rows, columns and bands, whatever their dimension is called, stand among the axes."""
    if names is None:
        return tuple(range(count))
    if not {"y", "x"} <= set(names):
        return None
    others = [name for name in names if name not in ("y", "x")]
    if len(others) != count - 2:
        return None
    return tuple(names.index(name) for name in ("y", "x", *others))


def _chain(
    codecs: list[dict[str, Any]], count: int
) -> tuple[tuple[int, ...], bool, tuple[Decode, ...]] | None:
    """Order of the axes in the bytes, whether a CRC ends them, and the decompressors."""
    order = tuple(range(count))
    decoders: list[Decode] = []
    checked = False
    for codec in codecs:
        name, configuration = codec["name"], codec.get("configuration", {})
        if checked:
            return None  # something after the CRC
        if name == "transpose":
            order = tuple(order[axis] for axis in configuration["order"])
        elif name == "crc32c":
            checked = True
        elif name != "bytes":
            decoder = _decoder(name)
            if decoder is None:
                return None
            decoders.insert(0, decoder)
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
