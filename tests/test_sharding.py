import struct
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from support import stores

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.sharding import EMPTY, crc_matches, index_bytes, parse_index

NOT_STORED = 2**64 - 1


def index_of(entries: list[tuple[int, int]]) -> bytes:
    body = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    return body + struct.pack("<I", google_crc32c.value(body))


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_an_index_written_is_read_back(rows: int, cols: int, data: st.DataObject) -> None:
    number = st.integers(0, 2**40)
    entry = st.one_of(st.just((NOT_STORED, NOT_STORED)), st.tuples(number, number))
    entries = data.draw(st.lists(entry, min_size=rows * cols, max_size=rows * cols))
    expected = [(EMPTY, EMPTY) if e[0] == NOT_STORED else e for e in entries]
    read = parse_index(b"chunks before it" + index_of(entries), (rows, cols))
    assert read.reshape(-1, 2).tolist() == [list(e) for e in expected]


@pytest.mark.parametrize("name", ["gulf", "fiji"])
def test_every_chunk_of_a_store_lies_where_its_index_says(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Uncompressed, the bytes there are the cells that zarr reads; compressed, their CRC holds."""
    path: Path = request.getfixturevalue(name)
    array = zarr.open_group(path, mode="r")["coordinate"]
    per_shard = stores.SHARD // stores.CHUNK
    found = 0
    for shard in path.glob("coordinate/c/*/*/0"):
        row, col = int(shard.parts[-3]), int(shard.parts[-2])
        content = shard.read_bytes()
        index = parse_index(content, (per_shard, per_shard), len(content))
        assert np.array_equal(index, parse_index(content[-index_bytes((4, 4)) :], (4, 4)))
        for i, j in np.ndindex(per_shard, per_shard):
            top, left = row * stores.SHARD + i * stores.CHUNK, col * stores.SHARD + j * stores.CHUNK
            cells = array[top : top + stores.CHUNK, left : left + stores.CHUNK]
            offset, size = index[i, j].tolist()
            if offset == EMPTY:
                assert (cells == -128).all()
                continue
            chunk = content[offset : offset + size]
            assert crc_matches(chunk)
            if name == "gulf":
                assert chunk[:-4] == cells.tobytes()
            found += 1
    assert found > 0


@given(st.integers(0, index_bytes((3, 2)) - 1), st.integers(0, 7))
def test_one_flipped_bit_is_noticed(byte: int, bit: int) -> None:
    index = bytearray(index_of([(100 * i, 100) for i in range(6)]))
    index[byte] ^= 1 << bit
    with pytest.raises(LayoutError, match="does not match its CRC"):
        parse_index(bytes(index), (3, 2))


def test_an_index_cut_off_is_refused() -> None:
    index = index_of([(0, 10)] * 4)
    for kept in (0, 3, len(index) - 1):
        with pytest.raises(LayoutError, match=f"after {kept} bytes; its index alone takes 68"):
            parse_index(index[len(index) - kept :], (2, 2))


@pytest.mark.parametrize(
    "entry",
    [(90, 11), (101, 0), (0, 101), (NOT_STORED, 1), (1, NOT_STORED), (2**63, 2**63), (2**62, 1)],
)
def test_a_chunk_outside_the_object_is_refused(entry: tuple[int, int]) -> None:
    index = index_of([(0, 100), entry])
    with pytest.raises(LayoutError, match=r"puts 1 chunks outside the object.*row 0, column 1"):
        parse_index(index, (1, 2), shard_bytes=100 + len(index))
    assert parse_index(index_of([(0, 100), (100, 0)]), (1, 2), 100 + len(index)).max() == 100


def test_numbers_that_no_object_has_are_refused_even_if_its_size_is_unknown() -> None:
    for entry in ((2**63, 1), (2**62, 2**62), (NOT_STORED, 5)):
        with pytest.raises(LayoutError, match="outside the object"):
            parse_index(index_of([entry]), (1, 1))
