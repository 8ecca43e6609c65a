"""Where the pixels of a patch lie: north up in a local metric frame, then in a raster.

A pixel of a patch lies some metres east and north of the patch's centre. The geodesic of that
distance and azimuth gives its longitude and latitude, and the raster's CRS its row and column. To
transform every pixel would be slow, so 5 x 5 nodes of a patch are transformed exactly, and a
polynomial of degree 4 along each side (a tensor quartic) gives the pixels between them. Patches
where that is not accurate enough are transformed pixel by pixel.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyproj
from jaxtyping import Float, Int

from unigeo.producer.observations.raster_files.raster_source import RasterSource

WGS84 = pyproj.Geod(ellps="WGS84")
NODES = 5
"""Number of nodes per side of a patch at which the CRS is computed."""
TOLERANCE_PX = 0.02
"""Largest error of the quartic, in patch pixels; other patches are computed pixel by pixel."""


@dataclass(frozen=True)
class Frame:
    """A square of pixels round a centre, north up, with a side in metres."""

    patch_m: float
    patch_px: int

    @property
    def step_m(self) -> float:
        """Side of one pixel in metres."""
        return self.patch_m / self.patch_px

    @cached_property
    def east_m(self) -> Float[np.ndarray, " col"]:
        """Metres east of the centre of each column; reversed, metres north of each row."""
        return (np.arange(self.patch_px) - (self.patch_px - 1) / 2) * self.step_m

    @cached_property
    def nodes_m(self) -> Float[np.ndarray, " node"]:
        """Metres from the centre of the nodes along one side, the outermost pixels included."""
        return np.linspace(self.east_m[0], self.east_m[-1], NODES)

    @cached_property
    def weights(self) -> Float[np.ndarray, "col node"]:
        """Lagrange weights of the nodes at each column."""
        return _lagrange(self.nodes_m, self.east_m)


def _lagrange(
    nodes: Float[np.ndarray, " node"], positions: Float[np.ndarray, " position"]
) -> Float[np.ndarray, "position node"]:
    """Return the weights with which values at the nodes give the polynomial at each position."""
    weights = np.ones((len(positions), len(nodes)))
    for k, node in enumerate(nodes):
        for other in np.delete(nodes, k):
            weights[:, k] *= (positions - other) / (node - other)
    return weights


def local_lonlat(
    lonlat: Float[np.ndarray, "point 2"],
    east_m: Float[np.ndarray, " offset"],
    north_m: Float[np.ndarray, " offset"],
) -> Float[np.ndarray, "point offset 2"]:
    """Return the positions at some offsets from each point, along geodesics of WGS 84.

    Args:
        lonlat: WGS 84 degrees.
        east_m: metres east of the point.
        north_m: metres north of the point.

    Source: Karney (2013), "Algorithms for geodesics", as in PROJ; accurate to nanometres.
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
class AnchoredFrames:
    """Positions of the nodes of patches in one raster, from which a quartic gives every pixel."""

    nodes: Float[np.ndarray, "point node node 2"]
    """Row and column in raster pixels, the centre of the first at 0."""
    centre: Float[np.ndarray, "point 2"]
    """Row and column of the patch's centre; NaN where the raster's CRS does not reach it."""
    decimation: Int[np.ndarray, "point 2"]
    """Raster pixels per read pixel along rows and columns: as many as fit into a patch pixel."""
    exact: dict[int, Float[np.ndarray, "row col 2"]]
    """Row and column of every pixel, of those patches where the quartic is not accurate enough;
    NaN where the CRS does not reach."""


@dataclass(frozen=True, eq=False)
class PixelLocations:
    """Positions of the pixels of patches in one raster."""

    row: Float[np.ndarray, "point row col"]
    col: Float[np.ndarray, "point row col"]
    """Row and column in raster pixels, the centre of the first at 0; NaN where the CRS does not
    reach."""
    centre: Float[np.ndarray, "point 2"]
    decimation: Int[np.ndarray, "point 2"]
    """Centre and decimation as in `AnchoredFrames`."""


