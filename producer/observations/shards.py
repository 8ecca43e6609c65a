"""Shards of a set: tar archives in WebDataset's form, read whole or by the ranges of an index.

A sample is members of one key, `00000017.aerial.jpg`, `00000017.dsm.png`, `00000017.txt`, one after
another. Pictures are JPEG or PNG; heights are 16-bit PNG: 0 is a void, a code c above it stands for
offset + scale (c - 1) metres. An archive is a function of its samples alone.
"""

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from unigeo.schemas.errors import ObservationsError

CODES = 65_534
"""Steps between the lowest and the highest height of a patch, at most."""
FINEST_M = 0.01
"""Heights are kept to a centimetre, or coarser where a patch spans more than 655 m."""


@dataclass(frozen=True)
class Heights:
    """A patch of heights as it is kept."""

    png: bytes
    offset_m: float
    scale_m: float


def encode_picture(picture: UInt8[np.ndarray, "3 row col"], quality: int) -> bytes:
    """Write a picture as JPEG of a quality, full colour resolution; as PNG if it is 0."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(picture, 0, 2)))
    if quality:
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    else:
        image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def decode_picture(data: bytes, shown: str) -> UInt8[np.ndarray, "3 row col"]:
    """Read a picture back.

    Raises:
        ObservationsError: it is damaged.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB") if image.mode != "RGB" else image)
    except (OSError, ValueError, SyntaxError) as error:
        raise ObservationsError(
            f"{shown} is damaged ({error}); compare the shard's SHA-256 and copy it again."
        ) from error
    return np.moveaxis(pixels, 2, 0)


def encode_heights(metres: Float[np.ndarray, "row col"]) -> Heights:
    """Keep heights as 16-bit codes; NaN is a void."""
    known = np.isfinite(metres)
    low, high = (metres[known].min(), metres[known].max()) if known.any() else (0.0, 0.0)
    scale = max(FINEST_M, float(high - low) / CODES)
    codes = np.zeros(metres.shape, np.uint16)
    codes[known] = np.rint((metres[known] - low) / scale).astype(np.uint16) + 1
    buffer = io.BytesIO()
    Image.fromarray(codes).save(buffer, "PNG", compress_level=3)
    return Heights(buffer.getvalue(), float(low), scale)


def decode_heights(
    data: bytes, offset_m: float, scale_m: float, shown: str
) -> Float[np.ndarray, "row col"]:
    """Read heights back, in metres; NaN where there is a void.

    Raises:
        ObservationsError: they are damaged.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            codes = np.asarray(image).astype(np.float64)
    except (OSError, ValueError, SyntaxError) as error:
        raise ObservationsError(
            f"{shown} is damaged ({error}); compare the shard's SHA-256 and copy it again."
        ) from error
    metres = np.where(codes > 0, offset_m + scale_m * (codes - 1), np.nan)
    return metres.astype(np.float32)


@dataclass(frozen=True)
class Shard:
    """An archive, and where its members lie in it."""

    data: bytes
    places: dict[str, tuple[int, int]]
    """Offset and size of each member's bytes."""


def pack(members: Iterable[tuple[str, bytes]]) -> Shard:
    """Write members into one archive, in their order, without dates or owners."""
    buffer, places = io.BytesIO(), {}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            places[name] = (buffer.tell() + tarfile.BLOCKSIZE, len(data))
            tar.addfile(info, io.BytesIO(data))
    return Shard(buffer.getvalue(), places)
