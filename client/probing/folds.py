"""Folds of a cross-validation: of shuffled rows, of whole spatial blocks, of whole groups."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from unigeo.schemas.errors import ProbeError

CONUS = "EPSG:5070"
"""Albers equal-area map of the contiguous United States, in metres."""


@dataclass(frozen=True)
class Split:
    """One way to hold points out."""

    name: str
    """`random`, `blocked` or `grouped`."""
    units: Int[np.ndarray, " point"]
    """Number of what is held out as a whole: the point itself, its block or its group."""
    folds: Int[np.ndarray, " point"]
    """Fold number of each point."""


def all_splits(
    blocks: Int[np.ndarray, " point"],
    groups: Int[np.ndarray, " point"] | None,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Split, ...]:
    """The random and the blocked split, and the grouped one where there are groups.

    Args:
        blocks: number of each point's block, as `spatial_blocks` gives.
        groups: number of each point's group, as `group_numbers` gives.
        folds: how many in each split.
        seed: of them all.

    Raises:
        ProbeError: if points, blocks or groups are fewer than folds.
    """
    rows = np.arange(len(blocks))
    splits = [
        Split("random", rows, random_folds(len(blocks), folds, seed)),
        Split("blocked", blocks, blocked_folds(blocks, folds, seed)),
    ]
    if groups is not None:
        splits.append(Split("grouped", groups, blocked_folds(groups, folds, seed, "groups")))
    return tuple(splits)


def group_numbers(groups: Any, count: int) -> Int[np.ndarray, " point"]:
    """Number the groups that labels of any kind name.

    Raises:
        ProbeError: if there are not `count` labels, or one is missing.

    >>> group_numbers(["Ohio", "Iowa", "Ohio"], 3)
    array([0, 1, 0])
    """
    import pandas as pd

    labels = pd.Series(np.asarray(groups, object))
    if len(labels) != count:
        raise ProbeError(f"{len(labels)} group labels for {count} points")
    numbers, _ = pd.factorize(labels)
    if (numbers < 0).any():
        raise ProbeError(
            f"{(numbers < 0).sum()} of {count} points have no group, the first in row "
            f"{int(np.argmax(numbers < 0))}: drop them, or give them a group of their own"
        )
    return np.asarray(numbers, np.int64)


def random_folds(count: int, folds: int = 5, seed: int = 0) -> Int[np.ndarray, " point"]:
    """Give each of `count` rows a fold number at random, the folds equal in size within one row.

    Neighbours fall into different folds, so a score under these folds says how well a probe fills
    in between known points, not how it does in unseen country.

    Raises:
        ProbeError: if there are fewer rows than folds, or fewer than two folds.

    >>> random_folds(6, folds=3)
    array([0, 2, 2, 1, 0, 1])
    """
    _check(count, folds, "points")
    return np.random.default_rng(seed).permutation(np.arange(count) % folds)


def spatial_blocks(
    lonlat: Float[np.ndarray, "point 2"], km: float, crs: str = CONUS
) -> Int[np.ndarray, " point"]:
    """Number the square block of a map that holds each point.

    The block is (floor(x / km), floor(y / km)) in the given CRS; occupied blocks are numbered from
    0, column by column from the west.

    Args:
        lonlat: WGS 84 degrees, longitude first.
        km: side of a block in kilometres.
        crs: a CRS in metres, best equal-area; the default is that of the contiguous United States.

    Raises:
        ProbeError: if the side is not positive or a point has no place in the CRS.
    """
    if not (np.isfinite(km) and km > 0):
        raise ProbeError(f"the side of a block must be a positive number of km, not {km}")
    cells = np.floor(project(lonlat, crs) / (km * 1000)).astype(np.int64)
    _, numbers = np.unique(cells, axis=0, return_inverse=True)
    return numbers.reshape(-1)


def blocked_folds(
    blocks: Int[np.ndarray, " point"], folds: int = 5, seed: int = 0, what: str = "spatial blocks"
) -> Int[np.ndarray, " point"]:
    """Give whole spatial blocks to folds; a score then tells what carries over to unseen country.

    Groups of any other kind go whole in the same way; `what` names them in errors.

    The blocks are shuffled, then each goes to the fold that has the fewest rows so far: no two
    folds differ by more rows than the largest block has.

    Raises:
        ProbeError: if there are fewer blocks than folds.

    >>> blocked_folds(np.array([0, 0, 1, 2, 2]), folds=3)
    array([1, 1, 2, 0, 0])
    """
    _, numbers, sizes = np.unique(blocks, return_inverse=True, return_counts=True)
    _check(len(sizes), folds, what)
    fold_of = np.empty(len(sizes), np.int64)
    rows = np.zeros(folds, np.int64)
    for block in np.random.default_rng(seed).permutation(len(sizes)):
        lightest = int(rows.argmin())
        fold_of[block] = lightest
        rows[lightest] += sizes[block]
    return fold_of[numbers.reshape(-1)]


def map_of(lonlat: Float[np.ndarray, "point 2"], otherwise: str) -> str:
    """The CRS to cut blocks in: EPSG:5070 where most points lie in its area, else the one given.

    >>> map_of(np.array([[-105.0, 40.0]]), otherwise="EPSG:8857")
    'EPSG:5070'
    """
    from pyproj import CRS

    area = CRS.from_user_input(CONUS).area_of_use
    assert area is not None
    west, south, east, north = area.bounds
    inside = np.all((lonlat >= (west, south)) & (lonlat <= (east, north)), axis=1)
    return CONUS if inside.sum() * 2 > len(lonlat) else otherwise


def project(lonlat: Float[np.ndarray, "point 2"], crs: str) -> Float[np.ndarray, "point 2"]:
    """Easting and northing of each point, in the units of the CRS (metres).

    Raises:
        ProbeError: if PROJ does not know the CRS or a point has no place in it.
    """
    from pyproj import Transformer
    from pyproj.exceptions import CRSError

    try:
        transformer = Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    except CRSError as error:
        raise ProbeError(f"{crs!r} is not a CRS that PROJ knows: {error}") from error
    xy = np.stack(transformer.transform(lonlat[:, 0], lonlat[:, 1]), axis=-1)
    lost = ~np.isfinite(xy).all(axis=1)
    if lost.any():
        row = int(np.flatnonzero(lost)[0])
        raise ProbeError(
            f"{lost.sum()} of {len(xy)} points have no place in {crs}, the first in row {row}: "
            f"lonlat {lonlat[row].tolist()}. Name a CRS that covers the points."
        )
    return xy


def _check(count: int, folds: int, what: str) -> None:
    if folds < 2:
        raise ProbeError(f"cross-validation needs at least 2 folds, not {folds}")
    if count < folds:
        raise ProbeError(
            f"{count} {what} cannot fill {folds} folds: bring more data, ask for fewer folds, or "
            "make blocks and groups smaller"
        )
