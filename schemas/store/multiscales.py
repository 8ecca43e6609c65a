"""Pyramids: groups whose children are one picture or field in ever coarser cells.

Source: github.com/zarr-conventions/multiscales, version 0.1, with the `spatial:` keys of each level
as github.com/zarr-conventions/spatial adds them.
"""

from collections.abc import Mapping
from typing import Any

from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.layout import georeferenced


def multiscale_attributes(
    levels: Mapping[int, Grid], attributes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Attributes of a pyramid's group, whose children are named by their factors.

    Paths of levels lead down from the group, never up; so the levels of a group that lacks the full
    size begin with its finest, which is derived from nothing that the group could name.

    Args:
        levels: grid of each level by its factor, the finest first.
        attributes: the group's others.
    """
    layout: list[dict[str, Any]] = []
    before: int | None = None
    for factor, grid in levels.items():
        level: dict[str, Any] = {"asset": str(factor)}
        if before is not None:
            level["derived_from"] = str(before)
        scale = factor / (before or factor)
        level["transform"] = {"scale": [scale, scale], "translation": [0.0, 0.0]}
        level["spatial:shape"] = list(grid.shape)
        level["spatial:transform"] = list(grid.affine)
        layout.append(level)
        before = factor
    described = {"multiscales": {"layout": layout, "resampling_method": "average"}}
    finest = next(iter(levels.values()))
    return georeferenced({**(attributes or {}), **described}, finest)
