"""One scale for all bands of a vector, where plain columns get one each.

The bands of a vector are no quantities of their own, and how widely each of them varies belongs to
the vector: leading bands that hold its main directions vary most. Were each band standardized by
itself, a ridge would take the least of them for as likely to matter as the first.
"""

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.feature_rows import FeatureRows, JoinedRows, row_blocks

_ROWS = 8192
"""Rows, about, that the deviations are estimated from."""
_LEAST = 1e-6
"""Least strength of a band that varies; so a band that varies in few rows keeps a weight."""


def vector_strength(vectors: FeatureRows) -> Float[np.ndarray, " band"]:
    """Return the strength of each standardized band by which a vector keeps its proportions.

    It is the band's standard deviation beside the root mean square of those of all bands; in sets
    side by side, of the bands of its own set, so that every set weighs by its number of bands.

    Args:
        vectors: point by band, without NaN.
    """
    if isinstance(vectors, JoinedRows):
        return np.concatenate([vector_strength(part) for part in vectors.parts])
    rows = np.arange(0, vectors.shape[0], max(1, vectors.shape[0] // _ROWS))
    some = np.concatenate(
        [np.asarray(vectors[block], np.float64) for block in row_blocks(rows, vectors.shape[1])]
    )
    deviation = some.std(axis=0)
    size = np.sqrt(np.mean(deviation**2))
    return np.maximum(deviation / size, _LEAST) if size > 0 else np.ones(vectors.shape[1])
