"""The contrastive loss against a naive double loop in float64, for every combination of options."""

import itertools
import math
from typing import Any, Literal

import numpy as np
import pyproj
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from unigeo.producer.training.loss.contrast import contrastive_loss
from unigeo.producer.training.loss.contrast_settings import ContrastSettings
from unigeo.producer.training.loss.positives import (
    SampleLocations,
    targets_and_exclusions,
    unit_sphere,
)
from unigeo.schemas.errors import ModelError

NAMES = ("coordinate", "aerial", "dsm")
SPHERE = pyproj.Geod(a=6_371_008.8, f=0)
SCALE = torch.tensor(10.0, dtype=torch.float64)
EVERY_OPTION = ContrastSettings(
    self_pairs=True, exclusion_m=900, soft_m=150, same_panorama=True, prefixes=(2, 4), tile=4
)
Vectors = dict[str, Tensor]
Backend = Literal["tiles", "plain"]


def draw(samples: int = 9, seed: int = 0, dimension: int = 5) -> tuple[Vectors, Vectors, Vectors]:
    """Draw vectors, presence, and locations a few hundred metres from each other."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = {
        name: normalize(
            torch.randn(samples, dimension, generator=generator, dtype=torch.float64), dim=1
        )
        for name in NAMES
    }
    present = {name: torch.rand(samples, generator=generator) < 0.8 for name in NAMES}
    offset = torch.randn(samples, 2, generator=generator, dtype=torch.float64) * 0.005
    where = {
        "lonlat": torch.tensor([-74.0, 40.7], dtype=torch.float64) + offset,
        "panorama": torch.randint(-1, 3, (samples,), generator=generator),
    }
    return embeddings, present, where


def naive(
    embeddings: Vectors,
    present: Vectors,
    scales: list[float],
    settings: ContrastSettings,
    where: Vectors,
) -> float:
    """InfoNCE by the book: one prefix, one ordered pair, one sample, one candidate at a time."""
    lonlat, panorama = where["lonlat"].numpy(), where["panorama"].tolist()
    samples = range(len(lonlat))
    metres = [[SPHERE.inv(*lonlat[i], *lonlat[j])[2] for j in samples] for i in samples]

    def weight(i: int, j: int) -> float:
        together = panorama[i] == panorama[j] >= 0
        if i == j or (settings.same_panorama and together):
            return 1.0
        if settings.soft_m > 0:
            return math.exp(-((metres[i][j] / settings.soft_m) ** 2) / 2)
        return 0.0

    def candidate(i: int, j: int) -> bool:
        near = settings.exclusion_m > 0 and metres[i][j] <= settings.exclusion_m
        return not near or weight(i, j) >= math.exp(-(3**2) / 2)

    def one_term(
        vectors: dict[str, np.ndarray], first: str, second: str, scale: float
    ) -> list[float]:
        rows = [i for i in samples if present[first][i] and present[second][i]]
        losses = []
        for i in rows:
            others = [j for j in rows if i == j or candidate(i, j)]
            logits = {j: scale * float(vectors[first][i] @ vectors[second][j]) for j in others}
            mass = sum(weight(i, j) for j in others)
            target = sum(weight(i, j) / mass * logits[j] for j in others)
            losses.append(math.log(sum(math.exp(v) for v in logits.values())) - target)
        return [sum(losses) / len(losses)] if losses else []

    means = []
    for size in (*settings.prefixes, None):
        vectors = {name: v.numpy()[:, :size] for name, v in embeddings.items()}
        vectors = {
            name: v / np.linalg.norm(v, axis=1, keepdims=True) for name, v in vectors.items()
        }
        terms = []
        for pair, scale in zip(settings.selected(NAMES), scales, strict=True):
            for first, second in {pair, pair[::-1]}:
                terms += one_term(vectors, first, second, scale)
        means.append(sum(terms) / len(terms))
    return sum(means) / len(means)


def value_and_gradients(
    embeddings: Vectors,
    present: Vectors,
    scale: Tensor,
    settings: ContrastSettings,
    where: Vectors,
    backend: Backend,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    leaves = {name: v.clone().requires_grad_() for name, v in embeddings.items()}
    scale = scale.clone().requires_grad_()
    loss = contrastive_loss(leaves, present, scale, settings, **where, backend=backend)
    return loss.detach(), torch.autograd.grad(loss, [scale, *leaves.values()])


@pytest.mark.parametrize("pairs", ["all", "pivot:aerial", "dsm-coordinate,aerial-dsm"])
@pytest.mark.parametrize("self_pairs", [False, True])
@pytest.mark.parametrize("exclusion_m", [0.0, 900.0])
@pytest.mark.parametrize("soft_m", [0.0, 150.0])
@pytest.mark.parametrize("same_panorama", [False, True])
def test_value_and_gradients_are_those_of_the_double_loop(
    pairs: str, self_pairs: bool, exclusion_m: float, soft_m: float, same_panorama: bool
) -> None:
    for seed, (prefixes, per_pair) in enumerate(itertools.product([(), (2, 3)], [False, True])):
        settings = ContrastSettings(
            pairs=pairs,
            self_pairs=self_pairs,
            exclusion_m=exclusion_m,
            soft_m=soft_m,
            same_panorama=same_panorama,
            prefixes=prefixes,
            tile=5,
        )
        embeddings, present, where = draw(seed=seed)
        count = len(settings.selected(NAMES))
        scale = torch.linspace(5, 20, count, dtype=torch.float64) if per_pair else SCALE
        expected = naive(embeddings, present, scale.expand(count).tolist(), settings, where)
        loss, gradients = value_and_gradients(embeddings, present, scale, settings, where, "tiles")
        plain, by_autograd = value_and_gradients(
            embeddings, present, scale, settings, where, "plain"
        )
        # Distances agree to nanometres, which is 1e-11 of a Gaussian's exponent.
        rounding = 1e-12 if soft_m == 0 else 1e-10
        assert loss.item() == pytest.approx(expected, rel=rounding)
        assert plain.item() == pytest.approx(expected, rel=rounding)
        for ours, theirs in zip(gradients, by_autograd, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_gradients_are_slopes() -> None:
    embeddings, present, where = draw(samples=5)

    def loss(scale: Tensor, *vectors: Tensor) -> Tensor:
        named = dict(zip(NAMES, vectors, strict=True))
        return contrastive_loss(named, present, scale, EVERY_OPTION, **where)

    leaves = [v.requires_grad_() for v in (SCALE.clone(), *embeddings.values())]
    assert torch.autograd.gradcheck(loss, leaves, fast_mode=True)


@pytest.mark.parametrize("tile", [1, 2, 5, 9, 64, None])
def test_tiles_do_not_change_the_value(tile: int | None) -> None:
    embeddings, present, where = draw()
    values = [
        contrastive_loss(embeddings, present, SCALE, settings, **where).item()
        for settings in (EVERY_OPTION, ContrastSettings(**vars(EVERY_OPTION) | {"tile": tile}))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-13)


def test_the_order_of_modalities_and_of_samples_does_not_matter() -> None:
    embeddings, present, where = draw()
    loss, gradients = value_and_gradients(embeddings, present, SCALE, EVERY_OPTION, where, "tiles")
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    turned, turned_gradients = value_and_gradients(
        {name: embeddings[name][order] for name in reversed(NAMES)},
        {name: mask[order] for name, mask in present.items()},
        SCALE,
        EVERY_OPTION,
        {name: values[order] for name, values in where.items()},
        "tiles",
    )
    assert loss.item() == pytest.approx(turned.item(), rel=1e-13)
    for ours, theirs in zip(gradients[1:], reversed(turned_gradients[1:]), strict=True):
        torch.testing.assert_close(ours[order], theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("settings", [ContrastSettings(), EVERY_OPTION])
def test_what_was_not_observed_is_not_read(settings: ContrastSettings) -> None:
    embeddings, present, where = draw()
    nan = {name: v.where(present[name][:, None], torch.nan) for name, v in embeddings.items()}
    loss, gradients = value_and_gradients(embeddings, present, SCALE, settings, where, "tiles")
    same, same_gradients = value_and_gradients(nan, present, SCALE, settings, where, "tiles")
    torch.testing.assert_close(loss, same, rtol=1e-12, atol=0)
    for name, ours, theirs in zip(NAMES, gradients[1:], same_gradients[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
        assert (theirs[~present[name]] == 0).all()


def test_nothing_observed_gives_zero_and_gradients_of_zero() -> None:
    embeddings, present, where = draw()
    nothing = {name: torch.zeros_like(mask) for name, mask in present.items()}
    loss, gradients = value_and_gradients(embeddings, nothing, SCALE, EVERY_OPTION, where, "tiles")
    assert loss == 0 and all((gradient == 0).all() for gradient in gradients)


def test_a_pair_without_a_common_sample_has_no_share() -> None:
    embeddings, _, _ = draw()
    half = torch.arange(9) < 4
    present = {"coordinate": torch.ones(9, dtype=torch.bool), "aerial": half, "dsm": ~half}
    together = contrastive_loss(embeddings, present, SCALE)
    apart = [
        contrastive_loss(embeddings, present, SCALE, ContrastSettings(pairs=f"coordinate-{name}"))
        for name in ("aerial", "dsm")
    ]
    assert together.item() == pytest.approx((apart[0] + apart[1]).item() / 2, rel=1e-13)


def test_the_nested_loss_is_the_mean_of_separate_losses() -> None:
    embeddings, present, _ = draw()
    sizes = (2, 4, 5)
    separate = [
        contrastive_loss(
            {name: normalize(v[:, :size], dim=1) for name, v in embeddings.items()}, present, SCALE
        )
        for size in sizes
    ]
    nested = contrastive_loss(embeddings, present, SCALE, ContrastSettings(prefixes=sizes[:-1]))
    assert nested.item() == pytest.approx(sum(separate).item() / 3, rel=1e-13)


def test_a_sample_beside_itself_learns_only_to_stand_apart() -> None:
    embeddings, present, _ = draw()
    pair = ContrastSettings(pairs="aerial-dsm", self_pairs=True)
    alike = dict.fromkeys(("aerial", "dsm"), embeddings["aerial"])
    everywhere = {name: torch.ones_like(present[name]) for name in alike}
    cosine = embeddings["aerial"] @ embeddings["aerial"].T
    expected = ((SCALE * cosine).logsumexp(1) - SCALE).mean()
    assert contrastive_loss(alike, everywhere, SCALE, pair).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("scale", [14.3, 100.0, 1000.0])
def test_float32_neither_overflows_nor_underflows(scale: float) -> None:
    embeddings, present, _ = draw(samples=40)
    embeddings["dsm"] = -embeddings["aerial"]  # the positive is the least likely of all
    exact = contrastive_loss(embeddings, present, torch.tensor(scale, dtype=torch.float64))
    single = contrastive_loss(
        {name: v.float() for name, v in embeddings.items()}, present, torch.tensor(scale)
    )
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(exact.item(), rel=1e-5)


def test_half_products_are_those_of_rounded_vectors_with_exact_sums() -> None:
    embeddings, present, _ = draw(samples=40)
    single = {name: v.float().requires_grad_() for name, v in embeddings.items()}
    rounded = {name: v.float().bfloat16().double() for name, v in embeddings.items()}
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(single, present, torch.tensor(10.0))
        loss.backward()
    exact = contrastive_loss(rounded, present, SCALE)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-6)
    halves = {name: v.bfloat16() for name, v in single.items()}
    assert contrastive_loss(halves, present, torch.tensor(10.0)).item() == loss.item()
    assert all(v.grad.dtype == torch.float32 and v.grad.isfinite().all() for v in single.values())


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor."""

    numbers = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        result = function(*arguments, **(keywords or {}))
        results = result if isinstance(result, tuple | list) else [result]
        found = [r.numel() for r in results if isinstance(r, torch.Tensor)]
        self.numbers = max([self.numbers, *found])
        return result


