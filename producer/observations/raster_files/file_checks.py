"""Checks of what a raster file claims, before memory is taken for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import Interleaving

from unigeo.producer.observations.file_contents import stored_bytes
from unigeo.producer.observations.raster_files.formats import VRT
from unigeo.schemas.errors import ObservationsError

SMALL_BYTES = 1 << 30
"""Unpacked size up to which a raster is accepted whatever the size of its file."""
MAX_COMPRESSION = 100_000
"""Largest accepted ratio of unpacked to stored bytes: a hundred times deflate's, as for sparse
tiles."""
BLOCK_BYTES = 1 << 30
"""Largest accepted size of one block of a file, unpacked."""
CHECKED_BLOCKS = 4096
"""Largest number of blocks whose offset in the file is checked at opening."""


def check_claim(path: Path | str, shape: tuple[int, ...], pixel_bytes: int, label: str) -> None:
    """Refuse a file that claims more pixels than one of its size holds.

    Raises:
        ObservationsError: with the claim.
    """
    claimed = shape[0] * shape[1] * pixel_bytes
    stored = stored_bytes(path) if isinstance(path, Path) else claimed
    if claimed > SMALL_BYTES and claimed > MAX_COMPRESSION * stored:
        raise ObservationsError(
            f"{label} claims {shape[0]:,} x {shape[1]:,} pixels, {claimed:,} bytes, and "
            f"has {stored:,} bytes: no codec packs {MAX_COMPRESSION:,} to one. It is damaged, or "
            "made to do harm; fetch it again from where you trust it."
        )


def check_size(dataset: Any, bands: Sequence[int], path: Path | str, form: str, label: str) -> None:
    """Refuse a file whose header claims more pixels than a file of its size holds.

    A file behind an address is fetched block by block, and a VRT holds no pixels, so only their
    blocks are checked.

    Raises:
        ObservationsError: with the claim.
    """
    # Rasterio calls complex integers "complex_int16", which numpy does not know.
    sizes = [np.dtype(dataset.dtypes[band - 1].replace("_int", "")).itemsize for band in bands]
    if form != VRT:
        check_claim(path, (dataset.height, dataset.width), sum(sizes), label)
    rows, cols = max(dataset.block_shapes)
    bands_per_block = dataset.count if dataset.interleaving == Interleaving.pixel else 1
    block = rows * cols * max(sizes) * bands_per_block
    if block > BLOCK_BYTES:
        raise ObservationsError(
            f"{label} is stored in blocks of {rows:,} x {cols:,} pixels, {block:,} bytes, each "
            f"read whole; at most {BLOCK_BYTES:,} are. Tile it: `gdal_translate -of COG`."
        )


def check_complete(dataset: Any, path: Path, label: str) -> None:
    """Refuse a TIFF that ends before one of its blocks does.

    Raises:
        ObservationsError: with where it should end.
    """
    size = path.stat().st_size
    rows, cols = dataset.block_shapes[0]
    count = (-(-dataset.height // rows), -(-dataset.width // cols))
    blocks = count[0] * count[1]
    for number in np.unique(np.linspace(0, blocks - 1, min(blocks, CHECKED_BLOCKS)).astype(int)):
        name = f"{number % count[1]}_{number // count[1]}"
        offset = dataset.get_tag_item(f"BLOCK_OFFSET_{name}", "TIFF", bidx=1)
        length = dataset.get_tag_item(f"BLOCK_SIZE_{name}", "TIFF", bidx=1)
        if offset is not None and int(offset) + int(length or 0) > size:
            raise ObservationsError(
                f"{label} is cut short: a block ends at byte {int(offset) + int(length or 0)} and "
                f"the file has {size}. Fetch it again."
            )
