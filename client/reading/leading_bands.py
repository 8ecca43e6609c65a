"""A field of the leading numbers of each vector, where these serve alone.

A stored vector is a direction, v = q / |q|, so its leading numbers are one too: the first `dims` of
q over their own length. Of a vector that is read alone only these bytes are read.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from unigeo.client.reading.cell_protocol import Cells, OnProgress, Transform
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
        out_rows: Int[np.ndarray, " cell"] | None = None,
        transform: Transform | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Read cells into `out`; see `Cells.gather`."""
        wanted = range(self.bands)[bands]
        self.inner.gather(
            rowcol,
            out,
            bands=slice(wanted.start, wanted.stop),
            out_rows=out_rows,
            transform=transform,
            on_progress=on_progress,
        )

    def cost(self, rowcol: Int[np.ndarray, "cell 2"]) -> list[tuple[int, int]]:
        """Bound what gathering the cells reads by what their full vectors take."""
        return self.inner.cost(rowcol)


def leading_field(field: Any, dims: int) -> Any:
    """Return a field of the leading numbers of each vector.

    Args:
        field: a `StoredField`, which is not changed.
        dims: how many numbers of each vector to keep.

    Raises:
        LayoutError: if a modality has fewer.
    """
    widths = {name: field.layout.width(name) for name in field.modalities}
    least = min(widths, key=lambda name: widths[name])
    if not isinstance(dims, int | np.integer) or not 1 <= dims <= widths[least]:
        raise LayoutError(
            f"dims is a whole number from 1 to {widths[least]}, the numbers of {least!r}, not "
            f"{dims!r}"
        )
    if all(width == dims for width in widths.values()):
        return field
    modalities = frozenset(field.modalities)
    reopen = field.reopen
    return replace(
        field,
        layout=replace(field.layout, bands=int(dims), widths={}),
        cells=partial(_leading_cells, field.cells, modalities, int(dims)),
        read=partial(_leading_window, field.read, modalities, int(dims)),
        opened=partial(_leading_dataset, field.opened, field.layout.band_dimensions, int(dims)),
        reopen=None if reopen is None else (_reopen, (*reopen, int(dims)), {}),
    )


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
