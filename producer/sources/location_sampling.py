"""Choice of the locations that a set observes: balanced over S2 cells, spread inside each cell.

The wanted number is apportioned among coarse cells, evenly or in proportion to weights, with at
most as many locations as a coarse cell holds; then among its fine cells, with at most `per_cell` in
each. Inside a fine cell points are chosen far from each other. The result depends only on the
region, the settings and the seed, and a larger number keeps every location of a smaller one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt64

from unigeo.producer.sources import s2
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import Region

LocationWeight = Callable[[Float[np.ndarray, "point 2"]], Float[np.ndarray, " point"]]
"""Returns the weight at each point, such as people per square kilometre; NaN and negative weights
count as 0."""
WEIGHT_LEVELS = 4
"""Levels below a coarse cell at which its weight is averaged: over 256 points."""
ROUNDS = 8
"""Largest number of times that the locations are apportioned anew, when cells at the region's edge
hold fewer than estimated."""
OVERSAMPLING = 16
"""Points drawn in a fine cell for each that may be chosen, so that far ones can be chosen."""


@dataclass(frozen=True, kw_only=True)
class LocationSampling:
    """How locations are chosen."""

    count: int
    """Number of locations wanted; a small region may hold fewer."""
    cell_level: int = 16
    """S2 level of the fine cells, about 150 m across."""
    per_cell: int = 1
    """Largest number of locations in a fine cell."""
    balance_level: int = 12
    """S2 level of the coarse cells among which locations are apportioned, about 2 km across."""
    weight_power: float = 1.0
    """Exponent of the weights; with 0.5, a density 100 times as high gives 10 times the weight."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.per_cell < 1:
            raise ObservationsError("[where]: count and per_cell must be at least 1.")
        if not 0 <= self.balance_level <= self.cell_level <= s2.LEVELS:
            raise ObservationsError(
                f"[where]: balance_level {self.balance_level} must be at most cell_level "
                f"{self.cell_level}, and both from 0 to {s2.LEVELS}."
            )
        if self.cell_level - self.balance_level > 8:
            raise ObservationsError(
                f"[where]: a coarse cell of level {self.balance_level} has too many cells of level "
                f"{self.cell_level}; let balance_level be at least {self.cell_level - 8}."
            )


@dataclass(frozen=True, eq=False)
class SampledLocations:
    """The locations of a set, sorted by fine cell."""

    lonlat: Float[np.ndarray, "location 2"]
    cell: UInt64[np.ndarray, " location"]
    """Fine cell that holds each location."""


def sample_locations(
    region: Region,
    sampling: LocationSampling,
    weigh: LocationWeight | None = None,
    candidates: Float[np.ndarray, "candidate 2"] | None = None,
) -> SampledLocations:
    """Choose the locations of a set.

    Args:
        region: area to choose in.
        sampling: how many, and how spread.
        weigh: weight of points; all have the same weight without it.
        candidates: locations to choose among, such as those of images; anywhere without them.

    Raises:
        ObservationsError: the region has no weight or holds no candidate or location.
    """
    if candidates is None:
        cells, share = cover_region(region, sampling.balance_level)
        depth = sampling.cell_level - sampling.balance_level
        room = np.full(len(cells), 4**depth * sampling.per_cell)
        known = None
    else:
        known = _Candidates.group(candidates[region.contains(candidates)], sampling)
        cells, room, share = known.coarse, known.room, np.ones(len(known.coarse))
    weight = share if weigh is None else share * _weights(cells, weigh, sampling.weight_power)
    if not len(cells) or not weight.any():
        what = "of the candidates lies in it" if candidates is not None else "of it has any weight"
        raise ObservationsError(
            f"region {region.name}: nothing {what}, so there is no place to observe. Name another "
            "region, or other candidates or weights."
        )
    # `room` assumes that a coarse cell lies in the region as a whole. A cell at the edge may yield
    # fewer locations than its quota; its room is then lowered and the quotas computed anew, so that
    # other cells take the rest. Quotas and draws have generators of their own, so a cell whose
    # quota stays the same keeps its locations, which are not drawn again.
    drawn: dict[tuple[int, int], Float[np.ndarray, "location 2"]] = {}
    for _ in range(ROUNDS):
        quota = apportion(sampling.count, weight, room, np.random.default_rng([sampling.seed, 0]))
        parts = [np.empty((0, 2))]
        for number in np.flatnonzero(quota):
            key = (int(number), int(quota[number]))
            if key not in drawn:
                rng = np.random.default_rng([sampling.seed, 1, int(cells[number])])
                if known is None:
                    drawn[key] = _sample_cell(region, cells[number], key[1], sampling, rng)
                else:
                    drawn[key] = known.choose(*key, sampling, rng)
                if len(drawn[key]) < key[1]:
                    room[number] = len(drawn[key])
            parts.append(drawn[key])
        lonlat = np.concatenate(parts)
        if len(lonlat) >= min(sampling.count, room.sum()):
            break
    cell = s2.cell_ids(lonlat, sampling.cell_level)
    if not len(lonlat):
        raise ObservationsError(
            f"region {region.name} is too small to hold a place of a cell of level "
            f"{sampling.cell_level}. Name a larger one."
        )
    order = np.lexsort((lonlat[:, 1], lonlat[:, 0], cell))
    return SampledLocations(lonlat[order], cell[order])


