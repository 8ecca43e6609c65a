"""Patches of pixels cut from georeferenced rasters, north up in a local metric frame.

A pixel of a patch lies some metres east and north of the patch's centre. The geodesic of that
distance and azimuth gives its longitude and latitude, the raster's CRS its place in the raster, and
the four pixels round that place its value. The raster is read at the decimation whose pixel is
nearest below a patch pixel, so that nothing finer than the patch aliases into it.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import pyproj
from jaxtyping import Float, Int, Shaped

from unigeo.producer.observations.protocol import Patches
from unigeo.producer.observations.reading import Blocks, Source

WGS84 = pyproj.Geod(ellps="WGS84")
NODES = 5
"""Places per side of a patch at which the CRS is computed; between them a quartic serves."""
TOLERANCE_PX = 0.02
"""A patch in which the quartic errs more, in patch pixels, is computed pixel by pixel."""
TILE = 256
"""Patches whose centres share a tile of so many decimated pixels are gathered together."""
SLAB = 1024
"""Patches at work at once."""


class Gap(IntEnum):
    """Why a patch has no data."""

    NONE = 0
    OUTSIDE = 1
    NODATA = 2
    UNREADABLE = 3


GAP_NAMES = {Gap.OUTSIDE: "outside raster", Gap.NODATA: "nodata", Gap.UNREADABLE: "unreadable"}


@dataclass(frozen=True)
class Frame:
    """A square of pixels, north up, in metres round its centre."""

    patch_m: float
    patch_px: int

    @property
    def step_m(self) -> float:
        """Side of one pixel in metres."""
        return self.patch_m / self.patch_px

    @cached_property
    def east_m(self) -> Float[np.ndarray, " col"]:
        """Metres east of the centre of each column; northward rows are its reverse."""
        return (np.arange(self.patch_px) - (self.patch_px - 1) / 2) * self.step_m

    @cached_property
    def nodes_m(self) -> Float[np.ndarray, " node"]:
        """Metres from the centre of the places where the CRS is computed."""
        return np.linspace(self.east_m[0], self.east_m[-1], NODES)

    @cached_property
    def weights(self) -> Float[np.ndarray, "col node"]:
        """Lagrange weights of the nodes at each column."""
        return _lagrange(self.nodes_m, self.east_m)


def _lagrange(
    nodes: Float[np.ndarray, " node"], at: Float[np.ndarray, " place"]
) -> Float[np.ndarray, "place node"]:
    """Weights of the polynomial through the nodes."""
    weights = np.ones((len(at), len(nodes)))
    for k, own in enumerate(nodes):
        for other in np.delete(nodes, k):
            weights[:, k] *= (at - other) / (own - other)
    return weights


def local_lonlat(
    lonlat: Float[np.ndarray, "point 2"],
    east_m: Float[np.ndarray, " place"],
    north_m: Float[np.ndarray, " place"],
) -> Float[np.ndarray, "point place 2"]:
    """Go so many metres east and north of each point, along the geodesic on WGS 84.

    Source: Karney (2013), "Algorithms for geodesics", as in PROJ; good to nanometres.
    """
    shape = (len(lonlat), len(east_m))
    azimuth = np.degrees(np.arctan2(east_m, north_m))
    lon, lat, _ = WGS84.fwd(
        np.repeat(lonlat[:, 0], shape[1]),
        np.repeat(lonlat[:, 1], shape[1]),
        np.tile(azimuth, shape[0]),
        np.tile(np.hypot(east_m, north_m), shape[0]),
    )
    return np.stack([np.reshape(lon, shape), np.reshape(lat, shape)], axis=-1)


@dataclass(frozen=True, eq=False)
class Located:
    """Where the pixels of patches lie in one raster."""

    row: Float[np.ndarray, "point row col"]
    col: Float[np.ndarray, "point row col"]
    """In raster pixels, the centre of the first at 0; NaN where the CRS does not reach."""
    centre: Float[np.ndarray, "point 2"]
    """Row and column of the patch's centre; NaN where the patch is not in the raster's reach."""
    decimation: Int[np.ndarray, "point 2"]
    """Raster pixels per read pixel along rows and columns: the most that a patch pixel holds."""


def locate(source: Source, lonlat: Float[np.ndarray, "point 2"], frame: Frame) -> Located:
    """Find every pixel of a patch round each point in a raster.

    Exact on 5 x 5 places of a patch, a quartic between; where that errs by more than
    `TOLERANCE_PX` at four places half-way between the outer nodes, exact at every pixel.
    """
    nodes, half = frame.nodes_m, (frame.nodes_m[:2].mean(), frame.nodes_m[-2:].mean())
    east, north = (axis.ravel() for axis in np.meshgrid(nodes, nodes[::-1]))
    check_east, check_north = (axis.ravel() for axis in np.meshgrid(half, half[::-1]))
    places = local_lonlat(
        lonlat, np.concatenate([east, check_east]), np.concatenate([north, check_north])
    )
    rowcol = source.rowcol(places, lonlat)  # point place 2
    grid = rowcol[:, : NODES**2].reshape(-1, NODES, NODES, 2)
    middle = NODES // 2
    spacing = 2 * (nodes[1] - nodes[0]) / frame.step_m  # patch pixels over two intervals
    along = (grid[:, middle, middle + 1] - grid[:, middle, middle - 1]) / spacing
    across = (grid[:, middle + 1, middle] - grid[:, middle - 1, middle]) / spacing
    scale = np.hypot(along, across)  # point 2: raster rows, cols per patch pixel
    centre = np.where(np.isfinite(scale) & (scale > 0), grid[:, middle, middle], np.nan)
    centre[~np.isfinite(centre).all(axis=1)] = np.nan

    at_checks = _lagrange(nodes, np.asarray(half))
    fit = np.stack([_interpolate(grid[..., k], at_checks).reshape(-1, 4) for k in (0, 1)], axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        error_px = np.abs(fit - rowcol[:, NODES**2 :]) / scale[:, None]
        exact = ~(error_px.max(axis=(1, 2)) <= TOLERANCE_PX) & np.isfinite(centre[:, 0])
    row, col = (_interpolate(grid[..., k], frame.weights) for k in (0, 1))
    for point in np.flatnonzero(exact):
        east_px, north_px = np.meshgrid(frame.east_m, frame.east_m[::-1])
        pixels = local_lonlat(lonlat[point, None], east_px.ravel(), north_px.ravel())
        own = source.rowcol(pixels, lonlat[point, None])[0].reshape(*east_px.shape, 2)
        row[point], col[point] = own[..., 0], own[..., 1]
        # Beyond a seam of the CRS a neighbour on the ground is far away in the raster.
        torn = (np.abs(own - centre[point]) > 2 * scale[point] * frame.patch_px).any(axis=-1)
        row[point][torn] = col[point][torn] = np.nan
    decimation = np.maximum(np.floor(np.nan_to_num(scale, nan=1, posinf=1) + 1e-6), 1)
    return Located(row, col, centre, np.minimum(decimation, source.shape).astype(np.int64))


def _interpolate(
    grid: Float[np.ndarray, "point node node"], weights: Float[np.ndarray, "place node"]
) -> Float[np.ndarray, "point place place"]:
    """Evaluate the tensor quartic; a fixed order of sums keeps a patch's bits its own."""
    rows = sum(weights[:, k, None] * grid[:, None, k] for k in range(NODES))
    return sum(rows[:, :, None, k] * weights[None, None, :, k] for k in range(NODES))  # type: ignore[index, no-any-return]


