"""Spherical harmonics: those of scipy, orthonormal on the sphere, the same in torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from unigeo.producer.encoders.harmonics import SphericalHarmonics
from unigeo.schemas.geo.harmonics import order_masks, spherical_harmonics


def from_scipy(lonlat: np.ndarray, degree: int) -> np.ndarray:
    """Real harmonics without the Condon-Shortley phase, cosines before sines."""
    colatitude, azimuth = np.deg2rad(90 - lonlat[:, 1:]), np.deg2rad(lonlat[:, :1])
    parts = []
    for triangle, part in zip(order_masks(degree), (np.real, np.imag), strict=True):
        n, m = np.nonzero(triangle)
        complex_ones = sph_harm_y(n, m, colatitude, azimuth)
        parts.append(part(complex_ones) * (-1.0) ** m * np.where(m > 0, np.sqrt(2), 1))
    return np.concatenate(parts, axis=1)


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(0, 1000))
def test_they_are_scipy_s(degree: int, seed: int) -> None:
    lonlat = np.random.default_rng(seed).uniform((-180, -90), (180, 90), (30, 2))
    lonlat[:2, 1] = 90, -90
    ours = spherical_harmonics(lonlat, degree)
    assert ours.shape == (30, degree**2)
    assert np.abs(ours - from_scipy(lonlat, degree)).max() < 1e-11


def test_they_are_orthonormal() -> None:
    """By a quadrature that is exact up to the square of the highest: Gauss by equal steps."""
    degree = 12
    sines, weights = np.polynomial.legendre.leggauss(degree)
    lons = np.linspace(-180, 180, 2 * degree, endpoint=False)
    grid = np.stack(np.meshgrid(lons, np.rad2deg(np.arcsin(sines))), axis=-1).reshape(-1, 2)
    area = np.repeat(weights, len(lons)) * 2 * np.pi / len(lons)
    harmonics = spherical_harmonics(grid, degree)
    assert np.abs(harmonics.T @ (area[:, None] * harmonics) - np.eye(degree**2)).max() < 1e-12


def test_their_squares_sum_to_the_same_everywhere() -> None:
    """Source: the addition theorem, sum of squares = degree^2 / 4 pi; to a high degree."""
    lonlat = np.array([[0.0, 0.0], [77.0, 45.0], [-170.0, -89.99], [5.0, 90.0]])
    sums = (spherical_harmonics(lonlat, 120) ** 2).sum(axis=1)
    assert sums == pytest.approx(120**2 / (4 * np.pi), rel=1e-12)


def test_torch_gives_numpy_s() -> None:
    lonlat = np.random.default_rng(1).uniform((-180, -90), (180, 90), (50, 2))
    in_torch = SphericalHarmonics(40)(torch.from_numpy(lonlat)).numpy()
    assert np.abs(in_torch - spherical_harmonics(lonlat, 40)).max() < 1e-11
