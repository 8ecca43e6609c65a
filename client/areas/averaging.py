"""Means of a field over areas: each shard is read once, however many polygons lie in it."""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int8

from unigeo.client.areas.covering import Cover, cover, reach
from unigeo.client.areas.outlines import Outlines, outlines_on
from unigeo.client.areas.polygon_rings import Polygons
from unigeo.client.areas.windows import shard_windows, window_of
from unigeo.client.joining import column_names
from unigeo.client.progress import watched
from unigeo.schemas.errors import StoreError
from unigeo.schemas.grid import Window
from unigeo.schemas.layout import status_name
from unigeo.schemas.quantization import FILL
from unigeo.schemas.status import Status

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.stored_field import StoredField

OFF_THE_FIELD = "off the field"
_BLOCK_CELLS = 4096  # vectors summed at once in float32: 12 MB at 768 bands


def zonal_means(
    field: "StoredField",
    polygons: Polygons,
    modalities: tuple[str, ...],
    *,
    normalize: bool = False,
    prefix: str = "",
    progress: bool = False,
) -> "pd.DataFrame":
    """The mean vector of each polygon; see `Field.zonal`."""
    import pandas as pd

    outlines = outlines_on(polygons, field.grid)
    count = len(polygons)
    sums = {name: np.zeros((count, field.bands)) for name in modalities}
    cells = {name: np.zeros(count) for name in modalities}
    for window in _reached(field, outlines, progress):
        for name in modalities:  # one shard of one modality in memory at a time
            _add_window(field, name, outlines, window, sums[name], cells[name])
    columns: dict[str, np.ndarray] = {}
    for name in modalities:
        with np.errstate(invalid="ignore"):
            means = sums.pop(name) / cells[name][:, None]
            if normalize:
                means /= np.linalg.norm(means, axis=1, keepdims=True)
        columns[name] = means.astype(np.float32)
    names = [column for name in modalities for column in column_names(name, field.bands, prefix)]
    table = pd.DataFrame(
        np.concatenate(list(columns.values()), axis=1), index=polygons.index, columns=names
    )
    counts = {}
    for name in modalities:
        counts[f"{prefix}{name}_cells"] = cells[name]
        counts[f"{prefix}{name}_share"] = np.clip(cells[name] / outlines.area, 0.0, 1.0)
    return pd.concat([table, pd.DataFrame(counts, index=table.index)], axis=1)


def shares_by_reason(
    field: "StoredField", polygons: Polygons, modalities: tuple[str, ...]
) -> "pd.DataFrame":
    """How much of each polygon has a vector, and why the rest has none; see `Field.coverage`."""
    import pandas as pd

    outlines = outlines_on(polygons, field.grid)
    count, reasons = len(polygons), len(Status)
    areas = {name: np.zeros(count * reasons) for name in modalities}
    for window in _reached(field, outlines, progress=False):
        codes = {name: field.read(status_name(name), *window.slices) for name in modalities}
        for part in cover(outlines, window):
            for name in modalities:
                key = part.polygon * reasons + codes[name][part.row, part.col]
                areas[name] += np.bincount(key, part.share, minlength=count * reasons)
    columns = {}
    for name in modalities:
        shares = areas[name].reshape(count, reasons) / outlines.area[:, None]
        off = np.clip(1 - shares.sum(axis=1), 0.0, 1.0)
        off[off < 1e-9] = 0.0  # rounding
        for code in Status:
            columns[name, code.words] = shares[:, code]
        columns[name, OFF_THE_FIELD] = off
    names = pd.MultiIndex.from_tuples(list(columns), names=["modality", "reason"])
    return pd.DataFrame(np.stack(list(columns.values()), axis=1), polygons.index, names)


def _reached(field: "StoredField", outlines: Outlines, progress: bool) -> Iterator[Window]:
    """The part of each shard that polygons cover, where they do."""
    within = window_of(field.grid, outlines)
    windows = [] if within is None else list(shard_windows(field.grid, field.layout.shard, within))
    for window in watched(windows, "zonal", "shards", progress):
        touched = reach(outlines, window)
        if touched.any():
            yield _cropped(window, touched)


def _cropped(window: Window, wanted: np.ndarray) -> Window:
    rows, cols = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    top, left = int(rows[0]), int(cols[0])
    height, width = int(rows[-1]) - top + 1, int(cols[-1]) - left + 1
    return Window(window.row + top, window.col + left, height, width)


def _add_window(
    field: "StoredField",
    modality: str,
    outlines: Outlines,
    window: Window,
    sums: Float[np.ndarray, "polygon band"],
    cells: Float[np.ndarray, " polygon"],
) -> None:
    stored = _valid_vectors(field, modality, outlines, window)
    if stored is not None:
        for part in cover(outlines, window):
            _add(sums, cells, part, stored)


def _valid_vectors(
    field: "StoredField", modality: str, outlines: Outlines, window: Window
) -> Int8[np.ndarray, "row col band"] | None:
    """The window's vectors as stored, -128 where there is none; None if no polygon holds any.

    Raises:
        StoreError: if a cell is valid and holds no vector, since then the store has lost a part.
    """
    valid = field.read(status_name(modality), *window.slices) == Status.VALID
    if not (valid & reach(outlines, window)).any():
        return None
    stored: np.ndarray = field.read(modality, *window.slices)
    lost = np.argwhere((stored[..., 0] == FILL) & valid)
    if len(lost):
        row, col = lost[0] + (window.row, window.col)
        raise StoreError(
            f"{len(lost)} cells have the status valid and no {modality} vector, the first in row "
            f"{row}, column {col}: the store has lost a shard, or does not let it be read. Copy "
            "the store anew."
        )
    return stored


def _add(
    sums: Float[np.ndarray, "polygon band"],
    cells: Float[np.ndarray, " polygon"],
    part: Cover,
    stored: Int8[np.ndarray, "row col band"],
) -> None:
    """Add each polygon's weighted unit vectors and weights, a block of cells at a time."""
    at = part.row * stored.shape[1] + part.col
    flat = stored.reshape(-1, stored.shape[2])
    valid = np.flatnonzero(flat[at, 0] != FILL)
    at, polygon, share = at[valid], part.polygon[valid], part.share[valid]
    cells += np.bincount(polygon, share, minlength=len(cells))
    for start in range(0, len(polygon), _BLOCK_CELLS):
        block = slice(start, start + _BLOCK_CELLS)
        vectors = flat[at[block]].astype(np.float32)
        lengths = np.sqrt(np.einsum("cb,cb->c", vectors, vectors))
        weights = (share[block] / lengths).astype(np.float32)
        edges = np.flatnonzero(np.diff(polygon[block], prepend=-1, append=-1))
        for first, last in pairwise(edges):
            # Not `@`: its threads wait for each other on a busy machine, and cost more than they
            # bring.
            part_sum = np.einsum("c,cb->b", weights[first:last], vectors[first:last])
            sums[polygon[start + first]] += part_sum
