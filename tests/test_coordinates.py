"""The coordinate encoders: exact phases, telling scales apart, no dependence on the batch."""

from typing import Any

import numpy as np
import pyproj
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unigeo.producer.encoders.coordinates import CoordinateEncoder
from unigeo.producer.encoders.features import draw_frequencies
from unigeo.producer.encoders.model import COORDINATE_ENCODERS
from unigeo.producer.encoders.projection import equal_earth_tensor, sphere_tensor
from unigeo.producer.encoders.tower_settings import CoordinateSettings
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.encoder_projection import RADIUS_M, UNIT_M, equal_earth, sphere

SETTINGS = CoordinateSettings(width=64, depth=2, heads=4)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"scale_layers": 2, "readout": "concat"},
    {"readout": "registers", "learned_frequencies": True},
    {"kind": "geoclip"},
    {"kind": "satclip", "degree": 10},
    {"kind": "fourier"},
]


def built(**options: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    settings = CoordinateSettings(**{"width": 64, "depth": 2, "heads": 4} | options)
    return COORDINATE_ENCODERS[settings.kind](settings, 32)


@pytest.fixture(scope="module")
def encoder() -> CoordinateEncoder:
    torch.manual_seed(0)
    return CoordinateEncoder(SETTINGS, 32).eval()


@pytest.fixture(scope="module")
def lonlat() -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.stack([rng.uniform(-180, 180, 4096), rng.uniform(-89, 89, 4096)], 1))


@given(lon=st.floats(-180, 180), lat=st.floats(-90, 90))
def test_the_plane_is_proj_s_equal_earth_on_a_sphere(lon: float, lat: float) -> None:
    projection = pyproj.Proj(proj="eqearth", R=RADIUS_M)
    ours = equal_earth(np.array([[lon, lat]]))[0] * UNIT_M
    assert ours == pytest.approx(projection(lon, lat), abs=1e-3)  # the unit is known to 7 digits


def test_torch_and_numpy_project_alike(lonlat: torch.Tensor) -> None:
    assert np.abs(equal_earth_tensor(lonlat).numpy() - equal_earth(lonlat.numpy())).max() < 1e-14
    assert np.abs(sphere_tensor(lonlat).numpy() - sphere(lonlat.numpy())).max() < 1e-14


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("batch", [1, 7, 2048])
def test_a_point_s_vector_does_not_depend_on_its_batch(
    lonlat: torch.Tensor, options: dict[str, Any], batch: int
) -> None:
    encoder = built(**options).eval()
    order = torch.randperm(len(lonlat), generator=torch.Generator().manual_seed(batch))
    rows = order[: batch if batch > 100 else 21]
    with torch.inference_mode():
        whole = encoder(lonlat)
        parts = torch.cat([encoder(lonlat[part]) for part in rows.split(batch)])
    assert (parts - whole[rows]).abs().max() < 2e-6 * whole.abs().max().clamp(min=1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_autocast_changes_rounding_only(lonlat: torch.Tensor, options: dict[str, Any]) -> None:
    encoder = built(**options).eval()
    with torch.inference_mode():
        exact = encoder(lonlat[:200])
        with torch.autocast("cpu", torch.bfloat16):
            rounded = encoder(lonlat[:200]).float()
    assert torch.cosine_similarity(exact, rounded).min() > 0.999


def test_frequencies_are_learned_in_double_precision(lonlat: torch.Tensor) -> None:
    encoder = built(learned_frequencies=True, dropout=0.1)
    assert encoder.state_dict().keys() == built().state_dict().keys()
    drawn = encoder.frequencies.detach().clone()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3, weight_decay=0)
    encoder(lonlat[:64]).square().sum().backward()
    optimizer.step()
    moved = (encoder.frequencies - drawn).abs()
    assert encoder.frequencies.dtype == torch.float64
    assert 0 < moved.max() <= 1.001e-3


def test_dropout_is_of_training_alone(lonlat: torch.Tensor) -> None:
    for options in OPTIONS:
        encoder = built(**options, dropout=0.3)
        assert not torch.equal(encoder(lonlat[:9]), encoder(lonlat[:9])), options
        encoder.eval()
        assert torch.equal(encoder(lonlat[:9]), encoder(lonlat[:9])), options


