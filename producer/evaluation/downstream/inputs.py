"""Features of a benchmark's images: resizing to an encoder's input, and encoding in batches."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.schemas.errors import ModelError

BATCH = 64


def resize_image(
    image: Float[np.ndarray, "row col 3"], shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "channel y x"]:
    """Resize an RGB image to an encoder's input, with antialiasing; to grey for one channel.

    Args:
        image: values from 0 to 255.
        shape: channels, rows and columns of the input.

    Raises:
        ModelError: if the encoder takes neither 1 nor 3 channels.
    """
    channels, *size = shape
    if channels not in (1, 3):
        raise ModelError(f"the tower takes {channels} channels; this benchmark has red-green-blue.")
    planes = torch.from_numpy(image).float().movedim(-1, 0)[None]
    if channels == 1:
        planes = planes.mean(dim=1, keepdim=True)
    if list(planes.shape[2:]) != size:
        planes = interpolate(planes, size, mode="bilinear", antialias=True)
    return planes[0].round().clamp(0, 255).byte().numpy()


def encode_vectors(
    model: UniGeoCLIP,
    modality: str,
    inputs: Shaped[np.ndarray, "point ..."],
    device: torch.device,
) -> Float[np.ndarray, "point dimension"]:
    """Encode all inputs as unit vectors."""
    vectors = _encode_in_batches(lambda part: model.encode(modality, part), model, inputs, device)
    return np.asarray(vectors)


def encode_tokens(
    model: UniGeoCLIP,
    modality: str,
    inputs: Shaped[np.ndarray, "point ..."],
    device: torch.device,
) -> Float[Tensor, "point row col width"]:
    """Encode all inputs as patch tokens, float16 on the CPU."""
    return _encode_in_batches(
        lambda part: model.patch_tokens(modality, part).half(), model, inputs, device
    )


def _encode_in_batches(
    encode: Callable[[Tensor], Tensor],
    model: UniGeoCLIP,
    inputs: Shaped[np.ndarray, "point ..."],
    device: torch.device,
) -> Tensor:
    model.to(device).eval()  # in place, as `run` documents
    starts = range(0, len(inputs), BATCH)
    with torch.inference_mode():
        parts = [torch.from_numpy(inputs[start : start + BATCH]).to(device) for start in starts]
        return torch.cat([encode(part).cpu() for part in parts])
