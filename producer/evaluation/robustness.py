"""Robustness of retrieval to degraded observations.

Each curve degrades one modality's observations of some locations, and retrieves these locations
from the unchanged vectors of the other modalities.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate

from unigeo.producer.evaluation.ensembles import combine, uniform_weights
from unigeo.producer.evaluation.model_under_test import HoldOut, ModelUnderTest
from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.training.recall import find
from unigeo.schemas.geo.great_circle import destinations

if TYPE_CHECKING:
    import pandas as pd

SHIFTS_M = (0.0, 10.0, 25.0, 50.0, 100.0)
SHIFTS_OF_PATCH = (0.0, 0.05, 0.1, 0.25, 0.5)
"""Shifts as shares of the patch's side."""
ROTATIONS = (0.0, 10.0, 30.0, 60.0, 90.0, 180.0)
"""Angles in degrees."""
FACTORS = (1, 2, 4, 8)
"""Numbers of pixels, along each side, that are averaged to one."""
K = 10
MAX_LOCATIONS = 512
"""Number of locations with degraded observations; the gallery has all of the hold-out."""
_BATCH = 256

AXES = {
    "shift": "co-registration shift, m",
    "shift of the patch": "co-registration shift, share of the patch's side",
    "rotation": "rotation, degrees",
    "ground resolution": "pixels averaged to one, along each side",
    "missing modalities": "modalities missing from the gallery's ensemble",
}
"""Meaning and unit of the level, by kind of curve."""


def robustness_table(
    model_under_test: ModelUnderTest, hold_out: HoldOut, seed: int = 0
) -> "pd.DataFrame":
    """Compute all curves.

    Returns:
        One row per point of a curve: `kind`, `modality`, `level`, `R@10`, and `places`, the number
        of queries.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    queries = min(MAX_LOCATIONS, len(hold_out))
    for kind, modality, level, vectors in _degraded_vectors(
        model_under_test, hold_out, queries, seed
    ):
        recall = recall_in_other_galleries(vectors, hold_out.embeddings, modality)
        rows.append(_row(kind, modality, level, recall, queries))
    for query in hold_out.embeddings:
        for missing, recall in missing_curve(hold_out.embeddings, query).items():
            rows.append(_row("missing modalities", query, missing, recall, len(hold_out)))
    return pd.DataFrame(rows)


def recall_in_other_galleries(
    vectors: Float[Tensor, "query dimension"],
    embeddings: Mapping[str, Float[Tensor, "location dimension"]],
    modality: str,
) -> float:
    """Average the recall of the first locations over the galleries of the other modalities."""
    ranks = [
        find(vectors, gallery).rank for name, gallery in embeddings.items() if name != modality
    ]
    return float((torch.stack(ranks) <= K).double().mean())


def missing_curve(
    embeddings: Mapping[str, Float[Tensor, "location dimension"]], query: str
) -> dict[int, float]:
    """Compute recall in the uniform ensemble of the others, by the number of missing ones.

    Recall is averaged over every choice of missing modalities.
    """
    others = [name for name in embeddings if name != query]
    curve = {}
    for missing in range(len(others)):
        recalls = []
        for kept in combinations(others, len(others) - missing):
            parts = {name: embeddings[name] for name in kept}
            rank = find(embeddings[query], combine(parts, uniform_weights(parts))).rank
            recalls.append(float((rank <= K).double().mean()))
        curve[missing] = sum(recalls) / len(recalls)
    return curve


def rotated(
    values: Shaped[Tensor, "point channel row col"], degrees: float, *, nearest: bool = False
) -> Shaped[Tensor, "point channel row col"]:
    """Rotate images anticlockwise about their centre; reflection fills the corners.

    Pixels are interpolated, or with `nearest`, as classes need, the nearest is taken.
    """
    turns, rest = divmod(degrees, 90)
    if rest == 0 and (values.shape[-1] == values.shape[-2] or turns % 2 == 0):
        return torch.rot90(values, int(turns) % 4, (-2, -1))  # exact, without resampling
    angle = np.deg2rad(degrees)
    # The sampler's coordinates run from -1 to 1 along both sides of a rectangle.
    aspect = values.shape[-2] / values.shape[-1]
    matrix = torch.tensor(
        [[np.cos(angle), -np.sin(angle) * aspect, 0], [np.sin(angle) / aspect, np.cos(angle), 0]],
        dtype=torch.float32,
    ).expand(len(values), 2, 3)
    grid = affine_grid(matrix, list(values.shape), align_corners=False)
    result = grid_sample(
        values.float(),
        grid,
        mode="nearest" if nearest else "bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    return _cast_like(result, values)


def coarsened(
    values: Shaped[Tensor, "point channel row col"], factor: int
) -> Shaped[Tensor, "point channel row col"]:
    """Average squares of pixels, and repeat each mean over its square."""
    if factor == 1:
        return values
    means = avg_pool2d(values.float(), factor, ceil_mode=True)
    repeated = interpolate(means, scale_factor=float(factor), mode="nearest")
    return _cast_like(repeated[..., : values.shape[-2], : values.shape[-1]], values)


def patch_m(observations: Observations, modality: str) -> float | None:
    """Return the side of a modality's smallest patch on the ground; None if it is not known."""
    sides = observations.form(modality).sides_m
    if sides:
        return min(sides)
    provenance = observations.provenance()
    source = provenance.get("modalities", {}).get(modality, {})
    side = source.get("patch_m", provenance.get("patch_m"))
    return None if side is None else float(side)


