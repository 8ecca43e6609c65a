"""Latent fields of the embedded world: terrain, climate, land use and population at every point.

Only the outline of the 48 states is real; everything beyond it is sea. Every field is a fixed
function of position, so the world needs no data file and is the same on every machine.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import as_file, files

import numpy as np
from jaxtyping import Float, UInt64
from pyproj import Transformer
from rasterio.features import rasterize
from rasterio.transform import from_origin
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.special import ndtr

from unigeo.schemas.geo.region_forms import read_region
from unigeo.schemas.geo.regions import Region

KM_PER_DEGREE = 111.195
"""Kilometres per degree of latitude in this world; part of its definition, like its seeds."""
COAST_STEP = 1 / 40
"""Degrees between the nodes of the grid of distances to the coast."""
WEST, SOUTH, EAST, NORTH = -127.0, 23.0, -65.0, 51.0
"""Bounds of that grid, in degrees."""
CITIES = 400
"""Number of urban centres."""
WAVES = 40
"""Number of plane waves that make up one smooth field."""

Values = Float[np.ndarray, " point"]


@dataclass(frozen=True)
class Latents:
    """Latent fields at some points; one number per point in each field."""

    x_km: Values
    y_km: Values
    """Position on CONUS Albers (EPSG:5070)."""
    coast_km: Values
    """Distance to the coast, negative at sea."""
    elevation_m: Values
    relief_m: Values
    """Height of hills above their valleys."""
    ridge_angle: Values
    """Direction of ridges in radians, counted from east towards north."""
    roughness: Values
    """From rolling (0) to broken (1)."""
    temperature_c: Values
    """Yearly mean."""
    moisture: Values
    """From desert (0) to rain forest (1)."""
    soil: Values
    """From pale over red to black, 0 to 1."""
    forest: Values
    """Share of the land under trees."""
    needles: Values
    """From broadleaf (0) to conifer (1)."""
    canopy_m: Values
    """Height of the trees."""
    crops: Values
    """Share of the land that is ploughed."""
    crop_kind: Values
    """From pasture over grain to orchard, 0 to 1."""
    density: Values
    """log10 of people per square kilometre."""
    built: Values
    """Share of the land under houses and roads, 0 to 1."""
    storeys: Values
    roofs: Values
    """Roof colour by local tradition, 0 to 1."""
    walls: Values
    """Wall material by local tradition, 0 to 1."""


def latents(lonlat: Float[np.ndarray, "point 2"]) -> Latents:
    """Compute the latent fields at each point (WGS 84 degrees, longitude first)."""
    x, y = plane_km(lonlat)
    coast = coast_km(lonlat)
    inland = np.clip(coast / 150, 0, 1)

    # `ndtr`, the normal distribution function, maps a Gaussian field smoothly to 0..1. Relief: a
    # high west with long foothills, a lower and older range in the east, plains between them.
    west = ndtr((-600 - x + 120 * smooth(x, y, 1, 500)) / 250)
    east = 0.45 * np.exp(-(((x - 1450 + 0.55 * (y - 1500)) / 220) ** 2))
    high = (west * (0.75 + 0.25 * smooth(x, y, 2, 260)) + east) * inland
    relief = np.exp(2.3 + 3.0 * np.clip(high, 0, 1.2) + 0.7 * smooth(x, y, 3, 220))
    elevation = 40 * np.maximum(coast, 0) ** 0.4 + 1900 * np.clip(high, 0, 1.3)
    elevation = np.maximum(elevation * (1 + 0.12 * smooth(x, y, 4, 200)), 1.0)

    # Climate: warmer to the south and lower down; wet in the east and on the Pacific coast, dry in
    # the lee of the western mountains.
    temperature = 29.5 - 0.0095 * y - 0.0050 * elevation + 1.5 * smooth(x, y, 5, 500)
    wet = (x + 300) / 1100 + 1.2 * smooth(x, y, 6, 420) + 2.2 * np.exp(-(((x + 2100) / 220) ** 2))
    moisture = ndtr(wet - 0.4 * west)
    soil = ndtr(1.3 * smooth(x, y, 7, 380) + 0.5 * (moisture - 0.5))

    # Land use: forest where it is wet or steep, crops where it is flat and not forest, people where
    # it is moist and farmed. Towns replace both.
    flat = 1 / (1 + relief / 120)
    forest = ndtr(3.2 * (moisture - 0.55) + 1.2 * (1 - flat) + 0.9 * smooth(x, y, 8, 160) - 0.4)
    warm = ndtr((temperature - 9) / 5)
    crops = (1 - 0.8 * forest) * flat * ndtr(2.5 * (moisture - 0.3) + smooth(x, y, 9, 180))

    density = _density(x, y, 0.9 * moisture + 0.5 * crops + 0.3 * smooth(x, y, 10, 60))
    built = ndtr((density - 2.75) / 0.55)
    return Latents(
        x_km=x,
        y_km=y,
        coast_km=coast,
        elevation_m=elevation,
        relief_m=np.clip(relief, 4, 900),
        ridge_angle=np.pi * (0.5 + 0.45 * smooth(x, y, 11, 450)),
        roughness=ndtr(1.2 * smooth(x, y, 12, 320)),
        temperature_c=temperature,
        moisture=moisture,
        soil=soil,
        forest=forest * (1 - 0.9 * built),
        needles=ndtr(1.6 * (0.5 - warm) + 1.1 * smooth(x, y, 13, 350)),
        canopy_m=6 + 24 * ndtr(1.1 * smooth(x, y, 14, 300) + moisture - 0.5),
        crops=crops * (1 - 0.95 * built),
        crop_kind=ndtr(1.3 * smooth(x, y, 15, 340)),
        density=density,
        built=built,
        storeys=1 + np.exp(np.clip(1.5 * (density - 2.6), -3, 3.2)),
        roofs=ndtr(1.3 * smooth(x, y, 16, 300)),
        walls=ndtr(1.3 * smooth(x, y, 17, 260)),
    )


def plane_km(lonlat: Float[np.ndarray, "point 2"]) -> tuple[Values, Values]:
    """Project degrees to kilometres on CONUS Albers."""
    x, y = _albers().transform(lonlat[:, 0], lonlat[:, 1])
    return np.asarray(x) / 1000, np.asarray(y) / 1000


def smooth(x_km: Values, y_km: Values, number: int, length_km: float) -> Values:
    """Evaluate a Gaussian random field with mean 0 and variance 1.

    The field is a sum of plane waves with normally distributed wave vectors and random phases.

    Args:
        x_km: easting.
        y_km: northing.
        number: which field; fields of different numbers are independent.
        length_km: distance at which the correlation falls to exp(-1/2).
    """
    rng = np.random.default_rng([2604, 11668, number])
    frequency = rng.normal(size=(WAVES, 2)) / length_km
    phase = rng.uniform(0, 2 * np.pi, WAVES)
    angle = np.outer(x_km, frequency[:, 0]) + np.outer(y_km, frequency[:, 1]) + phase
    total: Values = np.cos(angle).sum(axis=1) * np.sqrt(2 / WAVES)
    return total


@dataclass(frozen=True)
class Cities:
    """Urban centres, the largest first."""

    lonlat: Float[np.ndarray, "city 2"]
    population: Float[np.ndarray, " city"]

    @cached_property
    def radius_km(self) -> Float[np.ndarray, " city"]:
        """Distance at which the density has fallen to 1/e of the centre's."""
        radius: Float[np.ndarray, " city"] = 2.2 * (self.population / 1e5) ** 0.4
        return radius


