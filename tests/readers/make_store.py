"""Make the store that foreign readers open: produced, published and announced by the producer.

    python tests/readers/make_store.py FOLDER

It is the small field of `support.stores`, with land, water and cells without an observation.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from support import stores

from unigeo.producer.publishing.announce import announce
from unigeo.producer.publishing.concepts import ConceptVectors
from unigeo.producer.publishing.publish import publish
from unigeo.schemas.store.quantization import quantize


def main(folder: Path) -> None:
    """Make it anew, with every group that a store may hold, and an encoder without registers."""
    store = folder / "gulf.zarr"
    group, grid, layout = stores.begin(store)
    stores.fill(group, grid, layout)
    weights = {**stores.WEIGHTS, "registers": np.zeros((0, 2), np.float32)}
    concepts = ConceptVectors(("land", "water"), quantize(np.eye(2, layout.bands)))
    publish(group, encoder=weights, encoder_settings=stores.ENCODER, concepts=concepts)
    announce(str(store), providers=("Nobody",))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
