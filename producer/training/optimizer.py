"""AdamW with a rate for every tower and layer."""

import re
from collections import defaultdict

import torch
from torch import nn

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.training.schedule import rate_share
from unigeo.producer.training.settings import TrainingSettings

BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers)\.(\d+)(?:\.|$)")
"""Part of a name that says which transformer block a module or a weight belongs to."""
_BEFORE = re.compile(r"embed|token|registers")


def build_optimizer(model: UniGeoCLIP, settings: TrainingSettings) -> torch.optim.AdamW:
    """Group weights by tower, rate and decay; those of a frozen tower take no part and no memory.

    Source: layer-wise rates as in BEiT (Bao et al. 2022, arXiv 2106.08254), factor `layer_decay`
    per block counted from the last.
    """
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = defaultdict(list)
    grouped: set[nn.Parameter] = set()
    for tower, module in [*model.encoders.items(), ("", model)]:
        own = tower in model.encoders
        frozen = own and settings.tower_rate(tower) == 0
        for name, weight in module.named_parameters(recurse=own):
            if frozen:
                weight.requires_grad_(False)
            if not weight.requires_grad or weight in grouped:  # towers may share weights
                continue
            grouped.add(weight)
            factor = layer_factor(module, name, settings.layer_decay) if own else 1.0
            decays = weight.ndim >= 2 and "embedding" not in name
            decay = settings.weight_decay if decays else 0.0
            groups[tower, factor * (settings.tower_rate(tower) if own else 1.0), decay].append(
                weight
            )
    return torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": decay, "tower": tower, "factor": factor}
            for (tower, factor, decay), weights in groups.items()
        ],
        lr=settings.rate,
        betas=(0.9, 0.98),
        fused=next(model.parameters()).device.type == "cuda",
    )


def layer_factor(encoder: nn.Module, name: str, decay: float) -> float:
    """Factor on the rate of a weight: 1 in the last block and after it, less the earlier it is."""
    if decay == 1:
        return 1.0
    numbers = [int(found[1]) for other, _ in encoder.named_parameters() if (found := _block(other))]
    depth = 1 + max(numbers, default=-1)
    found = _block(name)
    if found is not None:
        return float(decay ** (depth - 1 - int(found[1])))
    return float(decay**depth) if _BEFORE.search(name) else 1.0


def set_rates(optimizer: torch.optim.AdamW, step: int, settings: TrainingSettings) -> None:
    """Give every group its rate for a step."""
    for group in optimizer.param_groups:
        share = rate_share(step, settings, group["tower"])
        group["lr"] = settings.rate * group["factor"] * share


def _block(name: str) -> re.Match[str] | None:
    return BLOCK.search(name)