def _degraded_vectors(
    model_under_test: ModelUnderTest, hold_out: HoldOut, queries: int, seed: int
) -> Iterator[tuple[str, str, float, Tensor]]:
    """Yield kind, modality, level and vectors of the first locations, degraded to that level."""
    rng = np.random.default_rng(seed)
    bearing = rng.uniform(0, 2 * np.pi, queries)
    lonlat = hold_out.lonlat[:queries]
    observations = hold_out.observations
    covering = [name for name in hold_out.embeddings if observations.covers_land(name)]
    with_pixels = [name for name in hold_out.embeddings if observations.form(name).has_pixels]
    for modality in covering:
        if modality == COORDINATE or modality in with_pixels:
            for shift in SHIFTS_M:
                shifted = destinations(lonlat, shift, bearing)
                vectors = _encode_at(model_under_test, hold_out, modality, shifted)
                yield "shift", modality, shift, vectors
        side = patch_m(hold_out.observations, modality)
        if modality in with_pixels and side is not None:
            for share in SHIFTS_OF_PATCH:
                shifted = destinations(lonlat, share * side, bearing)
                vectors = _encode_at(model_under_test, hold_out, modality, shifted)
                yield "shift of the patch", modality, share, vectors
    for modality in with_pixels:
        values = hold_out.inputs[modality][:queries]
        of_classes = observations.form(modality).encoder == "classes"
        if modality in covering:  # north is up; a photograph has its own up
            for degrees in ROTATIONS:
                turned = rotated(values, degrees, nearest=of_classes)
                vectors = _encode(model_under_test, modality, turned)
                yield "rotation", modality, degrees, vectors
        if not of_classes:  # which have no mean
            for factor in FACTORS:
                vectors = _encode(model_under_test, modality, coarsened(values, factor))
                yield "ground resolution", modality, factor, vectors


def _encode_at(
    model_under_test: ModelUnderTest,
    hold_out: HoldOut,
    modality: str,
    lonlat: Float[np.ndarray, "location 2"],
) -> Tensor:
    """Encode one modality at shifted locations; keep the vectors where it is not observed there."""
    if modality == COORDINATE:
        return _encode(model_under_test, modality, torch.from_numpy(lonlat))
    patches = hold_out.observations.patches(modality, lonlat)
    vectors = _encode(model_under_test, modality, torch.from_numpy(patches.values))
    valid = torch.from_numpy(patches.valid)[:, None]
    return torch.where(valid, vectors, hold_out.embeddings[modality][: len(lonlat)])


def _encode(model_under_test: ModelUnderTest, modality: str, values: Tensor) -> Tensor:
    model, device = model_under_test.model, model_under_test.device
    with torch.inference_mode():
        parts = [
            model.encode(modality, part.to(device)).float().cpu() for part in values.split(_BATCH)
        ]
    return torch.cat(parts)


def _cast_like(values: Tensor, like: Tensor) -> Tensor:
    """Cast to the type of `like`, rounding if that is an integer type."""
    return values.to(like.dtype) if like.is_floating_point() else values.round().to(like.dtype)


def _row(kind: str, modality: str, level: float, recall: float, queries: int) -> dict[str, Any]:
    return {
        "kind": kind, "modality": modality, "level": level, f"R@{K}": recall, "places": queries,
    }  # fmt: skip
