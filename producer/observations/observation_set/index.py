"""The index of a set: one row per place, where its observations lie and where they come from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unigeo.producer.observations.protocol import IMAGE_MODALITIES
from unigeo.schemas.errors import ObservationsError

VERSION = 1
"""Of the form of a set."""
OBSERVED = (*IMAGE_MODALITIES, "text")


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
    for name in IMAGE_MODALITIES:
        fields += [(f"{name}_at", pa.int64()), (f"{name}_bytes", pa.int64())]
    return pa.schema(fields)


SCHEMA = _schema()


def to_parquet(rows: Sequence[Mapping[str, Any]], about: Mapping[str, str]) -> bytes:
    """Write rows as Parquet, with words about them in its metadata."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)
    return _written(table.replace_schema_metadata(dict(about)))


def concatenate(parts: Sequence[bytes]) -> bytes:
    """Put the indices of shards one after another."""
    tables = [_read(part).replace_schema_metadata(None) for part in parts]
    return _written(pa.concat_tables(tables) if tables else SCHEMA.empty_table())


def read_metadata(data: bytes) -> dict[str, str]:
    """The words about an index."""
    found = pq.read_schema(pa.BufferReader(data)).metadata or {}
    return {key.decode(): value.decode() for key, value in found.items()}


def read_columns(data: bytes, shown: str) -> dict[str, Any]:
    """Read an index: numbers as arrays, words as lists.

    Raises:
        ObservationsError: it is damaged.
    """
    try:
        table = _read(data)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ObservationsError(f"{shown} is damaged: {error}. Copy it again.") from error
    found: dict[str, Any] = {}
    for field in SCHEMA:
        column = table.column(field.name)
        words = pa.types.is_string(field.type)
        found[field.name] = column.to_pylist() if words else np.asarray(column.to_numpy())
    return found


def _read(data: bytes) -> pa.Table:
    """Read an index in this thread alone.

    A thread of Arrow's that still holds a Python object when the interpreter ends aborts it
    ("terminate called without an active exception").
    """
    file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
    return file.read(SCHEMA.names, use_threads=False).cast(SCHEMA)


def _written(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", row_group_size=65_536)
    return bytes(buffer.getvalue())
