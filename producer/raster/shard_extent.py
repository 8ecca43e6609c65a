"""Which shards a region touches, computed from its outline without testing any cell."""

from enum import IntEnum

import numpy as np
from jaxtyping import Float, UInt8

from unigeo.schemas.geo.grid import Grid, from_wgs84
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.geo.rings import split_edges

_METRES_PER_DEGREE = 150_000.0
"""Upper bound of the length of a degree anywhere on an Equal Earth map."""


class ShardExtent(IntEnum):
    """How much of a shard lies in the region."""

    OUTSIDE = 0
    """No cell's centre lies in the region."""
    PARTLY = 1
    """The outline may run through it: each cell has to be tested."""
    INSIDE = 2
    """Every cell's centre lies in the region."""


def shard_extent(
    region: Region, grid: Grid, shard: int
) -> UInt8[np.ndarray, "shard_row shard_col"]:
    """Return the `ShardExtent` of every shard; the cost grows with shards and outline, not cells.

    The outline is followed in steps of at most half a shard, and the 3 x 3 shards round each step
    count as `PARTLY`. A shard that it does not come near is all inside or all outside, as its
    centre is.
    """
    lattice = grid.coarsen(shard)  # a cell is a shard
    extent = np.where(region.contains(lattice.centres()), ShardExtent.INSIDE, ShardExtent.OUTSIDE)
    x, y = _outline(region, lattice.resolution_m / 2)
    row = np.floor(-y / lattice.resolution_m).astype(np.int64) - lattice.row0
    col = np.floor(x / lattice.resolution_m).astype(np.int64) - lattice.col0
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            near_row, near_col = row + down, col + right
            exists = (near_row >= 0) & (near_row < lattice.shape[0])
            exists &= (near_col >= 0) & (near_col < lattice.shape[1])
            extent[near_row[exists], near_col[exists]] = ShardExtent.PARTLY
    return extent.astype(np.uint8)


def _outline(
    region: Region, step_m: float
) -> tuple[Float[np.ndarray, " vertex"], Float[np.ndarray, " vertex"]]:
    """Return points of the rings on the map, at most a step from one to the next."""
    start = np.concatenate([ring[:-1] for ring in region.rings])
    end = np.concatenate([ring[1:] for ring in region.rings])
    length_m = np.abs(end - start).sum(axis=1) * _METRES_PER_DEGREE
    pieces = np.maximum(1, np.ceil(length_m / step_m)).astype(np.int64)
    points, _ = split_edges(start, end, pieces)
    return from_wgs84(region.crs).transform(points[:, 0], points[:, 1])
