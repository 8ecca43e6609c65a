"""A field of the leading numbers of each vector, where these serve alone.

A stored vector is a direction, v = q / |q|, so its leading numbers are one too: the first `dims` of
q over their own length. Of a vector that is read alone only these bytes are read. Very few numbers
may all be 0 in some cell, which then has no unit vector: an error says so.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Int8

from unigeo.client.reading.cell_protocol import Cells, Transform
from unigeo.schemas.errors import LayoutError

if TYPE_CHECKING:
    import xarray as xr


class LeadingCells:
    """The leading bands of other cells."""

    def __init__(self, inner: Cells, dims: int) -> None:
        self.inner, self.bands, self.dtype = inner, dims, inner.dtype

    def gather(
        self,
        rowcol: Int[np.ndarray, "cell 2"],
        out: np.ndarray,
        *,
        bands: slice = slice(None),
        transform: Transform | None = None,
        **options: Any,
    ) -> None:
        """Read cells into `out`; see `Cells.gather`, which lists the other options."""
        wanted = range(self.bands)[bands]
        to_unit = None if transform is None else partial(_transformed, transform)
        self.inner.gather(
            rowcol, out, bands=slice(wanted.start, wanted.stop), transform=to_unit, **options
        )

    def cost(self, rowcol: Int[np.ndarray, "cell 2"]) -> list[tuple[int, int]]:
        """Bound what gathering the cells reads by what their full vectors take."""
        return self.inner.cost(rowcol)


def leading_field(field: Any, dims: int) -> Any:
    """Return a field of the leading numbers of each vector.

    Args:
        field: a `StoredField`, which is not changed.
        dims: how many numbers of each vector to keep; a modality of fewer keeps all of its own.

    Raises:
        LayoutError: if no modality has as many.
    """
    widths = field.layout.widths_of(field.modalities)
    most = max(widths.values())
    if not isinstance(dims, int | np.integer) or not 1 <= dims <= most:
        raise LayoutError(
            f"dims is a whole number from 1 to {most}, the numbers of a vector, not {dims!r}"
        )
    if dims == most:
        return field
    modalities = frozenset(name for name, width in widths.items() if width > dims)
    kept = {name: min(width, int(dims)) for name, width in widths.items()}
    reopen = field.reopen
    return replace(
        field,
        layout=replace(field.layout, bands=min(field.bands, int(dims)), widths=kept),
        cells=partial(_leading_cells, field.cells, modalities, int(dims)),
        read=partial(_leading_window, field.read, modalities, int(dims)),
        opened=partial(_leading_dataset, field.opened, field.layout.band_dimensions, int(dims)),
        reopen=None if reopen is None else (_reopen, (*reopen, int(dims)), {}),
    )


def leading_directions(
    vectors: Float[np.ndarray, "*shape band"], dims: int
) -> Float[np.ndarray, "*shape dim"]:
    """Return the leading numbers of unit vectors, at unit length; zeros where all are 0."""
    if dims >= vectors.shape[-1]:
        return vectors
    kept = vectors[..., :dims]
    length = np.linalg.norm(kept, axis=-1, keepdims=True)
    directions: np.ndarray = np.divide(kept, length, out=np.zeros_like(kept), where=length > 0)
    return directions


def no_direction_error(bands: int) -> LayoutError:
    """Return the error of a stored vector whose numbers are all 0."""
    return LayoutError(
        f"all {bands} numbers that are read of some vector are 0, so that it has no direction: ask "
        "for more leading numbers, such as dims=8; if these are all, the store is damaged"
    )


def _transformed(transform: Transform, stored: Int8[np.ndarray, "row band"]) -> np.ndarray:
    """Transform the leading numbers of cells, which must have a direction."""
    if not stored.any(axis=1).all():
        raise no_direction_error(stored.shape[1])
    return transform(stored)


def _leading_cells(
    cells: Callable[[str], Cells], modalities: frozenset[str], dims: int, name: str
) -> Cells:
    inner = cells(name)
    return LeadingCells(inner, dims) if name in modalities else inner


def _leading_window(
    read: Callable[[str, slice, slice], np.ndarray],
    modalities: frozenset[str],
    dims: int,
    name: str,
    rows: slice,
    cols: slice,
) -> np.ndarray:
    window = read(name, rows, cols)
    return window[..., :dims] if name in modalities else window


def _leading_dataset(
    opened: "Callable[[], xr.Dataset]", dimensions: dict[str, int], dims: int
) -> "xr.Dataset":
    dataset = opened()
    kept = {name: slice(0, dims) for name in dimensions if name in dataset.dims}
    return dataset.isel(kept)


def _reopen(
    function: Callable[..., Any],
    values: tuple[Any, ...],
    options: dict[str, Any],
    dims: int,
) -> Any:
    """Open a field in another process, and take its leading numbers."""
    return leading_field(function(*values, **options), dims)
