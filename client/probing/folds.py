"""Folds of a cross-validation: of shuffled positions, whole spatial blocks, or whole groups."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.table_columns import short, to_series
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.tables.points import read_points

CONUS = "EPSG:5070"
"""Albers equal-area map of the contiguous United States, in metres."""
_MIN_BLOCK_KM = 1e-6
"""Side of the smallest block, 1 mm; numbers of smaller blocks would not fit into an integer."""
_STEPS_PER_DEGREE = 100_000
"""Steps that coordinates are rounded to: points in the same step, about 1 m, have one position."""


@dataclass(frozen=True, repr=False)
class Split:
    """A partition of points into folds, which are held out in turn."""

    name: str
    """`random`, `blocked` or `grouped`."""
    units: Int[np.ndarray, " point"]
    """Number of each point's unit, which one fold holds as a whole: a position, block or group."""
    folds: Int[np.ndarray, " point"]
    """Fold number of each point."""

    def __repr__(self) -> str:
        units, folds = len(np.unique(self.units)), len(np.unique(self.folds))
        return f"Split({self.name}: {len(self.units):,} points, {units:,} units, {folds} folds)"


def all_splits(
    blocks: Int[np.ndarray, " point"],
    groups: Int[np.ndarray, " point"] | None,
    folds: int = 5,
    seed: int = 0,
    positions: Int[np.ndarray, " point"] | None = None,
) -> tuple[Split, ...]:
    """Split points at random, by blocks, and by groups if there are any.

    Args:
        blocks: number of each point's block, as `spatial_blocks` returns.
        groups: number of each point's group, as `group_numbers` returns.
        folds: number of folds of each split.
        seed: seed of all splits.
        positions: number of each point's position, as `position_numbers` returns; without it each
            point has a position of its own.

    Raises:
        ProbeError: if positions, blocks or groups are fewer than folds.
    """
    units = np.arange(len(blocks)) if positions is None else positions
    splits = [
        Split("random", units, position_folds(units, folds, seed)),
        Split("blocked", blocks, blocked_folds(blocks, folds, seed)),
    ]
    if groups is not None:
        splits.append(Split("grouped", groups, blocked_folds(groups, folds, seed, "groups")))
    return tuple(splits)


def group_numbers(
    groups: Any, count: int, needed: Bool[np.ndarray, " point"] | None = None
) -> Int[np.ndarray, " point"]:
    """Number the groups of points from their labels.

    Args:
        groups: labels in any form that `table_columns.to_series` takes.
        count: number of points.
        needed: mask of the points that must have a group; all of them by default.

    Raises:
        ProbeError: if there are not `count` labels, or a needed one is missing.

    >>> group_numbers(["Ohio", "Iowa", "Ohio"], 3)
    array([0, 1, 0])
    """
    import pandas as pd

    if isinstance(groups, str):
        raise ProbeError(f"groups are one label for each of {count} points, not {short(groups)}")
    labels = to_series(groups)
    if len(labels) != count:
        raise ProbeError(f"{len(labels)} group labels for {count} points")
    try:
        numbers, _ = pd.factorize(labels)
    except TypeError as error:
        raise ProbeError(f"groups must be labels, such as text: {short(error, 100)}") from error
    missing = numbers < 0
    if needed is not None:
        missing &= needed
    if missing.any():
        raise ProbeError(
            f"{missing.sum()} of {count} points have no group, the first in row "
            f"{int(np.argmax(missing))}: drop them, or give them a group of their own"
        )
    return np.asarray(numbers, np.int64)


def random_folds(count: int, folds: int = 5, seed: int = 0) -> Int[np.ndarray, " point"]:
    """Assign each of `count` rows to a fold at random; the sizes of folds differ by one at most.

    Neighbours fall into different folds, so a score under these folds tells how well a probe
    interpolates between known points, not how well it predicts in unseen regions.

    Raises:
        ProbeError: if there are fewer rows than folds, or fewer than two folds.

    >>> random_folds(6, folds=3)
    array([0, 2, 2, 1, 0, 1])
    """
    check_units(count, folds, "points")
    return np.random.default_rng(seed).permutation(np.arange(count) % folds)


def position_numbers(lonlat: Float[np.ndarray, "point 2"]) -> Int[np.ndarray, " point"]:
    """Number the positions in the order of their first point; points within about 1 m share one.

    >>> position_numbers(np.array([[-105.0, 40.0], [-99.0, 41.0], [255.0, 40.0]]))
    array([0, 1, 0])
    """
    import pandas as pd

    lon, lat = np.rint(lonlat * _STEPS_PER_DEGREE).astype(np.int64).T
    # One integer per position: longitude modulo 360 degrees, and latitude as the lower digits.
    east = lon % (360 * _STEPS_PER_DEGREE)
    numbers, _ = pd.factorize(east * (181 * _STEPS_PER_DEGREE) + lat)
    return np.asarray(numbers, np.int64)


def position_folds(
    positions: Int[np.ndarray, " point"], folds: int = 5, seed: int = 0
) -> Int[np.ndarray, " point"]:
    """Assign whole positions to folds at random, as `random_folds` does if none repeats.

    Another row at the same position would give a held-out row's answer away. The positions are
    shuffled, then each goes to the fold that has the fewest rows so far.

    Raises:
        ProbeError: if there are fewer positions than folds, or fewer than two folds.

    >>> position_folds(np.arange(6), folds=3)
    array([0, 2, 2, 1, 0, 1])
    >>> position_folds(np.repeat(np.arange(6), 2), folds=3)
    array([0, 0, 2, 2, 2, 2, 1, 1, 0, 0, 1, 1])
    """
    sizes = np.bincount(positions)
    if not len(sizes) or np.ptp(sizes) == 0:
        return np.asarray(random_folds(len(sizes), folds, seed)[positions])
    check_units(len(sizes), folds, "positions")
    order = np.argsort(np.random.default_rng(seed).permutation(len(sizes)))
    return np.asarray(_fill_folds(order, sizes, folds)[positions])


