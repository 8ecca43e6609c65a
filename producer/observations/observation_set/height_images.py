"""Patches of heights as 16-bit greyscale PNG.

Code 0 is a void; a code c above 0 stands for offset + scale (c - 1) metres. Every row is stored as
its difference from the row above (filter type 2). Of the filters of PNG this gives the smallest
files on surface models, and numpy alone writes and reads them, twice as fast as a library that
chooses a filter for each row.

Source: PNG specification, third edition, W3C (2025), sections 5, 9 and 11.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt16
from PIL import Image

from unigeo.schemas.errors import ObservationsError

CODES = 65_534
"""Largest number of steps between the lowest and the highest height of a patch."""
FINEST_M = 0.01
"""Step between codes in metres; it is larger where a patch spans more than 655 m."""
LEVEL = 1
"""Level of deflate; level 3 saves 2 to 6 % and takes twice as long."""
_UP = 2
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_DATA_OFFSET = len(_SIGNATURE) + 12 + _HEADER.size + 8  # after the header's chunk, length and name


@dataclass(frozen=True)
class EncodedHeights:
    """A patch of heights as it is stored."""

    png: bytes
    offset_m: float
    scale_m: float


def encode_heights(metres: Float[np.ndarray, "row col"]) -> EncodedHeights:
    """Encode heights as 16-bit codes; NaN is a void."""
    known = np.isfinite(metres)
    # The lowest height has code 1. Voids are put one step below it, and so get code 0.
    low, high = (metres[known].min(), metres[known].max()) if known.any() else (0.0, 0.0)
    scale = max(FINEST_M, float(high - low) / CODES)
    codes = np.rint(np.where(known, metres - low, -scale) / scale).astype(np.int32) + 1
    return EncodedHeights(to_png(codes.astype(np.uint16)), float(low), scale)


def decode_heights(
    data: bytes | memoryview, offset_m: float, scale_m: float, label: str
) -> Float[np.ndarray, "row col"]:
    """Decode heights to metres; voids are NaN.

    Args:
        data: the PNG.
        offset_m: height of code 1.
        scale_m: step between codes.
        label: name of the shard in error messages.

    Raises:
        ObservationsError: the data are damaged.
    """
    codes = from_png(data, label)
    metres = (offset_m + scale_m * (codes - 1.0)).astype(np.float32)
    if not codes.all():
        metres[codes == 0] = np.nan
    return metres


def to_png(codes: UInt16[np.ndarray, "row col"]) -> bytes:
    """Write a 16-bit greyscale PNG."""
    rows, cols = codes.shape
    # PNG filters bytes, not samples: both bytes of a big-endian sample on their own.
    pixels = codes.astype(">u2").view(np.uint8)
    lines = np.empty((rows, 1 + 2 * cols), np.uint8)
    lines[:, 0] = _UP
    lines[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=lines[1:, 1:])  # modulo 256, as the filter is
    header = _HEADER.pack(cols, rows, 16, 0, 0, 0, 0)
    parts = (
        _chunk(b"IHDR", header),
        _chunk(b"IDAT", zlib.compress(lines, LEVEL)),
        _chunk(b"IEND", b""),
    )
    return _SIGNATURE + b"".join(parts)


def from_png(data: bytes | memoryview, label: str) -> UInt16[np.ndarray, "row col"]:
    """Read a 16-bit greyscale PNG, also one that `to_png` did not write.

    Raises:
        ObservationsError: the data are damaged.
    """
    try:
        if bytes(data[_DATA_OFFSET - 4 : _DATA_OFFSET]) == b"IDAT":
            cols, rows, *form = _HEADER.unpack(data[16 : 16 + _HEADER.size])
            (size,) = struct.unpack(">I", data[_DATA_OFFSET - 8 : _DATA_OFFSET - 4])
            # Another writer may split the data into more chunks or use other filters; such files
            # are left to Pillow below.
            if form == [16, 0, 0, 0, 0] and len(data) == _DATA_OFFSET + size + 16:
                expected = rows * (1 + 2 * cols)
                inflater = zlib.decompressobj()
                # The limit keeps a damaged or malicious stream from filling the memory.
                plain = inflater.decompress(data[_DATA_OFFSET : _DATA_OFFSET + size], expected + 1)
                if not inflater.eof:  # zlib compares the checksum only at the end of the stream
                    raise ValueError("its data do not end where they should")
                lines = np.frombuffer(plain, np.uint8)
                if len(lines) == expected and (lines[:: 1 + 2 * cols] == _UP).all():
                    # A cumulative sum modulo 256 down each byte column undoes the filter.
                    pixels = lines.reshape(rows, -1)[:, 1:].cumsum(axis=0, dtype=np.uint8)
                    return pixels.view(">u2").astype(np.uint16)
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image).astype(np.uint16)
    except (OSError, ValueError, SyntaxError, struct.error, zlib.error) as error:
        raise ObservationsError(
            f"{label} is damaged ({error}); compare the shard's SHA-256 and copy it again."
        ) from error


def _chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(data, zlib.crc32(name))
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)
