"""How fine the cells are that the rasters of a region support."""

import numpy as np
from jaxtyping import Float

from unigeo.producer.observations.protocol import Observations
from unigeo.schemas.store.supported_cells import ObservedDetail


def observed_detail(
    observations: Observations, modalities: tuple[str, ...], lonlat: Float[np.ndarray, " 2"]
) -> dict[str, ObservedDetail]:
    """Measure the pixels of rasters and patches on the ground, to three digits.

    Args:
        observations: what is observed.
        modalities: modalities of the field; those without rasters are left out.
        lonlat: where pixels are measured, or at the pixel of each raster that lies nearest to it.

    Returns:
        The detail by modality.
    """
    details = {}
    for modality in modalities:
        rasters = observations.rasters_of(modality) if modality in observations.modalities else None
        if rasters is None:
            continue
        sides = [source.pixel_m(lonlat) for source in rasters.sources]
        known = [_three_digits(side) for side in sides if side is not None]
        if known:
            narrowest = min(frame.step_m for frame in rasters.frames)
            details[modality] = ObservedDetail(
                pixel_m=(min(known), max(known)), patch_pixel_m=_three_digits(narrowest)
            )
    return details


def _three_digits(side_m: float) -> float:
    return float(f"{side_m:.3g}")
