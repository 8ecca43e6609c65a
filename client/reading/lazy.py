"""Lazy Datasets of vectors at points, which read only the points and bands that are computed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray import Dataset, Variable
from xarray.backends import BackendArray
from xarray.core import indexing

from unigeo.client.reading.covariates import sample_covariates
from unigeo.client.reading.sampling import Method, Modality, Numbers, read_status, sample
from unigeo.schemas.store.layout import COVARIATES, NAME, band_dimension, status_name
from unigeo.schemas.tables.points import Points

if TYPE_CHECKING:
    from collections.abc import Hashable

POINTS_PER_BLOCK = 50_000
"""Points that one dask task reads."""


def lazy_dataset(
    modalities: Mapping[str, Modality],
    points: Points,
    bands: int,
    *,
    method: Method,
    dtype: Numbers,
    block: int = POINTS_PER_BLOCK,
) -> Dataset:
    """Return a Dataset over point and band that reads vectors when they are computed.

    If dask is installed, it is chunked into blocks of points; otherwise xarray's own lazy indexing
    reads what is selected. A modality of another width than the model's `bands` has a band
    dimension of its own.
    """
    points = replace(points, index=None)
    variables: dict[Hashable, Variable] = {}
    for name, modality in modalities.items():
        plain = name == COVARIATES
        vectors = _PointArray(
            (len(points), modality.vectors.bands),
            np.dtype(np.float32 if plain else dtype),
            _covariate_reader(modality, points)
            if plain
            else _vector_reader(modality, points, method, dtype),
        )
        codes = _PointArray((len(points),), np.dtype(np.uint8), _status_reader(modality, points))
        dims = "point", NAME if plain else band_dimension(modality.vectors.bands, bands)
        variables[name] = Variable(dims, indexing.LazilyIndexedArray(vectors))
        variables[status_name(name)] = Variable("point", indexing.LazilyIndexedArray(codes))
    lon, lat = points.lonlat.T
    dataset = Dataset(variables, coords={"lon": ("point", lon), "lat": ("point", lat)})
    try:
        import dask  # noqa: F401
    except ImportError:
        return dataset
    return dataset.chunk({"point": block})


class _PointArray(BackendArray):
    """An array over point, or point and band, whose values a function reads."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        read: Callable[[np.ndarray, slice], np.ndarray],
    ) -> None:
        """Take the function that reads some points (indices) and bands (a range)."""
        self.shape, self.dtype, self._read = shape, dtype, read

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        # xarray reduces every indexing to outer: one integer, slice or index array per axis.
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._read_outer
        )

    def _read_outer(self, key: tuple[Any, ...]) -> np.ndarray:
        # An integer key drops its axis: `points` and `bands` are then of shape (), which the
        # reshape at the end restores.
        points = np.arange(self.shape[0])[key[0]]
        if len(key) == 1:
            return self._read(np.atleast_1d(points), slice(None)).reshape(points.shape)
        bands = np.arange(self.shape[1])[key[1]]
        shape = (*points.shape, *bands.shape)
        if not (bands.size and points.size):
            return np.empty(shape, self.dtype)
        # Only ranges of bands can be read: read the smallest one, and select from it.
        wanted = np.atleast_1d(bands)
        low, high = int(wanted.min()), int(wanted.max()) + 1
        values = self._read(np.atleast_1d(points), slice(low, high))[:, wanted - low]
        return values.reshape(shape)


def _vector_reader(
    modality: Modality, points: Points, method: Method, dtype: Numbers
) -> Callable[[np.ndarray, slice], np.ndarray]:
    def read(index: np.ndarray, bands: slice) -> np.ndarray:
        part = points.take(index)
        return sample(modality, part, method=method, dtype=dtype, bands=bands).vectors

    return read


def _covariate_reader(
    modality: Modality, points: Points
) -> Callable[[np.ndarray, slice], np.ndarray]:
    def read(index: np.ndarray, names: slice) -> np.ndarray:
        return sample_covariates(modality, points.take(index), names).vectors

    return read


def _status_reader(modality: Modality, points: Points) -> Callable[[np.ndarray, slice], np.ndarray]:
    def read(index: np.ndarray, bands: slice) -> np.ndarray:
        return read_status(modality, points.take(index))

    return read
