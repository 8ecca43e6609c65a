"""Shards of a set: tar archives in WebDataset's format, read whole or by byte ranges of an index.

A sample consists of consecutive members with one key: `00000017.aerial.jpg`, `00000017.dsm.png`,
`00000017.txt`. Images are JPEG or PNG, heights 16-bit PNG (`height_images`). The bytes of an
archive depend on its samples alone.
"""

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from unigeo.schemas.errors import ObservationsError

_JPEG = b"\xff\xd8\xff"


def encode_image(image: UInt8[np.ndarray, "3 row col"], quality: int) -> bytes:
    """Encode an image as JPEG without chroma subsampling, or as PNG if `quality` is 0."""
    buffer = io.BytesIO()
    pixels = Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, 2)))
    if quality:
        pixels.save(buffer, "JPEG", quality=quality, subsampling=0)
    else:
        pixels.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def decode_image(
    data: bytes | memoryview, size: tuple[int, int], label: str
) -> UInt8[np.ndarray, "3 row col"]:
    """Decode an image.

    Args:
        data: JPEG or PNG.
        size: its rows and columns.
        label: name of the shard in error messages.

    Raises:
        ObservationsError: the data are damaged, or the image has another size.
    """
    try:
        if data[:3] == _JPEG:
            # The size is known, so the header need not be parsed: twice as fast for small images.
            image = Image.frombytes("RGB", size[::-1], data, "jpeg", "RGB", "")
        else:
            image = Image.open(io.BytesIO(data)).convert("RGB")
        return np.moveaxis(np.asarray(image), 2, 0)
    except (OSError, ValueError, SyntaxError) as error:
        raise ObservationsError(
            f"{label} is damaged ({error}); compare the shard's SHA-256 and copy it again."
        ) from error


@dataclass(frozen=True)
class TarShard:
    """An archive, and where its members are in it."""

    data: bytes
    spans: dict[str, tuple[int, int]]
    """Offset and size of each member's bytes."""


def pack(members: Iterable[tuple[str, bytes]]) -> TarShard:
    """Write members into one archive, in the order given, without dates or owners."""
    buffer, spans = io.BytesIO(), {}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            # In the USTAR format a member's bytes follow its header of one block.
            spans[name] = (buffer.tell() + tarfile.BLOCKSIZE, len(data))
            tar.addfile(info, io.BytesIO(data))
    return TarShard(buffer.getvalue(), spans)
