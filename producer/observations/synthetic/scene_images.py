"""Images of the embedded world: from above, as a surface model, and from the street.

The aerial image and the surface model share their ground truth pixel by pixel; the street image is
that of a pinhole camera at the same location, with sky, horizon, ground, trees and houses. Each
modality shows some of the latent fields and hides the others.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from unigeo.producer.observations.synthetic.latent_fields import Latents

PIXELS = 32
"""Rows and columns of every image."""
PIXEL_M = 100.0
"""Ground sampling distance of the aerial image and the surface model."""
TEXTURE = 1024
"""Side of a texture in pixels; textures repeat after 102 km."""
HORIZON = 14
"""Row of the street image at which flat ground meets the sky."""
OBJECTS = 9
"""Number of trees and houses in a street image, at most."""

Plane = Float32[np.ndarray, "point row col"]
Colour = Float[np.ndarray, "point 3"]

_SOILS = ((0.86, 0.78, 0.62), (0.68, 0.36, 0.24), (0.26, 0.20, 0.17))
_TREES = ((0.30, 0.50, 0.12), (0.07, 0.25, 0.20))
_CROPS = ((0.55, 0.68, 0.30), (0.88, 0.76, 0.32), (0.28, 0.46, 0.30))
_ROOFS = ((0.86, 0.86, 0.84), (0.72, 0.36, 0.24), (0.30, 0.31, 0.36))
_WALLS = ((0.93, 0.90, 0.80), (0.65, 0.27, 0.20), (0.42, 0.36, 0.30), (0.60, 0.66, 0.72))
_WATER = np.array((0.08, 0.18, 0.32), np.float32)
_ROAD = np.array((0.45, 0.45, 0.46), np.float32)


def surface(truth: Latents) -> Float32[np.ndarray, "point 1 row col"]:
    """Render the surface model: ground, trees and houses, in metres above the sea."""
    ground, cover = _ground(truth), _cover(truth)
    height = truth.elevation_m.astype(np.float32)[:, None, None] + _metres(truth, ground)
    leaf = 0.75 + 0.12 * _texture_at(truth, 3)
    height += cover.trees * _column(truth.canopy_m) * leaf
    height += cover.houses * 3.2 * _column(truth.storeys) * (0.7 + 0.6 * _blocks(truth, 3, 5))
    return np.where(cover.sea, np.float32(0), height).astype(np.float32)[:, None]


def aerial(truth: Latents) -> UInt8[np.ndarray, "point 3 row col"]:
    """Render the aerial image in red, green and blue, lit from the north-west."""
    ground, cover = _ground(truth), _cover(truth)
    soil = _ramp(_SOILS, truth.soil)
    grass = _mix(soil, _ramp(((0.62, 0.60, 0.34), (0.30, 0.55, 0.20)), truth.moisture), 0.65)
    image: np.ndarray = np.broadcast_to(
        grass[:, :, None, None], (len(truth.x_km), 3, PIXELS, PIXELS)
    ).astype(np.float32)
    image = image * (1 + 0.08 * _texture_at(truth, 2))[:, None]
    field = _ramp(_CROPS, truth.crop_kind)[:, :, None, None] * (
        0.75 + 0.5 * _blocks(truth, 4, 6)[:, None]
    )
    image = np.where(cover.fields[:, None], field, image)
    leaves = _ramp(_TREES, truth.needles)[:, :, None, None]
    image = np.where(cover.trees[:, None], leaves, image)
    roofs = _ramp(_ROOFS, truth.roofs)[:, :, None, None] * (
        0.8 + 0.4 * _blocks(truth, 5, 5)[:, None]
    )
    image = np.where(cover.roads[:, None], _ROAD[None, :, None, None], image)
    image = np.where(cover.houses[:, None], roofs, image)
    image = np.where((cover.sea | cover.ponds)[:, None], _WATER[None, :, None, None], image)
    metres = _metres(truth, ground)
    # Hill shading: ground that rises to the east and south faces the sun and is brighter.
    slope = np.diff(metres, axis=2, append=metres[:, :, -1:]) + np.diff(
        metres, axis=1, append=metres[:, -1:]
    )
    shade = 1 + np.tanh(slope / PIXEL_M * 2.0) * 0.45
    image *= np.where(cover.sea, 1, shade)[:, None]
    return _to_uint8(image + 0.02 * _texture_at(truth, 4)[:, None])


def street(
    truth: Latents, noise: Float[np.ndarray, "point number"]
) -> UInt8[np.ndarray, "point 3 row col"]:
    """Render the image of a pinhole camera at eye height, 90 degrees wide.

    Args:
        truth: latent fields at each point.
        noise: uniform numbers for each point, at least `4 * OBJECTS + 4`.
    """
    count = len(truth.x_km)
    row = np.arange(PIXELS, dtype=np.float32)[None, :, None]
    col = np.arange(PIXELS, dtype=np.float32)[None, None, :]
    haze = _column(truth.moisture)
    blue = _ramp(((0.25, 0.45, 0.90), (0.70, 0.78, 0.85)), truth.moisture)[:, :, None, None]
    cold = _ramp(((0.90, 0.95, 1.10), (1.08, 1.0, 0.88)), np.clip(truth.temperature_c / 25, 0, 1))
    image = np.repeat(blue + 0.35 * (row / HORIZON)[:, None] * (1 - blue), PIXELS, axis=3).astype(
        np.float32
    )

    # Hills on the skyline: relief gives their height, roughness how broken they are.
    shift = (noise[:, 0] * TEXTURE).astype(int)
    stretch = 1 + (5 * truth.roughness).astype(int)
    skyline = _textures()[0][
        (truth.y_km * 10).astype(int)[:, None] % TEXTURE,
        (shift[:, None] + np.arange(PIXELS) * stretch[:, None]) % TEXTURE,
    ]
    top = HORIZON - np.log1p(truth.relief_m / 15)[:, None] * (2.0 + 0.8 * skyline)
    hills = (row >= top[:, None, :]) & (row < HORIZON)
    hill = _mix(_ramp(_SOILS, truth.soil), _ramp(_TREES, truth.needles), truth.forest[:, None])
    image = np.where(hills[:, None], 0.6 * hill[:, :, None, None] + 0.25 * haze[:, None], image)

    # Ground: rows of the image below the horizon are at depth 1 / row, so furrows converge on it.
    soil = _ramp(_SOILS, truth.soil)
    grass = _mix(soil, _ramp(_CROPS, truth.crop_kind), 0.2 + 0.7 * truth.crops[:, None])
    below = np.broadcast_to(row >= HORIZON, (count, PIXELS, PIXELS))
    depth = 1 / np.maximum(row - HORIZON + 1, 1)
    furrow = np.sin(((col - 15.5) * depth * 6) * 2.0 + 6 * noise[:, 1, None, None])
    tone = 1 + 0.25 * _column(truth.crops) * np.sign(furrow).astype(np.float32)
    image = np.where(below[:, None], grass[:, :, None, None] * tone[:, None], image)
    half = (row - HORIZON) * (0.15 + 0.5 * _column(truth.built))
    road = below & (np.abs(col - 15.5) < half)
    image = np.where(road[:, None], _ROAD[None, :, None, None], image)

    # Far objects first, so that near ones are drawn over them.
    is_house = truth.built / (truth.built + truth.forest + 0.15)
    crowded = np.clip(truth.built + truth.forest + 0.1, 0, 1)
    for k in range(OBJECTS):
        position, kind, presence, size = (noise[:, 4 + 4 * k + j] for j in range(4))
        # `near` scales an object with its distance, and puts its foot below the horizon.
        near = 0.3 + 0.7 * (k + 1) / OBJECTS
        house = _column(kind < is_house).astype(bool)
        present = _column(presence < crowded).astype(bool)
        foot = HORIZON + 12 * near**2
        across = col - _column(position * PIXELS)
        tall_m = np.where(kind < is_house, 3.2 * truth.storeys, truth.canopy_m * (0.7 + 0.5 * size))
        height = np.clip(_column(tall_m) * near * 0.75, 1, 26)
        up = foot - row
        broad = np.where(house, 3.0 + 3 * _column(size), 2.5) * near
        lift = np.clip(up / height, 0, 1)
        # Crowns of conifers narrow to the top; those of broadleaf trees are wide above a trunk.
        pointed = _column(truth.needles > kind * 0.6 + 0.2).astype(bool)
        crown = np.where(pointed, 1.15 - lift, np.where(lift > 0.3, 1.25, 0.25))
        inside = (
            present
            & (up >= 0)
            & (up <= height)
            & (np.abs(across) <= broad * np.where(house, 1, crown))
        )
        roof = house & (up > height - 2.2 * near)
        window = house & ~roof & (np.floor(up / near / 1.6) % 2 == 1) & (np.floor(across) % 2 == 0)
        wall = _ramp(_WALLS, truth.walls)[:, :, None, None]
        colour = np.where(house[:, None], wall, _ramp(_TREES, truth.needles)[:, :, None, None])
        colour = np.where(roof[:, None], _ramp(_ROOFS, truth.roofs)[:, :, None, None], colour)
        colour = np.where(window[:, None], colour * 0.45, colour)
        image = np.where(inside[:, None], colour, image)
    bright = (0.9 + 0.2 * noise[:, 2])[:, None] * cold
    return _to_uint8(image * bright[:, :, None, None])


class _Cover:
    """Land cover of each pixel."""

    trees: Bool[np.ndarray, "point row col"]
    fields: Bool[np.ndarray, "point row col"]
    houses: Bool[np.ndarray, "point row col"]
    roads: Bool[np.ndarray, "point row col"]
    ponds: Bool[np.ndarray, "point row col"]
    sea: Bool[np.ndarray, "point row col"]


def _cover(truth: Latents) -> _Cover:
    cover = _Cover()
    rows, cols = _pixels(truth)
    cover.sea = np.repeat((truth.coast_km < 0)[:, None], PIXELS, 1)[:, :, None].repeat(PIXELS, 2)
    built = _blocks(truth, 1, 5) < _column(truth.built * 0.9)
    street_grid = ((rows % 5 == 0)[:, :, None]) | ((cols % 5 == 0)[:, None, :])
    town = _column(truth.built) > 0.12
    cover.roads = street_grid & town & (_blocks(truth, 1, 5) < _column(truth.built + 0.25))
    cover.houses = built & ~cover.roads
    # A Gaussian texture below the quantile of a share covers that share of the ground.
    wood = _texture_at(truth, 1) < _column(_quantile(truth.forest))
    cover.trees = wood & ~cover.houses & ~cover.roads
    cover.fields = (_blocks(truth, 2, 6) < _column(truth.crops)) & ~cover.trees & ~cover.houses
    cover.fields &= ~cover.roads
    pond = _texture_at(truth, 5) < _column(_quantile(0.12 * truth.moisture * (1 - truth.roughness)))
    cover.ponds = pond & ~cover.houses & ~cover.sea
    return cover


def _ground(truth: Latents) -> Plane:
    """Return hills of height about one, elongated along the ridges."""
    step = (np.arange(PIXELS) - (PIXELS - 1) / 2).astype(np.float32)
    east, north = step[None, None, :], -step[None, :, None]
    cos, sin = _column(np.cos(truth.ridge_angle)), _column(np.sin(truth.ridge_angle))
    # Rotate the pixels by the ridge angle; steps of 3 across and 0.9 along sample the isotropic
    # texture so that it appears stretched along the ridges.
    along = (cos * east + sin * north) * 0.9 + _column(truth.x_km * 10 % TEXTURE)
    across = (cos * north - sin * east) * 3.0 + _column(truth.y_km * 10 % TEXTURE)
    rows, cols = across.astype(np.int32) % TEXTURE, along.astype(np.int32) % TEXTURE
    broken = _column(truth.roughness)
    hills: Plane = (1 - broken) * _textures()[0][rows, cols] + broken * _textures()[2][rows, cols]
    return hills


def _metres(truth: Latents, ground: Plane) -> Plane:
    metres: Plane = _column(truth.relief_m * 0.5) * ground
    return metres


def _pixels(truth: Latents) -> tuple[Int[np.ndarray, "point row"], Int[np.ndarray, "point col"]]:
    """Return the rows and columns of each patch's pixels on the pixel grid of the world."""
    step = np.arange(PIXELS) - PIXELS // 2
    rows = np.floor(-truth.y_km * 1000 / PIXEL_M).astype(np.int64)[:, None] + step
    cols = np.floor(truth.x_km * 1000 / PIXEL_M).astype(np.int64)[:, None] + step
    return rows, cols


