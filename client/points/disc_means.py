"""Mean vectors and covariates over discs round points, read cell by cell in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from unigeo.client.progress import progress_bar
from unigeo.client.reading.sampling import Modality, missing_reasons, order_by_block
from unigeo.client.shapes.area_status import add_areas, check_codes, shares_of, status_of
from unigeo.client.shapes.coverage import WINDOW_CELLS, Cover, cover_grid
from unigeo.client.shapes.discs import disc_outlines
from unigeo.schemas.store.layout import COVARIATES
from unigeo.schemas.store.quantization import dequantize
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points

_BATCH = 1024
"""Discs that are averaged together; their sums take 6 MB at 768 bands."""
_MOST_CELLS = WINDOW_CELLS**2
"""Cells whose vectors are in memory together; they take 50 MB at 768 bands."""
_GROUP = 32
"""Cells, counted with repeats, that are summed by one product: too few for BLAS to start threads,
which would wait for each other on a busy machine."""


@dataclass(frozen=True)
class DiscMeans:
    """Means of one modality, or of the covariates, over discs."""

    vectors: Float[np.ndarray, "disc band"]
    """Area means of unit vectors or covariates, float32, NaN where no cell has one."""
    status: UInt8[np.ndarray, " disc"]
    """`VALID` if any cell is; else the status of most of the disc."""
    share: Float[np.ndarray, " disc"]
    """Share of the disc's area whose cells have a vector, 0 to 1."""


def disc_means(
    modality: Modality, points: Points, radius_m: float, *, progress: bool = False
) -> DiscMeans:
    """Average one modality's vectors, or the covariates, over a disc round each point.

    Args:
        modality: the arrays to read.
        points: the centres; one without a position has no mean.
        radius_m: geodesic radius of the discs, metres; see `shapes.discs`.
        progress: show a bar on stderr.

    Raises:
        StoreError: if bytes cannot be read.
        DamagedError: if a cell is valid and its vector is missing.
    """
    vectors = np.empty((len(points), modality.vectors.bands), np.float32)
    status, share = np.zeros(len(points), np.uint8), np.zeros(len(points))
    order = order_by_block(modality.grid.position_m(*points.metres(modality.grid.crs)))
    with progress_bar(modality.name, len(order), "discs", progress) as advance:
        for first in range(0, len(order), _BATCH):
            part = order[first : first + _BATCH]
            means = _batch_means(modality, points.lonlat[part], radius_m)
            vectors[part], status[part], share[part] = means.vectors, means.status, means.share
            advance(len(part))
    return DiscMeans(vectors, status, share)


def _batch_means(
    modality: Modality, lonlat: Float[np.ndarray, "disc 2"], radius_m: float
) -> DiscMeans:
    outlines = disc_outlines(lonlat, radius_m, modality.grid)
    sums = np.zeros((len(lonlat), modality.vectors.bands))
    areas = np.zeros_like(sums) if modality.name == COVARIATES else None
    cells = np.zeros((len(lonlat), len(Status)))
    for part in cover_grid(outlines, modality.grid):
        for piece in _pieces(part, modality.grid.shape[1]):
            _add(modality, piece, sums, cells, areas)
    valid = cells[:, Status.VALID]
    with np.errstate(invalid="ignore"):  # 0 / 0 of discs without a valid cell is NaN
        vectors = (sums / (valid[:, None] if areas is None else areas)).astype(np.float32)
    status = status_of(cells, outlines.area, np.isnan(lonlat[:, 0]))
    return DiscMeans(vectors, status, shares_of(valid, outlines.area))


@dataclass(frozen=True, eq=False)
class _Piece:
    """A part of a cover whose vectors fit into memory."""

    cover: Cover
    number: Int[np.ndarray, " cell"]
    """The different cells, counted row by row from the grid's corner."""
    slot: Int[np.ndarray, " entry"]
    """Index in `number` of the cell of each entry."""


def _pieces(part: Cover, grid_cols: int) -> Iterator[_Piece]:
    """Split a cover into pieces of at most `_MOST_CELLS` different cells."""
    number, slot = np.unique(part.row * grid_cols + part.col, return_inverse=True)
    if len(number) <= _MOST_CELLS:
        yield _Piece(part, number, slot)
        return
    for first in range(0, len(slot), _MOST_CELLS):
        piece = slice(first, first + _MOST_CELLS)
        present, slots = np.unique(slot[piece], return_inverse=True)
        cover = Cover(part.polygon[piece], part.row[piece], part.col[piece], part.share[piece])
        yield _Piece(cover, number[present], slots)


def _add(
    modality: Modality,
    piece: _Piece,
    sums: Float[np.ndarray, "disc band"],
    cells: Float[np.ndarray, "disc reason"],
    areas: Float[np.ndarray, "disc band"] | None,
) -> None:
    """Add a piece's cells to each disc's sum of vectors, and to its area by status.

    A cell may lack some of the covariates, so `areas` gets the area of the cells that have each.
    """
    rowcol = np.stack(np.divmod(piece.number, modality.grid.shape[1]), axis=-1)
    vectors = np.empty((len(rowcol), modality.vectors.bands), np.float32)
    modality.vectors.gather(rowcol, vectors, transform=dequantize if areas is None else None)
    known = ~np.isnan(vectors)
    codes = np.full(len(rowcol), Status.VALID, np.uint8)
    empty = np.flatnonzero(~known.any(axis=1))
    if len(empty):
        codes[empty] = check_codes(missing_reasons(modality, rowcol[empty]))
    vectors[~known] = 0  # NaN times a weight would be NaN
    add_areas(cells, piece.cover, codes[piece.slot])
    disc, share = piece.cover.polygon, piece.cover.share.astype(np.float32)
    for first in range(0, len(disc), _GROUP):
        group = slice(first, first + _GROUP)
        # A small dense product of discs and cells: entries are in the order of the discs.
        row = disc[group] - disc[first]
        weights = np.zeros((row[-1] + 1, len(row)), np.float32)
        weights[row, np.arange(len(row))] = share[group]
        discs = slice(disc[first], disc[first] + len(weights))
        sums[discs] += weights @ vectors[piece.slot[group]]
        if areas is not None:
            areas[discs] += weights @ known[piece.slot[group]].astype(np.float32)
