"""Texts of the embedded world: statements in rough classes, without names, numbers or coordinates.

The order of the statements and their wording vary, and each statement is sometimes left out, as in
texts that people write.
"""

import numpy as np
from jaxtyping import Float, Int

from unigeo.producer.observations.synthetic.latent_fields import Latents

STATEMENTS = 11
"""Number of kinds of statement."""
NUMBERS = 3 * STATEMENTS
"""Uniform numbers per text: whether each statement is made, its wording, and its position."""
OMITTED = 0.15
"""Share of statements left out."""

_DIRECTIONS = ("east to west", "northeast", "north to south", "northwest")
_HIGH = ("lowland", "plain", "upland", "high country", "alpine")
_HIGH_TOO = ("low ground", "plains", "raised ground", "high ground", "very high ground")
_HILLY = ("flat", "gently rolling", "hilly", "rugged", "mountainous")
_WARM = ("subarctic", "cold", "cool", "mild", "warm", "hot")
_WET = ("arid", "dry", "fair", "moist", "rainy")
_EARTH = ("pale", "sandy", "red", "brown", "black")
_WOODS = ("bare", "few trees", "scattered woods", "wooded", "dense forest")
_TALL = ("short", "medium", "tall", "giant")
_LEAVES = ("broadleaf", "leafy", "mixed", "conifer")
_FARMS = ("no farms", "some farms", "farmland", "all farmland")
_CROP = ("pasture", "hay", "grain", "orchard")
_PEOPLE = ("wilderness", "lonely houses", "village", "small town", "suburb", "city centre")
_ROOFS = ("white", "tile", "brown", "slate")
_WALLS = ("plaster", "brick", "timber", "stone", "concrete")
_SHORE = ("by the sea", "close to the coast", "inland", "far inland")


def statements() -> tuple[tuple[str, ...], ...]:
    """Return every statement of each kind, in its first wording."""
    ridges = tuple(f"hilly with ridges {direction}" for direction in _DIRECTIONS)
    return (
        _HIGH,
        (*_HILLY, *ridges),
        tuple(f"{warm} and {wet}" for warm in _WARM for wet in _WET),
        tuple(f"{earth} soil" for earth in _EARTH),
        _WOODS,
        tuple(f"{tall} {leaves} trees" for tall in _TALL for leaves in _LEAVES),
        _FARMS,
        tuple(f"{crop} grown" for crop in _CROP),
        _PEOPLE,
        tuple(f"{roofs} roofs, {walls} walls" for roofs in _ROOFS for walls in _WALLS),
        _SHORE,
    )


def describe(truth: Latents, noise: Float[np.ndarray, "point number"]) -> list[str]:
    """Describe each point.

    Args:
        truth: latent fields at each point.
        noise: `NUMBERS` uniform numbers for each point.
    """
    high = _class(np.log(truth.elevation_m), (4.6, 5.6, 6.5, 7.2))
    hilly = _class(np.log(truth.relief_m), (2.6, 3.4, 4.2, 5.0))
    ridge = (np.round(truth.ridge_angle / (np.pi / 4)).astype(int)) % 4
    warm = _class(truth.temperature_c, (4, 8, 12, 16, 20))
    wet = _class(truth.moisture, (0.15, 0.35, 0.6, 0.85))
    earth = _class(truth.soil, (0.2, 0.4, 0.6, 0.8))
    woods = _class(truth.forest, (0.1, 0.3, 0.55, 0.8))
    leaves = _class(truth.needles, (0.3, 0.5, 0.7))
    farms = _class(truth.crops, (0.08, 0.2, 0.4))
    crop = _class(truth.crop_kind, (0.25, 0.5, 0.75))
    people = _class(truth.density, (1.0, 1.6, 2.2, 2.8, 3.4))
    roofs = _class(truth.roofs, (0.25, 0.5, 0.75))
    walls = _class(truth.walls, (0.2, 0.4, 0.6, 0.8))
    shore = _class(truth.coast_km, (15, 60, 200))
    tall = _class(truth.canopy_m, (12, 18, 24))

    texts = []
    for i, numbers in enumerate(noise):
        wording = numbers[STATEMENTS : 2 * STATEMENTS]
        ridges = f" with ridges {_DIRECTIONS[ridge[i]]}" if hilly[i] else ""
        made = [
            _pick(wording[0], _HIGH[high[i]], _HIGH_TOO[high[i]]),
            _HILLY[hilly[i]] + ridges,
            f"{_WARM[warm[i]]} and {_WET[wet[i]]}",
            _EARTH[earth[i]] + _pick(wording[3], " soil", " earth"),
            _WOODS[woods[i]],
            f"{_TALL[tall[i]]} {_LEAVES[leaves[i]]}" + _pick(wording[5], " trees", " stands"),
            _FARMS[farms[i]],
            _CROP[crop[i]] + _pick(wording[7], " grown", " land"),
            _PEOPLE[people[i]],
            f"{_ROOFS[roofs[i]]} roofs, {_WALLS[walls[i]]} walls",
            _SHORE[shore[i]],
        ]
        kept = [k for k in range(STATEMENTS) if numbers[k] > OMITTED]
        order = sorted(kept, key=lambda k: numbers[2 * STATEMENTS + k])
        texts.append(". ".join(made[k].capitalize() for k in order) + ".")
    return texts


def _class(
    values: Float[np.ndarray, " point"], edges: tuple[float, ...]
) -> Int[np.ndarray, " point"]:
    number: Int[np.ndarray, " point"] = np.digitize(values, edges)
    return number


def _pick(number: float, first: str, second: str) -> str:
    return first if number < 0.5 else second
