"""Writes `schemas/geo/us_outlines.npz`: outlines of the counties of the 48 states and DC.

    python tests/data/make_us_outlines.py COUNTIES.parquet

COUNTIES is the Census Bureau's cartographic boundary file of 2020, 1:5,000,000, in the public
domain, with its columns `fips`, `NAME`, `NAMELSAD`, `STUSPS` and `STATE_NAME`. Edges between
counties are simplified once, so that neighbours still meet, and stored once.
"""

import sys
from pathlib import Path

import geopandas
import numpy as np
import shapely

OUT = Path(__file__).parents[2] / "schemas" / "geo" / "us_outlines.npz"
TOLERANCE_DEGREES = 0.0025
"""Square root of the largest area of a triangle that simplification removes."""
PER_DEGREE = 20_000
"""Coordinates are whole multiples of 1 / PER_DEGREE, about 5 m."""


def main(source: str) -> None:
    """Write the file."""
    frame = geopandas.read_parquet(source).sort_values("fips").reset_index(drop=True)
    # Rounded first: the vertices that simplification leaves are then whole, and edges do not cross.
    whole = shapely.transform(frame.geometry.values, lambda xy: np.rint(xy * PER_DEGREE))
    print("not valid when rounded:", frame.fips[~shapely.is_valid(whole)].tolist())
    shapes = shapely.coverage_simplify(whole, TOLERANCE_DEGREES * PER_DEGREE)
    rings: list[np.ndarray] = []
    county_of_ring: list[int] = []
    for number, shape in enumerate(shapes):
        # Counterclockwise, so that neighbours run their common edge in opposite directions.
        for polygon in shapely.orient_polygons(shapely.get_parts(shape)):
            for ring in (polygon.exterior, *polygon.interiors):
                whole = np.rint(np.asarray(ring.coords)[:, :2]).astype(np.int32)
                whole = whole[np.r_[True, (np.diff(whole, axis=0) != 0).any(axis=1)]]
                if len(whole) >= 4:
                    rings.append(with_short_edges(whole))
                    county_of_ring.append(number)
    arcs, arcs_of_ring = cut_into_arcs(rings)
    first = np.array([arc[0] for arc in arcs], np.int32)
    deltas = np.concatenate([np.diff(arc, axis=0) for arc in arcs])
    assert np.abs(deltas).max() < 2**15
    split = deltas.astype("<i2").T.copy().view(np.uint8).reshape(2, -1, 2)
    text = "\n".join(
        "\t".join(row) for row in frame[["fips", "NAME", "NAMELSAD", "STUSPS", "STATE_NAME"]].values
    )
    np.savez_compressed(
        OUT,
        per_degree=np.int32(PER_DEGREE),
        first=first,
        low=split[:, :, 0],
        high=split[:, :, 1],
        points_of_arc=np.array([len(arc) for arc in arcs], np.int32),
        arcs=np.concatenate(arcs_of_ring).astype(np.int32),
        arcs_of_ring=np.array(list(map(len, arcs_of_ring)), np.int16),
        county_of_ring=np.array(county_of_ring, np.int16),
        names=np.frombuffer(text.encode(), np.uint8),
    )
    print(f"{OUT}: {OUT.stat().st_size:,} bytes, {len(arcs):,} arcs, {len(deltas):,} edges")


def with_short_edges(ring: np.ndarray) -> np.ndarray:
    """Halve edges that are too long for a difference of 16 bits."""
    while (np.abs(np.diff(ring, axis=0)) >= 2**15).any():
        long = np.flatnonzero((np.abs(np.diff(ring, axis=0)) >= 2**15).any(axis=1))
        ring = np.insert(ring, long + 1, (ring[long] + ring[long + 1]) // 2, axis=0)
    return ring


def cut_into_arcs(rings: list[np.ndarray]) -> tuple[list[np.ndarray], list[list[int]]]:
    """Cut closed rings where three edges meet.

    Returns:
        The arcs, each once; and for each ring its arcs in order, numbered from 1, negative where
        they are run backwards.
    """
    neighbours: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for ring in rings:
        points = list(map(tuple, ring[:-1].tolist()))
        for before, point, after in zip(
            points[-1:] + points[:-1], points, points[1:] + points[:1], strict=True
        ):
            neighbours.setdefault(point, set()).update((before, after))
    arcs: list[np.ndarray] = []
    number_of: dict[bytes, int] = {}
    arcs_of_ring: list[list[int]] = []
    for ring in rings:
        points = list(map(tuple, ring[:-1].tolist()))
        nodes = [k for k, point in enumerate(points) if len(neighbours[point]) > 2]
        start = nodes[0] if nodes else points.index(min(points))
        points = points[start:] + points[:start]
        cuts = [(k - start) % len(points) for k in nodes] or [0]
        own = []
        for first, last in zip(sorted(cuts), [*sorted(cuts)[1:], len(points)], strict=True):
            arc = np.array([*points, points[0]][first : last + 1], np.int32)
            backwards = np.ascontiguousarray(arc[::-1])
            if arc.tobytes() in number_of:
                own.append(number_of[arc.tobytes()])
            elif backwards.tobytes() in number_of:
                own.append(-number_of[backwards.tobytes()])
            else:
                arcs.append(arc)
                number_of[arc.tobytes()] = len(arcs)
                own.append(len(arcs))
        arcs_of_ring.append(own)
    return arcs, arcs_of_ring


if __name__ == "__main__":
    main(sys.argv[1])
