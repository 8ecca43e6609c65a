"""Open-CONUS observations for machines without GDAL, PROJ and GEOS, read by torch and Pillow.

`python -m benchmarks.producer.gpu_data` writes the folder; see there what it holds. Patches are cut
as `observations.rasters` does it, on a GPU where there is one. Averages over several pixels are of
the whole raster, where GDAL takes its overviews, so that patches differ by a grey level or two.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from unigeo.producer.observations.forms import EncoderKind, Form
from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.protocol import Observations

DESCRIPTION, LOCATIONS = "carried.json", "places.npz"
SLAB = 2048
"""Number of patches cut at once."""
_RADIUS_M = 6_378_137.0
_FLATTENING = 1 / 298.257223563


@dataclass(frozen=True, eq=False)
class CarriedRaster:
    """One GeoTIFF in longitude and latitude or in Web Mercator, every pixel of which has data."""

    path: Path
    mercator: bool
    affine: tuple[float, ...]
    """Affine transform from column and row to easting and northing."""
    patch_m: tuple[float, ...]
    patch_px: int
    bands: int
    encoder: EncoderKind
    device: torch.device

    def cut(
        self, lonlat: Float64[Tensor, "point 2"], patch_m: float
    ) -> tuple[Float[Tensor, "point band row col"], Bool[Tensor, " point"]]:
        """Cut one patch round each point, north up; those less than half inside are not valid."""
        step = patch_m / self.patch_px
        east = (torch.arange(self.patch_px, device=self.device) - (self.patch_px - 1) / 2) * step
        north, east = torch.meshgrid(-east.double(), east.double(), indexing="ij")
        row, col = self._rowcol(direct(lonlat, east, north))
        middle = self.patch_px // 2
        down = row[:, middle, middle] - row[:, middle - 1, middle]
        across = col[:, middle, middle] - col[:, middle, middle - 1]
        decimation = torch.stack([down, across], dim=1).add(1e-3).floor().clamp(min=1).long()
        bands = len(self._full)
        values = torch.zeros(len(lonlat), bands, *row.shape[1:], device=self.device)
        valid = torch.zeros(len(lonlat), dtype=torch.bool, device=self.device)
        for kind in decimation.unique(dim=0).tolist():
            members = (decimation == torch.tensor(kind, device=self.device)).all(dim=1)
            values[members], valid[members] = self._interpolate(
                row[members], col[members], (kind[0], kind[1])
            )
        return values, valid

    def _interpolate(
        self, row: Tensor, col: Tensor, decimation: tuple[int, int]
    ) -> tuple[Float[Tensor, "point band row col"], Bool[Tensor, " point"]]:
        """Interpolate the averaged raster bilinearly; pixels outside get the patch's mean."""
        plane = self._plane(decimation)
        height, width = plane.shape[1:]
        at = [
            (position + 0.5) / factor - 0.5
            for position, factor in zip((row, col), decimation, strict=True)
        ]
        inside = (at[0] > -0.5) & (at[0] < height - 0.5) & (at[1] > -0.5) & (at[1] < width - 0.5)
        down, right = (
            position.clamp(0, size - 1) for position, size in zip(at, (height, width), strict=True)
        )
        top, left = down.floor().long(), right.floor().long()
        bottom, last = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
        below, beside = (down - top).float(), (right - left).float()
        values = (
            plane[:, top, left] * ((1 - below) * (1 - beside))
            + plane[:, top, last] * ((1 - below) * beside)
            + plane[:, bottom, left] * (below * (1 - beside))
            + plane[:, bottom, last] * (below * beside)
        ).transpose(0, 1)
        known = inside[:, None]
        mean = (values * known).sum((2, 3)) / known.sum((2, 3)).clamp(min=1)
        values = torch.where(known, values, mean[:, :, None, None])
        return values, inside.double().mean((1, 2)) >= 0.5

    def _rowcol(self, lonlat: Float64[Tensor, "point row col 2"]) -> tuple[Tensor, Tensor]:
        x, y = lonlat[..., 0], lonlat[..., 1]
        if self.mercator:
            x, y = _RADIUS_M * x.deg2rad(), _RADIUS_M * y.deg2rad().sin().atanh()
        a, _, left, _, e, top = self.affine
        return (y - top) / e - 0.5, (x - left) / a - 0.5

    def _plane(self, decimation: tuple[int, int]) -> Float[Tensor, "band row col"]:
        """The raster averaged over full pixels."""
        if decimation not in self._planes:
            mean = avg_pool2d(self._full[None], decimation, ceil_mode=True)[0]
            self._planes[decimation] = mean.round()
        return self._planes[decimation]

    @cached_property
    def _full(self) -> Float[Tensor, "band row col"]:
        Image.MAX_IMAGE_PIXELS = None  # the files are our own
        with Image.open(self.path) as image:
            pixels = np.array(image)
        bands = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
        return torch.from_numpy(bands.astype(np.float32)).to(self.device)

    @cached_property
    def _planes(self) -> dict[tuple[int, int], Tensor]:
        return {(1, 1): self._full}


