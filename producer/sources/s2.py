"""S2 cells: ids, centres, corners and coverings, vectorized over arrays.

The sphere is projected onto the six faces of a cube. Each face is divided into four squares again
and again, up to level 30, and a Hilbert curve orders the squares of a level. A cell id is a uint64:
three bits of face, two bits per level for the position along the curve, then a one bit that marks
the level. Geodetic latitudes are used without conversion, as is common with S2.

Source: S2 Geometry, "S2 cell hierarchy"; the tables are those of its `s2coords.h`.
"""

import numpy as np
from jaxtyping import Float, Int, UInt64

from unigeo.schemas.geo.great_circle import unit_vectors

LEVELS = 30
"""Finest level of cells."""
_POSITION_OF_IJ = np.array([[0, 1, 3, 2], [0, 3, 1, 2], [2, 3, 1, 0], [2, 1, 3, 0]], np.uint8)
"""Position along the curve of each quadrant 2 i + j, by orientation of the curve."""
_IJ_OF_POSITION = np.array([[0, 1, 3, 2], [0, 2, 3, 1], [3, 2, 0, 1], [3, 1, 0, 2]], np.uint8)
"""Inverse of `_POSITION_OF_IJ`."""
_TURN_OF_POSITION = np.array([1, 0, 0, 3], np.uint8)
"""Change of orientation inside each quadrant: bit 0 swaps i and j, bit 1 inverts both."""
_COARSEST = 4
"""Level at which a covering starts, by testing all of its 1,536 cells."""


def cell_ids(lonlat: Float[np.ndarray, "point 2"], level: int) -> UInt64[np.ndarray, " point"]:
    """Find the cell of a level that holds each point, in WGS 84 degrees, longitude first."""
    face, u, v = _face_uv(unit_vectors(lonlat))
    side = 1 << level
    i, j = (np.clip(np.floor(_st_of_uv(w) * side), 0, side - 1).astype(np.int64) for w in (u, v))
    # From the coarsest quadrant down: one bit of i and one of j give two bits of the position.
    orientation = (face & 1).astype(np.uint8)
    position = np.zeros(len(face), np.uint64)
    for bit in range(level - 1, -1, -1):
        ij = ((i >> bit) & 1) << 1 | ((j >> bit) & 1)
        digit = _POSITION_OF_IJ[orientation, ij]
        position = position << np.uint64(2) | digit
        orientation ^= _TURN_OF_POSITION[digit]
    path = face.astype(np.uint64) << np.uint64(2 * level) | position
    return _id_of_path(path, level)


def parents(ids: UInt64[np.ndarray, " cell"], level: int) -> UInt64[np.ndarray, " cell"]:
    """Find the cell of a coarser level, or of the same, that holds each cell."""
    return _id_of_path(ids >> np.uint64(2 * (LEVELS - level) + 1), level)


def children(ids: UInt64[np.ndarray, " cell"], level: int) -> UInt64[np.ndarray, "cell child"]:
    """List the cells of a finer level in each cell, in the order of their ids."""
    depth = level - level_of(ids)
    path = ids >> np.uint64(2 * (LEVELS - level_of(ids)) + 1)
    steps = np.arange(4**depth, dtype=np.uint64)
    return _id_of_path((path[:, None] << np.uint64(2 * depth)) + steps, level)


def level_of(ids: UInt64[np.ndarray, " cell"]) -> int:
    """Return the level of cells that all have the same one; 0 for no cells."""
    if not len(ids):
        return 0
    lowest = int(ids[0] & (~ids[0] + np.uint64(1)))  # x & -x is the lowest set bit
    return LEVELS - (lowest.bit_length() - 1) // 2


def tokens(ids: UInt64[np.ndarray, " cell"]) -> list[str]:
    """Write ids as S2 tokens: hexadecimal without trailing zeros."""
    return [f"{int(number):016x}".rstrip("0") for number in ids]


def centres(ids: UInt64[np.ndarray, " cell"]) -> Float[np.ndarray, "cell 2"]:
    """Return the centre of each cell, in degrees."""
    return points_in_cells(ids, np.full((len(ids), 2), 0.5))


def corners(ids: UInt64[np.ndarray, " cell"]) -> Float[np.ndarray, "cell 4 2"]:
    """Return the four corners of each cell, counter-clockwise, in degrees."""
    ends = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    repeated = points_in_cells(np.repeat(ids, 4), np.tile(ends, (len(ids), 1)))
    return repeated.reshape(len(ids), 4, 2)


def points_in_cells(
    ids: UInt64[np.ndarray, " cell"], positions: Float[np.ndarray, "cell 2"]
) -> Float[np.ndarray, "cell 2"]:
    """Return one point in each cell, in degrees.

    Positions drawn uniformly give points uniform by area, within a few per cent over a face and
    within 1e-4 over one cell of level 12 or finer.

    Args:
        ids: cells, all of the same level.
        positions: position of each point along the two sides of its cell, 0 to 1.
    """
    # A position inside the square of a cell, in s and t, is projected back to the cube and sphere.
    face, i, j, level = _face_ij(ids)
    u, v = (
        _uv_of_st((w + part) / (1 << level)) for w, part in zip((i, j), positions.T, strict=True)
    )
    return _lonlat(_xyz(face, u, v))


