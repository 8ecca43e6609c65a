"""The coordinate encoder in numpy: a vector for any point, on the grid or off it.

It computes what the producer's encoder computes in torch: phases and harmonics in float64, the
network in float32, one batch of points at a time.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from unigeo.client.encoding.perceptrons import encode_concatenated, encode_harmonics, encode_summed
from unigeo.client.encoding.scales import encode_attended
from unigeo.client.progress import progress_bar
from unigeo.client.threads import one_thread
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.io.limits import check_memory
from unigeo.schemas.io.store_errors import damage_errors
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.encoder import (
    FREQUENCIES,
    GROUP,
    ROTATION,
    EncoderSettings,
    read_settings,
)

BATCH = 128
"""Points evaluated together; a small encoder's tokens then stay in the processor's cache."""

_LEAST_LENGTH = 1e-12
"""Vectors are divided by at least this length, as torch's `normalize` does."""


@dataclass(frozen=True, eq=False)
class Encoder:
    """A store's coordinate encoder; `encode` returns vectors for longitudes and latitudes."""

    settings: EncoderSettings
    weights: dict[str, np.ndarray]
    """Arrays by the names of `EncoderSettings.shapes`; frequencies float64, the others float32."""

    def __repr__(self) -> str:
        size = sum(weight.size for weight in self.weights.values())
        return f"<Encoder {self.settings.kind}: {size:,} weights>"

    def encode(
        self,
        lonlat: Float64[np.ndarray, "point 2"],
        *,
        batch: int = BATCH,
        progress: bool = False,
    ) -> Float32[np.ndarray, "point band"]:
        """Return the unit vector of each point; batches run concurrently, one per core.

        Args:
            lonlat: WGS 84 degrees, longitude first.
            batch: points evaluated together; it bounds the memory, and changes vectors by rounding
                at most.
            progress: show a bar on stderr.
        """
        if batch < 1:
            raise ValueError(f"batch must be at least one point, not {batch}")
        vectors = np.empty((len(lonlat), self.settings.dimension), np.float32)

        def fill(start: int) -> int:
            part = slice(start, start + batch)
            vectors[part] = self._evaluate(lonlat[part])
            return len(vectors[part])

        with (
            # The matrix products are small: BLAS threads would only wait for each other.
            one_thread(scipy=False),
            ThreadPoolExecutor(os.cpu_count()) as pool,
            progress_bar(GROUP, len(lonlat), "points", progress) as advance,
        ):
            for count in pool.map(fill, range(0, len(lonlat), batch)):
                advance(count)
        return vectors

    def _evaluate(
        self, lonlat: Float64[np.ndarray, "point 2"]
    ) -> Float32[np.ndarray, "point band"]:
        """Encode one batch, rotate the vectors, and normalize them."""
        encode = _ENCODE[self.settings.kind]
        vectors = encode(self.settings, self.weights, lonlat) @ self.weights[ROTATION]
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: np.ndarray = vectors / np.maximum(length, _LEAST_LENGTH)
        return unit


_ENCODE = {
    "scales": encode_attended,
    "geoclip": encode_summed,
    "satclip": encode_harmonics,
    "fourier": encode_concatenated,
}
"""Function of each kind, from settings, weights and degrees to vectors before the rotation."""


def load_encoder(source: Any, url: str, published: bool = True) -> Encoder:
    """Read the coordinate encoder from a field's store.

    Args:
        source: the store as `schemas.io.stores.open_store` takes it.
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
    shapes = settings.shapes()
    arrays = {name: array for name, array in group.arrays() if name in shapes}
    stored = {name: tuple(array.shape) for name, array in arrays.items()}
    empty = {name: shape for name, shape in shapes.items() if 0 in shape}  # may be left out
    wrong = sorted(name for name, shape in shapes.items() if (empty | stored).get(name) != shape)
    if wrong:
        raise LayoutError(
            f"the coordinate encoder of {url} does not fit its settings: "
            + "; ".join(
                f"{name} is {stored.get(name, 'missing')}, expected {shapes[name]}"
                for name in wrong
            )
        )
    for array in arrays.values():  # the shapes fit, but a chunk may claim any number of bytes
        check_memory(array, url)
    try:
        weights = {name: np.empty(shape, np.float32) for name, shape in empty.items()}
        weights |= {name: np.asarray(array[...]) for name, array in arrays.items()}
    except damage_errors() as error:
        raise StoreError(f"cannot read the encoder of {url}: {error}") from error
    if FREQUENCIES in weights and weights[FREQUENCIES].dtype != np.float64:
        raise LayoutError(
            f"the coordinate encoder of {url} has frequencies in {weights[FREQUENCIES].dtype}; "
            f"100 m vanish in less than float64"
        )
    return Encoder(
        settings,
        {
            name: values if name == FREQUENCIES else values.astype(np.float32)
            for name, values in weights.items()
        },
    )
