"""Two processes that share a batch have the loss and the gradients of one that holds it all."""

from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from unigeo.producer.training.loss.contrast import contrastive_loss
from unigeo.producer.training.loss.contrast_settings import ContrastSettings
from unigeo.schemas.errors import ModelError

SETTINGS = {
    "paper": ContrastSettings(),
    "every option": ContrastSettings(
        self_pairs=True, exclusion_m=900, soft_m=150, same_panorama=True, prefixes=(2, 4), tile=3
    ),
}
SAMPLES = 10


def draw() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(3, SAMPLES, 6, generator=generator, dtype=torch.float64)
    vectors = torch.nn.functional.normalize(vectors, dim=2)
    present = torch.rand(3, SAMPLES, generator=generator) < 0.7
    present[1, : SAMPLES // 2] = False  # the first rank has not seen this modality at all
    offset = torch.randn(SAMPLES, 2, generator=generator, dtype=torch.float64) * 0.005
    panorama = torch.randint(-1, 3, (SAMPLES,), generator=generator)
    return vectors, present, offset, panorama


def run(
    part: slice, complete: bool, settings: ContrastSettings, group: dist.ProcessGroup | None = None
) -> tuple[torch.Tensor, ...]:
    """Compute the loss and the gradients of some of the samples."""
    vectors, present, offset, panorama = draw()
    names = ("coordinate", "aerial", "dsm")
    leaves = {
        name: v[part].clone().requires_grad_() for name, v in zip(names, vectors, strict=True)
    }
    mask = dict(zip(names, present[:, part] | complete, strict=True))
    pairs = len(settings.selected(names))
    scale = torch.linspace(5, 20, pairs, dtype=torch.float64).requires_grad_()
    loss = contrastive_loss(
        leaves,
        mask,
        scale,
        settings,
        lonlat=offset[part] + torch.tensor([-74.0, 40.7], dtype=torch.float64),
        panorama=panorama[part],
        group=group,
    )
    scale_grad, *vector_grads = torch.autograd.grad(loss, [scale, *leaves.values()])
    return loss.detach(), scale_grad, torch.stack(vector_grads)


def work(rank: int, folder: str) -> None:
    """One rank of two."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    half = SAMPLES // 2
    part = slice(rank * half, (rank + 1) * half)
    results = {
        (name, complete): run(part, complete, settings, dist.group.WORLD)
        for name, settings in SETTINGS.items()
        for complete in (False, True)
    }
    try:
        run(slice(rank, half), True, SETTINGS["paper"], dist.group.WORLD)
    except ModelError as error:
        results["unequal"] = str(error)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_are_one(tmp_path: Path) -> None:
    multiprocessing.spawn(work, (str(tmp_path),), 2)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, settings in SETTINGS.items():
        for complete in (False, True):
            loss, scale_grad, vector_grads = run(slice(None), complete, settings)
            first, second = (rank[name, complete] for rank in results)
            assert first[0].item() == pytest.approx(loss.item(), rel=1e-12)
            assert first[0].item() == second[0].item()
            close = {"rtol": 1e-12, "atol": 1e-12}
            torch.testing.assert_close(first[1] + second[1], scale_grad, **close)
            together = torch.cat([first[2], second[2]], dim=1)
            torch.testing.assert_close(together, vector_grads, **close)
    assert all("ranks hold 5, 4 places" in rank["unequal"] for rank in results)