@lru_cache(maxsize=1)
def cities() -> Cities:
    """Draw the urban centres: population is a power of rank, and large centres are far apart.

    Source: Zipf's law for cities, exponent near 1 (Gabaix 1999).
    """
    rng = np.random.default_rng([2604, 11668, 0])
    population = 9e6 / np.arange(1, CITIES + 1) ** 0.95
    lonlat = draw_on_land(CITIES * 8, rng)
    x, y = plane_km(lonlat)
    chosen: list[int] = []
    for candidate in range(len(lonlat)):
        spacing_km = 350 / (1 + len(chosen) / 12)
        if all(np.hypot(x[candidate] - x[k], y[candidate] - y[k]) > spacing_km for k in chosen):
            chosen.append(candidate)
        if len(chosen) == CITIES:
            break
    return Cities(lonlat[chosen], population[: len(chosen)])


def draw_on_land(count: int, rng: np.random.Generator) -> Float[np.ndarray, "point 2"]:
    """Draw points uniformly by area over the land."""
    drawn: list[Float[np.ndarray, "some 2"]] = []
    missing = count
    low, high = np.sin(np.radians([24.0, 50.0]))
    while missing > 0:
        lon = rng.uniform(-125.0, -66.5, 2 * missing + 16)
        # Uniform in the sine of latitude is uniform by area on the sphere.
        lat = np.degrees(np.arcsin(rng.uniform(low, high, 2 * missing + 16)))
        lonlat = np.stack([lon, lat], axis=1)
        lonlat = lonlat[coast_km(lonlat) > 0][:missing]
        drawn.append(lonlat)
        missing -= len(lonlat)
    return np.concatenate(drawn)


