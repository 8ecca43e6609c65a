"""Shards of a set: tar archives in WebDataset's form, read whole or by the ranges of an index.

A sample is members of one key, `00000017.aerial.jpg`, `00000017.dsm.png`, `00000017.txt`, one after
another. Pictures are JPEG or PNG, heights 16-bit PNG (`heights`). An archive is a function of its
samples alone.
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


def encode_image(picture: UInt8[np.ndarray, "3 row col"], quality: int) -> bytes:
    """Write a picture as JPEG of a quality, full colour resolution; as PNG if it is 0."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(picture, 0, 2)))
    if quality:
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def decode_image(
    data: bytes | memoryview, size: tuple[int, int], shown: str
) -> UInt8[np.ndarray, "3 row col"]:
    """Read a picture of so many rows and columns back.

    Raises:
        ObservationsError: it is damaged, or of another size.
    """
    try:
        if data[:3] == _JPEG:  # its header says nothing new: without it twice as fast, if small
            image = Image.frombytes("RGB", size[::-1], data, "jpeg", "RGB", "")
        else:
            image = Image.open(io.BytesIO(data)).convert("RGB")
        return np.moveaxis(np.asarray(image), 2, 0)
    except (OSError, ValueError, SyntaxError) as error:
        raise ObservationsError(
            f"{shown} is damaged ({error}); compare the shard's SHA-256 and copy it again."
        ) from error


@dataclass(frozen=True)
class TarShard:
    """An archive, and where its members lie in it."""

    data: bytes
    spans: dict[str, tuple[int, int]]
    """Offset and size of each member's bytes."""


def pack(members: Iterable[tuple[str, bytes]]) -> TarShard:
    """Write members into one archive, in their order, without dates or owners."""
    buffer, spans = io.BytesIO(), {}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            spans[name] = (buffer.tell() + tarfile.BLOCKSIZE, len(data))
            tar.addfile(info, io.BytesIO(data))
    return TarShard(buffer.getvalue(), spans)