def anchor(
    source: RasterSource, lonlat: Float[np.ndarray, "point 2"], frame: Frame
) -> AnchoredFrames:
    """Locate the nodes of a patch round each point in a raster.

    The quartic through the nodes is compared with the CRS at four points half-way between the
    outermost nodes, where a polynomial on equidistant nodes errs most. Where it errs by more than
    `TOLERANCE_PX`, every pixel of the patch is located by itself.
    """
    nodes, half = frame.nodes_m, (frame.nodes_m[:2].mean(), frame.nodes_m[-2:].mean())
    east, north = (axis.ravel() for axis in np.meshgrid(nodes, nodes[::-1]))
    check_east, check_north = (axis.ravel() for axis in np.meshgrid(half, half[::-1]))
    positions = local_lonlat(
        lonlat, np.concatenate([east, check_east]), np.concatenate([north, check_north])
    )
    rowcol = source.rowcol(positions, lonlat)  # point position 2
    grid = rowcol[:, : NODES**2].reshape(-1, NODES, NODES, 2)
    middle = NODES // 2
    # Central differences at the centre: how far one patch pixel moves in the raster.
    spacing = 2 * (nodes[1] - nodes[0]) / frame.step_m  # patch pixels over two intervals
    along = (grid[:, middle, middle + 1] - grid[:, middle, middle - 1]) / spacing
    across = (grid[:, middle + 1, middle] - grid[:, middle - 1, middle]) / spacing
    scale = np.hypot(along, across)  # point 2: raster rows, cols per patch pixel
    centre = np.where(np.isfinite(scale) & (scale > 0), grid[:, middle, middle], np.nan)
    centre[~np.isfinite(centre).all(axis=1)] = np.nan

    at_checks = _lagrange(nodes, np.asarray(half))
    fit = np.stack(
        [_evaluate_quartic(grid[..., k], at_checks).reshape(-1, 4) for k in (0, 1)], axis=-1
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        error_px = np.abs(fit - rowcol[:, NODES**2 :]) / scale[:, None]
        # Not `error > tolerance`: an error that is NaN must count as too large.
        poor = ~(error_px.max(axis=(1, 2)) <= TOLERANCE_PX) & np.isfinite(centre[:, 0])
    exact = {}
    for point in np.flatnonzero(poor).tolist():
        east_px, north_px = np.meshgrid(frame.east_m, frame.east_m[::-1])
        pixels = local_lonlat(lonlat[point, None], east_px.ravel(), north_px.ravel())
        located = source.rowcol(pixels, lonlat[point, None])[0].reshape(*east_px.shape, 2)
        # Beyond a seam of the CRS a neighbour on the ground is far away in the raster.
        torn = (np.abs(located - centre[point]) > 2 * scale[point] * frame.patch_px).any(axis=-1)
        located[torn] = np.nan
        exact[point] = located
    # A scale of 2 - 1e-9 by rounding is 2, hence the small addition before `floor`.
    decimation = np.maximum(np.floor(np.nan_to_num(scale, nan=1, posinf=1) + 1e-6), 1)
    return AnchoredFrames(
        grid, centre, np.minimum(decimation, source.shape).astype(np.int64), exact
    )


def locate(
    source: RasterSource, lonlat: Float[np.ndarray, "point 2"], frame: Frame
) -> PixelLocations:
    """Locate every pixel of a patch round each point in a raster."""
    anchored = anchor(source, lonlat, frame)
    row, col = (_evaluate_quartic(anchored.nodes[..., k], frame.weights) for k in (0, 1))
    for point, located in anchored.exact.items():
        row[point], col[point] = located[..., 0], located[..., 1]
    return PixelLocations(row, col, anchored.centre, anchored.decimation)


def _evaluate_quartic(
    grid: Float[np.ndarray, "point node node"], weights: Float[np.ndarray, "position node"]
) -> Float[np.ndarray, "point position position"]:
    """Evaluate the tensor quartic through a grid of nodes at positions along both sides."""
    # Explicit sums, not `einsum` or `@`: BLAS chooses an order of additions by the array's shape,
    # and a patch would differ in its last bits with the number of patches computed together. The
    # weights of columns serve for rows too, as nodes and pixels are symmetric about the centre.
    rows = sum(weights[:, k, None] * grid[:, None, k] for k in range(NODES))
    both = sum(rows[:, :, None, k] * weights[None, None, :, k] for k in range(NODES))
    return np.asarray(both)
