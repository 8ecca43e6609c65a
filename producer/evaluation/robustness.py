"""What is left of recall when observations are worse than those trained on.

Each curve spoils one modality's observations of some places, and lets them look for their place in
the unspoiled vectors of every other modality.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

from unigeo.producer.evaluation.ensembles import combine, uniform
from unigeo.producer.evaluation.model_under_test import HoldOut, ModelUnderTest
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.recall import find
from unigeo.schemas.geo.great_circle import destinations

if TYPE_CHECKING:
    import pandas as pd

SHIFTS_M = (0.0, 10.0, 25.0, 50.0, 100.0)
SHIFTS_OF_PATCH = (0.0, 0.05, 0.1, 0.25, 0.5)
ROTATIONS = (0.0, 10.0, 30.0, 60.0, 90.0, 180.0)
FACTORS = (1, 2, 4, 8)
"""How many pixels, along each side, are averaged to one."""
K = 10
MOST_PLACES = 512
"""Places that are spoiled; the gallery holds them all."""

AXES = {
    "shift": "co-registration shift, m",
    "shift of the patch": "co-registration shift, share of the patch's side",
    "rotation": "rotation, degrees",
    "ground resolution": "pixels averaged to one, along each side",
    "missing modalities": "modalities missing from the gallery's ensemble",
}
"""What the level of each kind of curve is, and its unit."""


def robustness_table(judge: ModelUnderTest, hold_out: HoldOut, seed: int = 0) -> "pd.DataFrame":
    """All curves: columns `kind`, `modality`, `level`, `R@10`, `places`."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    count = min(MOST_PLACES, len(hold_out))
    for kind, modality, level, vectors in _spoiled(judge, hold_out, count, seed):
        recall = recall_among_others(vectors, hold_out.embeddings, modality)
        rows.append(_row(kind, modality, level, recall, count))
    for query in hold_out.embeddings:
        for missing, recall in missing_curve(hold_out.embeddings, query).items():
            rows.append(_row("missing modalities", query, missing, recall, len(hold_out)))
    return pd.DataFrame(rows)


def recall_among_others(
    vectors: Float[Tensor, "query dimension"],
    embeddings: Mapping[str, Float[Tensor, "place dimension"]],
    modality: str,
) -> float:
    """Mean recall of the first places' vectors in the galleries of the other modalities."""
    ranks = [
        find(vectors, gallery).rank for name, gallery in embeddings.items() if name != modality
    ]
    return float((torch.stack(ranks) <= K).double().mean())


def missing_curve(
    embeddings: Mapping[str, Float[Tensor, "place dimension"]], query: str
) -> dict[int, float]:
    """Recall in the uniform ensemble of the others, by how many of them are missing.

    The mean over every choice of what is missing.
    """
    others = [name for name in embeddings if name != query]
    curve = {}
    for missing in range(len(others)):
        recalls = []
        for kept in combinations(others, len(others) - missing):
            parts = {name: embeddings[name] for name in kept}
            rank = find(embeddings[query], combine(parts, uniform(parts))).rank
            recalls.append(float((rank <= K).double().mean()))
        curve[missing] = sum(recalls) / len(recalls)
    return curve


def rotated(
    values: Shaped[Tensor, "point channel row col"], degrees: float
) -> Shaped[Tensor, "point channel row col"]:
    """Turn pictures about their middle, anticlockwise; what comes in from outside is mirrored."""
    turns, rest = divmod(degrees, 90)
    if rest == 0 and (values.shape[-1] == values.shape[-2] or turns % 2 == 0):
        return torch.rot90(values, int(turns) % 4, (-2, -1))
    angle = np.deg2rad(degrees)
    aspect = values.shape[-2] / values.shape[-1]  # the sampler's axes both run from -1 to 1
    matrix = torch.tensor(
        [[np.cos(angle), -np.sin(angle) * aspect, 0], [np.sin(angle) / aspect, np.cos(angle), 0]],
        dtype=torch.float32,
    ).expand(len(values), 2, 3)
    grid = affine_grid(matrix, list(values.shape), align_corners=False)
    turned = grid_sample(values.float(), grid, padding_mode="reflection", align_corners=False)
    return _as(turned, values)