def test_satclip_s_kind_has_neither_seam_nor_pole() -> None:
    encoder = built(kind="satclip", degree=20).eval()
    degrees = [[180.0, 10.0], [-180.0, 10.0], [0.0, 90.0], [120.0, 90.0]]
    with torch.inference_mode():
        east, west, pole, again = encoder(torch.tensor(degrees, dtype=torch.float64))
    assert torch.allclose(east, west, atol=1e-6) and torch.allclose(pole, again, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "wavelets"}, "kind"),
        ({"readout": "registers", "registers": 0}, "needs at least one register"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"degree": 0}, "degree must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises((ModelError, TypeError), match=says):
        CoordinateSettings(width=64, depth=2, heads=4, **options)


@pytest.mark.parametrize("sigma", [1.0, 16.0, 256.0, 4096.0])
def test_a_token_s_cosine_falls_with_distance_as_the_kernel_says(sigma: float) -> None:
    """Source: Rahimi & Recht (2007): E cos = exp(-2 pi^2 sigma^2 d^2)."""
    settings = CoordinateSettings(width=4096, depth=0, heads=1, sigmas=(sigma,))
    encoder = CoordinateEncoder(settings, 8)
    half = np.sqrt(np.log(2) / 2) / (np.pi * sigma)  # distance, in units, at which it is 1/2
    here = np.array([[-90.0, 40.0]])
    east = here + np.array([1e-4, 0.0])
    step = np.linalg.norm(equal_earth(east) - equal_earth(here))
    away = here + np.array([1e-4 * half / step, 0.0])
    tokens = encoder.tokens(torch.from_numpy(np.concatenate([here, away])))[:, 0]
    cosine = torch.nn.functional.cosine_similarity(tokens[0], tokens[1], dim=0).item()
    assert cosine == pytest.approx(0.5, abs=0.05)


def test_a_hundred_metres_are_distinguished_at_the_finest_scale(encoder: CoordinateEncoder) -> None:
    pair = torch.tensor([[-73.9857, 40.7484], [-73.98452, 40.7484]], dtype=torch.float64)
    tokens = encoder.tokens(pair)
    exact = np.einsum("pa,saf->psf", equal_earth(pair.numpy()), encoder.frequencies.numpy())
    phases = 2 * np.pi * np.longdouble(1) * (exact - np.round(exact))
    expected = np.concatenate([np.cos(phases), np.sin(phases)], axis=-1).astype(float)
    assert np.abs(tokens.numpy() - expected).max() < 1e-6
    assert torch.cosine_similarity(tokens[0, -1], tokens[1, -1], dim=0) < 0.999


def test_scales_are_distinguished_only_with_their_embedding(lonlat: torch.Tensor) -> None:
    for embedding, same in ((True, False), (False, True)):
        torch.manual_seed(0)
        settings = CoordinateSettings(width=64, depth=2, heads=4, scale_embedding=embedding)
        encoder = CoordinateEncoder(settings, 32).eval()
        tokens = encoder.tokens(lonlat[:8])
        with torch.inference_mode():
            gap = (encoder.attend(tokens) - encoder.attend(tokens.flip(1))).abs().max()
        assert (gap < 1e-5) == same


def test_degrees_in_single_precision_are_refused(
    encoder: CoordinateEncoder, lonlat: torch.Tensor
) -> None:
    with pytest.raises((ModelError, TypeError), match=r"[Ff]loat64"):
        encoder.tokens(lonlat.float())


def test_the_sphere_has_no_seam() -> None:
    encoder = CoordinateEncoder(
        CoordinateSettings(width=64, depth=1, heads=2, features="sphere"), 8
    )
    pair = torch.tensor([[179.9999999, 10.0], [-179.9999999, 10.0]], dtype=torch.float64)
    with torch.inference_mode():
        vectors = encoder(pair)
    assert torch.allclose(vectors[0], vectors[1], atol=1e-3)
    assert sphere_tensor(pair).shape == (2, 3)


def test_frequencies_are_saved_and_drawn_from_the_seed_alone(encoder: CoordinateEncoder) -> None:
    assert "frequencies" in encoder.state_dict()
    assert np.array_equal(draw_frequencies(SETTINGS), encoder.frequencies.numpy())
