"""Make the small store of this release's layout that `tests/data` keeps for the releases to come.

    python tests/data/make_store.py layout2.zip

It is made once by the release that first writes a layout, and never again: it shows that what was
published then still opens. 64 x 64 cells of two modalities with an encoder without registers,
concepts, overviews, preview, and the catalogue and STAC item beside the store. `layout1.zip` was
made so by the last commit that wrote layout 1.
"""

import sys
import tempfile
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import stores

from unigeo.producer.publishing.announce import announce
from unigeo.producer.publishing.concepts import ConceptVectors
from unigeo.producer.publishing.publish import publish
from unigeo.schemas.store.encoder import EncoderSettings
from unigeo.schemas.store.quantization import quantize

BANDS = 8
PHRASES = ("dense forest", "open water", "a town by the sea")


def make(path: Path) -> None:
    """A published store."""
    settings = EncoderSettings(
        width=8,
        depth=1,
        heads=2,
        mlp_ratio=2.0,
        sigmas=(1.0, 8.0),
        registers=0,
        scale_embedding=True,
        features="plane",
        dimension=BANDS,
    )
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0, 1, shape).astype(np.float64 if name == "frequencies" else np.float32)
        for name, shape in settings.shapes().items()
    }
    weights["rotation"] = np.linalg.qr(rng.normal(size=(BANDS, BANDS)))[0].astype(np.float32)
    vectors = quantize(rng.normal(size=(len(PHRASES), BANDS)).astype(np.float32))
    publish(
        stores.filled(path),
        encoder=weights,
        encoder_settings=settings.model_dump(mode="json"),
        concepts=ConceptVectors(PHRASES, vectors),
    )
    announce(str(path))


def pack(folder: Path, archive: Path) -> None:
    """A folder's files, in an archive whose bytes do not depend on when it is made."""
    with ZipFile(archive, "w") as packed:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                about = ZipInfo(path.relative_to(folder).as_posix())
                packed.writestr(about, path.read_bytes(), ZIP_DEFLATED, 9)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder) / "gulf.zarr")
        pack(Path(folder), Path(__file__).parent / sys.argv[1])
