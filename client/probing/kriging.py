"""Simple kriging from the nearest points, with an exponential covariance and a nugget.

The value at a point is a weighted sum of the values of the nearest known points; the weights are
those of the least expected squared error where values have mean 0 and a covariance that decays with
distance. Far from all known points the sum tends to 0.

Source: Cressie (1993), "Statistics for Spatial Data", section 3.2; Chilès & Delfiner (2012),
"Geostatistics", section 3.6, on moving neighbourhoods.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from unigeo.client.probing.baselines import need_sklearn
from unigeo.schemas.geo.great_circle import EARTH_RADIUS_M, unit_vectors

NEIGHBOURS = 64
"""Number of nearest known points whose values are weighted."""
_RANGES = (1 / 32, 1 / 8, 1 / 2, 2)
"""Ranges to choose from, in root mean squared distances of the points from their centre."""
_NUGGETS = (0.05, 0.15, 0.4, 0.8)
"""Nuggets to choose from."""
_CHUNK_POINTS = 2048
"""Points whose weights are solved for at once: matrices of 34 MB with all neighbours."""

Positions = Float[np.ndarray, "point 3"]
"""Points in three dimensions, in metres from the centre of the Earth.

The straight distance of two of them is their great-circle distance within 0.1 % up to 1,000 km, has
no seam anywhere, and makes the exponential covariance positive definite on the globe."""


@dataclass(frozen=True)
class Covariance:
    """Correlation (1 - nugget) exp(-distance / range) of the values of two different points."""

    range_m: float
    nugget: float
    """Share of the variance that a point has for itself, such as errors of measurement."""


@dataclass(frozen=True, repr=False)
class KrigingWeights:
    """Weights of the nearest known points of some points."""

    near: Int[np.ndarray, "point near"]
    """Numbers of the known points, the nearest first."""
    weights: Float[np.ndarray, "point covariance near"]

    def __repr__(self) -> str:
        points, covariances, near = self.weights.shape
        return f"KrigingWeights({points:,} points, {covariances} covariances, {near} near)"

    def sums(
        self, values: Float[np.ndarray, "known column"]
    ) -> Float[np.ndarray, "point covariance column"]:
        """Sum the weighted values of the nearest known points."""
        return np.asarray(self.weights @ values[self.near])


class KnownPoints:
    """Points with known values, indexed by their position."""

    def __init__(self, positions: Positions) -> None:
        """Index the points.

        Raises:
            MissingExtraError: without scikit-learn.
        """
        self.positions = positions
        self._tree = need_sklearn("neighbors").KDTree(positions)

    def weights(
        self,
        positions: Positions,
        covariances: Sequence[Covariance],
        neighbours: int = NEIGHBOURS,
    ) -> Iterator[tuple[slice, KrigingWeights]]:
        """Compute the kriging weights of new points under every covariance.

        Args:
            positions: new points.
            covariances: covariances of the known values.
            neighbours: number of nearest known points to weight, if there are so many.

        Yields:
            Consecutive points as a slice, and their weights.
        """
        count = min(neighbours, len(self.positions))
        for start in range(0, len(positions), _CHUNK_POINTS):
            part = slice(start, start + _CHUNK_POINTS)
            distance, near = self._tree.query(positions[part], k=count)
            # Relative to the point, so that squares of distances lose no digits in float32.
            relative = (self.positions[near] - positions[part, None]).astype(np.float32)
            weights = _solve(relative, distance.astype(np.float32), covariances)
            yield part, KrigingWeights(near, weights)


def positions_of(lonlat: Float[np.ndarray, "point 2"]) -> Positions:
    """Return points in three dimensions, from WGS 84 degrees."""
    return unit_vectors(lonlat) * EARTH_RADIUS_M


def candidate_covariances(positions: Positions) -> tuple[Covariance, ...]:
    """List covariances to choose from, whose ranges fit the extent of the points."""
    deviations = positions - positions.mean(axis=0)
    # At least 1 m, where all points have one position.
    extent_m = max(1.0, float(np.sqrt((deviations**2).sum(axis=1).mean())))
    return tuple(Covariance(share * extent_m, nugget) for share in _RANGES for nugget in _NUGGETS)


def _solve(
    relative: Float[np.ndarray, "point near 3"],
    distance: Float[np.ndarray, "point near"],
    covariances: Sequence[Covariance],
) -> Float[np.ndarray, "point covariance near"]:
    """Solve the kriging equations of every point.

    Args:
        relative: positions of the neighbours, relative to the point, in metres.
        distance: distances of the neighbours from the point, in metres.
        covariances: covariances to solve for.
    """
    squares = (relative**2).sum(axis=2)
    between = squares[:, :, None] + squares[:, None, :]
    between -= 2 * relative @ relative.transpose(0, 2, 1)
    between = np.sqrt(np.maximum(between, 0))
    points, count = distance.shape
    diagonal = np.arange(count)
    weights = np.empty((points, len(covariances), count), np.float32)
    for number, covariance in enumerate(covariances):
        scale = np.float32(-1 / covariance.range_m)
        share = np.float32(1 - covariance.nugget)
        matrix = share * np.exp(between * scale)
        matrix[:, diagonal, diagonal] = 1
        target = share * np.exp(distance * scale)
        weights[:, number] = np.linalg.solve(matrix, target[..., None])[..., 0]
    return weights
