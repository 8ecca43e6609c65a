"""The embedded world is consistent: patches and texts do not depend on what is asked with them."""

import numpy as np
import pytest

from unigeo.producer.observations.synthetic.latent_fields import coast_km, latents, smooth
from unigeo.producer.observations.synthetic.world import TARGETS, World

WORLD = World()
LOCATIONS = WORLD.locations(300, seed=5)


@pytest.mark.parametrize("modality", ["aerial", "street", "dsm"])
def test_a_patch_is_the_same_alone_and_with_others(modality: str) -> None:
    together = WORLD.patches(modality, LOCATIONS)
    alone = WORLD.patches(modality, LOCATIONS[7:8])
    assert together.valid.all()
    assert np.array_equal(together.values[7:8], alone.values)
    assert together.values.shape[1:] == WORLD.shape(modality)


def test_a_text_does_not_depend_on_the_others() -> None:
    assert WORLD.texts(LOCATIONS)[7:8] == WORLD.texts(LOCATIONS[7:8])


def test_texts_hold_no_numbers_and_no_coordinates() -> None:
    assert not any(char.isdigit() for text in WORLD.texts(LOCATIONS) for char in text)


def test_locations_are_on_land_and_the_same_for_a_seed() -> None:
    assert WORLD.land(LOCATIONS).all()
    assert np.array_equal(LOCATIONS, WORLD.locations(300, seed=5))
    assert not np.array_equal(LOCATIONS, WORLD.locations(300, seed=6))


@pytest.mark.parametrize(
    ("lonlat", "land"),
    [
        ((-104.99, 39.74), True),  # Denver
        ((-90.2, 38.6), True),  # Saint Louis
        ((-90.0, 27.0), False),  # Gulf of Mexico
        ((-87.0, 43.5), False),  # Lake Michigan
        ((4.9, 52.4), False),  # Amsterdam lies outside this world
        ((-150.0, 60.0), False),
    ],
)
def test_the_coast_is_the_real_one(lonlat: tuple[float, float], land: bool) -> None:
    assert WORLD.land(np.array([lonlat])).tolist() == [land]


def test_smooth_fields_have_the_correlation_they_state() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-2000, 2000, (2, 4000))
    pairs = []
    for number in range(100, 160):
        here, away = smooth(x, y, number, 300.0), smooth(x + 300.0, y, number, 300.0)
        pairs.append([here.mean(), (here**2).mean(), (here * away).mean()])
    mean, variance, covariance = np.mean(pairs, axis=0)
    assert mean == pytest.approx(0, abs=0.1)
    assert variance == pytest.approx(1, abs=0.1)
    assert covariance == pytest.approx(np.exp(-0.5), abs=0.1)


def test_the_surface_stands_on_the_terrain() -> None:
    truth = latents(LOCATIONS)
    heights = WORLD.patches("dsm", LOCATIONS).values
    off = np.abs(np.median(heights, axis=(1, 2, 3)) - truth.elevation_m)
    assert (off < 3 * truth.relief_m + 60).all()


def test_sea_is_flat_at_zero() -> None:
    sea = np.array([[-90.0, 27.5]])
    assert coast_km(sea)[0] < 0
    assert (WORLD.patches("dsm", sea).values == 0).all()


def test_towns_are_less_colourful_than_the_country() -> None:
    """Towns have more grey streets from above."""
    truth = latents(LOCATIONS)
    town, country = truth.built > 0.5, truth.built < 0.02
    images = WORLD.patches("aerial", LOCATIONS).values.astype(float)
    spread = images.std(axis=1).mean(axis=(1, 2))  # colourful land, grey towns
    assert town.sum() > 5 and country.sum() > 5
    assert spread[town].mean() < spread[country].mean()


def test_targets_need_more_than_one_modality() -> None:
    """What is seen from above explains income less well than walls, seen from the street, do."""
    lonlat = WORLD.locations(2000, seed=9)
    truth, targets = latents(lonlat), WORLD.targets(lonlat)
    assert set(targets) == set(TARGETS)

    def r2(*columns: np.ndarray) -> float:
        design = np.stack([np.ones(len(lonlat)), *columns], axis=1)
        fitted = design @ np.linalg.lstsq(design, targets["income"], rcond=None)[0]
        return float(1 - np.var(targets["income"] - fitted) / np.var(targets["income"]))

    from_above = r2(truth.density, truth.soil, truth.forest, truth.crops, truth.roofs)
    assert r2(truth.density, truth.soil, truth.walls) > from_above + 0.04


def test_the_target_table_has_plain_columns() -> None:
    table = WORLD.target_table(50, seed=1)
    assert list(table.columns) == ["lon", "lat", *TARGETS]
    assert np.isfinite(table.to_numpy()).all()