def cover_region(
    region: Region, level: int
) -> tuple[UInt64[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """Return the cells of a level that touch a region, sorted, and the share of each inside it.

    The share is estimated at 6 x 6 points. It is 1 % where none of them is inside but a point on
    the cell's sides is, or the region has a vertex in the cell. A cell that the region touches only
    between all these points is left out.
    """
    coverings = []
    for ring in region.rings:
        (west, south), (east, north) = ring.min(axis=0), ring.max(axis=0)
        coverings.append(s2.covering(west, south, min(east, west + 360), north, level))
    cells = np.unique(np.concatenate(coverings))
    # 36 points that stand for equal areas, then 25 that reach the sides and corners.
    inner, sides = (np.indices((6, 6)) + 0.5) / 6, np.indices((5, 5)) / 4
    positions = np.concatenate([inner.reshape(2, -1).T, sides.reshape(2, -1).T])
    share = np.zeros(len(cells))
    for start in range(0, len(cells), 65536):  # bounds the memory
        part = cells[start : start + 65536]
        lonlat = s2.points_in_cells(
            np.repeat(part, len(positions)), np.tile(positions, (len(part), 1))
        )
        inside = region.contains(lonlat).reshape(len(part), -1)
        touched = 0.01 * inside[:, 36:].any(axis=1)
        share[start : start + 65536] = np.maximum(inside[:, :36].mean(axis=1), touched)
    vertices = np.concatenate([np.asarray(ring, float) for ring in region.rings])
    has_vertex = np.isin(cells, s2.cell_ids(vertices, level))
    share = np.where(has_vertex, np.maximum(share, 0.01), share)
    return cells[share > 0], share[share > 0]


def apportion(
    count: int,
    weight: Float[np.ndarray, " cell"],
    room: Int[np.ndarray, " cell"],
    rng: np.random.Generator,
) -> Int[np.ndarray, " cell"]:
    """Apportion `count` locations among cells in proportion to weight, each at most its room.

    Location k of a cell is due at (k - phase) / weight, with a random phase in [0, 1) for each
    cell, and the first `count` are given. So no quota shrinks where `count` grows, a cell's
    expectation is its share, and what a full cell cannot hold goes to the others.
    """
    weight = np.where(weight > 1e-12 * weight.max(initial=0), weight, 0)
    room = np.where(weight > 0, room, 0)
    phase = rng.random(len(weight))
    if count >= room.sum():
        return room

    def due_by(level: float) -> np.ndarray:
        due: np.ndarray = np.minimum(np.floor(level * weight + phase), room).astype(np.int64)
        return due

    high = 1 / weight.max()
    while due_by(high).sum() < count:
        high *= 2
    low = 0.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if due_by(middle).sum() < count else (low, middle)
    quota = due_by(low)
    # Between neighbouring numbers several cells may be due.
    left = np.flatnonzero(quota < room)
    due = (quota[left] + 1 - phase[left]) / weight[left]
    quota[left[np.argsort(due, kind="stable")[: count - quota.sum()]]] += 1
    return quota


def farthest_points(
    points: Float[np.ndarray, "point 2"], count: int, first: int = 0
) -> Int[np.ndarray, " chosen"]:
    """Choose points each of which is the farthest from those chosen before it.

    Args:
        points: coordinates on a plane, in any unit.
        count: largest number of points to choose.
        first: index of the point to start with.

    Source: Gonzalez (1985), "Clustering to minimize the maximum intercluster distance".
    """
    chosen = np.empty(min(count, len(points)), np.int64)
    distance = np.full(len(points), np.inf)
    for k in range(len(chosen)):
        chosen[k] = first if k == 0 else int(distance.argmax())
        distance = np.minimum(distance, ((points - points[chosen[k]]) ** 2).sum(axis=1))
        distance[chosen[k]] = -1  # never chosen again, though other points may coincide with it
    return chosen


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Candidates grouped by coarse cell."""

    lonlat: Float[np.ndarray, "candidate 2"]
    fine: UInt64[np.ndarray, " candidate"]
    coarse: UInt64[np.ndarray, " cell"]
    first: Int[np.ndarray, " bound"]
    """Candidates `first[k]` to `first[k + 1]` (exclusive) are those of coarse cell k."""
    room: Int[np.ndarray, " cell"]

    @classmethod
    def group(
        cls, lonlat: Float[np.ndarray, "candidate 2"], sampling: LocationSampling
    ) -> "_Candidates":
        """Sort candidates by cell; a candidate that is given twice counts once."""
        lonlat = np.unique(lonlat, axis=0)
        fine = s2.cell_ids(lonlat, sampling.cell_level)
        # The order of fine cells is that of their coarse cells too, as ids follow one curve.
        order = np.argsort(fine, kind="stable")
        lonlat, fine = lonlat[order], fine[order]
        coarse, first = np.unique(s2.parents(fine, sampling.balance_level), return_index=True)
        cells, counts = np.unique(fine, return_counts=True)
        owner = np.searchsorted(coarse, s2.parents(cells, sampling.balance_level))
        capacity = np.minimum(counts, sampling.per_cell)
        room = np.bincount(owner, capacity, len(coarse)).astype(np.int64)
        return cls(lonlat, fine, coarse, np.append(first, len(fine)).astype(np.int64), room)

    def choose(
        self, number: int, count: int, sampling: LocationSampling, rng: np.random.Generator
    ) -> Float[np.ndarray, "location 2"]:
        """Choose among the candidates of a coarse cell."""
        part = slice(self.first[number], self.first[number + 1])
        return _spread_points(self.lonlat[part], self.fine[part], count, sampling, rng)


def _sample_cell(
    region: Region,
    cell: np.uint64,
    count: int,
    sampling: LocationSampling,
    rng: np.random.Generator,
) -> Float[np.ndarray, "location 2"]:
    """Choose locations anywhere in a coarse cell, inside the region."""
    fine = s2.children(np.array([cell], np.uint64), sampling.cell_level)[0]
    each = 1 if sampling.per_cell == 1 else OVERSAMPLING * sampling.per_cell
    repeated = np.repeat(rng.permutation(fine), each)
    lonlat = s2.points_in_cells(repeated, rng.random((len(repeated), 2)))
    inside = region.contains(lonlat)
    return _spread_points(lonlat[inside], repeated[inside], count, sampling, rng)


def _spread_points(
    lonlat: Float[np.ndarray, "point 2"],
    fine: UInt64[np.ndarray, " point"],
    count: int,
    sampling: LocationSampling,
    rng: np.random.Generator,
) -> Float[np.ndarray, "location 2"]:
    """Choose `count` points: one in every fine cell before a second in any, far from each other."""
    if not len(lonlat):
        return lonlat
    cells, counts = np.unique(fine, return_counts=True)
    order, starts = rng.permutation(len(cells)), rng.integers(counts)
    capacity = np.minimum(counts, sampling.per_cell)[order]
    rounds = [order[capacity > number] for number in range(capacity.max())]
    quota = np.bincount(np.concatenate(rounds)[:count], minlength=len(cells))
    chosen = []
    for cell in np.flatnonzero(quota):
        members = np.flatnonzero(fine == cells[cell])
        flat = lonlat[members] * (np.cos(np.radians(lonlat[members[0], 1])), 1.0)
        chosen.append(members[farthest_points(flat, int(quota[cell]), int(starts[cell]))])
    spread: Float[np.ndarray, "location 2"] = lonlat[np.concatenate(chosen)]
    return spread


def _weights(
    cells: UInt64[np.ndarray, " cell"], weigh: LocationWeight, power: float
) -> Float[np.ndarray, " cell"]:
    """Return the mean weight over each cell, raised to a power."""
    level = min(s2.level_of(cells) + WEIGHT_LEVELS, s2.LEVELS)
    means = np.zeros(len(cells))
    for start in range(0, len(cells), 4096):  # bounds the memory: 256 points per cell
        inner = s2.children(cells[start : start + 4096], level)
        values = weigh(s2.centres(inner.ravel())).reshape(inner.shape)
        means[start : start + 4096] = np.where(values > 0, values, 0).mean(axis=1)
    raised: Float[np.ndarray, " cell"] = np.where(means > 0, means**power, 0)
    return raised
