"""The group `concepts` of a store: phrases and their vectors, so that words can be searched.

`phrases` is a list of texts (see `text_arrays`), `vectors` (phrase, band) their quantized unit
vectors by the model's text encoder, each the mean of several texts in which the phrase stands. They
have the model's width, and are compared with modalities of that width alone.
"""

GROUP = "concepts"
PHRASES = "phrases"
VECTORS = "vectors"
DIMENSIONS = {PHRASES: ("phrase_byte",), VECTORS: ("phrase", "band")}
MOST_PHRASES = 1_000_000
"""More are refused: a list this long is no list of concepts."""
