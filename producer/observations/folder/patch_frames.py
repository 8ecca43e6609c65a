"""Where the pixels of a patch lie: north up in a local metric frame, then in a raster.

A pixel of a patch lies some metres east and north of the patch's centre. The geodesic of that
distance and azimuth gives its longitude and latitude, the raster's CRS its row and column.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyproj
from jaxtyping import Float, Int

from unigeo.producer.observations.folder.geotiff_source import GeotiffSource

WGS84 = pyproj.Geod(ellps="WGS84")
NODES = 5
"""Places per side of a patch at which the CRS is computed; between them a quartic serves."""
TOLERANCE_PX = 0.02
"""A patch in which the quartic errs more, in patch pixels, is computed pixel by pixel."""


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
    nodes: Float[np.ndarray, " node"], at: Float[np.ndarray, " position"]
) -> Float[np.ndarray, "position node"]:
    """Weights of the polynomial through the nodes."""
    weights = np.ones((len(at), len(nodes)))
    for k, own in enumerate(nodes):
        for other in np.delete(nodes, k):
            weights[:, k] *= (at - other) / (own - other)
    return weights


def local_lonlat(
    lonlat: Float[np.ndarray, "point 2"],
    east_m: Float[np.ndarray, " offset"],
    north_m: Float[np.ndarray, " offset"],
) -> Float[np.ndarray, "point offset 2"]:
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
class AnchoredFrames:
    """Where a few places of patches lie in one raster; a quartic gives the others."""

    nodes: Float[np.ndarray, "point node node 2"]
    """Row and column in raster pixels, the centre of the first at 0."""
    centre: Float[np.ndarray, "point 2"]
    """Row and column of the patch's centre; NaN where the patch is not in the raster's reach."""
    decimation: Int[np.ndarray, "point 2"]
    """Raster pixels per read pixel along rows and columns: the most that a patch pixel holds."""
    exact: dict[int, Float[np.ndarray, "row col 2"]]
    """Patches in which the quartic errs, pixel by pixel; NaN where the CRS does not reach."""


@dataclass(frozen=True, eq=False)
class PixelLocations:
    """Where the pixels of patches lie in one raster."""

    row: Float[np.ndarray, "point row col"]
    col: Float[np.ndarray, "point row col"]
    """In raster pixels, the centre of the first at 0; NaN where the CRS does not reach."""
    centre: Float[np.ndarray, "point 2"]
    decimation: Int[np.ndarray, "point 2"]
    """As `AnchoredFrames` has them."""


def anchor(
    source: GeotiffSource, lonlat: Float[np.ndarray, "point 2"], frame: Frame
) -> AnchoredFrames:
    """Find 5 x 5 places of a patch round each point in a raster, and where these do not serve.

    Where the quartic through them errs by more than `TOLERANCE_PX` at four places half-way between
    the outer nodes, every pixel is found by itself.
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
        poor = ~(error_px.max(axis=(1, 2)) <= TOLERANCE_PX) & np.isfinite(centre[:, 0])
    exact = {}
    for point in np.flatnonzero(poor).tolist():
        east_px, north_px = np.meshgrid(frame.east_m, frame.east_m[::-1])
        pixels = local_lonlat(lonlat[point, None], east_px.ravel(), north_px.ravel())
        own = source.rowcol(pixels, lonlat[point, None])[0].reshape(*east_px.shape, 2)
        # Beyond a seam of the CRS a neighbour on the ground is far away in the raster.
        torn = (np.abs(own - centre[point]) > 2 * scale[point] * frame.patch_px).any(axis=-1)
        own[torn] = np.nan
        exact[point] = own
    decimation = np.maximum(np.floor(np.nan_to_num(scale, nan=1, posinf=1) + 1e-6), 1)
    return AnchoredFrames(
        grid, centre, np.minimum(decimation, source.shape).astype(np.int64), exact
    )


def locate(
    source: GeotiffSource, lonlat: Float[np.ndarray, "point 2"], frame: Frame
) -> PixelLocations:
    """Find every pixel of a patch round each point in a raster."""
    anchored = anchor(source, lonlat, frame)
    row, col = (_interpolate(anchored.nodes[..., k], frame.weights) for k in (0, 1))
    for point, own in anchored.exact.items():
        row[point], col[point] = own[..., 0], own[..., 1]
    return PixelLocations(row, col, anchored.centre, anchored.decimation)


def _interpolate(
    grid: Float[np.ndarray, "point node node"], weights: Float[np.ndarray, "position node"]
) -> Float[np.ndarray, "point position position"]:
    """Evaluate the tensor quartic; a fixed order of sums keeps a patch's bits its own."""
    rows = sum(weights[:, k, None] * grid[:, None, k] for k in range(NODES))
    both = sum(rows[:, :, None, k] * weights[None, None, :, k] for k in range(NODES))
    return np.asarray(both)