def test_no_matrix_of_the_whole_batch_is_ever_made() -> None:
    samples, dimension, tile = 100, 6, 24
    embeddings, present, where = draw(samples, dimension=dimension)
    settings = ContrastSettings(**vars(EVERY_OPTION) | {"tile": tile})
    with Largest() as largest:
        value_and_gradients(embeddings, present, SCALE, settings, where, "tiles")
    assert largest.numbers <= max(samples * dimension, tile**2)


@pytest.mark.parametrize("metres", [5.0, 10.0, 100.0, 20_000.0])
def test_neighbours_are_within_the_great_circle(metres: float) -> None:
    azimuth = np.linspace(0, 360, 50)
    lon, lat = np.full((2, 50), [[-100.0], [40.0]])
    inside, outside = (
        np.column_stack(SPHERE.fwd(lon, lat, azimuth, np.full(50, metres * share))[:2])
        for share in (1 - 1e-6, 1 + 1e-6)
    )
    lonlat = torch.from_numpy(np.concatenate([[[-100.0, 40.0]], inside, outside]))
    settings = ContrastSettings(exclusion_m=metres)
    samples = SampleLocations(settings, unit_sphere(lonlat), None)
    _, excluded = targets_and_exclusions(samples[:1], samples, 0, torch.float32)
    assert excluded[0].tolist() == [False] + [True] * 50 + [False] * 50


