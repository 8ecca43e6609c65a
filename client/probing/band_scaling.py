"""How bands are scaled for a ridge: plain columns each by itself, the bands of a vector alike.

The bands of a vector are no quantities of their own, and how widely each of them varies belongs to
the vector: leading bands that hold its main directions vary most. Were each band standardized by
itself, a ridge would take the least of them for as likely to matter as the first. And a band that
varies in the rows of one fold alone, such as how alike a vector is to one of that fold, would be
blown up where the ridge has not seen it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from unigeo.client.probing.feature_rows import FeatureRows, JoinedRows

_CONSTANT = 1e-10
"""Variance / mean square of a band, below which its variance is taken for rounding."""


@dataclass(frozen=True, eq=False)
class BandScaling:
    """The scale of each band in a ridge, from the variances of the training rows."""

    groups: Int[np.ndarray, " band"] | None = None
    """Number, from 0, of the group of each band; a group shares one scale, by which its bands have
    a mean square deviation of 1. None where each band is a group."""
    strength: Float[np.ndarray, " band"] | float = 1.0
    """Factor of each scaled band, whose penalty is divided by its square."""

    def factors(
        self, variance: Float[np.ndarray, " band"], square: Float[np.ndarray, " band"]
    ) -> Float[np.ndarray, " band"]:
        """Return the factor of each band; 0 for a constant band, which then has no weight.

        Args:
            variance: variance of each band.
            square: mean square of each band, beside which its variance may be rounding alone.
        """
        varies: Bool[np.ndarray, " band"] = variance > _CONSTANT * square
        shared = self.shared(np.where(varies, variance, 0))
        return np.asarray(
            self.strength * np.where(varies, 1 / np.sqrt(np.where(varies, shared, 1)), 0)
        )

    def shared(self, variance: Float[np.ndarray, " band"]) -> Float[np.ndarray, " band"]:
        """Return the mean variance of each band's group."""
        if self.groups is None:
            return variance
        mean = np.bincount(self.groups, variance) / np.bincount(self.groups)
        return np.asarray(mean[self.groups])


EACH_BAND = BandScaling()
"""The scaling of plain columns."""


def vector_scaling(vectors: FeatureRows) -> BandScaling:
    """Return the scaling by which a vector keeps its proportions.

    Of sets side by side, each keeps its own, so that every set weighs by its number of bands.
    """
    parts = vectors.parts if isinstance(vectors, JoinedRows) else (vectors,)
    return BandScaling(np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts]))


def beside_vectors(vectors: FeatureRows, columns: int) -> BandScaling:
    """Return the scaling of vectors and plain columns side by side.

    The columns get a larger strength, so that together they may explain as much as all bands: else
    the penalty that hundreds of bands need would suppress a few columns that matter.
    """
    groups = vector_scaling(vectors).groups
    assert groups is not None
    own = groups.max() + 1 + np.arange(columns)
    strength = max(1.0, np.sqrt(vectors.shape[1] / columns))
    return BandScaling(
        np.concatenate([groups, own]),
        np.concatenate([np.ones(len(groups)), np.full(columns, strength)]),
    )
