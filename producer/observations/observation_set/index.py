"""The index of a set: one row per location, with offsets and origins of its observations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unigeo.schemas.errors import ObservationsError

VERSION = 1
"""Version of the format of a set."""
PATCHES = ("aerial", "street", "dsm")
"""Modalities of a set that are patches of pixels."""
OBSERVED = (*PATCHES, "text")
"""Modalities that a source observes, as opposed to the coordinate."""


def _schema() -> pa.Schema:
    fields = [
        ("key", pa.int64()),
        ("shard", pa.int32()),
        ("lon", pa.float64()),
        ("lat", pa.float64()),
        ("cell", pa.uint64()),
        ("split", pa.string()),
        ("text", pa.string()),
        ("panorama", pa.int64()),
        ("dsm_offset_m", pa.float64()),
        ("dsm_scale_m", pa.float64()),
    ]
    for name in OBSERVED:
        fields += [
            (f"{name}_{what}", pa.string()) for what in ("item", "date", "licence", "credit")
        ]
        fields += [(f"{name}_reason", pa.string()), (f"{name}_numbers", pa.string())]
    for name in PATCHES:
        fields += [(f"{name}_at", pa.int64()), (f"{name}_bytes", pa.int64())]
    return pa.schema(fields)


SCHEMA = _schema()


def to_parquet(rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> bytes:
    """Encode rows as Parquet, with `about` as its metadata."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)
    return _encode(table.replace_schema_metadata(dict(about)))


def concatenate(parts: Sequence[bytes]) -> bytes:
    """Concatenate the indices of shards, without their metadata."""
    tables = [_read(part).replace_schema_metadata(None) for part in parts]
    return _encode(pa.concat_tables(tables) if tables else SCHEMA.empty_table())


def read_metadata(data: bytes, label: str = "the index of a shard") -> dict[str, str]:
    """Read the metadata of an index.

    Args:
        data: the Parquet file.
        label: name of the file in error messages.

    Raises:
        ObservationsError: the file is damaged.
    """
    try:
        metadata = pq.read_schema(pa.BufferReader(data)).metadata or {}
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ObservationsError(f"{label} is damaged: {error}. Copy it again.") from error
    return {key.decode(): value.decode() for key, value in metadata.items()}


def read_columns(data: bytes, label: str) -> dict[str, Any]:
    """Read an index by column: numbers as arrays, text as lists.

    Args:
        data: the Parquet file.
        label: name of the file in error messages.

    Raises:
        ObservationsError: the file is damaged.
    """
    try:
        table = _read(data)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ObservationsError(f"{label} is damaged: {error}. Copy it again.") from error
    columns: dict[str, Any] = {}
    for field in SCHEMA:
        column = table.column(field.name)
        is_text = pa.types.is_string(field.type)
        columns[field.name] = column.to_pylist() if is_text else np.asarray(column.to_numpy())
    return columns


def _read(data: bytes) -> pa.Table:
    """Read an index without Arrow's threads."""
    # A thread of Arrow's that still holds a Python object when the interpreter ends aborts it
    # ("terminate called without an active exception").
    file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
    return file.read(SCHEMA.names, use_threads=False).cast(SCHEMA)


def _encode(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", row_group_size=65_536)
    return bytes(buffer.getvalue())
