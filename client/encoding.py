"""The coordinate encoder in numpy: a vector for any place, on the grid or off it.

The same sums as the producer's encoder in torch: phases in float64, reduced modulo one turn, then
the transformer in float32, one batch of points at a time.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64

from unigeo.client.progress import progress_bar
from unigeo.client.threads import one_thread
from unigeo.schemas.encoder import GROUP, ROTATION, EncoderSettings, read_settings
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.plane import equal_earth, sphere
from unigeo.schemas.stores import damage_errors, open_group

BATCH = 128
"""Points evaluated together: few enough that a small encoder's tokens stay in the cache."""

_NORM_EPSILON = 1e-5
"""Added to a layer norm's variance, torch's default."""
_LEAST_LENGTH = 1e-12
"""A vector shorter than this is not scaled to unit length, as in torch."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """A store's coordinate encoder: call `encode` with degrees."""

    settings: EncoderSettings
    weights: dict[str, np.ndarray]
    """By name as `EncoderSettings.shapes` lists them; frequencies float64, the others float32."""

    def encode(
        self,
        lonlat: Float64[np.ndarray, "point 2"],
        *,
        batch: int = BATCH,
        progress: bool = False,
    ) -> Float32[np.ndarray, "point band"]:
        """Unit vectors of places; batches run side by side, one on each core.

        Args:
            lonlat: WGS 84 degrees, longitude first.
            batch: points evaluated together; bounds the memory and changes no vector by more than
                rounding.
            progress: show a bar on stderr.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least one point, not {batch}")
        vectors = np.empty((len(lonlat), self.settings.dimension), np.float32)

        def fill(start: int) -> int:
            part = slice(start, start + batch)
            vectors[part] = self._attend(self._tokens(lonlat[part]))
            return len(vectors[part])

        with (
            # The products are small: their own threads would wait for each other.
            one_thread(),
            ThreadPoolExecutor(os.cpu_count()) as pool,
            progress_bar(GROUP, len(lonlat), "points", progress) as push,
        ):
            for count in pool.map(fill, range(0, len(lonlat), batch)):
                push(count)
        return vectors

    def _tokens(
        self, lonlat: Float64[np.ndarray, "point 2"]
    ) -> Float32[np.ndarray, "point token width"]:
        """Cosines and sines of each scale's phases, and room for the registers after them."""
        settings, frequencies = self.settings, self.weights["frequencies"]
        place = sphere(lonlat) if settings.features == "sphere" else equal_earth(_wrapped(lonlat))
        scales, axes, half = frequencies.shape
        turns = place @ frequencies.transpose(1, 0, 2).reshape(axes, -1)
        turns -= np.rint(turns)
        phases = (2 * np.pi * turns).astype(np.float32).reshape(len(place), scales, half)
        tokens = np.empty((len(place), scales + settings.registers, settings.width), np.float32)
        np.cos(phases, out=tokens[:, :scales, :half])
        np.sin(phases, out=tokens[:, :scales, half:])
        return tokens

    def _attend(
        self, tokens: Float32[np.ndarray, "point token width"]
    ) -> Float32[np.ndarray, "point band"]:
        """Join each point's tokens by self-attention, take their mean, project and rotate."""
        settings, weights = self.settings, self.weights
        scales = len(settings.sigmas)
        if settings.scale_embedding:
            tokens[:, :scales] += weights["scale_embedding"]
        tokens[:, scales:] = weights["registers"]
        for number in range(settings.depth):
            block = f"blocks.{number}"
            tokens += self._attention(block, self._norm(f"{block}.attention_norm", tokens))
            hidden = self._linear(f"{block}.mlp.0", self._norm(f"{block}.mlp_norm", tokens))
            tokens += self._linear(f"{block}.mlp.2", gelu(hidden))
        vectors = self._norm("norm", tokens[:, :scales].mean(axis=1))
        if settings.width != settings.dimension:
            vectors = self._linear("projection", vectors)
        vectors = vectors @ weights[ROTATION]
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: np.ndarray = vectors / np.maximum(length, _LEAST_LENGTH)
        return unit

    def _attention(
        self, block: str, tokens: Float32[np.ndarray, "point token width"]
    ) -> Float32[np.ndarray, "point token width"]:
        points, count, width = tokens.shape
        heads = self.settings.heads
        joint = self._linear(f"{block}.query_key_value", tokens)
        query, key, value = joint.reshape(points, count, 3, heads, -1).transpose(2, 0, 3, 1, 4)
        scores = query @ key.swapaxes(-1, -2)  # point head token token
        scores *= np.float32((width // heads) ** -0.5)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        joined = (scores @ value).swapaxes(1, 2).reshape(points, count, width)
        return self._linear(f"{block}.attention_out", joined)

    def _linear(
        self, layer: str, inputs: Float32[np.ndarray, "*row input"]
    ) -> Float32[np.ndarray, "*row output"]:
        weight, bias = self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"]
        outputs: np.ndarray = inputs.reshape(-1, weight.shape[1]) @ weight.T
        outputs += bias
        return outputs.reshape(*inputs.shape[:-1], -1)

    def _norm(
        self, layer: str, inputs: Float32[np.ndarray, "*row width"]
    ) -> Float32[np.ndarray, "*row width"]:
        centred: np.ndarray = inputs - inputs.mean(axis=-1, keepdims=True)
        variance = np.einsum("...w,...w->...", centred, centred) / np.float32(inputs.shape[-1])
        centred *= (1 / np.sqrt(variance + np.float32(_NORM_EPSILON)))[..., None]
        centred *= self.weights[f"{layer}.weight"]
        centred += self.weights[f"{layer}.bias"]
        return centred


def load_encoder(source: Any, url: str, published: bool = True) -> Encoder:
    """Read the coordinate encoder from a field's store.

    Args:
        source: the store, as `schemas.stores.open_store` takes it.
        url: its name in messages.
        published: whether its metadata are consolidated.

    Raises:
        LayoutError: if the store has none, one of a kind this version cannot evaluate, or one
            whose weights do not fit its settings.
        StoreError: if the store cannot be read.
    """
    import zarr

    root = open_group(source, consolidated=published)
    group = root.get(GROUP)
    if not isinstance(group, zarr.Group):
        raise LayoutError(
            f"{url} has no group {GROUP!r}, so places off its grid cannot be encoded; sample "
            "the stored vectors, or publish the field again with unigeo-produce"
        )
    settings = read_settings(dict(group.attrs.get("settings", {})), url)  # type: ignore[arg-type]
    try:
        weights = {name: np.asarray(array[...]) for name, array in group.arrays()}
    except damage_errors() as error:
        raise StoreError(f"cannot read the encoder of {url}: {error}") from error
    shapes = settings.shapes()
    found = {name: values.shape for name, values in weights.items()}
    wrong = sorted(name for name in shapes | found if shapes.get(name) != found.get(name))
    if wrong:
        raise LayoutError(
            f"the coordinate encoder of {url} does not fit its settings: "
            + "; ".join(
                f"{name} is {found.get(name, 'missing')}, expected {shapes.get(name, 'none')}"
                for name in wrong
            )
        )
    if weights["frequencies"].dtype != np.float64:
        raise LayoutError(
            f"the coordinate encoder of {url} has frequencies in "
            f"{weights['frequencies'].dtype}; 100 m vanish in less than float64"
        )
    return Encoder(
        settings,
        {
            name: values if name == "frequencies" else values.astype(np.float32)
            for name, values in weights.items()
        },
    )


def gelu(values: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """The exact GELU, x (1 + erf(x / sqrt 2)) / 2; the error is below 1e-6 of max(1, |x|).

    numpy has no erf: this is the rational approximation of Eigen's `generic_fast_erf_float`.

    >>> gelu(np.array([-1.0, 0.0, 2.0])).round(6).tolist()
    [-0.158655, 0.0, 1.9545]
    """
    scaled: np.ndarray = np.clip(values * values.dtype.type(0.5**0.5), -4, 4)
    square = scaled * scaled
    scaled *= _polynomial(_ERF_NUMERATOR, square)
    scaled /= _polynomial(_ERF_DENOMINATOR, square)
    scaled += 1
    scaled *= values
    scaled *= 0.5
    return scaled


_ERF_NUMERATOR = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_DENOMINATOR = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def _polynomial(
    coefficients: tuple[float, ...], values: Float[np.ndarray, "*any"]
) -> Float[np.ndarray, "*any"]:
    """Horner's rule, the highest power first, in the values' own precision."""
    total = np.full_like(values, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= values
        total += values.dtype.type(coefficient)
    return total


def _wrapped(lonlat: Float64[np.ndarray, "point 2"]) -> Float64[np.ndarray, "point 2"]:
    """Longitudes beyond 180 degrees brought back; the plane has one place for each."""
    lon = lonlat[:, 0]
    beyond = np.abs(lon) > 180
    if not beyond.any():
        return lonlat
    wrapped = lonlat.copy()
    wrapped[beyond, 0] = (lon[beyond] + 180) % 360 - 180
    return wrapped
