"""From a benchmark's pictures to a tower's frozen features."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.schemas.errors import ModelError

BATCH = 64


def fitted(
    picture: Float[np.ndarray, "row col 3"], shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "channel y x"]:
    """Resize an RGB picture, antialiased, to what a tower takes; grey if it takes one channel.

    Args:
        picture: from 0 to 255.
        shape: channels, rows and columns.

    Raises:
        ModelError: if the tower takes neither 1 nor 3 channels.
    """
    channels, *size = shape
    if channels not in (1, 3):
        raise ModelError(f"the tower takes {channels} channels; this benchmark has red-green-blue.")
    planes = torch.from_numpy(picture).float().movedim(-1, 0)[None]
    if channels == 1:
        planes = planes.mean(dim=1, keepdim=True)
    if list(planes.shape[2:]) != size:
        planes = interpolate(planes, size, mode="bilinear", antialias=True)
    return planes[0].round().clamp(0, 255).byte().numpy()


def vectors_of(
    model: UniGeoCLIP,
    modality: str,
    inputs: Shaped[np.ndarray, "point ..."],
    device: torch.device,
) -> Float[np.ndarray, "point dimension"]:
    """Encode all inputs as unit vectors, batch by batch."""
    vectors = _batched(lambda part: model.encode(modality, part), model, inputs, device)
    return np.asarray(vectors)


def tokens_of(
    model: UniGeoCLIP,
    modality: str,
    inputs: Shaped[np.ndarray, "point ..."],
    device: torch.device,
) -> Float[Tensor, "point row col width"]:
    """Encode all inputs as patch tokens, kept on the CPU in half precision."""
    return _batched(lambda part: model.patch_tokens(modality, part).half(), model, inputs, device)


def _batched(
    encode: Callable[[Tensor], Tensor],
    model: UniGeoCLIP,
    inputs: Shaped[np.ndarray, "point ..."],
    device: torch.device,
) -> Tensor:
    model.to(device).eval()
    starts = range(0, len(inputs), BATCH)
    with torch.inference_mode():
        parts = [torch.from_numpy(inputs[at : at + BATCH]).to(device) for at in starts]
        return torch.cat([encode(part).cpu() for part in parts])