@dataclass(frozen=True, eq=False)
class Cut:
    """Patches, and why some have no data."""

    patches: Patches
    gaps: Int[np.ndarray, " point"]
    """A `Gap` per point."""


def cut(
    sources: Sequence[Source],
    lonlat: Float[np.ndarray, "point 2"],
    frame: Frame,
    dtype: type[np.generic] = np.float32,
    min_valid: float = 0.5,
) -> Cut:
    """Cut one patch round each point from a mosaic of rasters.

    Where several rasters hold a place the first with data wins. Pixels without data inside a valid
    patch get the mean of those with data. A patch does not depend on the others cut with it.

    Args:
        sources: rasters of the same number of bands.
        lonlat: WGS 84 degrees, finite.
        frame: size of the patches.
        dtype: of the values returned; integers are rounded.
        min_valid: share of a patch's pixels that must hold data.
    """
    size, bands = frame.patch_px, len(sources[0].bands)
    values = np.zeros((len(lonlat), bands, size, size), dtype)
    gaps = np.zeros(len(lonlat), np.uint8)
    cell = np.floor(lonlat / (8 * frame.patch_m / 111_000))
    order = np.lexsort((cell[:, 0], cell[:, 1]))
    with ExitStack() as stack:
        blocks: dict[int, Blocks] = {}
        for start in range(0, len(order), SLAB):
            part = order[start : start + SLAB]
            total = np.zeros((len(part), bands, size, size), np.float32)
            weight = np.zeros((len(part), size, size), np.float32)
            inside = np.zeros(len(part), bool)
            unreadable = np.zeros(len(part), bool)
            for number, source in enumerate(sources):
                located = locate(source, lonlat[part], frame)
                for group in _groups(located, source.shape):
                    if (weight[group] >= 1 - 1e-6).all():
                        continue
                    if number not in blocks:
                        blocks[number] = stack.enter_context(Blocks(source))
                    found, share, bad = _gather(blocks[number], located, group)
                    room = np.minimum(share, 1 - weight[group])
                    with np.errstate(invalid="ignore", divide="ignore"):
                        keep = np.where(room < share, room / share, np.float32(1))
                    total[group] += found * keep[:, None]
                    weight[group] += room
                    inside[group] = True
                    unreadable[group] |= bad
            seen = weight >= 0.5 - 1e-6
            np.divide(
                total,
                weight[:, None],
                out=total,
                where=(seen & (weight < 1 - 1e-6))[:, None],
            )
            valid = seen.mean(axis=(1, 2)) >= min_valid
            for k in np.flatnonzero(valid & ~seen.all(axis=(1, 2))):
                for band in total[k]:
                    band[~seen[k]] = band[seen[k]].mean(dtype=np.float64)
            total[~valid] = 0
            values[part] = np.rint(total) if np.issubdtype(dtype, np.integer) else total
            gaps[part] = np.where(
                valid,
                Gap.NONE,
                np.where(unreadable, Gap.UNREADABLE, np.where(inside, Gap.NODATA, Gap.OUTSIDE)),
            )
    return Cut(Patches(values, gaps == Gap.NONE), gaps)


