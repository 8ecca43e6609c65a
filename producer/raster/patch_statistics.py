"""Numbers of patches on the device: mean, standard deviation and range, or shares of classes.

They are of the very pixels that an encoder sees, holes that were filled included. A patch's numbers
do not depend on the patches beside it.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from unigeo.producer.observations.forms import Form
from unigeo.producer.raster.covariate_columns import middle_of

_CACHED_NUMBERS = 1 << 17
"""Pixels of the patches that are converted to floats together on a CPU."""


def patch_statistics(
    pixels: Shaped[Tensor, "point channel row col"], form: Form
) -> Float[Tensor, "point statistic"]:
    """Compute the statistics of each patch.

    Args:
        pixels: the views of each location along the channels, as encoders take them.
        form: form of the modality.

    Returns:
        Float32. Of an image or a surface the mean, the standard deviation (of the pixels, not of a
        sample) and the range of each band, view by view, and of the middle of the finest view the
        mean; of classes the share of each class in the pixels of each view and of that middle, of
        which pixels without data are the rest.
    """
    of_views = _of_pixels(pixels.flatten(2), form)
    middle = middle_of(form)
    if middle is None:
        return of_views
    bands = pixels.shape[1] // form.views
    top, left = ((size - middle.px) // 2 for size in pixels.shape[2:])
    inner = pixels[
        :,
        middle.view * bands : (middle.view + 1) * bands,
        top : top + middle.px,
        left : left + middle.px,
    ].flatten(2)
    if form.encoder == "classes":
        return torch.cat([of_views, _of_pixels(inner, form)], dim=1)
    return torch.cat([of_views, inner.double().mean(dim=-1).float()], dim=1)


def _of_pixels(
    flat: Shaped[Tensor, "point channel pixel"], form: Form
) -> Float[Tensor, "point statistic"]:
    """Return moments of each channel, or shares of classes."""
    if form.encoder == "classes":
        return _shares(flat, len(form.classes)).float()
    if not len(flat):
        return flat.new_zeros(0, flat.shape[1] * 3, dtype=torch.float32)
    step = len(flat)
    if flat.device.type == "cpu":  # parts stay in the processor's cache
        step = max(1, _CACHED_NUMBERS // max(1, flat[0].numel()))
    return torch.cat([_moments(part) for part in flat.split(step)]).flatten(1)


def _moments(
    flat: Shaped[Tensor, "point channel pixel"],
) -> Float[Tensor, "point channel statistic"]:
    """Return mean, standard deviation and range of each channel, float32."""
    low, high = flat.aminmax(dim=-1)
    # Sums of bytes are exact in float32 up to 2^16 pixels; heights differ by less than they are
    # high, so they need float64.
    exact = flat.dtype == torch.uint8 and flat.shape[-1] <= 1 << 16
    numbers = flat.to(torch.float32 if exact else torch.float64)
    mean = numbers.mean(dim=-1, keepdim=True)
    std = numbers.sub_(mean).square_().mean(dim=-1).sqrt_()
    span = high.to(numbers.dtype) - low.to(numbers.dtype)
    return torch.stack([mean[..., 0], std, span], dim=-1).float()


def _shares(
    codes: Shaped[Tensor, "point view pixel"], classes: int
) -> Float[Tensor, "point statistic"]:
    """Return the share of each class, which are counted from 1, in the pixels of each view."""
    points, views, pixels = codes.shape
    # One count over all pairs of a view and a class.
    first = torch.arange(points * views, device=codes.device).mul_(classes + 1)
    index = codes.reshape(points * views, pixels).long().add_(first[:, None])
    counts = torch.bincount(index.flatten(), minlength=points * views * (classes + 1))
    of_views = counts.reshape(points, views, classes + 1)[..., 1:]
    return (of_views.double() / pixels).flatten(1)