def test_pairs_of_a_model() -> None:
    everything = ("coordinate", "aerial", "street", "dsm", "text")
    assert len(ContrastSettings().selected(everything)) == 10
    assert len(ContrastSettings(self_pairs=True).selected(everything)) == 15
    star = ContrastSettings(pairs="pivot:dsm").selected(everything)
    assert len(star) == 4 and all("dsm" in pair for pair in star)
    listed = ContrastSettings(pairs="text-aerial, aerial-street").selected(everything)
    assert listed == (("text", "aerial"), ("aerial", "street"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"pairs": "some"}, "pairs must be"),
        ({"pairs": "pivot:"}, "pairs must be"),
        ({"pairs": "aerial-dsm,dsm-aerial"}, "twice"),
        ({"pairs": "aerial-aerial"}, "self_pairs"),
        ({"exclusion_m": -1.0}, "exclusion_m"),
        ({"soft_m": math.nan}, "soft_m"),
        ({"prefixes": (128, 64)}, "rising"),
        ({"prefixes": (0, 64)}, "positive"),
        ({"tile": 0}, "tile"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        ContrastSettings(**wrong)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"pairs": "pivot:street"}, "street"),
        ({"exclusion_m": 5.0}, "lonlat"),
        ({"same_panorama": True}, "panorama"),
        ({"prefixes": (5,)}, "prefix 5"),
    ],
)
def test_what_the_settings_need_must_be_given(settings: dict[str, Any], says: str) -> None:
    embeddings, present, _ = draw()
    with pytest.raises(ModelError, match=says):
        contrastive_loss(embeddings, present, SCALE, ContrastSettings(**settings))
    with pytest.raises(ModelError, match="2 temperatures for 3 pairs"):
        contrastive_loss(embeddings, present, SCALE.expand(2))