def coast_km(lonlat: Float[np.ndarray, "point 2"]) -> Values:
    """Return the distance to the coast: positive on land, negative at sea and abroad."""
    row = (NORTH - lonlat[:, 1]) / COAST_STEP - 0.5
    col = (lonlat[:, 0] - WEST) / COAST_STEP - 0.5
    signed = map_coordinates(_coast_grid(), [row, col], order=1, mode="nearest")
    # Beyond the grid `nearest` repeats its edge, which must not pass for a coast nearby.
    outside = (
        (row < 0) | (col < 0) | (row > _coast_grid().shape[0]) | (col > _coast_grid().shape[1])
    )
    distance: Values = np.where(outside, np.minimum(signed, -100.0), signed).astype(np.float64)
    return distance


def land_region() -> Region:
    """Return the land as polygons: the 48 states, simplified to 0.05 degrees."""
    with as_file(files("unigeo.producer.observations.synthetic") / "coast.geojson") as path:
        return read_region(path, "EPSG:8858")


@lru_cache(maxsize=1)
def _coast_grid() -> Float[np.ndarray, "row col"]:
    shape = (round((NORTH - SOUTH) / COAST_STEP), round((EAST - WEST) / COAST_STEP))
    polygons = [{"type": "Polygon", "coordinates": [r.tolist()]} for r in land_region().rings]
    transform = from_origin(WEST, NORTH, COAST_STEP, COAST_STEP)
    land = rasterize(polygons, out_shape=shape, transform=transform).astype(bool)
    # Cells in kilometres, at the latitude of the middle: distances are approximate elsewhere.
    step = (KM_PER_DEGREE * COAST_STEP, KM_PER_DEGREE * COAST_STEP * np.cos(np.radians(38.0)))
    inside = distance_transform_edt(land, sampling=step)
    outside = distance_transform_edt(~land, sampling=step)
    signed: Float[np.ndarray, "row col"] = (inside - outside).astype(np.float32)
    return signed


def _density(x: Values, y: Values, rural: Values) -> Values:
    """Return log10 of people per square kilometre: rural density and that of urban centres."""
    centres = cities()
    city_x, city_y = plane_km(centres.lonlat)
    peak = centres.population / (4 * np.pi * centres.radius_km**2)
    total = 10 ** np.clip(rural, 0.0, 1.6)
    for k, radius in enumerate(centres.radius_km):
        distance = np.hypot(x - city_x[k], y - city_y[k])
        near = distance < 12 * radius  # beyond it the centre adds less than a 160,000th of its peak
        total[near] += peak[k] * np.exp(-distance[near] / radius)
    return np.asarray(np.log10(total))


@lru_cache(maxsize=1)
def _albers() -> Transformer:
    return Transformer.from_crs("EPSG:4326", "EPSG:5070", always_xy=True)


def hashed_noise(
    lonlat: Float[np.ndarray, "point 2"], count: int, number: int
) -> Float[np.ndarray, "point count"]:
    """Return uniform numbers that are a hash of each point, so the same in every call.

    Args:
        lonlat: points, rounded to a millionth of a degree.
        count: numbers per point, at most 1,000.
        number: which sequence; sequences of different numbers are independent.
    """
    keys = _location_keys(lonlat)
    # SplitMix64: equidistant states, then its finalizer; the upper 53 bits make a float.
    with np.errstate(over="ignore"):
        state = keys[:, None] + np.uint64(0x9E3779B97F4A7C15) * np.arange(
            1 + 1000 * number, 1 + 1000 * number + count, dtype=np.uint64
        )
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform: Float[np.ndarray, "point count"] = (
        (state ^ (state >> np.uint64(31))) >> np.uint64(11)
    ).astype(np.float64) * 2.0**-53
    return uniform


def _location_keys(lonlat: Float[np.ndarray, "point 2"]) -> UInt64[np.ndarray, " point"]:
    # Each coordinate times an odd constant: a bijection of 64 bits that mixes them upwards.
    micro = np.round(np.asarray(lonlat, np.float64) * 1e6).astype(np.int64).view(np.uint64)
    with np.errstate(over="ignore"):
        keys: np.ndarray = micro[:, 0] * np.uint64(0xD6E8FEB86659FD93) ^ (
            micro[:, 1] * np.uint64(0xA5A3564E27D886EF)
        )
    return keys