def _texture_at(truth: Latents, number: int) -> Plane:
    rows, cols = _pixels(truth)
    values: Plane = _textures()[number][(rows % TEXTURE)[:, :, None], (cols % TEXTURE)[:, None, :]]
    return values


def _blocks(truth: Latents, number: int, side: int) -> Plane:
    """Return uniform numbers that are constant on squares of the ground, like fields and lots."""
    rows, cols = _pixels(truth)
    table = _block_tables()[number]
    values: Plane = table[
        (rows // side % TEXTURE)[:, :, None], (cols // side % TEXTURE)[:, None, :]
    ]
    return values


@lru_cache(maxsize=1)
def _textures() -> list[Float32[np.ndarray, "row col"]]:
    """Return periodic Gaussian textures whose power spectra fall off at different rates."""
    return [_texture(k, steepness) for k, steepness in enumerate((1.9, 1.2, 1.0, 0.6, 0.0, 1.5))]


def _texture(number: int, steepness: float) -> Float32[np.ndarray, "row col"]:
    rng = np.random.default_rng([2604, 11668, 100 + number])
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(TEXTURE), np.fft.fftfreq(TEXTURE)))
    # White noise, filtered by a power of frequency; no hill is broader than 48 pixels. The inverse
    # transform is periodic, so the texture repeats without a seam.
    frequency = np.maximum(frequency, 1 / 48)
    spectrum = np.fft.fft2(rng.normal(size=(TEXTURE, TEXTURE))) / frequency**steepness
    plane = np.fft.ifft2(spectrum).real
    return ((plane - plane.mean()) / plane.std()).astype(np.float32)


