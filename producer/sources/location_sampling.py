"""Which places of a region a set observes: balanced over cells, spread inside each.

Places are shared out among coarse cells, evenly or by weight, never more than a coarse cell holds;
then among its fine cells, at most so many in each; inside a fine cell, the farthest points are
taken first. All of it is a function of the region, the settings and the seed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt64

from unigeo.producer.sources import s2
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import Region

LocationWeight = Callable[[Float[np.ndarray, "point 2"]], Float[np.ndarray, " point"]]
"""Weight of places, such as people per square kilometre; NaN and negative count as none."""
PROBES = 4
"""Levels below a coarse cell at which its weight is averaged: 256 places."""
ROUNDS = 8
"""What a coarse cell at the region's edge cannot take is shared out again so often."""
OVERSAMPLING = 16
"""Places drawn in a fine cell for each that may be taken, to choose the farthest from."""


@dataclass(frozen=True, kw_only=True)
class LocationSampling:
    """How places are chosen."""

    count: int
    """Places wanted; a small region may hold fewer."""
    cell_level: int = 16
    """S2 level of the fine cells, about 150 m across."""
    per_cell: int = 1
    """Places in a fine cell, at most."""
    balance_level: int = 12
    """S2 level of the coarse cells among which places are shared out, about 2 km across."""
    weight_power: float = 1.0
    """Weights are raised to it: 0.5 halves the pull of cities on a logarithmic scale."""
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
    """The places of a set, in the order of their cells."""

    lonlat: Float[np.ndarray, "location 2"]
    cell: UInt64[np.ndarray, " location"]
    """The fine cell that holds each."""


def sample_locations(
    region: Region,
    how: LocationSampling,
    weigh: LocationWeight | None = None,
    candidates: Float[np.ndarray, "candidate 2"] | None = None,
) -> SampledLocations:
    """Choose the places of a set.

    Args:
        region: where.
        how: how many, and how spread.
        weigh: weight of places; all weigh the same without it.
        candidates: places to choose among, such as those of photographs; anywhere without them.

    Raises:
        ObservationsError: nothing of the region can be chosen.
    """
    if candidates is None:
        cells, share = cover_region(region, how.balance_level)
        room = np.full(len(cells), 4 ** (how.cell_level - how.balance_level) * how.per_cell)
        known = None
    else:
        known = _Candidates.of(candidates[region.contains(candidates)], how)
        cells, room, share = known.coarse, known.room, np.ones(len(known.coarse))
    weight = share if weigh is None else share * _weights(cells, weigh, how.weight_power)
    if not len(cells) or not weight.any():
        what = "of the candidates lies in it" if candidates is not None else "of it has any weight"
        raise ObservationsError(
            f"region {region.name}: nothing {what}, so there is no place to observe. Name another "
            "region, or other candidates or weights."
        )
    chosen: dict[tuple[int, int], Float[np.ndarray, "location 2"]] = {}
    for _ in range(ROUNDS):
        quota = apportion(how.count, weight, room, np.random.default_rng([how.seed, 0]))
        parts = [np.empty((0, 2))]
        for number in np.flatnonzero(quota):
            key = (int(number), int(quota[number]))
            if key not in chosen:
                own = np.random.default_rng([how.seed, 1, int(cells[number])])
                if known is None:
                    chosen[key] = _sample_cell(region, cells[number], key[1], how, own)
                else:
                    chosen[key] = known.choose(*key, how, own)
                if len(chosen[key]) < key[1]:
                    room[number] = len(chosen[key])
            parts.append(chosen[key])
        places = np.concatenate(parts)
        if len(places) >= min(how.count, room.sum()):
            break
    cell = s2.cell_ids(places, how.cell_level)
    if not len(places):
        raise ObservationsError(
            f"region {region.name} is too small to hold a place of a cell of level "
            f"{how.cell_level}. Name a larger one."
        )
    order = np.lexsort((places[:, 1], places[:, 0], cell))
    return SampledLocations(places[order], cell[order])


