"""Linear probes of frozen features: image classification and semantic segmentation."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from unigeo.client.probing.logistic_path import (
    LOGISTIC_PENALTIES,
    FittedLogistic,
    logistic_path,
)
from unigeo.client.probing.metrics import log_loss
from unigeo.producer.evaluation.downstream.confusion import (
    IGNORED,
    confusion_matrix,
    overall_scores,
)
from unigeo.schemas.errors import ObservationsError


def fit_classifier(
    train: tuple[Float[np.ndarray, "_ band"], Int[np.ndarray, " _"]],
    valid: tuple[Float[np.ndarray, "_ band"], Int[np.ndarray, " _"]],
    classes: int,
) -> FittedLogistic:
    """Fit multinomial logistic regression with the penalty of least validation log loss.

    Args:
        train: vectors and class numbers of the training samples.
        valid: vectors and class numbers of the validation samples.
        classes: number of classes.
    """
    path = list(logistic_path(*train, LOGISTIC_PENALTIES, classes))
    losses = [log_loss(valid[1], model.predict(valid[0])) for model in path]
    return path[int(np.argmin(losses))]


@dataclass(frozen=True, kw_only=True)
class PixelSettings:
    """Settings for training a `PixelProbe`."""

    steps: int = 3000
    """Steps of AdamW."""
    batch: int = 32
    """Images in a step, drawn with replacement."""
    checks: int = 20
    """Number of evaluations on the validation images, evenly spaced."""
    rate: float = 1e-2
    """Initial learning rate; it decays to 0 along a cosine."""
    decay: float = 1e-2
    """Weight decay of AdamW."""
    seed: int = 0
    """Seed of the images drawn."""


PIXELS = PixelSettings()
"""Default settings."""


class PixelProbe(nn.Module):
    """One linear layer on each patch token, its logits upsampled bilinearly to the mask."""

    centre: Tensor
    deviation: Tensor

    def __init__(self, sample: Float[Tensor, "image row col width"], classes: int) -> None:
        """Start from zero weights.

        Args:
            sample: tokens whose mean and standard deviation standardize all others.
            classes: number of classes.
        """
        super().__init__()
        deviation, centre = torch.std_mean(sample.float(), dim=(0, 1, 2))
        self.register_buffer("centre", centre)
        self.register_buffer("deviation", deviation.clamp(min=1e-6))
        self.layer = nn.Linear(sample.shape[-1], classes)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(
        self, tokens: Float[Tensor, "image row col width"], size: tuple[int, int]
    ) -> Float[Tensor, "image class y x"]:
        """Compute the logits of every pixel of a mask of `size`."""
        # Interpolation commutes with the linear layer: upsampling a few logits instead of the wide
        # tokens gives the same result at less cost.
        logits = self.layer((tokens.float() - self.centre) / self.deviation)
        return interpolate(logits.movedim(-1, 1), size, mode="bilinear", align_corners=False)


def fit_pixels(
    tokens: Float[Tensor, "image row col width"],
    masks: UInt8[np.ndarray, "image y x"],
    classes: int,
    device: torch.device,
    settings: PixelSettings = PIXELS,
    valid: tuple[Tensor, np.ndarray] | None = None,
) -> PixelProbe:
    """Train a probe by cross-entropy over the labelled pixels.

    Args:
        tokens: frozen features of each image.
        masks: class of every pixel, `IGNORED` where it has none.
        classes: number of classes.
        device: device to train on.
        settings: settings of the training.
        valid: tokens and masks of validation images. The weights of the best validation mIoU are
            returned; without validation images, those of the last step.

    Raises:
        ObservationsError: if no pixel has a label.
    """
    labelled = (masks != IGNORED).any(axis=(1, 2))
    if not labelled.any():
        raise ObservationsError("no training picture has a labelled pixel: look at the labels.")
    tokens, masks = tokens[torch.from_numpy(labelled)], masks[labelled]
    order = torch.Generator().manual_seed(settings.seed)
    # 256 images are enough to estimate the mean and deviation of the tokens.
    probe = PixelProbe(tokens[torch.randperm(len(tokens), generator=order)[:256]], classes)
    probe.to(device)
    optimizer = torch.optim.AdamW(
        probe.layer.parameters(), lr=settings.rate, weight_decay=settings.decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    best, best_state = -1.0, probe.state_dict()
    for step in range(1, settings.steps + 1):
        rows = torch.randint(len(tokens), (settings.batch,), generator=order)
        truth = torch.from_numpy(masks[rows.numpy()]).to(device).long()
        logits = probe(tokens[rows].to(device), tuple(truth.shape[1:]))
        optimizer.zero_grad()
        cross_entropy(logits, truth, ignore_index=IGNORED).backward()
        optimizer.step()
        schedule.step()
        if valid is not None and step % max(1, settings.steps // settings.checks) == 0:
            score = overall_scores(pixel_confusion(probe, *valid, classes, device))["miou"]
            if score > best:
                best = score
                # A state dict shares memory with the parameters, which the next step changes.
                best_state = {name: values.clone() for name, values in probe.state_dict().items()}
    if valid is not None:
        probe.load_state_dict(best_state)
    return probe


def pixel_confusion(
    probe: PixelProbe,
    tokens: Float[Tensor, "image row col width"],
    masks: UInt8[np.ndarray, "image y x"],
    classes: int,
    device: torch.device,
) -> Int[np.ndarray, "class class"]:
    """Count pairs of true and predicted class over the labelled pixels of all images."""
    counts = np.zeros((classes, classes), np.int64)
    for start in range(0, len(tokens), PIXELS.batch):
        rows = slice(start, start + PIXELS.batch)
        with torch.inference_mode():
            logits = probe(tokens[rows].to(device), tuple(masks.shape[1:]))
            predicted = logits.argmax(dim=1).cpu().numpy()
        counts += confusion_matrix(masks[rows], predicted, classes)
    return counts