def covering(
    west: float, south: float, east: float, north: float, level: int
) -> UInt64[np.ndarray, " cell"]:
    """Return the cells of a level that may touch a box of longitude and latitude, sorted.

    The result is a superset: a cell is compared with the box by the circle round it.

    Args:
        west: degrees; a box over the antimeridian has an `east` beyond 180.
        south: degrees.
        east: degrees, at least `west`.
        north: degrees.
        level: level of the cells.
    """
    ids = _id_of_path(np.arange(6, dtype=np.uint64), 0)
    for finer in range(min(_COARSEST, level), level + 1):
        ids = children(ids, finer).ravel()
        centre, radius = centres(ids), _radii_deg(ids)
        # Cells far from the box are dropped level by level, so that few finer cells are tested.
        near = (centre[:, 1] + radius >= south) & (centre[:, 1] - radius <= north)
        pole = np.abs(centre[:, 1]) + radius >= 89.9
        # Half the range of longitudes of a circle of this radius: sin(wide) = sin(r) / cos(lat).
        with np.errstate(divide="ignore", invalid="ignore"):
            wide = np.degrees(
                np.arcsin(
                    np.minimum(np.sin(np.radians(radius)) / np.cos(np.radians(centre[:, 1])), 1)
                )
            )
        along = (centre[:, 0] - west + wide) % 360
        near &= pole | (along <= (east - west) + 2 * wide)
        ids = ids[near]
    return ids


def _radii_deg(ids: UInt64[np.ndarray, " cell"]) -> Float[np.ndarray, " cell"]:
    """Return the angle from each cell's centre to its farthest corner, in degrees, rounded up."""
    centre, ends = unit_vectors(centres(ids)), corners(ids)
    vectors = unit_vectors(ends.reshape(-1, 2)).reshape(len(ids), 4, 3)
    cosine = np.einsum("ck,cek->ce", centre, vectors).min(axis=1)
    radii: Float[np.ndarray, " cell"] = np.degrees(np.arccos(np.clip(cosine, -1, 1))) * 1.0001
    return radii


def _id_of_path(path: np.ndarray, level: int) -> np.ndarray:
    """Append the one bit that marks the level to a path of face and position."""
    shift = np.uint64(2 * (LEVELS - level))
    closed: np.ndarray = (path << np.uint64(1) | np.uint64(1)) << shift
    return closed


def _face_ij(
    ids: UInt64[np.ndarray, " cell"],
) -> tuple[Int[np.ndarray, " cell"], Int[np.ndarray, " cell"], Int[np.ndarray, " cell"], int]:
    """Return the face of each cell, its two indices i and j in the face, and the level."""
    level = level_of(ids)
    path = ids >> np.uint64(2 * (LEVELS - level) + 1)
    face = (path >> np.uint64(2 * level)).astype(np.int64)
    orientation = (face & 1).astype(np.uint8)
    i, j = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    for bit in range(level - 1, -1, -1):
        digit = (path >> np.uint64(2 * bit) & np.uint64(3)).astype(np.uint8)
        ij = _IJ_OF_POSITION[orientation, digit].astype(np.int64)
        i, j = i << 1 | ij >> 1, j << 1 | ij & 1
        orientation ^= _TURN_OF_POSITION[digit]
    return face, i, j, level


def _face_uv(
    xyz: Float[np.ndarray, "point 3"],
) -> tuple[Int[np.ndarray, " point"], Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Project unit vectors onto the cube: face 0 to 5, and coordinates u and v from -1 to 1."""
    x, y, z = xyz.T
    # The face is the axis of the largest coordinate, plus 3 where that is negative. Quotients of
    # the other faces are computed too and discarded, so division by zero is ignored.
    axis = np.argmax(np.abs(xyz), axis=1)
    face = axis + 3 * (np.take_along_axis(xyz, axis[:, None], axis=1)[:, 0] < 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        u = np.choose(face, [y / x, -x / y, -x / z, z / x, z / y, -y / z])
        v = np.choose(face, [z / x, z / y, -y / z, y / x, -x / y, -x / z])
    return face, u, v


def _xyz(
    face: Int[np.ndarray, " point"], u: Float[np.ndarray, " point"], v: Float[np.ndarray, " point"]
) -> Float[np.ndarray, "point 3"]:
    """Return vectors, of any length, through points on the faces of the cube."""
    one = np.ones_like(u)
    x = np.choose(face, [one, -u, -u, -one, v, v])
    y = np.choose(face, [u, one, -v, -v, -one, u])
    z = np.choose(face, [v, v, one, -u, -u, -one])
    return np.stack([x, y, z], axis=1)


def _st_of_uv(w: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """Invert the quadratic projection, which makes the areas of cells nearly equal."""
    root = 0.5 * np.sqrt(1 + 3 * np.abs(w))
    return np.where(w >= 0, root, 1 - root)


def _uv_of_st(s: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    return np.where(s >= 0.5, (4 * s**2 - 1) / 3, (1 - 4 * (1 - s) ** 2) / 3)


def _lonlat(xyz: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 2"]:
    x, y, z = xyz.T
    return np.degrees(np.stack([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))], axis=1))