def coarsened(
    values: Shaped[Tensor, "point channel row col"], factor: int
) -> Shaped[Tensor, "point channel row col"]:
    """Average squares of pixels, and spread each mean over its square again."""
    if factor == 1:
        return values
    means = avg_pool2d(values.float(), factor, ceil_mode=True)
    spread = interpolate(means, scale_factor=float(factor), mode="nearest")
    return _as(spread[..., : values.shape[-2], : values.shape[-1]], values)


def patch_m(observations: Observations, modality: str) -> float | None:
    """Side of a modality's patch on the ground, where the observations say it."""
    about = observations.provenance()
    source = about.get("modalities", {}).get(modality, {})
    side = source.get("patch_m", about.get("patch_m"))
    return None if side is None else float(side)


def _spoiled(
    judge: ModelUnderTest, hold_out: HoldOut, count: int, seed: int
) -> Iterator[tuple[str, str, float, Tensor]]:
    """Kind, modality, level and vectors of the first places, their observations made worse."""
    rng = np.random.default_rng(seed)
    bearing = rng.uniform(0, 2 * np.pi, count)
    lonlat = hold_out.lonlat[:count]
    for modality in hold_out.embeddings:
        if modality in ("coordinate", "aerial", "dsm"):
            for shift in SHIFTS_M:
                there = destinations(lonlat, shift, bearing)
                yield "shift", modality, shift, _look(judge, hold_out, modality, there)
        side = patch_m(hold_out.observations, modality)
        if modality in ("aerial", "dsm") and side is not None:
            for share in SHIFTS_OF_PATCH:
                there = destinations(lonlat, share * side, bearing)
                vectors = _look(judge, hold_out, modality, there)
                yield "shift of the patch", modality, share, vectors
    for modality in hold_out.embeddings:
        values = hold_out.inputs[modality][:count]
        if modality in ("aerial", "dsm"):
            for degrees in ROTATIONS:
                vectors = _encode(judge, modality, rotated(values, degrees))
                yield "rotation", modality, degrees, vectors
        if modality in ("aerial", "dsm", "street"):
            for factor in FACTORS:
                vectors = _encode(judge, modality, coarsened(values, factor))
                yield "ground resolution", modality, factor, vectors


def _look(
    judge: ModelUnderTest, hold_out: HoldOut, modality: str, lonlat: Float[np.ndarray, "place 2"]
) -> Tensor:
    """Vectors of one modality at places; where it is not observed, the place's own vector stays."""
    if modality == "coordinate":
        return _encode(judge, modality, torch.from_numpy(lonlat))
    patches = hold_out.observations.patches(modality, lonlat)  # type: ignore[arg-type]
    vectors = _encode(judge, modality, torch.from_numpy(patches.values))
    seen = torch.from_numpy(patches.valid)[:, None]
    return torch.where(seen, vectors, hold_out.embeddings[modality][: len(lonlat)])


def _encode(judge: ModelUnderTest, modality: str, values: Tensor) -> Tensor:
    encode: Callable[[Tensor], Tensor] = lambda part: judge.model.encode(  # noqa: E731
        modality, part.to(judge.device)
    )
    with torch.inference_mode():
        return torch.cat([encode(part).float().cpu() for part in values.split(256)])


def _as(values: Tensor, like: Tensor) -> Tensor:
    """Round where the pixels are whole numbers."""
    return values.to(like.dtype) if like.is_floating_point() else values.round().to(like.dtype)


def _row(kind: str, modality: str, level: float, recall: float, places: int) -> dict[str, Any]:
    return {"kind": kind, "modality": modality, "level": level, f"R@{K}": recall, "places": places}
