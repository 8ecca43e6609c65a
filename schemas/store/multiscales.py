"""Attributes of pyramids: groups whose children are one image or field at several resolutions.

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
    """Return the attributes of a pyramid's group, whose children are named by their factors.

    The convention's paths lead down from the group, never up. The finest level of a group without
    the full resolution is therefore derived from nothing that the group can name.

    Args:
        levels: grid of each level by its factor, the finest first.
        attributes: other attributes of the group.
    """
    layout: list[dict[str, Any]] = []
    before: int | None = None
    for factor, grid in levels.items():
        level: dict[str, Any] = {"asset": str(factor)}
        if before is not None:
            level["derived_from"] = str(before)
        scale = factor / (before or factor)  # of this level's pixels to those of the one before
        level["transform"] = {"scale": [scale, scale], "translation": [0.0, 0.0]}
        level["spatial:shape"] = list(grid.shape)
        level["spatial:transform"] = list(grid.affine)
        layout.append(level)
        before = factor
    described = {"multiscales": {"layout": layout, "resampling_method": "average"}}
    finest = next(iter(levels.values()))
    return georeferenced({**(attributes or {}), **described}, finest)
