"""Overviews: coarser copies of a field in the same store, `overviews/2`, `overviews/4`, ...

Each is itself a field, with the same arrays and attributes. A cell of factor n covers n by n cells;
its vector is the direction of the mean of their unit vectors, without the cells that have none. All
cells have the same area, so this is the mean over the observed area. A shard of the overview covers
one shard of the field, so both are made in one task.
"""

from dataclasses import replace
from typing import Any

from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.attributes import grid_attributes
from unigeo.schemas.store.layout import Layout, georeferenced
from unigeo.schemas.store.multiscales import multiscale_attributes

GROUP = "overviews"


def overview_factors(layout: Layout) -> tuple[int, ...]:
    """Return the powers of two by which a shard can be coarsened and still consist of whole chunks.

    >>> overview_factors(Layout(modalities=("aerial",), bands=768))
    (2, 4, 8, 16)
    """
    factors = []
    factor = 2
    while layout.shard % factor == 0 and (layout.shard // factor) % layout.chunk == 0:
        factors.append(factor)
        factor *= 2
    return tuple(factors)


def overview_path(factor: int) -> str:
    """Return the path of an overview in the store.

    >>> overview_path(4)
    'overviews/4'
    """
    return f"{GROUP}/{factor}"


def coarser_layout(layout: Layout, factor: int) -> Layout:
    """Return the layout of an overview, whose shards cover the same ground as the field's."""
    return replace(layout, shard=layout.shard // factor, covariates=())


def pyramid_attributes(grid: Grid, factors: tuple[int, ...]) -> dict[str, Any]:
    """Return the attributes of the group of all overviews of a field on a grid."""
    levels = {factor: grid.coarsen(factor) for factor in factors}
    return multiscale_attributes(levels, {"factors": list(factors)})


def overview_attributes(attributes: dict[str, Any], grid: Grid, factor: int) -> dict[str, Any]:
    """Return the attributes of an overview's group, from those of the field's root."""
    coarse = grid.coarsen(factor)
    unigeo = dict(attributes["unigeo"])
    unigeo["grid"] = unigeo["grid"] | grid_attributes(coarse)
    shard = unigeo["layout"]["shard"] // factor
    unigeo["layout"] = unigeo["layout"] | {"shard": shard, "covariates": []}
    unigeo["overview_of"] = {"factor": factor, "resolution_m": grid.resolution_m}
    changed = {"unigeo": unigeo, "geoemb:gsd": coarse.resolution_m}
    return georeferenced({**attributes, **changed}, coarse)
