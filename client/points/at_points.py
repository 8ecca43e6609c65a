"""A field's verbs at points: sample, join, plan, encode."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from unigeo.client.points.join import (
    Missing,
    beside,
    check_joinable,
    joined_names,
    refuse_missing,
    table_of,
    take_rows,
)
from unigeo.client.points.missing_points import warn_of_missing
from unigeo.client.points.sample_options import As, SampleOptions, check_word
from unigeo.client.reading.point_status import NO_POSITION
from unigeo.client.reading.sampling import Method, Numbers, locate_points, valid_points
from unigeo.client.reading.sampling import sample as sample_modality
from unigeo.client.reading.stored_field import StoredField
from unigeo.schemas.store.layout import band_dimension, status_name
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points, read_points

if TYPE_CHECKING:
    import xarray as xr

    from unigeo.client.encoding.coordinate_encoder import Encoder
    from unigeo.client.reading.cost import Plan, StoreLink


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
        crs: Any = None,
        columns: tuple[Any, Any] | None = None,
        prefix: str = "",
        progress: bool = False,
    ) -> Any:
        """Read the vectors at points.

        Args:
            points: in any form `schemas.points` reads: (n, 2) lon/lat, a table, GeoJSON, ...
                A row whose coordinate is missing has the status `no position`.
            modalities: which; all by default.
            method: `nearest` takes the cell that holds the point; `bilinear` mixes those of the
                four nearest cells that have a vector; `bicubic` mixes sixteen, by a Catmull-Rom
                spline, or is bilinear where one of them has none. Whatever the method, a point has
                a vector if, and only if, the cell that holds it has one.
            missing: `nan` keeps points without a vector as empty rows, `drop` leaves out points
                that lack one in any modality, `raise` refuses and names the first ones.
            as_: `pandas`: one row per point, columns `aerial_000` ..., `aerial_status`, with the
                points' own index; `numpy`: arrays (point, band) by modality; `xarray`: a
                Dataset over `point` and `band`, or `band_<n>` where a modality has another
                width n than the model.
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

        Warns:
            PointsWarning: once, if points have no position, and if most points lie off the field:
                then with the likely cause.
        """
        wanted = SampleOptions(
            method=method,
            missing=missing,
            as_=as_,
            dtype=dtype,
            lazy=lazy,
            prefix=prefix,
            progress=progress,
        )
        read = read_points(points, crs, columns, missing="keep")
        chosen = self.chosen(modalities)
        answer, codes = self._answer(read, chosen, wanted)
        warn_of_missing(read, codes, self.modality(chosen[0]))
        return answer

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
        how = options.pop("crs", None), options.pop("columns", None)
        wanted = SampleOptions(**options)
        if isinstance(points, Iterator):
            parts = (read_points(part, *how, missing="keep") for part in points)
        else:
            read = read_points(points, *how, missing="keep")
            parts = (read.take(slice(n, n + batch)) for n in range(0, len(read), batch))
        return self._batches(parts, chosen, wanted)

    def _batches(
        self, parts: Iterator[Points], modalities: tuple[str, ...], wanted: SampleOptions
    ) -> Iterator[Any]:
        """Answer batch by batch; the first that gives a reason to warn does."""
        warned, done = False, 0
        for part in parts:
            if wanted.missing == "drop" and part.index is None:  # numbered over all batches
                part = replace(part, index=np.arange(done, done + len(part)))
            answer, codes = self._answer(part, modalities, wanted)
            warned = warned or warn_of_missing(part, codes, self.modality(modalities[0]), done)
            done += len(part)
            yield answer

    def join(
        self,
        table: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        prefix: str = "ug_",
        method: Method = "nearest",
        missing: Missing = "nan",
        crs: Any = None,
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
            missing: `nan` keeps rows without a vector, their new columns empty; `drop` leaves out
                rows that lack one in any modality; `raise` refuses.
            crs: of the coordinates, where the table does not say it.
            columns: names of the longitude and latitude columns, if not usual.
            progress: show a bar on stderr.

        Returns:
            The same kind of table, same rows and index, with the new columns at the right. Rows
            without a vector are NaN there (null in polars and Arrow), and the status column says
            why: of a row without a position, `no position`.

        Raises:
            PointsError: as `sample`; if it is no such table, or has one of the columns already.
            LayoutError, StoreError: as `sample`.

        Warns:
            PointsWarning: as `sample`.
        """
        wanted = SampleOptions(method=method, missing=missing, prefix=prefix, progress=progress)
        chosen = self.chosen(modalities)
        check_joinable(table, joined_names(self.layout.widths_of(chosen), prefix))
        read = read_points(table, crs, columns, missing="keep")
        numbered = replace(read, index=np.arange(len(read)))
        sampled, codes = self._answer(numbered, chosen, wanted)
        warn_of_missing(read, codes, self.modality(chosen[0]))
        if len(sampled) < len(read):
            table = take_rows(table, sampled.index.to_numpy())
        return beside(table, sampled)

    def plan(
        self,
        points: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        method: Method = "nearest",
        link: "StoreLink | None" = None,
        crs: Any = None,
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
        from unigeo.client.reading.cost import estimate, measure_link

        check_word("method", method, Method)
        read, chosen = read_points(points, crs, columns, missing="keep"), self.chosen(modalities)
        arrays = [self.modality(name) for name in chosen]
        return estimate(arrays, read, method, link or measure_link(arrays[0]))

    @cached_property
    def encoder(self) -> "Encoder":
        """The store's coordinate encoder, read once."""
        from unigeo.client.encoding.coordinate_encoder import load_encoder

        published = self.attributes.state == "published"
        return load_encoder(self.known_store("encoded from"), self.url, published)

    def encode(
        self,
        points: Any,
        *,
        as_: As = "pandas",
        crs: Any = None,
        columns: tuple[Any, Any] | None = None,
        prefix: str = "",
        batch: int | None = None,
        progress: bool = False,
    ) -> Any:
        """Evaluate the coordinate encoder at points, on the grid or off it; needs no torch.

        At a cell's centre it is what `sample` gives for `coordinate`, before quantization. A point
        without a position gets NaN.

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
        from unigeo.client.encoding.coordinate_encoder import BATCH

        check_word("as_", as_, As)
        read = read_points(points, crs, columns, missing="keep")
        batch = BATCH if batch is None else batch
        placed = read.placed
        known = self.encoder.encode(read.lonlat[placed], batch=batch, progress=progress)
        vectors = known
        if not placed.all():
            vectors = np.full((len(read), known.shape[1]), np.nan, np.float32)
            vectors[placed] = known
            codes = np.where(placed, Status.VALID, NO_POSITION).astype(np.uint8)
            warn_of_missing(read, codes, self.modality(self.modalities[0]))
        if as_ == "numpy":
            return vectors
        if as_ == "xarray":
            return _dataset_of({"coordinate": vectors}, {}, read.lonlat, vectors.shape[1])
        return table_of({"coordinate": vectors}, {}, read.index, prefix)

    def features(
        self,
        points: Points | Float[np.ndarray, "point 2"],
        modalities: str | Iterable[str] | None = None,
        *,
        method: Method = "nearest",
    ) -> dict[str, Float[np.ndarray, "point band"]]:
        """Feature sets for probes: each modality, and all of them joined if there are several.

        Args:
            points: as `read_points` gives them, or their longitudes and latitudes.
            modalities: as in `sample`.
            method: as in `sample`.

        Returns:
            Unit vectors, NaN where a point has none.

        Warns:
            PointsWarning: as `sample`.
        """
        chosen = self.chosen(modalities)
        read = read_points(points, missing="keep")
        vectors, status = self._sample(read, chosen, method, "float32", progress=False)
        warn_of_missing(read, status[chosen[0]], self.modality(chosen[0]))
        if len(chosen) > 1:
            vectors["joined"] = np.concatenate(list(vectors.values()), axis=1)
        return vectors

    def _answer(
        self, points: Points, modalities: tuple[str, ...], wanted: SampleOptions
    ) -> tuple[Any, UInt8[np.ndarray, " point"]]:
        """What `sample` gives, and the status of every point in the first modality."""
        if wanted.lazy:
            from unigeo.client.reading.lazy import lazy_dataset

            arrays = {name: self.modality(name) for name in modalities}
            answer = lazy_dataset(
                arrays, points, self.bands, method=wanted.method, dtype=wanted.dtype
            )
            return answer, locate_points(self.grid, *points.metres(self.grid.crs))[1]
        vectors, status = self._sample(
            points, modalities, wanted.method, wanted.dtype, wanted.progress
        )
        codes = status[modalities[0]]
        if wanted.missing == "raise":
            refuse_missing(status)
        elif wanted.missing == "drop":
            keep = valid_points(status)
            if points.index is None:  # rows keep their numbers, as a table's keep their labels
                points = replace(points, index=np.arange(len(points)))
            points = points.take(keep)
            vectors = {name: v[keep] for name, v in vectors.items()}
            status = {name: s[keep] for name, s in status.items()}
        if wanted.as_ == "numpy":
            return vectors, codes
        if wanted.as_ == "xarray":
            return _dataset_of(vectors, status, points.lonlat, self.bands), codes
        return table_of(vectors, status, points.index, wanted.prefix), codes

    def _sample(
        self,
        points: Points,
        modalities: tuple[str, ...],
        method: Method,
        dtype: Numbers,
        progress: bool,
    ) -> tuple[dict[str, np.ndarray], dict[str, UInt8[np.ndarray, " point"]]]:
        vectors, status = {}, {}
        for name in modalities:
            sampled = sample_modality(
                self.modality(name), points, method=method, dtype=dtype, progress=progress
            )
            vectors[name], status[name] = sampled.vectors, sampled.status
        return vectors, status


def _dataset_of(
    vectors: dict[str, np.ndarray],
    status: dict[str, np.ndarray],
    lonlat: Float[np.ndarray, "point 2"],
    bands: int,
) -> "xr.Dataset":
    import xarray as xr

    variables: dict[str, Any] = {
        name: (("point", band_dimension(v.shape[1], bands)), v) for name, v in vectors.items()
    }
    variables |= {status_name(name): ("point", codes) for name, codes in status.items()}
    return xr.Dataset(
        variables,
        coords={"lon": ("point", lonlat[:, 0]), "lat": ("point", lonlat[:, 1])},
    )
