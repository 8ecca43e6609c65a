"""Limits on the sizes that metadata claim, checked before memory is allocated.

A Zarr array of a few bytes of metadata can claim 10^15 bytes, which a reader would fill with the
fill value until memory runs out. So arrays, chunks and objects that claim more than a field can
need are refused.
"""

import math
from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import LayoutError, StoreError

if TYPE_CHECKING:
    import zarr

WHOLE_BYTES = 4 << 30
"""Largest array that is read whole, in bytes: weights, coordinates, the manifest, concepts."""
CHUNK_BYTES = 1 << 30
"""Largest decoded chunk, in bytes."""
DOCUMENT_BYTES = 64 << 20
"""Largest JSON document, in bytes."""
OBJECT_BYTES = 4 << 30
"""Largest stored object that is read whole, in bytes; a shard of the default layout has 48 MiB."""
MOST_CELLS = 10**12
"""Largest number of cells of a grid: the globe has 5 x 10^10 at 100 m."""
MOST_ALONG = 1 << 26
"""Largest number of cells along a side of a grid: the equator has 3.4 x 10^7 at 1 m."""
MOST_BANDS = 1 << 20
"""Largest number of bands of a vector."""


def check_memory(array: "zarr.Array[Any]", url: Any) -> None:
    """Refuse an array that is read whole and claims more memory than any can need.

    Raises:
        LayoutError: naming the array and its size.
    """
    size = math.prod(array.shape) * array.dtype.itemsize
    if size > WHOLE_BYTES:
        raise LayoutError(
            f"array {array.path!r} of {url} claims {size:,} bytes ({_shape(array.shape)} of "
            f"{array.dtype}); at most {WHOLE_BYTES:,} are read whole. The store is damaged, or "
            "made to do harm: copy it anew from where you trust it."
        )
    check_chunk(array, url)


def check_chunk(array: "zarr.Array[Any]", url: Any) -> None:
    """Refuse an array whose chunks claim more memory than any can need.

    Raises:
        LayoutError: naming the array and its chunks.
    """
    size = math.prod(array.chunks) * array.dtype.itemsize
    if size > CHUNK_BYTES:
        raise LayoutError(
            f"array {array.path!r} of {url} has chunks of {size:,} bytes ({_shape(array.chunks)} "
            f"of {array.dtype}); at most {CHUNK_BYTES:,} are decoded at once. The store is "
            "damaged, or made to do harm: copy it anew from where you trust it."
        )


def check_object(size_bytes: int, key: str, limit: int = OBJECT_BYTES) -> None:
    """Refuse an object that is read whole and is larger than any of its kind.

    Raises:
        StoreError: naming the object.
    """
    if size_bytes > limit:
        raise StoreError(
            f"{key} has {size_bytes:,} bytes; at most {limit:,} are read whole. It is not what its "
            "name says."
        )


def grid_size_problem(shape: tuple[int, int]) -> str | None:
    """Describe what is wrong with the size that a grid claims; None if nothing is."""
    rows, cols = shape
    if min(shape) < 1:
        return f"the grid claims {rows:,} x {cols:,} cells"
    if rows * cols > MOST_CELLS or max(shape) > MOST_ALONG:
        return (
            f"the grid claims {rows:,} x {cols:,} cells; at most {MOST_CELLS:.0e} in all and "
            f"{MOST_ALONG:,} along a side are read"
        )
    return None


def _shape(sides: tuple[int, ...]) -> str:
    return " x ".join(f"{side:,}" for side in sides) or "one"
