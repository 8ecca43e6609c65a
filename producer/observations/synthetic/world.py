"""The embedded world: a synthetic CONUS that is observed in every modality, without any data.

Only its coast is real. Each modality shows some of the latent fields; the targets of the world are
functions of several of them, which no single modality shows.
"""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.synthetic import scene_images, scene_texts
from unigeo.producer.observations.synthetic.latent_fields import (
    KM_PER_DEGREE,
    cities,
    coast_km,
    draw_on_land,
    hashed_noise,
    latents,
)

SLAB = 1024
"""Number of patches rendered at once; it bounds the memory."""
VERSION = 1
"""Version of the world; worlds of different versions differ."""
TARGETS = (
    "income",
    "house_price",
    "crop_yield",
    "respiratory_health",
    "temperature",
    "population_density",
)
"""Names of the targets, columns of `World.target_table`."""


class World(Observations):
    """The embedded world, as observations."""

    name = "embedded world"
    modalities = ("coordinate", "aerial", "street", "dsm", "text")

    def shape(self, modality: str) -> tuple[int, int, int]:
        """Return channels, rows and columns of the modality's patches."""
        return (1 if modality == "dsm" else 3, scene_images.PIXELS, scene_images.PIXELS)

    def locations(self, count: int, seed: int) -> Float[np.ndarray, "point 2"]:
        """Draw training locations: half of them uniformly over land, half near urban centres."""
        rng = np.random.default_rng([VERSION, seed])
        near = _near_cities(count // 2, rng)
        lonlat = np.concatenate([near, draw_on_land(count - len(near), rng)])
        return lonlat[rng.permutation(count)]

    def land(self, lonlat: Float[np.ndarray, "point 2"]) -> Bool[np.ndarray, " point"]:
        """Return whether each point is on land."""
        return coast_km(lonlat) > 0

    def patches(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> Patches:
        """Render one patch round each point."""
        dtype = np.float32 if modality == "dsm" else np.uint8
        values = np.empty((len(lonlat), *self.shape(modality)), dtype)
        for start in range(0, len(lonlat), SLAB):
            part = slice(start, start + SLAB)
            truth = latents(lonlat[part])
            if modality == "aerial":
                values[part] = scene_images.aerial(truth)
            elif modality == "dsm":
                values[part] = scene_images.surface(truth)
            else:
                noise = hashed_noise(lonlat[part], 4 * scene_images.OBJECTS + 4, 1)
                values[part] = scene_images.street(truth, noise)
        return Patches(values, np.ones(len(lonlat), bool))

    def texts(
        self, lonlat: Float[np.ndarray, "point 2"], modality: str = "text"
    ) -> list[str | None]:
        """Describe each point."""
        numbers = hashed_noise(lonlat, scene_texts.NUMBERS, 2)
        return [*scene_texts.describe(latents(lonlat), numbers)]

    def gaps(self) -> dict[str, dict[str, int]]:
        """Return an empty count: nothing is ever missing here."""
        return {}

    def provenance(self) -> dict[str, Any]:
        """Return, as JSON, that all of it is synthetic."""
        return {
            "name": self.name,
            "version": VERSION,
            "synthetic": True,
            "licence": "CC0-1.0",
            "citation": "unigeo's embedded world, a synthetic CONUS; coast: US Census Bureau",
            "patch_m": scene_images.PIXELS * scene_images.PIXEL_M,
        }

    def target_table(self, count: int, seed: int) -> pd.DataFrame:
        """Draw a table of locations and their targets: columns lon, lat and `TARGETS`."""
        lonlat = self.locations(count, seed)
        table = {"lon": lonlat[:, 0], "lat": lonlat[:, 1]} | self.targets(lonlat)
        return pd.DataFrame(table).round(6)

    def targets(
        self, lonlat: Float[np.ndarray, "point 2"]
    ) -> dict[str, Float[np.ndarray, " point"]]:
        """Compute the targets at each point, with the noise of a measurement.

        Each target mixes latent fields that different modalities show: walls are seen from the
        street, relief in the surface model, farming from above.
        """
        truth = latents(lonlat)
        noise = _normal(hashed_noise(lonlat, 2 * len(TARGETS), 3))
        coastal = np.exp(-np.maximum(truth.coast_km, 0) / 80)
        income = 42 + 9 * (truth.density - 1.5) + 14 * (truth.walls - 0.5) - 9 * (truth.soil - 0.5)
        price = 0.012 * (income - 42) + 0.35 * coastal + 0.12 * np.log(truth.relief_m / 30)
        season = np.exp(-(((truth.temperature_c - 14) / 7) ** 2))
        crop = 8 * season * truth.moisture * (0.5 + truth.soil) / (1 + truth.relief_m / 200)
        breath = 9 - 1.6 * truth.needles * truth.forest + 1.1 * truth.built - 1.5 * truth.moisture
        means = (
            income,
            5.2 + price,
            crop * (0.6 + 0.8 * truth.crop_kind),
            breath + 0.03 * (truth.temperature_c - 12),
            truth.temperature_c,
            truth.density,
        )
        spreads = (4.0, 0.08, 0.5, 0.35, 0.4, 0.1)
        return {
            name: mean + spread * noise[:, k]
            for k, (name, mean, spread) in enumerate(zip(TARGETS, means, spreads, strict=True))
        }


def _near_cities(count: int, rng: np.random.Generator) -> Float[np.ndarray, "point 2"]:
    """Draw points on land round the urban centres, more round the larger ones."""
    centres = cities()
    weight = centres.population**0.5
    drawn: list[Float[np.ndarray, "some 2"]] = []
    missing = count
    while missing > 0:
        city = rng.choice(len(weight), 2 * missing + 16, p=weight / weight.sum())
        spread = 2.2 * centres.radius_km[city, None] / KM_PER_DEGREE
        lonlat = centres.lonlat[city] + spread * rng.normal(size=(len(city), 2))
        lonlat = lonlat[coast_km(lonlat) > 0][:missing]
        drawn.append(lonlat)
        missing -= len(lonlat)
    return np.concatenate([np.empty((0, 2)), *drawn])


def _normal(uniform: Float[np.ndarray, "point number"]) -> Float[np.ndarray, "point half"]:
    """Turn pairs of uniform numbers into normally distributed ones (Box and Muller 1958)."""
    half = uniform.shape[1] // 2
    radius = np.sqrt(-2 * np.log(np.maximum(uniform[:, :half], 1e-12)))
    normal: Float[np.ndarray, "point half"] = radius * np.cos(2 * np.pi * uniform[:, half:])
    return normal