def spatial_blocks(points: Any, km: float, crs: str = CONUS) -> Int[np.ndarray, " point"]:
    """Number the square block of a map that holds each point.

    The block is (floor(x / km), floor(y / km)) in the given CRS; occupied blocks are numbered from
    0, column by column from the west.

    Args:
        points: points in any form that `Field.sample` takes, such as (n, 2) longitudes and
            latitudes.
        km: side of a block in kilometres.
        crs: a CRS in metres, best equal-area; the default is that of the contiguous United States.

    Raises:
        PointsError: if the points cannot be read, or one has no position.
        ProbeError: if the side is not positive, or the CRS does not cover a point.

    >>> spatial_blocks([(-105.0, 39.0), (-104.9, 39.0), (-90.0, 39.0)], km=300)
    array([0, 0, 1])
    """
    is_number = isinstance(km, int | float | np.number) and not isinstance(km, bool)
    if not is_number or not np.isfinite(km) or km < _MIN_BLOCK_KM:
        raise ProbeError(f"the side of a block must be a positive number of km, not {short(km)}")
    cells = np.floor(project(read_points(points).lonlat, crs) / (km * 1000)).astype(np.int64)
    _, numbers = np.unique(cells, axis=0, return_inverse=True)
    return numbers.reshape(-1)


def blocked_folds(
    blocks: Int[np.ndarray, " point"], folds: int = 5, seed: int = 0, what: str = "spatial blocks"
) -> Int[np.ndarray, " point"]:
    """Assign whole spatial blocks to folds; a score then tells what holds in unseen regions.

    Groups of any other kind are assigned in the same way; `what` names them in errors.

    The blocks are shuffled, then each goes to the fold that has the fewest rows so far: no two
    folds differ by more rows than the largest block has.

    Raises:
        ProbeError: if there are fewer blocks than folds.

    >>> blocked_folds(np.array([0, 0, 1, 2, 2]), folds=3)
    array([1, 1, 2, 0, 0])
    """
    _, numbers, sizes = np.unique(blocks, return_inverse=True, return_counts=True)
    check_units(len(sizes), folds, what)
    order = np.random.default_rng(seed).permutation(len(sizes))
    return _fill_folds(order, sizes, folds)[numbers.reshape(-1)]


def blocks_crs(lonlat: Float[np.ndarray, "point 2"], otherwise: str) -> str:
    """Choose the CRS of blocks: EPSG:5070 if most points lie in its area, else the one given.

    >>> blocks_crs(np.array([[-105.0, 40.0]]), otherwise="EPSG:8857")
    'EPSG:5070'
    """
    from pyproj import CRS

    area = CRS.from_user_input(CONUS).area_of_use
    assert area is not None
    west, south, east, north = area.bounds
    inside = np.all((lonlat >= (west, south)) & (lonlat <= (east, north)), axis=1)
    return CONUS if inside.sum() * 2 > len(lonlat) else otherwise


def project(lonlat: Float[np.ndarray, "point 2"], crs: str) -> Float[np.ndarray, "point 2"]:
    """Compute easting and northing of each point, in the units of the CRS (metres).

    Raises:
        ProbeError: if PROJ does not know the CRS, or the CRS does not cover a point.
    """
    from pyproj import Transformer
    from pyproj.exceptions import CRSError

    try:
        transformer = Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    except CRSError as error:
        raise ProbeError(f"{crs!r} is not a CRS that PROJ knows: {error}") from error
    xy = np.stack(transformer.transform(lonlat[:, 0], lonlat[:, 1]), axis=-1)
    outside = ~np.isfinite(xy).all(axis=1)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise ProbeError(
            f"{outside.sum()} of {len(xy)} points have no place in {crs}, the first in row {row}: "
            f"lonlat {lonlat[row].tolist()}. Name a CRS that covers the points."
        )
    return xy


def _fill_folds(
    order: Int[np.ndarray, " unit"], sizes: Int[np.ndarray, " unit"], folds: int
) -> Int[np.ndarray, " unit"]:
    """Assign each unit, in `order`, to the fold that has the fewest rows so far."""
    fold_of = np.empty(len(sizes), np.int64)
    rows = [0] * folds
    for unit in order:
        lightest = rows.index(min(rows))
        fold_of[unit] = lightest
        rows[lightest] += int(sizes[unit])
    return fold_of


def check_units(count: int, folds: int, what: str) -> None:
    """Refuse folds that cannot be filled.

    Args:
        count: number of units, which are held out as a whole.
        folds: number of folds.
        what: name of the units, for messages.

    Raises:
        ProbeError: if there are fewer units than folds, or fewer than two folds.
    """
    if folds < 2:
        raise ProbeError(f"cross-validation needs at least 2 folds, not {folds}")
    if count < folds:
        raise ProbeError(
            f"{count} {what} cannot fill {folds} folds: bring more data, ask for fewer folds, or "
            "make blocks and groups smaller"
        )
