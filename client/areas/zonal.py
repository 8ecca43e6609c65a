"""Means of a field over polygons; each shard is read once, however many polygons lie in it."""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int8, UInt8

from unigeo.client.areas.polygon_status import (
    POLYGON_TEXTS,
    raise_if_missing,
    status_texts,
    warn_of_missing,
)
from unigeo.client.areas.windows import bounding_window
from unigeo.client.points.join import Missing, column_names
from unigeo.client.progress import with_progress
from unigeo.client.shapes.area_status import (
    NO_SHAPE,
    ROUNDING,
    add_areas,
    check_codes,
    shares_of,
    status_of,
)
from unigeo.client.shapes.coverage import Cover, cover, touched_cells
from unigeo.client.shapes.outlines import Outlines, outlines_on
from unigeo.client.shapes.polygon_rings import Polygons, refuse
from unigeo.schemas.errors import DamagedError
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.quantization import FILL
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    import pandas as pd

    from unigeo.client.reading.stored_field import StoredField

OFF_THE_FIELD = "off the field"
_BLOCK_CELLS = 4096
"""Vectors that are summed together in float32; they take 12 MB at 768 bands."""


def zonal_means(
    field: "StoredField",
    polygons: Polygons,
    modalities: tuple[str, ...],
    *,
    normalize: bool = False,
    missing: Missing = "nan",
    prefix: str = "",
    progress: bool = False,
) -> "pd.DataFrame":
    """Return the mean vector of each polygon; see `Field.zonal`."""
    import pandas as pd

    outlines = outlines_on(polygons, field.grid)
    count = len(polygons)
    sums = {name: np.zeros((count, field.layout.width(name))) for name in modalities}
    cells = {name: np.zeros((count, len(Status))) for name in modalities}
    for window in _covered_windows(field, outlines, progress):
        for name in modalities:  # one shard of one modality is in memory at a time
            _add_window(field, name, outlines, window, sums[name], cells[name])
    status = {
        name: status_of(areas, outlines.area, polygons.missing) for name, areas in cells.items()
    }
    if missing == "raise":
        raise_if_missing(status, polygons.index)
    warn_of_missing(field, polygons, status[modalities[0]])
    columns: dict[str, np.ndarray] = {}
    for name in modalities:
        with np.errstate(invalid="ignore"):  # 0 / 0 of polygons without a valid cell is NaN
            means = sums.pop(name) / cells[name][:, Status.VALID, None]
            if normalize:
                means /= np.linalg.norm(means, axis=1, keepdims=True)
        columns[name] = means.astype(np.float32)
    names = [
        column
        for name, bands in field.layout.widths_of(modalities).items()
        for column in column_names(name, bands, prefix)
    ]
    table = pd.DataFrame(
        np.concatenate(list(columns.values()), axis=1), index=polygons.index, columns=names
    )
    counts: dict[str, Any] = {}
    for name in modalities:
        valid = cells[name][:, Status.VALID]
        counts[f"{prefix}{name}_cells"] = valid
        counts[f"{prefix}{name}_share"] = shares_of(valid, outlines.area)
        counts[prefix + status_name(name)] = status_texts(status[name])
    table = pd.concat([table, pd.DataFrame(counts, index=table.index)], axis=1)
    if missing == "drop":
        table = table[np.all([codes == Status.VALID for codes in status.values()], axis=0)]
    return table


def zonal_columns(modality: str, bands: int, prefix: str = "") -> list[str]:
    """Return the names of the columns that `zonal_means` has for a modality."""
    amounts = [f"{prefix}{modality}_cells", f"{prefix}{modality}_share"]
    return [*column_names(modality, bands, prefix), *amounts, prefix + status_name(modality)]


def shares_by_status(
    field: "StoredField",
    polygons: Polygons,
    modalities: tuple[str, ...],
    missing: Missing = "nan",
) -> "pd.DataFrame":
    """Return the share of each polygon's area by status; see `Field.coverage`."""
    import pandas as pd

    shapeless = polygons.missing
    if missing == "raise":
        refuse(shapeless, polygons.index, lambda k: "has no shape, or an empty one")
    outlines = outlines_on(polygons, field.grid)
    cells = {name: np.zeros((len(polygons), len(Status))) for name in modalities}
    for window in _covered_windows(field, outlines, progress=False):
        codes = {name: _codes(field, name, window) for name in modalities}
        for part in cover(outlines, window):
            for name in modalities:
                add_areas(cells[name], part, codes[name][part.row, part.col])
    columns = {}
    for name in modalities:
        shares = shares_of(cells[name], outlines.area[:, None])
        off = shares_of(np.maximum(1 - shares.sum(axis=1), 0.0), np.where(shapeless, 0.0, 1.0))
        off[off < ROUNDING] = 0.0
        for code in Status:
            columns[name, code.label] = shares[:, code]
        columns[name, OFF_THE_FIELD] = off
        columns[name, POLYGON_TEXTS[NO_SHAPE]] = shapeless.astype(np.float64)
    warn_of_missing(field, polygons, status_of(cells[modalities[0]], outlines.area, shapeless))
    names = pd.MultiIndex.from_tuples(list(columns), names=["modality", "reason"])
    table = pd.DataFrame(np.stack(list(columns.values()), axis=1), polygons.index, names)
    return table[~shapeless] if missing == "drop" else table


