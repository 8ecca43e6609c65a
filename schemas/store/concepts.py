"""Names in the group `concepts` of a store: phrases and their vectors, by which to search a field.

`phrases` is a list of texts (see `text_arrays`). `vectors` (phrase, band) holds their quantized
unit vectors by the model's text encoder, each the mean over texts that contain the phrase.
They have the model's width, and are compared only with modalities of that width.

Vectors of text lie in a narrow cone apart from those of images, so that nearly every phrase would
be nearest to the same few cells. `centres` (centre, band), float32, is the mean unit vector of each
modality that its attribute `modalities` names; it is there if there are at least `LEAST_CENTRED`
phrases. The score of a cell's unit vector v for a phrase's unit vector c is then the cosine of
v - centre and c - mean, with the mean of all phrases' unit vectors; without `centres` it is the
cosine of v and c.

Where `fused` vectors are made by a map, they are of another space and width. `fused` (phrase,
band_<n>) then holds each phrase's direction from the mean of all, mapped as the views of a cell
are: the score of a cell's fused vector is its cosine with the phrase's. It takes `LEAST_CENTRED`
phrases, too.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

GROUP = "concepts"
PHRASES = "phrases"
VECTORS = "vectors"
CENTRES = "centres"
FUSED_PHRASES = "fused"
CENTRED = "modalities"
"""Attribute of `centres`."""
LEAST_CENTRED = 100
"""Number of phrases from which their mean says where text lies."""
DIMENSIONS = {
    PHRASES: ("phrase_byte",),
    VECTORS: ("phrase", "band"),
    CENTRES: ("centre", "band"),
}
STOP_WORDS = frozenset((
    "a", "an", "and", "at", "by", "for", "from", "in",
    "is", "near", "of", "on", "or", "the", "to", "with",
))  # fmt: skip
"""Words that carry no meaning by themselves."""
MOST_PHRASES = 1_000_000
"""Largest number of phrases that is read; it bounds the memory that a store can claim."""


def centred(
    vectors: Float[np.ndarray, "*shape band"], centre: Float[np.ndarray, " band"]
) -> Float[np.ndarray, "*shape band"]:
    """Return the directions of vectors from a centre; zeros for the centre itself."""
    away: Any = vectors - centre
    length = np.linalg.norm(away, axis=-1, keepdims=True)
    directions: np.ndarray = np.divide(away, length, out=np.zeros_like(away), where=length > 0)
    return directions