@lru_cache(maxsize=1)
def _block_tables() -> list[Float32[np.ndarray, "row col"]]:
    rng = np.random.default_rng([2604, 11668, 200])
    return [rng.random((TEXTURE, TEXTURE), np.float32) for _ in range(6)]


def _column(values: np.ndarray) -> np.ndarray:
    """Add axes to one number per point, so that it broadcasts against its pixels."""
    return np.asarray(values, np.float32)[:, None, None]


def _quantile(share: np.ndarray) -> np.ndarray:
    """Return the level below which a share of a Gaussian texture lies."""
    from scipy.special import ndtri

    return np.asarray(ndtri(np.clip(share, 1e-4, 1 - 1e-4)))


def _ramp(colours: tuple[tuple[float, ...], ...], position: np.ndarray) -> Colour:
    """Interpolate between colours at positions from 0 to 1."""
    stops = np.linspace(0, 1, len(colours))
    channels = [np.interp(position, stops, channel) for channel in zip(*colours, strict=True)]
    return np.stack(channels, axis=1).astype(np.float32)


def _mix(first: Colour, second: Colour, share: np.ndarray | float) -> Colour:
    mixed: Colour = (first * (1 - share) + second * share).astype(np.float32)
    return mixed


def _to_uint8(image: np.ndarray) -> UInt8[np.ndarray, "point 3 row col"]:
    rounded: UInt8[np.ndarray, "point 3 row col"] = (np.clip(image, 0, 1) * 255 + 0.5).astype(
        np.uint8
    )
    return rounded
