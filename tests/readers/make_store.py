"""Make the store that foreign readers open: produced, published and announced by the producer.

    python tests/readers/make_store.py FOLDER

It is the small field of `tests/stores.py`, with land, water and cells without an observation.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import stores

from unigeo.producer.publishing.announcing import announce


def main(folder: Path) -> None:
    """Make it anew."""
    store = folder / "gulf.zarr"
    stores.build(store)
    announce(str(store), providers=("Nobody",))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
