"""The group `search`: few numbers of each wide vector, by which many cells are compared.

A vector of 768 numbers is nearly one of 64: its products with the modality's principal directions.
`search/1` holds these of the field's cells, `search/2` those of the overview of factor 2, and so
on; each is a group with one array for each modality of more than `WIDE` numbers, quantized and cut
into shards and chunks as vectors are, without a status. `search/A_axes` are the directions,
whose first three are the colours of the preview.
Cosines of these numbers order cells nearly as those of the vectors do, for a twelfth of the bytes.
"""

from dataclasses import replace
from typing import Any

from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.store.multiscales import multiscale_attributes
from unigeo.schemas.store.overviews import overview_factors

GROUP = "search"
NUMBERS = 64
"""Numbers of a cell."""
WIDE = 256
"""Largest width of vectors that are compared by all of their numbers."""


def searched_modalities(layout: Layout) -> tuple[str, ...]:
    """Return the modalities that are wide enough to be searched by fewer numbers.

    >>> searched_modalities(Layout(modalities=("aerial", "fused"), bands=768, widths={"fused": 96}))
    ('aerial',)
    """
    return tuple(name for name in layout.modalities if layout.width(name) > WIDE)


def search_factors(layout: Layout) -> tuple[int, ...]:
    """Return the factor of each level: 1, and those of the overviews."""
    return (1, *overview_factors(layout)) if searched_modalities(layout) else ()


def search_path(factor: int) -> str:
    """Return the path of a level in the store."""
    return f"{GROUP}/{factor}"


def search_layout(layout: Layout, factor: int) -> Layout:
    """Return the layout of a level, whose shards cover the same ground as the field's.

    >>> coarse = search_layout(Layout(modalities=("aerial",), bands=768), 8)
    >>> coarse.width("aerial"), coarse.shard
    (64, 32)
    """
    names = searched_modalities(layout)
    widths = dict.fromkeys(names, NUMBERS)
    shard = layout.shard // factor
    return replace(layout, modalities=names, widths=widths, shard=shard, covariates=())


def axes_name(modality: str) -> str:
    """Return the name of the array of a modality's directions."""
    return f"{modality}_axes"


def search_attributes(grid: Grid, layout: Layout) -> dict[str, Any]:
    """Return the attributes of the group `search`."""
    levels = {factor: grid.coarsen(factor) for factor in search_factors(layout)}
    factors, names = list(levels), list(searched_modalities(layout))
    return multiscale_attributes(levels, {"factors": factors, "modalities": names})
