"""A panorama as a pinhole camera would have seen it."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def camera_rays(
    size: tuple[int, int], fov_deg: float, yaw_deg: float, pitch_deg: float
) -> Float[Tensor, "row col 3"]:
    """Direction in which each pixel of a camera looks: right, up and forward of the panorama.

    Args:
        size: rows and columns.
        fov_deg: horizontal field of view.
        yaw_deg: turn to the right of the panorama's middle.
        pitch_deg: above the horizon.
    """
    rows, cols = size
    focal = cols / 2 / np.tan(np.radians(fov_deg) / 2)
    x = torch.arange(cols, dtype=torch.float64) - (cols - 1) / 2
    y = (rows - 1) / 2 - torch.arange(rows, dtype=torch.float64)
    up, right = torch.meshgrid(y / focal, x / focal, indexing="ij")
    ahead = torch.ones_like(up)
    pitch, yaw = np.radians(pitch_deg), np.radians(yaw_deg)
    up, ahead = (
        up * np.cos(pitch) + ahead * np.sin(pitch),
        ahead * np.cos(pitch) - up * np.sin(pitch),
    )
    right, ahead = (
        right * np.cos(yaw) + ahead * np.sin(yaw),
        ahead * np.cos(yaw) - right * np.sin(yaw),
    )
    directions = torch.stack([right, up, ahead], dim=-1)
    unit: Tensor = directions / directions.norm(dim=-1, keepdim=True)
    return unit


def render_perspective(
    panorama: UInt8[np.ndarray, "3 height width"],
    size: tuple[int, int],
    fov_deg: float,
    yaw_deg: float,
    pitch_deg: float,
    device: torch.device | str = "cpu",
) -> UInt8[np.ndarray, "3 row col"]:
    """Render an equirectangular panorama, whose middle column looks ahead, as a camera sees it.

    Bilinear between the panorama's pixels, across its seam too. Where a pixel of the camera spans
    several of the panorama, it is the mean of as many rays per side.
    """
    _, height, width = panorama.shape
    centre_px = width / (2 * np.pi) * 2 * np.tan(np.radians(fov_deg) / 2) / size[1]
    fine = max(1, min(4, round(centre_px)))
    looks = camera_rays((size[0] * fine, size[1] * fine), fov_deg, yaw_deg, pitch_deg).to(device)
    right, up, ahead = looks.unbind(-1)
    col = (torch.atan2(right, ahead) / (2 * np.pi) + 0.5) * width - 0.5
    row = (0.5 - torch.asin(up.clamp(-1, 1)) / np.pi) * height - 0.5
    pixels = torch.from_numpy(np.ascontiguousarray(panorama)).to(device).float()[None]
    pixels = torch.cat([pixels[..., -1:], pixels, pixels[..., :1]], dim=-1)  # across the seam
    grid = torch.stack([2 * (col + 1.5) / (width + 2) - 1, 2 * (row + 0.5) / height - 1], dim=-1)
    seen = torch.nn.functional.grid_sample(
        pixels, grid[None].float(), mode="bilinear", padding_mode="border", align_corners=False
    )
    if fine > 1:
        seen = torch.nn.functional.avg_pool2d(seen, fine)
    return seen[0].round().clamp(0, 255).to(torch.uint8).cpu().numpy()