@dataclass(frozen=True, eq=False)
class Carried(Observations):
    """A folder that `gpu_data` wrote, as observations."""

    rasters: dict[str, CarriedRaster]
    lonlat: Float[np.ndarray, "location 2"]
    """Training locations, in the order in which they were drawn."""
    seed: int
    """Seed that they were drawn with."""
    texts_by_location: dict[bytes, str]
    """Texts by the bytes of the location's longitude and latitude."""
    about: dict[str, Any]

    @property
    def name(self) -> str:
        """Short name, for logs and the model card."""
        return str(self.about["name"])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Observed modalities, `coordinate` first."""
        return ("coordinate", *self.rasters, "text")

    def shape(self, modality: str) -> tuple[int, int, int]:
        """Channels, rows and columns of the modality's patches."""
        return self.form(modality).shape

    def form(self, modality: str) -> Form:
        """Encoder and shape of the modality's observations."""
        if modality not in self.rasters:
            return super().form(modality)
        raster = self.rasters[modality]
        views = len(raster.patch_m)
        return Form(
            encoder=raster.encoder,
            shape=(raster.bands * views, raster.patch_px, raster.patch_px),
            views=views,
            sides_m=raster.patch_m,
        )

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """The locations as drawn, or permuted for another seed; at most those there are."""
        if seed == self.seed:
            return self.lonlat[:count]
        return np.random.default_rng(seed).permutation(self.lonlat)[:count]

    def land(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """All drawn locations are on land."""
        return np.ones(len(lonlat), bool)

    def patches(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Observe one patch round each point."""
        raster = self.rasters[modality]
        kind = torch.float32 if raster.encoder == "surface" else torch.uint8
        values = torch.empty(len(lonlat), *self.shape(modality), dtype=kind)
        valid = torch.empty(len(lonlat), dtype=torch.bool)
        for part in _slabs(len(lonlat)):
            points = torch.from_numpy(lonlat[part]).to(raster.device)
            views = [raster.cut(points, side) for side in raster.patch_m]
            seen = torch.cat([view[0] for view in views], dim=1)
            values[part] = (seen if kind.is_floating_point else seen.round()).to("cpu", kind)
            valid[part] = torch.stack([view[1] for view in views]).all(dim=0).cpu()
        return Patches(values.numpy(), valid.numpy())

    def texts(
        self, lonlat: Float[np.ndarray, "point 2"], modality: str = "text"
    ) -> list[str | None]:
        """The text of each location; None where there is none."""
        return [self.texts_by_location.get(one.tobytes()) for one in np.ascontiguousarray(lonlat)]

    def gaps(self) -> dict[str, dict[str, int]]:
        """Gaps are not counted."""
        return {}

    def provenance(self) -> dict[str, Any]:
        """Provenance as in the folder of data."""
        return self.about


def open_carried(folder: Path, device: torch.device) -> Carried:
    """Open the folder; patches are cut on the device."""
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    rasters = {
        name: CarriedRaster(
            folder / about["file"],
            about["mercator"],
            tuple(about["affine"]),
            tuple(about["patch_m"]),
            about["patch_px"],
            about["bands"],
            about["encoder"],
            device,
        )
        for name, about in description["rasters"].items()
    }
    with np.load(folder / LOCATIONS) as stored:
        lonlat, number = stored["lonlat"], stored["text"]
        phrases = json.loads(stored["texts"].tobytes())
    texts = {
        location.tobytes(): phrases[k]
        for location, k in zip(lonlat, number.tolist(), strict=True)
        if k >= 0
    }
    return Carried(rasters, lonlat, description["seed"], texts, description["about"])


def direct(
    lonlat: Float64[Tensor, "point 2"],
    east_m: Float64[Tensor, "row col"],
    north_m: Float64[Tensor, "row col"],
) -> Float64[Tensor, "point row col 2"]:
    """Go so many metres east and north of each point, along the geodesic on WGS 84.

    Source: Vincenty (1975), "Direct and inverse solutions of geodesics on the ellipsoid"; good to
    a millimetre over a few hundred kilometres.
    """
    lon, lat = (part[:, None, None] for part in lonlat.deg2rad().unbind(1))
    azimuth, metres = torch.atan2(east_m, north_m), torch.hypot(east_m, north_m)
    sine, cosine = azimuth.sin(), azimuth.cos()
    tangent = (1 - _FLATTENING) * lat.tan()
    cos_u = 1 / (1 + tangent**2).sqrt()
    sin_u = tangent * cos_u
    start = torch.atan2(tangent, cosine)
    sin_a = cos_u * sine
    cos2_a = 1 - sin_a**2
    polar = _RADIUS_M * (1 - _FLATTENING)
    square = cos2_a * (_RADIUS_M**2 / polar**2 - 1)
    first = 1 + square / 16384 * (4096 + square * (-768 + square * (320 - 175 * square)))
    second = square / 1024 * (256 + square * (-128 + square * (74 - 47 * square)))
    arc = straight = metres / (polar * first)
    for _ in range(5):
        twice = (2 * start + arc).cos()
        arc = straight + second * arc.sin() * (
            twice
            + second
            / 4
            * (
                arc.cos() * (2 * twice**2 - 1)
                - second / 6 * twice * (4 * arc.sin() ** 2 - 3) * (4 * twice**2 - 3)
            )
        )
    twice = (2 * start + arc).cos()
    side = sin_u * arc.sin() - cos_u * arc.cos() * cosine
    latitude = torch.atan2(
        sin_u * arc.cos() + cos_u * arc.sin() * cosine,
        (1 - _FLATTENING) * torch.hypot(sin_a, side),
    )
    turned = torch.atan2(arc.sin() * sine, cos_u * arc.cos() - sin_u * arc.sin() * cosine)
    c = _FLATTENING / 16 * cos2_a * (4 + _FLATTENING * (4 - 3 * cos2_a))
    lower = (
        (1 - c)
        * _FLATTENING
        * sin_a
        * (arc + c * arc.sin() * (twice + c * arc.cos() * (2 * twice**2 - 1)))
    )
    return torch.stack([lon + turned - lower, latitude], dim=-1).rad2deg()


def _slabs(count: int) -> Iterator[slice]:
    for start in range(0, count, SLAB):
        yield slice(start, start + SLAB)
