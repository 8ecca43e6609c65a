"""Vectors at points that are read when they are computed, and no others."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray import Dataset, Variable
from xarray.backends import BackendArray
from xarray.core import indexing

from unigeo.client.reading.sampling import Method, Modality, Numbers, sample, statuses
from unigeo.schemas.store.layout import band_dimension, status_name
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
    """A Dataset over point and band that reads what is computed of it.

    A modality of another width than the model's `bands` has a dimension of its own.
    With dask it is cut into blocks of points, else it reads by xarray's own lazy indexing.
    """
    points = replace(points, index=None)
    variables: dict[Hashable, Variable] = {}
    for name, modality in modalities.items():
        vectors = _Lazy(
            (len(points), modality.vectors.bands),
            np.dtype(dtype),
            _vectors_of(modality, points, method, dtype),
        )
        codes = _Lazy((len(points),), np.dtype(np.uint8), _status_of(modality, points))
        dims = "point", band_dimension(modality.vectors.bands, bands)
        variables[name] = Variable(dims, indexing.LazilyIndexedArray(vectors))
        variables[status_name(name)] = Variable("point", indexing.LazilyIndexedArray(codes))
    lon, lat = points.lonlat.T
    dataset = Dataset(variables, coords={"lon": ("point", lon), "lat": ("point", lat)})
    try:
        import dask  # noqa: F401
    except ImportError:
        return dataset
    return dataset.chunk({"point": block})


class _Lazy(BackendArray):
    """An array that is a function of the points and bands asked for."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        read: Callable[[np.ndarray, slice], np.ndarray],
    ) -> None:
        self.shape, self.dtype, self._read = shape, dtype, read

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self._outer
        )

    def _outer(self, key: tuple[Any, ...]) -> np.ndarray:
        points = np.arange(self.shape[0])[key[0]]
        if len(key) == 1:
            return self._read(np.atleast_1d(points), slice(None)).reshape(points.shape)
        wanted = np.arange(self.shape[1])[key[1]]
        flat = np.atleast_1d(wanted)
        low, high = (int(flat.min()), int(flat.max()) + 1) if flat.size else (0, 0)
        if not (flat.size and points.size):
            return np.empty((*points.shape, *wanted.shape), self.dtype)
        read = self._read(np.atleast_1d(points), slice(low, high))[:, flat - low]
        return read.reshape((*points.shape, *wanted.shape))


def _vectors_of(
    modality: Modality, points: Points, method: Method, dtype: Numbers
) -> Callable[[np.ndarray, slice], np.ndarray]:
    def read(rows: np.ndarray, bands: slice) -> np.ndarray:
        return sample(modality, points.take(rows), method=method, dtype=dtype, bands=bands).vectors

    return read


def _status_of(modality: Modality, points: Points) -> Callable[[np.ndarray, slice], np.ndarray]:
    def read(rows: np.ndarray, bands: slice) -> np.ndarray:
        return statuses(modality, points.take(rows))

    return read
