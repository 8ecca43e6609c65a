"""A new store's groups and small arrays, made after those of an old one."""

import json
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    import zarr

_GROUP = {"zarr_format": 3, "node_type": "group"}


def bytes_alone(dtype: np.dtype[Any]) -> list[dict[str, Any]]:
    """The codecs of an array whose chunks are the numbers and nothing else."""
    if dtype.itemsize == 1:
        return [{"name": "bytes"}]
    return [{"name": "bytes", "configuration": {"endian": "little"}}]


class SubsetNodes:
    """Groups and arrays of the new store, made after those of the old one."""

    def __init__(self, source: "zarr.Group", folder: Path) -> None:
        """Take the root of the old store and the folder of the new one."""
        self.source, self.folder = source, folder
        self.written: dict[str, dict[str, Any]] = {}

    def read(self, name: str) -> np.ndarray:
        """A small array of the old store."""
        return np.asarray(cast(Any, self.source[name])[...])

    def write_root(self, attributes: dict[str, Any]) -> None:
        """The root, which `consolidate` writes once more."""
        self.write_json("", {"attributes": attributes, **_GROUP})

    def write_json(self, name: str, document: dict[str, Any]) -> None:
        """Metadata of a group or an array."""
        place = self.folder / name / "zarr.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(document, indent=2), encoding="utf-8")
        self.written[name] = document

    def write_group(self, name: str) -> None:
        """A group with the attributes of the old one."""
        self.write_json(name, {"attributes": dict(self.source[name].attrs), **_GROUP})

    def describe(self, name: str, shape: tuple[int, ...], chunk: tuple[int, ...]) -> dict[str, Any]:
        """Metadata of an array like the old one, of another shape."""
        document: dict[str, Any] = deepcopy(self.source[name].metadata.to_dict())
        document["shape"] = list(shape)
        document["chunk_grid"]["configuration"]["chunk_shape"] = list(chunk)
        return document

    def write_plain(
        self,
        name: str,
        values: np.ndarray,
        dimensions: tuple[str, ...] | None = None,
        **attributes: Any,
    ) -> None:
        """An array of one chunk, without codecs; as publication writes all small ones.

        One without numbers is left out.
        """
        if not values.size:
            return
        document = self.describe(name, values.shape, tuple(max(1, side) for side in values.shape))
        document["codecs"] = bytes_alone(values.dtype)
        if dimensions is not None:
            document["dimension_names"] = list(dimensions)
        document["attributes"] = dict(document["attributes"]) | attributes
        self._write_chunk(name, document, values)

    def write_new(self, name: str, values: np.ndarray, *dimensions: str) -> None:
        """The same, of an array that the old store may lack."""
        import zarr
        from zarr.storage import MemoryStore

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
        """Repeat everything in the root, last."""
        root = self.written.pop("")
        known = {"kind": "inline", "must_understand": False, "metadata": self.written}
        self.write_json("", root | {"consolidated_metadata": known})
