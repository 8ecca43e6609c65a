"""The methods of a field at points: sample, join, plan, encode."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.points.encoded_points import EncodedPoints
from unigeo.client.points.join import (
    Missing,
    append_columns,
    check_joinable,
    joined_columns,
    take_rows,
)
from unigeo.client.points.keys import Keys, key_column, read_keys
from unigeo.client.points.missing_points import warn_of_missing
from unigeo.client.points.sample_options import As, SampleOptions, check_choice
from unigeo.client.points.sampled_results import sample_as
from unigeo.client.reading.covariates import Covariates, Selection, select
from unigeo.client.reading.joined import JOINED, joined_modalities
from unigeo.client.reading.sampling import Method, Numbers
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns
from unigeo.schemas.tables.points import Points, read_points
from unigeo.schemas.tables.table_files import loaded_table

if TYPE_CHECKING:
    from unigeo.client.reading.cost import Plan, StoreLink


class AtPoints(EncodedPoints):
    """A field whose vectors can be read at points."""

    def sample(
        self,
        points: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        covariates: Covariates = False,
        dims: int | None = None,
        method: Method = "nearest",
        radius_m: float | None = None,
        snap_km: float | None = None,
        missing: Missing = "nan",
        as_: As = "pandas",
        dtype: Numbers = "float32",
        lazy: bool = False,
        crs: Any = None,
        columns: CoordinateColumns | None = None,
        prefix: str = "",
        progress: bool = False,
    ) -> Any:
        """Read the vectors at points.

        Args:
            points: in any form that `schemas.tables.points` reads: (n, 2) lon/lat, a table,
                GeoJSON, ... A row whose coordinate is missing has the status `no position`.
            modalities: the modalities to read; by default `fused`, or all where it is not stored.
            covariates: also read plain numbers: True for all that `covariates` lists, or some by
                name. They are those of the cell that holds the point, whatever the method, in
                columns of their own names, with the status `covariates_status`. With
                `modalities=[]` they are read alone. Means over discs have no numbers of classes.
            dims: keep only the leading numbers of each vector, at unit length; see `leading`.
            method: `nearest` takes the cell that holds the point; `bilinear` interpolates between
                those of the four nearest cells that have a vector; `bicubic` between sixteen, by a
                Catmull-Rom spline, or is bilinear if one of them has none. Whatever the method, a
                point has a vector if, and only if, the cell that holds it has one.
            radius_m: average the cells within this geodesic distance of the point instead, each
                weighted by the share of it that lies in the disc. As of `zonal`, the mean is of the
                cells that have a vector, and is not normalized; the result has `<modality>_share`,
                the share of the disc's area that they cover, except as `numpy`. A point's status is
                `valid` if any cell of its disc is, else that of most of the disc. A disc within one
                cell has the cell's vector.
            snap_km: read a point that lies on water, off the region or where nothing was observed
                at the nearest cell that has a vector, if some of it lies within this distance. The
                result has `<modality>_snap_km`, except as `numpy`: the distance, 0 for a point that
                was not moved, NaN for one without a vector.
            missing: `nan` keeps points without a vector as empty rows, `drop` leaves out points
                that lack one in any modality, `raise` refuses and names the first ones.
            as_: `pandas`: one row per point, columns `aerial_000` ..., `aerial_status`, with the
                points' own index; `numpy`: arrays (point, band) by modality; `xarray`: a
                Dataset over `point` and `band`, or `band_<n>` where a modality has another
                width n than the model.
            dtype: `float32` for unit vectors; `int8` for the stored numbers, a quarter of the
                memory, -128 where there is no vector (`nearest` only).
            lazy: with `as_="xarray"`: read vectors when they are computed, and only at the points
                that are selected by then (with int8 only the bands, too); in dask blocks if dask
                is installed.
            crs: CRS of the points, if they do not name it; WGS 84 degrees by default.
            columns: names of the longitude and latitude columns, or of the one that holds
                positions as text, if they are unusual.
            prefix: put before every column name.
            progress: show a bar on stderr.

        Raises:
            ValueError: if an option has no such value, or does not go with another; if the radius
                is not above 0, or above 10,000 km.
            PointsError: if the points cannot be read, or `missing='raise'` and one has no vector.
            LayoutError: if the field has no such modality.
            StoreError: if the store cannot be read.

        Warns:
            PointsWarning: once, if points have no position, or if most points lie off the field;
                then with the likely cause.
        """
        field = self if dims is None else self.leading(dims)
        sample_options = SampleOptions(
            method=method,
            radius_m=radius_m,
            snap_km=snap_km,
            missing=missing,
            as_=as_,
            dtype=dtype,
            lazy=lazy,
            prefix=prefix,
            progress=progress,
        )
        read = read_points(points, crs, columns, missing="keep")
        chosen = select(self, modalities, covariates, numbers_only=radius_m is not None)
        result, codes = sample_as(field, read, chosen, sample_options)
        warn_of_missing(read, codes, self.modality(chosen.arrays[0]))
        return result

    def sample_batches(
        self,
        points: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        covariates: Covariates = False,
        dims: int | None = None,
        batch: int = 100_000,
        **options: Any,
    ) -> Iterator[Any]:
        """Read the vectors at many points, one batch after another, in bounded memory.

        Args:
            points: as in `sample`, split into batches; or an iterator of tables, such as the
                chunks of `pandas.read_csv(..., chunksize=...)`, each of which is one batch.
            modalities: as in `sample`.
            covariates: as in `sample`.
            dims: as in `sample`.
            batch: number of points that are read together.
            options: those of `sample`.

        Yields:
            The result of `sample` for each batch, in the order of the points.

        Raises:
            ValueError: if the batch is not positive.
            PointsError, LayoutError, StoreError: as `sample`.
        """
        if batch < 1:
            raise ValueError(f"a batch holds at least 1 point, not {batch}")
        crs, columns = options.pop("crs", None), options.pop("columns", None)
        sample_options = SampleOptions(**options)
        means = sample_options.radius_m is not None
        chosen = select(self, modalities, covariates, numbers_only=means)
        if isinstance(points, Iterator):
            batches = (read_points(part, crs, columns, missing="keep") for part in points)
        else:
            read = read_points(points, crs, columns, missing="keep")
            batches = (read.take(slice(n, n + batch)) for n in range(0, len(read), batch))
        field = self if dims is None else self.leading(dims)
        # A generator of its own, so that wrong arguments raise here and not at the first `next`.
        return field._sample_batches(batches, chosen, sample_options)

    def _sample_batches(
        self, batches: Iterator[Points], chosen: Selection, options: SampleOptions
    ) -> Iterator[Any]:
        """Yield the result of each batch; warn of the first batch that gives reason to."""
        warned, done = False, 0
        for points in batches:
            if options.missing == "drop" and points.index is None:
                # Rows are numbered over all batches, so that kept rows can be told apart.
                points = replace(points, index=np.arange(done, done + len(points)))
            result, codes = sample_as(self, points, chosen, options)
            first = self.modality(chosen.arrays[0])
            warned = warned or warn_of_missing(points, codes, first, done)
            done += len(points)
            yield result

    def join(
        self,
        table: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        covariates: Covariates = False,
        dims: int | None = None,
        prefix: str = "ug_",
        method: Method = "nearest",
        radius_m: float | None = None,
        snap_km: float | None = None,
        missing: Missing = "nan",
        crs: Any = None,
        columns: CoordinateColumns | None = None,
        by: Any = None,
        progress: bool = False,
    ) -> Any:
        """Append the vectors to a table as new columns.

        Args:
            table: a pandas or polars DataFrame or an Arrow table with longitude and latitude
                columns, a GeoDataFrame of points, or the path of a file that holds one; then its
                columns are read to compute with, and `unigeo join` keeps them as written.
            modalities: the modalities to read; by default `fused`, or all where it is not stored.
            covariates: as in `sample`.
            dims: as in `sample`.
            prefix: put before the new columns' names.
            method: as in `sample`.
            radius_m: as in `sample`; the share of each disc is a column, too.
            snap_km: as in `sample`; the distances are a column, too.
            missing: `nan` keeps rows without a vector, their new columns empty; `drop` leaves out
                rows that lack one in any modality; `raise` refuses.
            crs: CRS of the coordinates, if the table does not name it.
            columns: names of the longitude and latitude columns, or of the one that holds
                positions as text, if they are unusual.
            by: name of a column of keys, for a table without coordinates: states or counties by
                FIPS code or name, whose rows get the means of `zonal` over their outlines, with
                `<modality>_cells` and `<modality>_share`; or cells of H3 (where the package h3 is
                installed) or geohash, whose rows get the vector at their centres.
            progress: show a bar on stderr.

        Returns:
            The same kind of table, with the same rows and index, and the new columns at the right.
            Rows without a vector are NaN there (null in polars and Arrow), and the status column
            says why: for a row without a position, `no position`.

        Raises:
            ValueError: as `sample`.
            PointsError: as `sample`; if it is no such table, or has one of the columns already.
            LayoutError, StoreError: as `sample`.

        Warns:
            PointsWarning: as `sample`.
        """
        options = SampleOptions(
            method=method,
            radius_m=radius_m,
            snap_km=snap_km,
            missing=missing,
            prefix=prefix,
            progress=progress,
        )
        shares = radius_m is not None
        chosen = select(self, modalities, covariates, numbers_only=shares)
        field = self if dims is None else self.leading(dims)
        widths = field.layout.widths_of(chosen.modalities)
        table = loaded_table(table, columns)
        keys = None if by is None else key_column(table, by)
        known = None if keys is None else read_keys(keys, by)
        if keys is not None and known is not None and known.outlines:
            if options.means_of_points:
                raise ValueError(
                    "states and counties have means over their outlines: by= of these goes with "
                    "neither method, radius_m nor snap_km"
                )
            return field._join_means(table, keys, known, chosen, options)
        new_names = joined_columns(
            widths, prefix, chosen.covariates, shares=shares, snaps=snap_km is not None
        )
        check_joinable(table, new_names)
        if keys is not None and known is not None:
            read = known.points(keys)
        else:
            read = read_points(table, crs, columns, missing="keep")
        # Numbered by row, so that the index of the result names the rows that were kept.
        numbered = replace(read, index=np.arange(len(read)))
        sampled, codes = sample_as(field, numbered, chosen, options)
        warn_of_missing(read, codes, self.modality(chosen.arrays[0]))
        if len(sampled) < len(read):
            table = take_rows(table, sampled.index.to_numpy())
        return append_columns(table, sampled)

    def _join_means(
        self, table: Any, keys: list[str], known: Keys, chosen: Selection, options: SampleOptions
    ) -> Any:
        """Append the means over the outlines that a table's rows name; see `join`."""
        raise NotImplementedError("means over outlines are those of a Field")

    def plan(
        self,
        points: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        covariates: Covariates = False,
        method: Method = "nearest",
        link: "StoreLink | None" = None,
        crs: Any = None,
        columns: CoordinateColumns | None = None,
    ) -> "Plan":
        """Estimate the requests, bytes and seconds of sampling, before any vector is read.

        Args:
            points: as in `sample`.
            modalities: as in `sample`.
            covariates: as in `sample`.
            method: as in `sample`.
            link: latency and rate of reading the store; by default measured by a few small reads.
            crs: as in `sample`.
            columns: as in `sample`.
        """
        from unigeo.client.reading.cost import estimate, measure_link

        check_choice("method", method, Method)
        read = read_points(points, crs, columns, missing="keep")
        chosen = select(self, modalities, covariates)
        arrays = [self.modality(name) for name in chosen.arrays]
        return estimate(arrays, read, method, link or measure_link(arrays[0]))

    def features(
        self,
        points: Points | Float[np.ndarray, "point 2"],
        modalities: str | Iterable[str] | None = None,
        *,
        method: Method = "nearest",
    ) -> dict[str, Float[np.ndarray, "point band"]]:
        """Return feature sets for probes: each modality, and all joined if there are several.

        Args:
            points: the result of `read_points`, or longitudes and latitudes.
            modalities: as in `sample`.
            method: as in `sample`.

        Returns:
            Unit vectors by modality, NaN where a point has none.

        Warns:
            PointsWarning: as `sample`.
        """
        chosen = self.chosen(modalities)
        read = read_points(points, missing="keep")
        vectors: dict[str, np.ndarray]
        options = SampleOptions(method=method, as_="numpy")
        vectors, codes = sample_as(self, read, Selection(chosen), options)
        warn_of_missing(read, codes, self.modality(chosen[0]))
        if len(chosen) > 1:
            together = [vectors[name] for name in joined_modalities(chosen)]
            vectors[JOINED] = np.concatenate(together, axis=1)
        return vectors
