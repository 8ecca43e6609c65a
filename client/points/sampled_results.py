"""The arrays of a field sampled at points, in the form that the options ask for."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from unigeo.client.points.disc_means import DiscMeans, disc_means
from unigeo.client.points.join import raise_if_missing, share_name, snap_name, vector_table
from unigeo.client.points.sample_options import SampleOptions
from unigeo.client.points.snapping import snap_points
from unigeo.client.reading.covariates import Selection, positions, sample_covariates
from unigeo.client.reading.sampling import Sampled, locate_points, valid_points
from unigeo.client.reading.sampling import sample as sample_modality
from unigeo.client.reading.stored_field import StoredField
from unigeo.schemas.store.layout import COVARIATES, NAME, band_dimension, status_name
from unigeo.schemas.tables.points import Points

if TYPE_CHECKING:
    import xarray as xr


def sample_as(
    field: StoredField, points: Points, chosen: Selection, options: SampleOptions
) -> tuple[Any, UInt8[np.ndarray, " point"]]:
    """Return the result of `sample`, and every point's status in the first array."""
    if options.lazy:
        from unigeo.client.reading.lazy import lazy_dataset

        arrays = {name: field.modality(name) for name in chosen.arrays}
        dataset = lazy_dataset(
            arrays, points, field.bands, method=options.method, dtype=options.dtype
        )
        if chosen.covariates:
            dataset = dataset.assign_coords({NAME: list(field.layout.covariates)})
            dataset = dataset.isel({NAME: positions(field, chosen.covariates)})
        # Nothing is read yet: only points off the grid have a known status.
        return dataset, locate_points(field.grid, *points.metres(field.grid.crs))[1]
    sampled: dict[str, Sampled | DiscMeans] = {}
    beside: dict[str, np.ndarray] = {}
    for name in chosen.arrays:
        located = points
        if options.snap_km is not None:
            located, moved = snap_points(field.modality(name), points, options.snap_km)
            beside[snap_name(name)] = moved
        sampled[name] = _sample_array(field, name, located, chosen, options)
        if isinstance(means := sampled[name], DiscMeans):
            beside[share_name(name)] = means.share
    status = {name: result.status for name, result in sampled.items()}
    codes = status[chosen.arrays[0]]
    keep: Any = slice(None)
    if options.missing == "raise":
        raise_if_missing(status)
    elif options.missing == "drop":
        keep = valid_points(status)
        if points.index is None:  # kept rows are numbered as before, as a table's keep labels
            points = replace(points, index=np.arange(len(points)))
        points = points.take(keep)
    vectors = {name: result.vectors[keep] for name, result in sampled.items()}
    if options.as_ == "numpy":
        return vectors, codes
    status = {name: values[keep] for name, values in status.items()}
    beside = {name: values[keep] for name, values in beside.items()}
    if options.as_ == "xarray":
        names = chosen.covariates
        return point_dataset(vectors, status, points.lonlat, field.bands, names, beside), codes
    table = vector_table(vectors, status, points.index, options.prefix, chosen.covariates, beside)
    return table, codes


def _sample_array(
    field: StoredField, name: str, points: Points, chosen: Selection, options: SampleOptions
) -> Sampled | DiscMeans:
    """Read one array at points, or its means over discs."""
    source, progress = field.modality(name), options.progress
    if options.radius_m is not None:
        means = disc_means(source, points, options.radius_m, progress=progress)
        if name == COVARIATES:
            means = replace(means, vectors=means.vectors[:, positions(field, chosen.covariates)])
        return means
    if name == COVARIATES:
        return sample_covariates(source, points, positions(field, chosen.covariates))
    return sample_modality(
        source, points, method=options.method, dtype=options.dtype, progress=progress
    )


def point_dataset(
    vectors: dict[str, np.ndarray],
    status: dict[str, np.ndarray],
    lonlat: Float[np.ndarray, "point 2"],
    bands: int,
    covariates: tuple[str, ...] = (),
    beside: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> "xr.Dataset":
    """Return a Dataset over point of vectors, covariates, further numbers and status codes."""
    import xarray as xr

    variables: dict[str, Any] = {
        name: (("point", NAME if name == COVARIATES else band_dimension(v.shape[1], bands)), v)
        for name, v in vectors.items()
    }
    variables |= {name: ("point", values) for name, values in beside.items()}
    variables |= {status_name(name): ("point", codes) for name, codes in status.items()}
    coords: dict[str, Any] = {"lon": ("point", lonlat[:, 0]), "lat": ("point", lonlat[:, 1])}
    if covariates:
        coords[NAME] = list(covariates)
    return xr.Dataset(variables, coords=coords)
