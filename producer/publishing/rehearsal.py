"""How long publication will take: two shards of random vectors are published, and it is scaled."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unigeo.producer.publishing.announce import announce
from unigeo.producer.publishing.concepts import concepts_of
from unigeo.producer.publishing.phrases import Phrase
from unigeo.producer.publishing.principal_directions import SAMPLED_SHARDS
from unigeo.producer.publishing.publish import publish
from unigeo.producer.storage.field_store import create_field
from unigeo.producer.storage.object_io import put
from unigeo.producer.storage.shard_codec import VectorObject, status_object
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.attributes import root_attributes
from unigeo.schemas.store.layout import FUSED, Layout, status_name
from unigeo.schemas.store.manifest import shard_key
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from unigeo.producer.encoders.model import UniGeoCLIP

_SHARDS = 2
_TEXTS = 64


@dataclass
class StageClock:
    """Seconds spent in each stage so far."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of a block for a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.move(time.perf_counter() - start, None, name)

    def move(self, seconds: float, origin: str | None, name: str) -> None:
        """Count some seconds for a stage, and no longer for another one."""
        self.seconds[name] += seconds
        if origin is not None:
            self.seconds[origin] -= seconds


@dataclass(frozen=True)
class PublicationCost:
    """Seconds that a publication will take in this process."""

    deriving: float
    """Overviews, preview and concepts."""
    publishing: float
    """Manifest, metadata, and the files beside the store."""


def rehearse_publication(
    layout: Layout, crs: str, resolution_m: float, shards: int, share: float
) -> PublicationCost:
    """Publish two shards of random vectors in a temporary folder, and scale the time.

    Args:
        layout: layout of the field.
        crs: coordinate reference system of the field.
        resolution_m: side of its cells, in metres.
        shards: number of shards with vectors, of each modality.
        share: mean share of their cells that have a vector.
    """
    names = layout.modalities
    name = next(one for one in names if one != FUSED)
    one = replace(layout, modalities=(name,), covariates=(), widths={})
    side = layout.shard
    grid = Grid(crs, resolution_m, row0=-side, col0=-side, shape=(side, _SHARDS * side))
    attributes = root_attributes(
        region="rehearsal", grid=grid, layout=one, model_name="none", model_sha256="0" * 64,
        model_settings={}, observations={}, seed=0, code_version="0",
    )  # fmt: skip
    clock = StageClock()
    with tempfile.TemporaryDirectory(prefix="unigeo") as folder:
        url = str(Path(folder, "rehearsal.zarr"))
        with clock.stage("publishing"):
            group = create_field(url, grid, one, attributes)
        rng = np.random.default_rng(0)
        cells = np.sort(rng.choice(side**2, max(1, round(share * side**2)), replace=False))
        codes = rng.integers(-127, 128, (len(cells), layout.width(name)), np.int8)
        status = np.full(side**2, Status.OUTSIDE_REGION, np.uint8)
        status[cells] = Status.VALID
        for col in range(_SHARDS):
            body = VectorObject(one, layout.width(name))
            body.put(cells, codes)
            content = body.finish()
            assert content is not None
            put(group.store, shard_key(name, 0, col, 3), content)
            code = status_object(status.reshape(side, side), one)
            put(group.store, shard_key(status_name(name), 0, col, 2), code)
        with clock.stage("publishing"):
            publish(group, stage=clock.stage)
            announce(url)
    spent = clock.seconds
    # "publishing" encloses the other two.
    rest = spent["publishing"] - spent["colours"] - spent["deriving"]
    sampled = min(shards, SAMPLED_SHARDS)
    per_shard = spent["deriving"] * shards + spent["colours"] * sampled
    return PublicationCost(len(names) * per_shard / _SHARDS, len(names) * rest)


def concepts_seconds(
    model: "UniGeoCLIP", tokenizer: "Tokenizer | None", phrases: list[Phrase]
) -> float:
    """Encode a few phrases, and return the seconds that all of them take."""
    texts = list(dict.fromkeys(text for phrase in phrases for text in phrase.texts))
    few = [Phrase(text, (text,)) for text in texts[:_TEXTS]]
    concepts_of(model, tokenizer, few[:1])
    start = time.perf_counter()
    concepts_of(model, tokenizer, few)
    spent_s = time.perf_counter() - start
    return spent_s * len(texts) / max(1, len(few))
