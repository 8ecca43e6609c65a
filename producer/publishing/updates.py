"""What a new release changes for its readers: nothing, or less than there was.

Readers of `catalog.json` get the newest release without asking for it. One that lacks an array, has
coarser cells, or has fewer vectors is therefore made only with the producer's consent.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr

from unigeo.producer.publishing.releases import NextRelease, listed_shards
from unigeo.producer.publishing.shard_facts import ShardFacts
from unigeo.producer.publishing.task_digests import is_same_task, mask_before_encoding
from unigeo.producer.publishing.terms import providers_of
from unigeo.producer.raster.cell_status import Land
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.geo.window import Window
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.attributes import UnigeoAttributes, read_attributes
from unigeo.schemas.store.layout import COVARIATES, Layout
from unigeo.schemas.store.manifest import GROUP

LARGEST_LOSS = 0.01
"""Largest share of a modality's valid area that a release may lose without consent."""
_CONSENT = "Readers of the catalogue would get it unasked; --allow-loss makes it all the same."
_TERMS = ("license", "citation")


def refuse_losses(following: NextRelease, grid: Grid, layout: Layout) -> None:
    """Refuse a release with fewer arrays or coarser cells than the one before, before any work.

    Raises:
        StoreError: saying what would be lost, unless `following.allow_loss`.
    """
    if following.allow_loss:
        return
    old = _attributes(following.previous_url)
    before = old.field_layout()
    lost = [name for name in before.arrays if name not in layout.arrays]
    lost += [f"the covariate {name}" for name in before.covariates if name not in layout.covariates]
    if COVARIATES in lost:
        lost = [name for name in lost if not name.startswith("the covariate ")]
    clauses = [f"would lack {', '.join(lost)}"] if lost else []
    if grid.resolution_m > old.grid.resolution_m:
        clauses.append(
            f"would have cells of {grid.resolution_m:g} m instead of {old.grid.resolution_m:g} m"
        )
    if clauses:
        raise StoreError(
            f"release {following.release}, after {following.previous} at {following.previous_url}, "
            f"{' and '.join(clauses)}. {_CONSENT}"
        )


def refuse_lost_cells(
    previous: Any, attributes: UnigeoAttributes, facts: Mapping[str, ShardFacts]
) -> None:
    """Refuse a release in which a modality lost more than `LARGEST_LOSS` of its valid area.

    Args:
        previous: URL of the previous release's store, or the store.
        attributes: attributes of the new release.
        facts: facts of the new release's shards by array.

    Raises:
        StoreError: with the share that is lost, by modality.
    """
    group, old = open_group(previous), _attributes(previous)
    lost = []
    for name in old.layout.modalities:
        cells = group.get(f"{GROUP}/{name}_valid_cells")
        if name not in facts or not isinstance(cells, zarr.Array):
            continue
        before = float(np.sum(np.asarray(cells[...]))) * old.grid.resolution_m**2
        now = float(facts[name].valid_cells.sum()) * attributes.grid.resolution_m**2
        if now < before * (1 - LARGEST_LOSS):
            lost.append(f"{100 * (1 - now / before):.1f} % of {name}")
    if lost:
        raise StoreError(
            f"the new release has lost {', '.join(lost)} of the valid area of {previous}, more "
            f"than {100 * LARGEST_LOSS:g} %. {_CONSENT} Everything is written and kept: with it "
            "the same command publishes."
        )


def is_unchanged(
    following: NextRelease, attributes: Mapping[str, Any], region: Region, land: Land
) -> bool:
    """Return whether a new release would hold what the previous one holds.

    Args:
        following: the release that would be made.
        attributes: attributes of its root.
        region: its region.
        land: land mask of its observations.
    """
    previous = open_group(following.previous_url)
    before = dict(previous.attrs)
    old = read_attributes(before, following.previous_url)
    new = read_attributes(dict(attributes), following.url)
    if (
        any(before[key] != attributes[key] for key in _TERMS)
        or providers_of(before) != providers_of(attributes)
        or old.layout_version != new.layout_version
        or (old.grid, old.field_layout()) != (new.grid, new.field_layout())
        or old.observations != new.observations
    ):
        return False
    grid, layout = new.grid.grid(), new.field_layout()
    listed = {name: listed_shards(previous, name) for name in layout.arrays}
    if not all(listed.values()):
        return False
    for row, col in np.ndindex(*layout.shards(grid)):
        window = Window(row * layout.shard, col * layout.shard, layout.shard, layout.shard)
        mask = mask_before_encoding(grid, window, region, land)
        for name, facts in listed.items():
            if not is_same_task(facts["task"][row, col].tobytes(), old, new, name, window, mask):
                return False
    return True


def _attributes(url: Any) -> UnigeoAttributes:
    return read_attributes(dict(open_group(url).attrs), str(url))