def cover_region(
    region: Region, level: int
) -> tuple[UInt64[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """Cells of a level that touch a region, in order, and the share of each that lies in it.

    The share is that of 6 x 6 places, and 1 % where the region only reaches the cell's sides or has
    a corner in it. A cell that the region grazes between all these is left out.
    """
    found = []
    for ring in region.rings:
        (west, south), (east, north) = ring.min(axis=0), ring.max(axis=0)
        found.append(s2.covering(west, south, min(east, west + 360), north, level))
    cells = np.unique(np.concatenate(found))
    inner, sides = (np.indices((6, 6)) + 0.5) / 6, np.indices((5, 5)) / 4
    grid = np.concatenate([inner.reshape(2, -1).T, sides.reshape(2, -1).T])
    share = np.zeros(len(cells))
    for start in range(0, len(cells), 65536):
        part = cells[start : start + 65536]
        lonlat = s2.points_in_cells(np.repeat(part, len(grid)), np.tile(grid, (len(part), 1)))
        inside = region.contains(lonlat).reshape(len(part), -1)
        few = 0.01 * inside[:, 36:].any(axis=1)
        share[start : start + 65536] = np.maximum(inside[:, :36].mean(axis=1), few)
    ends = np.concatenate([np.asarray(ring, float) for ring in region.rings])
    share = np.where(np.isin(cells, s2.cell_ids(ends, level)), np.maximum(share, 0.01), share)
    return cells[share > 0], share[share > 0]


def apportion(
    count: int,
    weight: Float[np.ndarray, " cell"],
    room: Int[np.ndarray, " cell"],
    rng: np.random.Generator,
) -> Int[np.ndarray, " cell"]:
    """Share `count` places among cells in proportion to weight, none above its room.

    What a full cell cannot take goes to the others. Fractions are settled by systematic sampling in
    a random order, so a cell's share differs from its exact part by less than one.
    """
    weight = np.where(weight > 1e-12 * weight.max(initial=0), weight, 0)
    room = np.where(weight > 0, room, 0)
    if count >= room.sum():
        return room
    exact = np.minimum(room, _water_level(count, weight, room) * weight)
    order = rng.permutation(len(exact))
    steps = np.cumsum(exact[order]) * (count / exact.sum())
    whole = np.floor(steps + rng.random())
    whole[-1] = count  # whatever the sums' last bits are
    quota = np.empty(len(exact), np.int64)
    quota[order] = np.diff(whole, prepend=0).astype(np.int64)
    kept: Int[np.ndarray, " cell"] = np.minimum(quota, room)
    return kept


def _water_level(
    count: int, weight: Float[np.ndarray, " cell"], room: Int[np.ndarray, " cell"]
) -> float:
    """How high `count` units of water stand in vessels so wide that hold so much."""
    some = weight > 0
    full_at = room[some] / weight[some]
    order = np.argsort(full_at)
    before = np.cumsum(room[some][order]) - room[some][order]  # held by the vessels that are full
    wide = np.cumsum(weight[some][order][::-1])[::-1]
    level = (count - before) / wide
    return float(level[np.argmax(level <= full_at[order])])


def farthest_points(
    points: Float[np.ndarray, "point 2"], count: int, first: int = 0
) -> Int[np.ndarray, " chosen"]:
    """Choose points so that each is the farthest from those chosen before it.

    Args:
        points: on a plane, in any unit.
        count: how many, at most.
        first: the one to start with.

    Source: Gonzalez (1985), "Clustering to minimize the maximum intercluster distance".
    """
    chosen = np.empty(min(count, len(points)), np.int64)
    distance = np.full(len(points), np.inf)
    for k in range(len(chosen)):
        chosen[k] = first if k == 0 else int(distance.argmax())
        distance = np.minimum(distance, ((points - points[chosen[k]]) ** 2).sum(axis=1))
        distance[chosen[k]] = -1
    return chosen


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Candidates by coarse cell."""

    lonlat: Float[np.ndarray, "candidate 2"]
    fine: UInt64[np.ndarray, " candidate"]
    coarse: UInt64[np.ndarray, " cell"]
    first: Int[np.ndarray, " bound"]
    """Candidates of coarse cell k are those from `first[k]` to before `first[k + 1]`."""
    room: Int[np.ndarray, " cell"]

    @classmethod
    def of(cls, lonlat: Float[np.ndarray, "candidate 2"], how: LocationSampling) -> "_Candidates":
        lonlat = np.unique(lonlat, axis=0)
        fine = s2.cell_ids(lonlat, how.cell_level)
        order = np.argsort(fine, kind="stable")
        lonlat, fine = lonlat[order], fine[order]
        coarse, first = np.unique(s2.parents(fine, how.balance_level), return_index=True)
        cells, counts = np.unique(fine, return_counts=True)
        owner = np.searchsorted(coarse, s2.parents(cells, how.balance_level))
        room = np.bincount(owner, np.minimum(counts, how.per_cell), len(coarse)).astype(np.int64)
        return cls(lonlat, fine, coarse, np.append(first, len(fine)).astype(np.int64), room)

    def choose(
        self, number: int, count: int, how: LocationSampling, rng: np.random.Generator
    ) -> Float[np.ndarray, "location 2"]:
        part = slice(self.first[number], self.first[number + 1])
        return _spread_points(self.lonlat[part], self.fine[part], count, how, rng)


def _sample_cell(
    region: Region, cell: np.uint64, count: int, how: LocationSampling, rng: np.random.Generator
) -> Float[np.ndarray, "location 2"]:
    """Choose places in a coarse cell where nothing is known but the region."""
    fine = s2.children(np.array([cell], np.uint64), how.cell_level)[0]
    each = 1 if how.per_cell == 1 else OVERSAMPLING * how.per_cell
    repeated = np.repeat(rng.permutation(fine), each)
    lonlat = s2.points_in_cells(repeated, rng.random((len(repeated), 2)))
    inside = region.contains(lonlat)
    return _spread_points(lonlat[inside], repeated[inside], count, how, rng)


def _spread_points(
    lonlat: Float[np.ndarray, "point 2"],
    fine: UInt64[np.ndarray, " point"],
    count: int,
    how: LocationSampling,
    rng: np.random.Generator,
) -> Float[np.ndarray, "location 2"]:
    """Choose `count` points: one of every fine cell before two of any, each the farthest."""
    if not len(lonlat):
        return lonlat
    cells, counts = np.unique(fine, return_counts=True)
    share = apportion(count, np.ones(len(cells)), np.minimum(counts, how.per_cell), rng)
    taken = []
    for cell in np.flatnonzero(share):
        members = np.flatnonzero(fine == cells[cell])
        flat = lonlat[members] * (np.cos(np.radians(lonlat[members[0], 1])), 1.0)
        start = int(rng.integers(len(members)))
        taken.append(members[farthest_points(flat, int(share[cell]), start)])
    spread: Float[np.ndarray, "location 2"] = lonlat[np.concatenate(taken)]
    return spread


def _weights(
    cells: UInt64[np.ndarray, " cell"], weigh: LocationWeight, power: float
) -> Float[np.ndarray, " cell"]:
    """Mean weight over each cell, raised to the power."""
    level = min(s2.level_of(cells) + PROBES, s2.LEVELS)
    means = np.zeros(len(cells))
    for start in range(0, len(cells), 4096):
        inner = s2.children(cells[start : start + 4096], level)
        values = weigh(s2.centres(inner.ravel())).reshape(inner.shape)
        means[start : start + 4096] = np.where(values > 0, values, 0).mean(axis=1)
    raised: Float[np.ndarray, " cell"] = np.where(means > 0, means**power, 0)
    return raised
