"""Coarser copies of a field, in the same store: `overviews/2`, `overviews/4`, ...

Each is a field of its own, of the same arrays and attributes. Its cell of factor n covers n by n
cells: the direction of the mean of their unit vectors, those without a vector left out. All cells
have one area, so that is the mean over the area observed. A shard of the overview holds what one
shard of the field does, so both are made in one task.
"""

from dataclasses import replace
from typing import Any

from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.attributes import grid_attributes
from unigeo.schemas.store.layout import Layout, georeferenced
from unigeo.schemas.store.multiscales import multiscale_attributes

GROUP = "overviews"


def overview_factors(layout: Layout) -> tuple[int, ...]:
    """Powers of two by which a shard can be thinned and still be made of whole chunks.

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
    """Where the overview stands in the store.

    >>> overview_path(4)
    'overviews/4'
    """
    return f"{GROUP}/{factor}"


def coarser_layout(layout: Layout, factor: int) -> Layout:
    """How an overview is cut: its shards cover the ground of the field's."""
    return replace(layout, shard=layout.shard // factor, covariates=())


def pyramid_attributes(grid: Grid, factors: tuple[int, ...]) -> dict[str, Any]:
    """The attributes of the group of all overviews of a field on a grid."""
    levels = {factor: grid.coarsen(factor) for factor in factors}
    return multiscale_attributes(levels, {"factors": list(factors)})


def overview_attributes(attributes: dict[str, Any], grid: Grid, factor: int) -> dict[str, Any]:
    """The attributes of an overview's group, from those of the field's root."""
    coarse = grid.coarsen(factor)
    own = dict(attributes["unigeo"])
    own["grid"] = own["grid"] | grid_attributes(coarse)
    own["layout"] = own["layout"] | {"shard": own["layout"]["shard"] // factor, "covariates": []}
    own["overview_of"] = {"factor": factor, "resolution_m": grid.resolution_m}
    changed = {"unigeo": own, "geoemb:gsd": coarse.resolution_m}
    return georeferenced({**attributes, **changed}, coarse)
