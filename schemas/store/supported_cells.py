"""How fine the cells are that rasters support: finer ones repeat what their neighbours say."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

COARSE = 4
"""Side of a cell, in those that the finest raster supports, beyond which much detail is lost."""

_Metres = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ObservedDetail(BaseModel):
    """Detail of the rasters of one modality and of the patches cut from them, in metres."""

    model_config = ConfigDict(extra="allow", frozen=True)  # later releases may add keys

    pixel_m: tuple[_Metres, _Metres]
    """Longer side of a pixel of the finest raster and of the coarsest."""
    patch_pixel_m: _Metres
    """Side of a pixel of the narrowest view of a patch."""

    @property
    def supports_m(self) -> float:
        """Side of the smallest cell with detail of its own, where the rasters are finest."""
        return max(self.pixel_m[0], self.patch_pixel_m)


def describe_support(details: Mapping[str, ObservedDetail]) -> str:
    """Say in a line which cells each modality supports, the smallest first.

    >>> aerial = ObservedDetail(pixel_m=(940, 940), patch_pixel_m=1000)
    >>> describe_support({"aerial": aerial})
    'cells of 1,000 m by aerial (pixels of 940 m, patch pixels of 1,000 m); finer cells add little'
    """
    members: dict[tuple[float, tuple[float, float], float], list[str]] = {}
    for name, one in details.items():
        members.setdefault((one.supports_m, one.pixel_m, one.patch_pixel_m), []).append(name)
    parts = []
    for (side_m, (finest_m, coarsest_m), patch_m), names in sorted(members.items()):
        pixels = _metres(finest_m)
        if _metres(coarsest_m) != pixels:
            pixels = f"{pixels} to {_metres(coarsest_m)}"
        listed = " and ".join([", ".join(names[:-1])] * (len(names) > 1) + names[-1:])
        parts.append(
            f"{_metres(side_m)} m by {listed} (pixels of {pixels} m, patch pixels of "
            f"{_metres(patch_m)} m)"
        )
    return f"cells of {', '.join(parts)}; finer cells add little"


def resolution_warning(details: Mapping[str, ObservedDetail], resolution_m: float) -> str | None:
    """Say that cells are finer than every raster, or much coarser than the finest; else None."""
    side_m, name = min((one.supports_m, name) for name, one in details.items())
    # Sides are stored to three digits.
    if resolution_m < 0.99 * side_m:
        return (
            f"cells of {_metres(resolution_m)} m are finer than any raster supports: neighbours "
            f"see nearly the same; --resolution {side_m:g} says as much in "
            f"{(side_m / resolution_m) ** 2:,.1f} times fewer cells"
        )
    if resolution_m > 1.01 * COARSE * side_m:
        return (
            f"cells of {_metres(resolution_m)} m are {resolution_m / side_m:.3g} times as wide as "
            f"{name} supports; cells down to {_metres(side_m)} m show more of it"
        )
    return None


def _metres(side_m: float) -> str:
    """Write metres with separated thousands, three digits at least.

    >>> _metres(18_500.0), _metres(0.25)
    ('18,500', '0.25')
    """
    return f"{side_m:,.0f}" if side_m >= 100 else f"{side_m:.3g}"
