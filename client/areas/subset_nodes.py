"""Groups and small arrays of a new store, with the metadata of those of an old store."""

import json
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import zarr

_GROUP = {"zarr_format": 3, "node_type": "group"}


def bytes_codec(dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    """Return the codecs of an array whose chunks are the plain numbers."""
    if dtype.itemsize == 1:
        return [{"name": "bytes"}]
    return [{"name": "bytes", "configuration": {"endian": "little"}}]


class SubsetNodes:
    """Writes groups and arrays of a new store, with the metadata of those of an old store."""

    def __init__(self, source: "zarr.Group", folder: Path) -> None:
        """Take the root of the old store and the folder of the new one."""
        self.source, self.folder = source, folder
        self.written: dict[str, dict[str, Any]] = {}
        """Metadata of every group and array written so far, by path; the root is ""."""

    def read(self, name: str) -> np.ndarray:
        """Read a small array of the old store."""
        return np.asarray(cast(Any, self.source[name])[...])

    def write_root(self, attributes: dict[str, Any]) -> None:
        """Write the root's metadata; `consolidate` writes them once more."""
        self.write_json("", {"attributes": attributes, **_GROUP})

    def write_json(self, name: str, document: dict[str, Any]) -> None:
        """Write the metadata of a group or an array."""
        path = self.folder / name / "zarr.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")
        self.written[name] = document

    def write_group(self, name: str) -> None:
        """Write a group with the attributes of the old one."""
        self.write_json(name, {"attributes": dict(self.source[name].attrs), **_GROUP})

    def metadata_like(
        self, name: str, shape: tuple[int, ...], chunk: tuple[int, ...]
    ) -> dict[str, Any]:
        """Return the metadata of an array like the old one, with another shape and chunk."""
        document: dict[str, Any] = deepcopy(self.source[name].metadata.to_dict())
        document["shape"] = list(shape)
        document["chunk_grid"]["configuration"]["chunk_shape"] = list(chunk)
        return document

    def write_array(
        self,
        name: str,
        values: np.ndarray,
        dimensions: tuple[str, ...] | None = None,
        **attributes: Any,
    ) -> None:
        """Write an array like the old one as one plain chunk, as publication writes small arrays.

        An empty array is not written.
        """
        if not values.size:
            return
        document = self.metadata_like(
            name, values.shape, tuple(max(1, side) for side in values.shape)
        )
        document["codecs"] = bytes_codec(values.dtype)
        if dimensions is not None:
            document["dimension_names"] = list(dimensions)
        document["attributes"] = dict(document["attributes"]) | attributes
        self._write_chunk(name, document, values)

    def copy_array(self, name: str) -> None:
        """Copy an array of one chunk with its codecs."""
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        array = cast(Any, self.source[name])
        self.write_json(name, deepcopy(array.metadata.to_dict()))
        key = f"{array.path}/{array.metadata.encode_chunk_key((0,) * array.ndim)}".lstrip("/")
        body = cast(Any, sync(self.source.store.get(key, default_buffer_prototype())))
        chunk = self.folder.joinpath(name, "c", *["0"] * array.ndim)
        chunk.parent.mkdir(parents=True, exist_ok=True)
        chunk.write_bytes(body.to_bytes())

    def write_new_array(self, name: str, values: np.ndarray, *dimensions: str) -> None:
        """Write an array that the old store may lack as one plain chunk."""
        import zarr
        from zarr.storage import MemoryStore

        # Zarr itself writes the metadata of a new array, in memory.
        array = zarr.create_array(
            MemoryStore(),
            shape=values.shape,
            dtype=values.dtype,
            chunks=tuple(max(1, side) for side in values.shape),
            compressors=None,
            filters=None,
            fill_value=0,
            dimension_names=dimensions,
        )
        self._write_chunk(name, array.metadata.to_dict(), values)

    def _write_chunk(self, name: str, document: dict[str, Any], values: np.ndarray) -> None:
        self.write_json(name, document)
        chunk = self.folder.joinpath(name, "c", *["0"] * values.ndim)
        chunk.parent.mkdir(parents=True, exist_ok=True)
        chunk.write_bytes(values.astype(values.dtype.newbyteorder("<")).tobytes())

    def consolidate(self) -> None:
        """Write the root again with all metadata in it: last, since it makes the store readable."""
        root = self.written.pop("")
        consolidated = {"kind": "inline", "must_understand": False, "metadata": self.written}
        self.write_json("", root | {"consolidated_metadata": consolidated})
