"""Views of a panorama as a pinhole camera would have taken them."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def camera_rays(
    size: tuple[int, int], fov_deg: float, yaw_deg: float, pitch_deg: float
) -> Float[Tensor, "row col 3"]:
    """Return the direction of each pixel of a camera, as a unit vector.

    Args:
        size: rows and columns.
        fov_deg: horizontal field of view.
        yaw_deg: rotation to the right, from the panorama's central column.
        pitch_deg: elevation above the horizon.

    Returns:
        Components to the right, up and ahead of the panorama's centre.
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
    """Render a view of an equirectangular panorama whose central column looks ahead.

    The panorama is interpolated bilinearly, also across its seam. Where a pixel of the view spans
    several of the panorama, it is the mean of as many rays per side, up to 4.

    Args:
        panorama: pixels of the whole sphere.
        size: rows and columns of the view.
        fov_deg: horizontal field of view.
        yaw_deg: rotation to the right, from the panorama's central column.
        pitch_deg: elevation above the horizon.
        device: where to compute.
    """
    _, height, width = panorama.shape
    # Pixels of the panorama per pixel of the view at its centre, where they are most.
    centre_px = width / (2 * np.pi) * 2 * np.tan(np.radians(fov_deg) / 2) / size[1]
    oversampling = max(1, min(4, round(centre_px)))
    fine = (size[0] * oversampling, size[1] * oversampling)
    right, up, ahead = camera_rays(fine, fov_deg, yaw_deg, pitch_deg).to(device).unbind(-1)
    col = (torch.atan2(right, ahead) / (2 * np.pi) + 0.5) * width - 0.5
    row = (0.5 - torch.asin(up.clamp(-1, 1)) / np.pi) * height - 0.5
    pixels = torch.from_numpy(np.ascontiguousarray(panorama)).to(device).float()[None]
    # One column of the other end on both sides continues the panorama across its seam; hence
    # `col + 1` and `width + 2`. `grid_sample` wants -1 and 1 at the outer edges of the pixels.
    pixels = torch.cat([pixels[..., -1:], pixels, pixels[..., :1]], dim=-1)
    grid = torch.stack([2 * (col + 1.5) / (width + 2) - 1, 2 * (row + 0.5) / height - 1], dim=-1)
    view = torch.nn.functional.grid_sample(
        pixels, grid[None].float(), mode="bilinear", padding_mode="border", align_corners=False
    )
    if oversampling > 1:
        view = torch.nn.functional.avg_pool2d(view, oversampling)
    return view[0].round().clamp(0, 255).to(torch.uint8).cpu().numpy()
