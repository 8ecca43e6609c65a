"""Task digests: hashes of everything that decides the content of a shard.

The content of a modality's shard follows from the model, the layout, the shard's position on the
lattice, which of its cells are in the region and on land, and the modality's inputs. The inputs
count as one: if any file of a modality changes, all its shards do. What is only told of the inputs,
such as a licence, is left out.
"""

import hashlib
import json
from typing import Any

import numpy as np
from jaxtyping import UInt8

from unigeo.producer.observations.provenance import CONTENTS, deciding
from unigeo.producer.raster.cell_status import Land, reset_status, status_before_encoding
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.regions import Region
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.attributes import UnigeoAttributes
from unigeo.schemas.store.layout import COVARIATES, FUSED
from unigeo.schemas.store.status import Status


def task_digest(
    attributes: UnigeoAttributes, modality: str, window: Window, mask: np.ndarray
) -> bytes:
    """Return a SHA-256 of everything that decides a shard's content.

    Args:
        attributes: the field's attributes.
        modality: modality of the shard.
        window: cells of the shard on the field's grid.
        mask: state of each cell before encoding, as `mask_before_encoding` returns it.
    """
    inputs = _inputs(attributes, modality, deciding(attributes.observations))
    return _digest(attributes, modality, window, mask, inputs)


def is_same_task(
    stored: bytes,
    before: UnigeoAttributes,
    attributes: UnigeoAttributes,
    modality: str,
    window: Window,
    mask: np.ndarray,
) -> bool:
    """Return whether a shard's digest in an earlier release is that of a task now.

    Args:
        stored: digest in the manifest of the earlier release.
        before: attributes of the earlier release.
        attributes: attributes of the field, to which `window` and `mask` belong.
        modality: modality of the shard.
        window: cells of the shard.
        mask: state of each cell before encoding.
    """
    if stored == task_digest(attributes, modality, window, mask):
        return True
    # Earlier versions hashed the observations with what is told of them.
    then, now = (
        json.dumps(_inputs(one, modality, deciding(one.observations)), sort_keys=True)
        for one in (before, attributes)
    )
    told = _inputs(attributes, modality, before.observations)
    return then == now and stored == _digest(attributes, modality, window, mask, told)


def _inputs(attributes: UnigeoAttributes, modality: str, observations: dict[str, Any]) -> Any:
    """Return the inputs of a modality.

    Args:
        attributes: the field's attributes.
        modality: modality of the shard.
        observations: provenance of the observations, or the deciding part of it.
    """
    layout, detail = attributes.layout, attributes.coordinate_detail
    sources = observations.get("modalities", observations.get(CONTENTS))
    interpolated = 1 if detail is None else detail.interpolated
    if modality == COVARIATES:
        used = sources if isinstance(sources, dict) else {}
        return {
            "names": list(layout.covariates),
            "sources": {name: used.get(name) for name in layout.modalities},
        }
    if modality == FUSED:
        return {
            "fused": list(layout.modalities),
            "interpolated": interpolated,
            "sources": sources if isinstance(sources, dict) else observations,
        }
    if modality == "coordinate":
        # Coordinates have no observations: beside the lattice only interpolation changes them.
        return {"interpolated": interpolated} if interpolated > 1 else None
    return sources.get(modality) if isinstance(sources, dict) else observations


def _digest(
    attributes: UnigeoAttributes, modality: str, window: Window, mask: np.ndarray, inputs: Any
) -> bytes:
    grid, layout = attributes.grid, attributes.layout
    parts = {
        "model": attributes.model.sha256,
        "modality": modality,
        "layout": [
            attributes.field_layout().width(modality),
            layout.shard,
            layout.chunk,
            layout.codec,
        ],
        # Counted on the lattice, not on the grid: a release of a larger region has another corner.
        "lattice": [grid.crs, grid.resolution_m, grid.row0 + window.row, grid.col0 + window.col],
        "inputs": inputs,
    }
    text = json.dumps(parts, sort_keys=True).encode()
    return hashlib.sha256(text + b"\n" + mask.astype(np.uint8).tobytes()).digest()


def mask_before_encoding(
    grid: Grid, window: Window, region: Region, land: Land
) -> UInt8[np.ndarray, "row col"]:
    """Return what each cell is before encoding: outside the region, on water, or to be encoded."""
    lonlat = grid.centres(window).reshape(-1, 2)
    return status_before_encoding(lonlat, land, region).reshape(window.height, window.width)


def digest_of_shard(
    attributes: UnigeoAttributes,
    modality: str,
    window: Window,
    status: UInt8[np.ndarray, "row col"],
) -> bytes:
    """Return the task digest of a finished shard; zeros, which match none, if any cell failed."""
    if (status == Status.FAILED).any():
        return bytes(32)
    return task_digest(attributes, modality, window, reset_status(status))
