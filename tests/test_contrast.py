"""The contrastive loss against a naive double loop in float64."""

import itertools
import math

import pyproj
import pytest
import torch

from unigeo.producer.training.contrast import contrastive_loss, near

NAMES = ("coordinate", "aerial", "dsm")


def draw(places=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    embeddings = {
        name: torch.nn.functional.normalize(
            torch.randn(places, 5, generator=generator, dtype=torch.float64), dim=1
        )
        for name in NAMES
    }
    present = {name: torch.rand(places, generator=generator) < 0.7 for name in NAMES}
    return embeddings, present


def naive(embeddings, present, scale, exclude):
    """InfoNCE by the book: one ordered pair, one place, one negative at a time."""
    terms = []
    for first, second in itertools.permutations(embeddings, 2):
        rows = [i for i in range(len(exclude)) if present[first][i] and present[second][i]]
        losses = []
        for i in rows:
            logits = {
                j: scale * float(embeddings[first][i] @ embeddings[second][j])
                for j in rows
                if j == i or not exclude[i][j]
            }
            losses.append(math.log(sum(math.exp(v) for v in logits.values())) - logits[i])
        if losses:
            terms.append(sum(losses) / len(losses))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_it_equals_the_double_loop(seed, scale):
    embeddings, present = draw(seed=seed)
    generator = torch.Generator().manual_seed(seed)
    exclude = torch.rand(9, 9, generator=generator) < 0.2
    exclude = exclude | exclude.T
    ours = contrastive_loss(
        embeddings, present, torch.tensor(scale, dtype=torch.float64), exclude=exclude
    )
    assert ours.item() == pytest.approx(naive(embeddings, present, scale, exclude), rel=1e-12)


def test_the_order_of_modalities_does_not_matter():
    embeddings, present = draw()
    scale = torch.tensor(10.0, dtype=torch.float64)
    turned = dict(reversed(embeddings.items()))
    assert contrastive_loss(embeddings, present, scale).item() == pytest.approx(
        contrastive_loss(turned, present, scale).item(), rel=1e-12
    )


def test_what_was_not_observed_has_no_say():
    embeddings, present = draw()
    scale = torch.tensor(10.0, dtype=torch.float64)
    changed = {
        name: torch.where(present[name][:, None], v, v * 0 + 0.5) for name, v in embeddings.items()
    }
    assert torch.equal(
        contrastive_loss(embeddings, present, scale), contrastive_loss(changed, present, scale)
    )


def test_nothing_observed_gives_zero_and_gradients_of_zero():
    embeddings, present = draw()
    nothing = {name: torch.zeros_like(p) for name, p in present.items()}
    scale = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
    loss = contrastive_loss(embeddings, nothing, scale)
    loss.backward()
    assert loss.item() == 0 and scale.grad is not None and scale.grad.item() == 0


@pytest.mark.parametrize("metres", [5.0, 100.0, 20_000.0])
def test_neighbours_are_within_the_great_circle(metres):
    sphere = pyproj.Geod(a=6_371_008.8, f=0)
    lon, lat, _ = sphere.fwd([-100.0] * 2, [40.0] * 2, [70.0] * 2, [metres * 0.999, metres * 1.001])
    lonlat = torch.tensor([[-100.0, 40.0], [lon[0], lat[0]], [lon[1], lat[1]]], dtype=torch.float64)
    assert near(lonlat, metres)[0].tolist() == [True, True, False]
