"""AdamW with a learning rate for each tower and layer."""

from collections import defaultdict

import torch
from torch import nn

from unigeo.producer.encoders.layer_depths import layers
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.training.schedule import rate_share
from unigeo.producer.training.settings import TrainingSettings


def build_optimizer(model: UniGeoCLIP, settings: TrainingSettings) -> torch.optim.AdamW:
    """Build AdamW with weights grouped by tower, rate and decay; frozen towers are left out.

    The weights of frozen towers stop requiring gradients.

    Source: layer-wise rates as in BEiT (Bao et al. 2022, arXiv 2106.08254), factor `layer_decay`
    per block counted from the last.
    """
    groups: dict[tuple[str, float, float], list[nn.Parameter]] = defaultdict(list)
    names = {weight: name for name, weight in model.named_parameters()}
    for tower, parts in layers(model).items():
        tower_rate = settings.tower_rate(tower)
        for depth, weights in parts:
            # The last depth is the readout, which shares the rate of the last block before it.
            blocks_above = max(0, parts[-1][0] - 1 - depth)
            factor = tower_rate * settings.layer_decay**blocks_above
            for weight in weights:
                weight.requires_grad_(weight.requires_grad and tower_rate > 0)
                if weight.requires_grad:
                    # Biases, norms and temperatures have fewer than two dimensions.
                    decays = weight.ndim >= 2 and "embedding" not in names[weight]
                    decay = settings.weight_decay if decays else 0.0
                    groups[tower, factor, decay].append(weight)
    return torch.optim.AdamW(
        [
            {"params": weights, "weight_decay": decay, "tower": tower, "factor": factor}
            for (tower, factor, decay), weights in groups.items()
        ],
        lr=settings.rate,
        betas=(0.9, 0.98),
        fused=next(model.parameters()).device.type == "cuda",
    )


def set_rates(optimizer: torch.optim.AdamW, step: int, settings: TrainingSettings) -> None:
    """Set the learning rate of every group for a step."""
    for group in optimizer.param_groups:
        share = rate_share(step, settings, group["tower"])
        group["lr"] = settings.rate * group["factor"] * share
