"""The features of a kernel ridge: how alike a vector is to each of some landmarks.

Linear models on these numbers are kernel ridges with a Gaussian kernel: they follow bends that a
linear model on the vectors themselves cannot. With as many landmarks as points the kernel is exact;
with fewer, the numbers are Nystroem's approximation.

Sources: Rasmussen & Williams (2006), "Gaussian Processes for Machine Learning", section 8.1;
Williams & Seeger (2001), "Using the Nystroem method to speed up kernel machines".
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.feature_rows import FeatureRows, FileRows, JoinedRows, row_blocks
from unigeo.client.probing.linear_algebra import cholesky, whiten
from unigeo.client.progress import with_progress

MOST_LANDMARKS = 2048
"""Landmarks at most: of more points, as many are drawn."""
_RIDGE = 1e-6
"""Added to the kernel of the landmarks with themselves, 1 on its diagonal, against rounding."""
_MOST_NUMBERS = 2**28
"""Numbers of all points, 1 GB, above which they are kept in a temporary file."""
_LONG_OPERATIONS = 2e11
"""Floating-point operations, seconds of two cores, from which there is a bar by default."""


@dataclass(frozen=True, eq=False, repr=False)
class KernelMap:
    """A map from vectors to their whitened kernel with landmarks."""

    centre: Float[np.ndarray, " band"]
    """Vector that is subtracted first."""
    scale: Float[np.ndarray, " band"]
    """Factor of each band that makes the sets of a joined vector weigh alike."""
    width: float
    """Squared distance at which the kernel is 1 / e: the median between landmarks."""
    landmarks: Float[np.ndarray, "landmark band"]
    """Scaled vectors of the landmarks."""

    def __repr__(self) -> str:
        return "KernelMap({} landmarks of {} bands)".format(*self.landmarks.shape)

    @classmethod
    def of(cls, vectors: FeatureRows, seed: int) -> "KernelMap":
        """Choose landmarks among the vectors of points, and the width of the kernel.

        Args:
            vectors: point by band, without NaN.
            seed: seed of the choice, where there are more points than landmarks.
        """
        count = vectors.shape[0]
        rows = np.arange(count)
        if count > MOST_LANDMARKS:
            rows = np.sort(np.random.default_rng(seed).choice(count, MOST_LANDMARKS, replace=False))
        chosen = np.unique(np.asarray(vectors[rows], np.float64), axis=0)
        centre = chosen.mean(axis=0)
        deviation = np.sqrt(np.mean((chosen - centre) ** 2, axis=0))
        parts = vectors.parts if isinstance(vectors, JoinedRows) else (vectors,)
        edges = np.cumsum([part.shape[1] for part in parts])[:-1]
        sizes = [np.linalg.norm(part) or 1.0 for part in np.split(deviation, edges)]
        scale = np.repeat(1 / np.array(sizes), [part.shape[1] for part in parts])
        landmarks = (chosen - centre) * scale
        between = _squared_distances(landmarks, landmarks)[np.triu_indices(len(landmarks), 1)]
        width = float(np.median(between)) if len(between) else 1.0
        width = width or 1.0  # most landmarks alike, or nearly
        return cls(centre, scale, width, landmarks)

    @cached_property
    def _factor(self) -> Float[np.ndarray, "landmark landmark"]:
        """Cholesky factor of the kernel of the landmarks with themselves."""
        return cholesky(self._kernel(self.landmarks), _RIDGE)

    def apply(
        self, vectors: Float[np.ndarray, "point band"]
    ) -> Float[np.ndarray, "point landmark"]:
        """Return the numbers whose products with each other are the kernel; NaN where a band is."""
        scaled = (np.asarray(vectors, np.float64) - self.centre) * self.scale
        return whiten(self._factor, self._kernel(scaled))

    def rows(self, vectors: FeatureRows, progress: bool | None = None) -> FeatureRows:
        """Apply the map to the vectors of all points, float32.

        Args:
            vectors: point by band, without NaN.
            progress: show a bar on stderr; by default if it takes more than about 2 seconds.
        """
        (count, bands), landmarks = vectors.shape, len(self.landmarks)
        operations = count * landmarks * (2.0 * bands + landmarks)
        show = operations > _LONG_OPERATIONS if progress is None else progress
        blocks = list(row_blocks(np.arange(count), max(bands, landmarks)))
        mapped = (
            self.apply(vectors[block]).astype(np.float32)
            for block in with_progress(blocks, "kernel", "blocks", show)
        )
        if count * landmarks <= _MOST_NUMBERS:
            return np.concatenate(list(mapped))
        kept = FileRows()
        for block in mapped:
            kept.append(block)
        return kept

    def _kernel(
        self, scaled: Float[np.ndarray, "point band"]
    ) -> Float[np.ndarray, "point landmark"]:
        return np.asarray(np.exp(-_squared_distances(scaled, self.landmarks) / self.width))


def _squared_distances(
    one: Float[np.ndarray, "one band"], other: Float[np.ndarray, "other band"]
) -> Float[np.ndarray, "one other"]:
    """Return the squared distance of each vector to each other one."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)
    return np.asarray(np.maximum(squares - 2 * one @ other.T, 0))
