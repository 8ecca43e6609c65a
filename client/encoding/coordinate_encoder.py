"""The coordinate encoder in numpy: a vector for any place, on the grid or off it.

The same sums as the producer's encoder in torch: phases and harmonics in float64, the network in
float32, one batch of points at a time.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from unigeo.client.encoding.perceptrons import of_harmonics, side_by_side, sum_of_scales
from unigeo.client.encoding.scales import attend_to_scales
from unigeo.client.progress import progress_bar
from unigeo.client.threads import one_thread
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.io.limits import check_memory
from unigeo.schemas.io.stores import damage_errors, open_group
from unigeo.schemas.store.encoder import (
    FREQUENCIES,
    GROUP,
    ROTATION,
    EncoderSettings,
    read_settings,
)

BATCH = 128
"""Points evaluated together: few enough that a small encoder's tokens stay in the cache."""

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
            vectors[part] = self._evaluate(lonlat[part])
            return len(vectors[part])

        with (
            # The products are small: their own threads would wait for each other.
            one_thread(scipy=False),
            ThreadPoolExecutor(os.cpu_count()) as pool,
            progress_bar(GROUP, len(lonlat), "points", progress) as push,
        ):
            for count in pool.map(fill, range(0, len(lonlat), batch)):
                push(count)
        return vectors

    def _evaluate(
        self, lonlat: Float64[np.ndarray, "point 2"]
    ) -> Float32[np.ndarray, "point band"]:
        """Encode one batch, rotate the vectors, and bring them to unit length."""
        evaluate = EVALUATE[self.settings.kind]
        vectors = evaluate(self.settings, self.weights, lonlat) @ self.weights[ROTATION]
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: np.ndarray = vectors / np.maximum(length, _LEAST_LENGTH)
        return unit


EVALUATE = {
    "scales": attend_to_scales,
    "geoclip": sum_of_scales,
    "satclip": of_harmonics,
    "fourier": side_by_side,
}
"""By kind: from settings, weights and degrees to vectors, not yet rotated."""


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
    shapes = settings.shapes()
    arrays = {name: array for name, array in group.arrays() if name in shapes}
    found = {name: tuple(array.shape) for name, array in arrays.items()}
    nothing = {name: shape for name, shape in shapes.items() if 0 in shape}  # may be left out
    wrong = sorted(name for name, own in shapes.items() if (nothing | found).get(name) != own)
    if wrong:
        raise LayoutError(
            f"the coordinate encoder of {url} does not fit its settings: "
            + "; ".join(
                f"{name} is {found.get(name, 'missing')}, expected {shapes[name]}" for name in wrong
            )
        )
    for array in arrays.values():  # of these shapes, which may still claim any number of bytes
        check_memory(array, url)
    try:
        weights = {name: np.empty(shape, np.float32) for name, shape in nothing.items()}
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
