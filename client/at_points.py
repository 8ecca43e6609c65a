"""A field's verbs at points: sample, join, plan, encode."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, UInt8

from unigeo.client.joining import (
    MISSING,
    Missing,
    beside,
    check_joinable,
    joined_names,
    refuse_missing,
    table_of,
)
from unigeo.client.reading.sampling import METHODS, NUMBERS, Method, Numbers, valid_points
from unigeo.client.reading.sampling import sample as sample_modality
from unigeo.client.stored_field import StoredField
from unigeo.schemas.layout import status_name
from unigeo.schemas.points import Points, read_points

if TYPE_CHECKING:
    import xarray as xr

    from unigeo.client.encoding.encoder import Encoder
    from unigeo.client.reading.estimating import Link, Plan

As = Literal["pandas", "numpy", "xarray"]
AS = ("pandas", "numpy", "xarray")


class AtPoints(StoredField):
    """What a field says at points."""

    def sample(
        self,
        points: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        method: Method = "nearest",
        missing: Missing = "nan",
        as_: As = "pandas",
        dtype: Numbers = "float32",
        lazy: bool = False,
        crs: str | None = None,
        columns: tuple[Any, Any] | None = None,
        prefix: str = "",
        progress: bool = False,
    ) -> Any:
        """Read the vectors at points.

        Args:
            points: in any form `schemas.points` reads: (n, 2) lon/lat, a table, GeoJSON, ...
            modalities: which; all by default.
            method: `nearest` takes the cell that holds the point; `bilinear` mixes the four
                nearest that have a vector; `bicubic` mixes sixteen, by a Catmull-Rom spline, or is
                bilinear where one of them has none.
            missing: `nan` keeps points without a vector as empty rows, `drop` leaves out points
                that lack one in any modality, `raise` refuses.
            as_: `pandas`: one row per point, columns `aerial_000` ..., `aerial_status`, with the
                points' own index; `numpy`: arrays (point, band) by modality; `xarray`: a
                Dataset over `point` and `band`.
            dtype: `float32` for unit vectors; `int8` for the stored numbers, a quarter of the
                memory, -128 where there is no vector (`nearest` only).
            lazy: with `as_="xarray"`: read when computed, and only the points asked for by then
                (of int8 only the bands, too); cut into dask blocks if dask is installed.
            crs: of the points, where they do not say it; WGS 84 longitude and latitude by default.
            columns: names of the longitude and latitude columns, if not usual.
            prefix: put before every column name.
            progress: show a bar on stderr.

        Raises:
            ValueError: if an option has no such value, or does not go with another.
            PointsError: if the points cannot be read, or `missing='raise'` and one has no vector.
            LayoutError: if the field has no such modality.
            StoreError: if the store cannot be read.
        """
        _check_word("method", method, METHODS)
        _check_word("missing", missing, MISSING)
        _check_word("as_", as_, AS)
        _check_word("dtype", dtype, NUMBERS)
        if dtype == "int8" and method != "nearest":
            raise ValueError(f"{method} vectors are means, not stored: they have dtype 'float32'")
        if lazy and (as_ != "xarray" or missing != "nan"):
            raise ValueError("lazy=True goes with as_='xarray' and missing='nan'")
        read = read_points(points, crs, columns)
        chosen = self.chosen(modalities)
        if lazy:
            from unigeo.client.reading.lazy import lazy_dataset

            arrays = {name: self.modality(name) for name in chosen}
            return lazy_dataset(arrays, read.lonlat, method=method, dtype=dtype)
        vectors, status = self._sample(read.lonlat, chosen, method, dtype, progress)
        lonlat, index = read.lonlat, read.index
        if missing == "raise":
            refuse_missing(status)
        elif missing == "drop":
            keep = valid_points(status)
            vectors = {name: v[keep] for name, v in vectors.items()}
            status = {name: s[keep] for name, s in status.items()}
            lonlat, index = lonlat[keep], None if index is None else index[keep]
        if as_ == "numpy":
            return vectors
        if as_ == "xarray":
            return _dataset_of(vectors, status, lonlat)
        return table_of(vectors, status, index, prefix)

    def sample_batches(
        self,
        points: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        batch: int = 100_000,
        **options: Any,
    ) -> Iterator[Any]:
        """Read the vectors at many points, one batch after another, in bounded memory.

        Args:
            points: as in `sample`, cut into batches; or an iterator of such, such as the chunks of
                `pandas.read_csv(..., chunksize=...)`, taken one by one.
            modalities: as in `sample`.
            batch: points read together.
            options: those of `sample`.

        Yields:
            What `sample` gives, batch by batch, in the order of the points.

        Raises:
            ValueError: if the batch is not positive.
            PointsError, LayoutError, StoreError: as `sample`.
        """
        if batch < 1:
            raise ValueError(f"a batch holds at least 1 point, not {batch}")
        chosen = self.chosen(modalities)
        if isinstance(points, Iterator):
            parts: Iterator[Any] = points
        else:
            read = read_points(points, options.pop("crs", None), options.pop("columns", None))
            parts = (
                Points(
                    read.lonlat[first : first + batch],
                    None if read.index is None else read.index[first : first + batch],
                )
                for first in range(0, len(read.lonlat), batch)
            )
        return (self.sample(part, chosen, **options) for part in parts)

    def join(
        self,
        table: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        prefix: str = "ug_",
        method: Method = "nearest",
        crs: str | None = None,
        columns: tuple[Any, Any] | None = None,
        progress: bool = False,
    ) -> Any:
        """Put the vectors beside a table's own columns.

        Args:
            table: a pandas or polars DataFrame or an Arrow table with longitude and latitude
                columns, or a GeoDataFrame of points.
            modalities: which; all by default.
            prefix: put before the new columns' names.
            method: as in `sample`.
            crs: of the coordinates, where the table does not say it.
            columns: names of the longitude and latitude columns, if not usual.
            progress: show a bar on stderr.

        Returns:
            The same kind of table, same rows and index, with the new columns at the right. Rows
            without a vector are NaN there (null in polars and Arrow), and the status column says
            why.
        """
        chosen = self.chosen(modalities)
        check_joinable(table, joined_names(chosen, self.bands, prefix))
        sampled = self.sample(
            table,
            chosen,
            method=method,
            crs=crs,
            columns=columns,
            prefix=prefix,
            progress=progress,
        )
        return beside(table, sampled)

    def plan(
        self,
        points: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        method: Method = "nearest",
        link: "Link | None" = None,
        crs: str | None = None,
        columns: tuple[Any, Any] | None = None,
    ) -> "Plan":
        """Say what sampling will cost: requests, bytes and seconds, before any vector is read.

        Args:
            points: as in `sample`.
            modalities: as in `sample`.
            method: as in `sample`.
            link: latency and rate of the way to the store; measured by a few small reads of it
                where it is not given.
            crs: as in `sample`.
            columns: as in `sample`.
        """
        from unigeo.client.reading.estimating import estimate, measure_link

        _check_word("method", method, METHODS)
        read, chosen = read_points(points, crs, columns), self.chosen(modalities)
        arrays = [self.modality(name) for name in chosen]
        return estimate(arrays, read.lonlat, method, link or measure_link(arrays[0]))

    @cached_property
    def encoder(self) -> "Encoder":
        """The store's coordinate encoder, read once."""
        from unigeo.client.encoding.encoder import load_encoder

        published = self.attributes.state == "published"
        return load_encoder(self.known_store("encoded from"), self.url, published)

    def encode(
        self,
        points: Any,
        *,
        as_: As = "pandas",
        crs: str | None = None,
        columns: tuple[Any, Any] | None = None,
        prefix: str = "",
        batch: int | None = None,
        progress: bool = False,
    ) -> Any:
        """Evaluate the coordinate encoder at points, on the grid or off it; needs no torch.

        At a cell's centre it is what `sample` gives for `coordinate`, before quantization.

        Args:
            points: in any form `schemas.points` reads.
            as_: `pandas`: columns `coordinate_000` ..., with the points' own index; `numpy`: one
                float32 array (point, band); `xarray`: a Dataset over `point` and `band`.
            crs: of the points, where they do not say it; WGS 84 longitude and latitude by default.
            columns: names of the longitude and latitude columns, if not usual.
            prefix: put before every column name.
            batch: points evaluated together, which bounds the memory.
            progress: show a bar on stderr.

        Returns:
            Unit vectors, float32.

        Raises:
            PointsError: if the points cannot be read.
            LayoutError: if the store holds no encoder, or one this version cannot evaluate.
            StoreError: if the store cannot be read.
        """
        from unigeo.client.encoding.encoder import BATCH

        _check_word("as_", as_, AS)
        read = read_points(points, crs, columns)
        batch = BATCH if batch is None else batch
        vectors = self.encoder.encode(read.lonlat, batch=batch, progress=progress)
        if as_ == "numpy":
            return vectors
        if as_ == "xarray":
            return _dataset_of({"coordinate": vectors}, {}, read.lonlat)
        return table_of({"coordinate": vectors}, {}, read.index, prefix)

    def features(
        self,
        lonlat: Float[np.ndarray, "point 2"],
        modalities: str | Iterable[str] | None = None,
        *,
        method: Method = "nearest",
    ) -> dict[str, Float[np.ndarray, "point band"]]:
        """Feature sets for probes: each modality, and all of them joined if there are several."""
        chosen = self.chosen(modalities)
        vectors, _ = self._sample(lonlat, chosen, method, "float32", progress=False)
        if len(chosen) > 1:
            vectors["joined"] = np.concatenate(list(vectors.values()), axis=1)
        return vectors

    def _sample(
        self,
        lonlat: Float[np.ndarray, "point 2"],
        modalities: tuple[str, ...],
        method: Method,
        dtype: Numbers,
        progress: bool,
    ) -> tuple[dict[str, np.ndarray], dict[str, UInt8[np.ndarray, " point"]]]:
        vectors, status = {}, {}
        for name in modalities:
            sampled = sample_modality(
                self.modality(name), lonlat, method=method, dtype=dtype, progress=progress
            )
            vectors[name], status[name] = sampled.vectors, sampled.status
        return vectors, status


def _check_word(option: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, known))}, not {given!r}")


def _dataset_of(
    vectors: dict[str, np.ndarray],
    status: dict[str, np.ndarray],
    lonlat: Float[np.ndarray, "point 2"],
) -> "xr.Dataset":
    import xarray as xr

    variables: dict[str, Any] = {name: (("point", "band"), v) for name, v in vectors.items()}
    variables |= {status_name(name): ("point", codes) for name, codes in status.items()}
    return xr.Dataset(
        variables,
        coords={"lon": ("point", lonlat[:, 0]), "lat": ("point", lonlat[:, 1])},
    )
