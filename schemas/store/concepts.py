"""Names in the group `concepts` of a store: phrases and their vectors, by which to search a field.

`phrases` is a list of texts (see `text_arrays`). `vectors` (phrase, band) holds their quantized
unit vectors by the model's text encoder, each the mean over several texts that contain the phrase.
They have the model's width, and are compared only with modalities of that width.
"""

GROUP = "concepts"
PHRASES = "phrases"
VECTORS = "vectors"
DIMENSIONS = {
    PHRASES: ("phrase_byte",),
    VECTORS: ("phrase", "band"),
}
MOST_PHRASES = 1_000_000
"""Largest number of phrases that is read; it bounds the memory that a store can claim."""
