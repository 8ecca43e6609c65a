"""Checks of NetCDF files and Zarr stores of others, before an array of them is opened."""

from pathlib import Path
from typing import Any

import numpy as np

from unigeo.producer.observations.raster_files.file_checks import BLOCK_BYTES
from unigeo.producer.observations.raster_files.formats import ZARR
from unigeo.schemas.errors import MissingExtraError, ObservationsError
from unigeo.schemas.io.stores import open_store

COORDINATE_NUMBERS = 1 << 24
"""Largest number of coordinates along a dimension, which are read whole."""
CODECS = frozenset((
    "bytes", "crc32c", "zstd", "blosc", "gzip", "zlib", "transpose", "sharding_indexed", "lz4",
    "lzma", "bz2", "shuffle", "delta", "fixedscaleoffset", "quantize", "bitround", "astype",
    "adler32", "crc32", "fletcher32", "jenkins_lookup3", "zfpy", "vlen-utf8", "vlen_utf8",
    "vlen-bytes", "vlen_bytes",
))  # fmt: skip
"""Codecs of Zarr arrays that are decoded; `pickle` runs code."""


def check_arrays(path: Path | str, form: str, label: str) -> dict[str, Any]:
    """Refuse what leads elsewhere, runs code, or takes the memory.

    Returns:
        Options with which xarray opens the file.

    Raises:
        ObservationsError: with the array or link.
    """
    if form == ZARR:
        consolidated = _check_zarr(path, label)
        return {"engine": "zarr", "consolidated": consolidated}
    assert isinstance(path, Path)
    if form == "NetCDF-3":
        return {"engine": "scipy"}
    _check_hdf5(path, label)
    return {"engine": "h5netcdf"}


def _check_zarr(path: Path | str, label: str) -> bool:
    """Check the arrays of a store, and return whether the root holds all metadata."""
    import zarr

    if isinstance(path, Path):
        link = next((one for one in path.rglob("*") if one.is_symlink()), None)
        if link is not None:
            raise ObservationsError(
                f"{label} holds the link {link.relative_to(path)}. Copy what it leads to."
            )
    group = zarr.open(open_store(str(path)), mode="r")
    if isinstance(group, zarr.Array):
        raise ObservationsError(f"{label} is a single array. Name the group that it is in.")
    for name, array in group.members(max_depth=None):
        if not isinstance(array, zarr.Array):
            continue
        metadata = array.metadata.to_dict()
        codecs = _codec_names([metadata[key] for key in _CODEC_KEYS if metadata.get(key)])
        unknown = sorted(codecs - CODECS)
        if unknown:
            raise ObservationsError(
                f"{label}: array {name!r} is encoded with {unknown[0]!r}, which is not decoded. "
                "Write it with zstd or blosc."
            )
        _check_shape(name, array.shape, array.chunks, array.dtype, label)
    return group.metadata.consolidated_metadata is not None


_CODEC_KEYS = ("codecs", "compressor", "filters")


def _codec_names(node: Any) -> set[str]:
    """Collect the names of codecs in metadata, those within a shard too."""
    if isinstance(node, dict):
        name = node.get("name", node.get("id"))
        own = {str(name).removeprefix("numcodecs.")} if name is not None else set()
        return own.union(*(_codec_names(node[key]) for key in node if key == "configuration"))
    if isinstance(node, list | tuple):
        return set().union(*(_codec_names(one) for one in node))
    return set()


def _check_hdf5(path: Path, label: str) -> None:
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(
            f"{label} is NetCDF, which h5netcdf reads: pip install 'unigeo[produce]'"
        ) from error
    with h5py.File(path, "r") as file:
        left = [("", file)]
        while left:
            prefix, group = left.pop()
            for name in group:
                link = group.get(name, getlink=True)
                where = f"{prefix}/{name}"
                if isinstance(link, h5py.ExternalLink):
                    raise ObservationsError(
                        f"{label} links {where} to {link.filename}. Copy it into one file."
                    )
                if isinstance(link, h5py.SoftLink):
                    continue  # what it names is visited by its own name
                node = group[name]
                if isinstance(node, h5py.Group):
                    left.append((where, node))
                elif isinstance(node, h5py.Dataset):
                    if node.external or node.is_virtual:
                        raise ObservationsError(
                            f"{label}: the numbers of {where} lie in other files. Copy them into "
                            "one file."
                        )
                    _check_shape(where, node.shape or (), node.chunks, node.dtype, label)


def _check_shape(
    name: str, shape: tuple[int, ...], chunks: tuple[int, ...] | None, dtype: Any, label: str
) -> None:
    """Refuse coordinates and chunks that take the memory."""
    if len(shape) == 1 and shape[0] > COORDINATE_NUMBERS:
        raise ObservationsError(
            f"{label}: {name!r} claims {shape[0]:,} numbers along one dimension; at most "
            f"{COORDINATE_NUMBERS:,} are read. Split it."
        )
    size = (
        int(np.prod([int(side) for side in chunks or ()], dtype=object)) * np.dtype(dtype).itemsize
    )
    if size > BLOCK_BYTES:
        raise ObservationsError(
            f"{label}: {name!r} is stored in chunks of {size:,} bytes, each read whole; at most "
            f"{BLOCK_BYTES:,} are. Write it in smaller ones."
        )