def _covered_windows(field: "StoredField", outlines: Outlines, progress: bool) -> Iterator[Window]:
    """Yield the window of each shard that polygons cover."""
    within = bounding_window(field.grid, outlines)
    windows = [] if within is None else list(field.grid.shard_windows(field.layout.shard, within))
    for window in with_progress(windows, "zonal", "shards", progress):
        touched = touched_cells(outlines, window)
        if touched.any():
            yield _crop(window, touched)


def _crop(window: Window, wanted: np.ndarray) -> Window:
    """Return the smallest window that holds the wanted cells."""
    rows, cols = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    top, left = int(rows[0]), int(cols[0])
    height, width = int(rows[-1]) - top + 1, int(cols[-1]) - left + 1
    return Window(top, left, height, width).shifted(window.row, window.col)


def _add_window(
    field: "StoredField",
    modality: str,
    outlines: Outlines,
    window: Window,
    sums: Float[np.ndarray, "polygon band"],
    cells: Float[np.ndarray, "polygon reason"],
) -> None:
    """Add the cells of a window to each polygon's sum of vectors and area by status."""
    codes = _codes(field, modality, window)
    stored = _valid_vectors(field, modality, outlines, window, codes == Status.VALID)
    for part in cover(outlines, window):
        add_areas(cells, part, codes[part.row, part.col])
        if stored is not None:
            _add_vectors(sums, part, stored, codes == Status.VALID)


def _codes(field: "StoredField", modality: str, window: Window) -> UInt8[np.ndarray, "row col"]:
    return check_codes(field.read(status_name(modality), *window.slices))


def _valid_vectors(
    field: "StoredField",
    modality: str,
    outlines: Outlines,
    window: Window,
    valid: Bool[np.ndarray, "row col"],
) -> Int8[np.ndarray, "row col band"] | None:
    """Read a window's vectors as stored; return None if no polygon covers a valid cell.

    Raises:
        DamagedError: if a valid cell holds no vector: then the store has lost a part.
    """
    if not (valid & touched_cells(outlines, window)).any():
        return None
    stored: np.ndarray = field.read(modality, *window.slices)
    lost = np.argwhere((stored[..., 0] == FILL) & valid)
    if len(lost):
        row, col = lost[0] + (window.row, window.col)
        raise DamagedError(
            f"{len(lost)} cells have the status valid and no {modality} vector, the first in row "
            f"{row}, column {col}: the store has lost a shard, or does not let it be read. Copy "
            "the store anew."
        )
    return stored


def _add_vectors(
    sums: Float[np.ndarray, "polygon band"],
    part: Cover,
    stored: Int8[np.ndarray, "row col band"],
    valid: Bool[np.ndarray, "row col"],
) -> None:
    """Add the weighted unit vectors of cells to each polygon's sum, a block of cells at a time."""
    entries = np.flatnonzero(valid[part.row, part.col])
    polygon, share = part.polygon[entries], part.share[entries]
    cell = part.row[entries] * stored.shape[1] + part.col[entries]
    flat = stored.reshape(-1, stored.shape[2])
    for start in range(0, len(polygon), _BLOCK_CELLS):
        block = slice(start, start + _BLOCK_CELLS)
        vectors = flat[cell[block]].astype(np.float32)
        lengths = np.sqrt(np.einsum("cb,cb->c", vectors, vectors))
        weights = (share[block] / lengths).astype(np.float32)  # normalizes and weighs in one step
        # Entries are in the order of polygons: sum each run of one polygon.
        edges = np.flatnonzero(np.diff(polygon[block], prepend=-1, append=-1))
        for first, last in pairwise(edges):
            # Not `@`, whose threads wait for each other on a busy machine.
            part_sum = np.einsum("c,cb->b", weights[first:last], vectors[first:last])
            sums[polygon[start + first]] += part_sum