def _groups(located: Located, shape: tuple[int, int]) -> list[Int[np.ndarray, " member"]]:
    """Gather the patches that touch the raster by tile and decimation."""
    low = np.stack([np.nanmin(_filled(x), axis=(1, 2)) for x in (located.row, located.col)], 1)
    high = np.stack([np.nanmax(_filled(x), axis=(1, 2)) for x in (located.row, located.col)], 1)
    touching = np.isfinite(located.centre).all(axis=1)
    touching &= (high > -0.5).all(axis=1) & (low < np.asarray(shape) - 0.5).all(axis=1)
    members = np.flatnonzero(touching)
    if not len(members):
        return []
    tile = np.floor(located.centre[members] / (located.decimation[members] * TILE))
    keys = np.concatenate([located.decimation[members], tile.astype(np.int64)], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    by_group = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[by_group])) + 1
    return list(np.split(members[by_group], cuts))


def _filled(positions: Float[np.ndarray, "point row col"]) -> Float[np.ndarray, "point row col"]:
    """Give patches without any position one that is outside every raster."""
    lost = ~np.isfinite(positions).any(axis=(1, 2))
    return np.where(lost[:, None, None], -10.0, positions) if lost.any() else positions


def _gather(
    blocks: Blocks, located: Located, group: Int[np.ndarray, " member"]
) -> tuple[
    Float[np.ndarray, "member band row col"],
    Float[np.ndarray, "member row col"],
    Shaped[np.ndarray, " member"],
]:
    """Weigh the four read pixels round each patch pixel.

    Returns:
        Weighted sum of those with data, the sum of their weights, and whether a patch touches a
        block that could not be read.
    """
    decimation = tuple(int(k) for k in located.decimation[group[0]])
    first, last, places = [], [], []
    for positions, factor, size in zip(
        (located.row, located.col), decimation, blocks.sizes(decimation), strict=True
    ):
        at = (positions[group] + 0.5) / factor - 0.5
        at = np.clip(np.where(np.isnan(at), -1, at), -1, size)
        first.append(int(np.floor(at.min())))
        last.append(int(np.floor(at.max())) + 2)
        places.append(at)
    window = blocks.window(decimation, (first[0], last[0]), (first[1], last[1]))
    floors = [np.floor(at) for at in places]
    below, right = (
        (at - floor).astype(np.float32) for at, floor in zip(places, floors, strict=True)
    )
    width = last[1] - first[1]
    index = ((floors[0] - first[0]) * width + (floors[1] - first[1])).astype(np.int32)
    taps = (
        (0, (1 - below) * (1 - right)),
        (1, (1 - below) * right),
        (width, below * (1 - right)),
        (width + 1, below * right),
    )
    planes = window.values.reshape(len(window.values), -1)
    found = np.zeros((len(group), len(planes), *index.shape[1:]), np.float32)
    share = np.ones(index.shape, np.float32)
    bad = np.zeros(len(group), bool)
    masked = not window.data.all()
    complete = np.ones(index.shape, bool)
    if masked:
        share[:] = 0
    for offset, tap in taps:
        here = index + np.int32(offset)
        if masked:
            has = window.data.ravel()[here]
            complete &= has | (tap == 0)
            share += tap * has
            bad |= (window.unreadable.ravel()[here] & (tap > 0)).any(axis=(1, 2))
        for band, plane in enumerate(planes):
            found[:, band] += tap * plane[here]
    if masked:
        share[complete] = 1  # exactly, as where nothing is masked
    return found, share, bad
