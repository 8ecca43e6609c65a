"""A rasterization job: what is sent to every process, and what each process opens from it."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from unigeo.producer.raster.cell_status import Land
from unigeo.producer.raster.identity import VectorIdentity
from unigeo.producer.raster.leases import EXPIRY_S
from unigeo.producer.raster.shard_encoder import ShardEncoder
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.io.retrying import PATIENCE_S
from unigeo.schemas.store.layout import Layout


@dataclass(frozen=True, eq=False)
class Equipment:
    """What a process makes vectors with: open files and a model in memory, never sent."""

    encoder: ShardEncoder
    land: Land
    identity: VectorIdentity = field(default_factory=VectorIdentity)
    """Identity of the vectors that this process makes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RasterJob:
    """The vectors of one store, as every process needs to know them; sent along with each task."""

    url: str
    """Address of the store, which workers open."""
    region: Region
    """Cells whose centre lies outside are not encoded."""
    grid: Grid
    layout: Layout
    open_equipment: Callable[[], Equipment]
    """Called once in each worker, so its paths must mean the same on every machine."""
    batch: int = 2048
    """Largest number of cells encoded at once."""
    identity: VectorIdentity = field(default_factory=VectorIdentity)
    """Identity of the store's vectors; without it, that of this code alone."""
    expiry_s: float = EXPIRY_S
    """Seconds without a heartbeat after which another process counts as dead."""
    patience_s: float = PATIENCE_S
    """Seconds that the store may not answer a worker before its task fails."""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Name under which a worker keeps its equipment."""
