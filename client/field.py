"""A field: the store seen as a function from place to vectors."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, overload

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
from unigeo.client.sampling import METHODS, NUMBERS, Method, Modality, Numbers, valid_points
from unigeo.client.sampling import sample as sample_modality
from unigeo.schemas.attributes import UnigeoAttributes
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.grid import Grid
from unigeo.schemas.layout import Layout, status_name
from unigeo.schemas.points import read_points
from unigeo.schemas.status import Status

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from unigeo.client.encoding import Encoder
    from unigeo.client.gathering import Cells
    from unigeo.client.probes import Probe
    from unigeo.client.targets import Task
    from unigeo.client.verifying import Level, Report
    from unigeo.client.windows import Piece

As = Literal["pandas", "numpy", "xarray"]
AS = ("pandas", "numpy", "xarray")


@dataclass(frozen=True, eq=False)
class Field:
    """An embedding field: open it with `open_field`, or find it as `ds.unigeo`."""

    url: str
    attributes: UnigeoAttributes
    grid: Grid
    layout: Layout
    read: Callable[[str, slice, slice], np.ndarray]
    """From an array's name and a window of rows and columns to its values."""
    cells: "Callable[[str], Cells]"
    """From an array's name to its cells, in any order."""
    licence: str
    citation: str
    opened: "Callable[[], xr.Dataset]"
    """Makes the whole field a lazy Dataset."""
    source: Any = None
    """What `schemas.stores.open_store` takes to open the store again, if that is known."""
    reopen: tuple[Callable[..., "Field"], tuple[Any, ...], dict[str, Any]] | None = None
    """How another process opens the same field."""

    def __reduce__(self) -> Any:
        if self.reopen is None:
            raise TypeError("a field of a Dataset cannot be sent elsewhere; open it by its URL")
        function, values, options = self.reopen
        return partial(function, **options), values

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the field holds vectors of."""
        return self.layout.modalities

    @property
    def bands(self) -> int:
        """Numbers in one vector."""
        return self.layout.bands

    def __repr__(self) -> str:
        rows, cols = self.grid.shape
        return (
            f"<Field {self.attributes.region}: {', '.join(self.modalities)}; {rows} x {cols} cells "
            f"of {self.grid.resolution_m:g} m in {self.grid.crs}, {self.bands} bands; {self.url}>"
        )

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
        chosen = self._chosen(modalities)
        if lazy:
            from unigeo.client.lazy import lazy_dataset

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
        chosen = self._chosen(modalities)
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

    @cached_property
    def encoder(self) -> "Encoder":
        """The store's coordinate encoder, read once."""
        from unigeo.client.encoding import load_encoder

        published = self.attributes.state == "published"
        return load_encoder(self._known_source("encoded from"), self.url, published)

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
        from unigeo.client.encoding import BATCH

        if as_ not in ("pandas", "numpy", "xarray"):
            raise ValueError(f"as_ must be 'pandas', 'numpy' or 'xarray', not {as_!r}")
        read = read_points(points, crs, columns)
        batch = BATCH if batch is None else batch
        vectors = self.encoder.encode(read.lonlat, batch=batch, progress=progress)
        if as_ == "numpy":
            return vectors
        if as_ == "xarray":
            return _dataset_of({"coordinate": vectors}, {}, read.lonlat)
        return table_of({"coordinate": vectors}, {}, read.index, prefix)

    def probe(
        self,
        table: Any,
        targets: str | Sequence[str],
        modalities: str | Iterable[str] | None = None,
        *,
        task: "Task | None" = None,
        method: Method = "nearest",
        groups: Any = None,
        block_km: float = 300.0,
        folds: int = 5,
        seed: int = 0,
        baselines: bool | Sequence[str] = True,
        level: float = 0.9,
        crs: str | None = None,
        columns: tuple[Any, Any] | None = None,
        progress: bool = False,
    ) -> "Probe":
        """Ask how well a linear model on the vectors predicts columns of a table.

        Args:
            table: a DataFrame with coordinates and the target columns.
            targets: one column or several.
            modalities: which vectors; all by default, each alone and all joined.
            task: `regression` (ridge) or `classification` (logistic ridge); by default a column of
                words, categories or True and False is classified.
            method: as in `sample`.
            groups: a column, or a label for each row; whole groups are then held out as a third
                split.
            block_km: side of the blocks that the blocked folds are made of, squares of EPSG:5070
                in the contiguous United States, elsewhere of the field's CRS.
            folds: number of folds of each split.
            seed: of the folds.
            baselines: also score the mean, and ridge, nearest neighbours, inverse distance and
                trees on longitude and latitude; or names of some of `probing.BASELINES`.
            level: share of the places that prediction intervals should hold.
            crs: of the coordinates, where the table does not say it.
            columns: names of the longitude and latitude columns, if not usual.
            progress: show a bar on stderr.

        Returns:
            A `Probe`: its `scores` are a table, and it can `predict` and `map` the targets.

        Raises:
            ProbeError: if the data cannot support the probe.

        Warns:
            ProbeWarning: where they are thin.
        """
        from unigeo.client.folds import map_of
        from unigeo.client.probes import Probe
        from unigeo.client.probing import evaluate, prepare
        from unigeo.client.targets import column_of, target_of

        names = [targets] if isinstance(targets, str) else list(targets)
        truth = {name: target_of(table, name, task) for name in names}
        lonlat = read_points(table, crs, columns).lonlat
        data = prepare(
            self.features(lonlat, modalities, method=method),
            truth,
            lonlat,
            groups=column_of(table, groups) if isinstance(groups, str) else groups,
            block_km=block_km,
            crs=map_of(lonlat, otherwise=self.grid.crs),
            folds=folds,
            seed=seed,
        )
        evaluation = evaluate(data, seed=seed, baselines=baselines, level=level, progress=progress)
        return Probe(self, data, evaluation, self._chosen(modalities), method, level)

    def features(
        self,
        lonlat: Float[np.ndarray, "point 2"],
        modalities: str | Iterable[str] | None = None,
        *,
        method: Method = "nearest",
    ) -> dict[str, Float[np.ndarray, "point band"]]:
        """Feature sets for probes: each modality, and all of them joined if there are several."""
        chosen = self._chosen(modalities)
        vectors, _ = self._sample(lonlat, chosen, method, "float32", progress=False)
        if len(chosen) > 1:
            vectors["joined"] = np.concatenate(list(vectors.values()), axis=1)
        return vectors

    def dataset(self) -> "xr.Dataset":
        """The whole field as a lazy xarray Dataset, int8 as stored."""
        return self.opened()

    def zonal(
        self,
        polygons: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        normalize: bool = False,
        crs: Any = None,
        prefix: str = "",
        progress: bool = False,
    ) -> "pd.DataFrame":
        """Average the vectors over polygons, each cell weighted by how much of it lies inside.

        The mean of unit vectors is not made one again: its length says how alike the area's cells
        are, 1 if they all are the same.

        Args:
            polygons: in any form `polygons.read_polygons` reads: a GeoDataFrame, GeoJSON, a path,
                shapely geometries, a box (west, south, east, north), the name of a region.
            modalities: which; all by default.
            normalize: make the means unit vectors.
            crs: of the polygons, where they do not say it; WGS 84 by default.
            prefix: put before every column name.
            progress: show a bar on stderr.

        Returns:
            One row per polygon, with its label: the means, float32, NaN where no cell has a vector;
            `<modality>_cells`, the area of valid cells in cells, and `<modality>_share`, the share
            of the polygon's area that is valid.

        Raises:
            RegionError: naming the first polygon that cannot be read, or that overlaps itself.
            LayoutError: if the field has no such modality.
            StoreError: if the store cannot be read.
        """
        from unigeo.client.averaging import zonal_means
        from unigeo.client.polygons import read_polygons

        read, chosen = read_polygons(polygons, crs), self._chosen(modalities)
        return zonal_means(
            self, read, chosen, normalize=normalize, prefix=prefix, progress=progress
        )

    def region(self, region: Any, *, crs: Any = None, mask: bool = False) -> "xr.Dataset":
        """A lazy window of the field round a box, a geometry or a named region, int8 as stored.

        Args:
            region: in any form `zonal` takes; the window holds the bounds of all polygons in it.
            crs: of the polygons, where they do not say it; WGS 84 by default.
            mask: let cells whose centre lies outside the polygons read as "outside region".

        Raises:
            RegionError: if it cannot be read, or lies off the field.
        """
        from unigeo.client.windows import region_dataset

        return region_dataset(self, region, crs, mask)

    def iter_region(
        self,
        region: Any = None,
        modalities: str | Iterable[str] | None = None,
        *,
        crs: Any = None,
        mask: bool = False,
    ) -> "Iterator[Piece]":
        """Read a region, or the whole field, one shard at a time.

        Args:
            region: as in `region`; the whole field by default.
            modalities: which; all by default.
            crs: as in `region`.
            mask: as in `region`; shards without a cell inside are left out.
        """
        from unigeo.client.windows import iter_pieces

        return iter_pieces(self, self._chosen(modalities), region, crs, mask)

    def to_geotiff(
        self,
        path: "str | Path",
        region: Any = None,
        modality: str | None = None,
        *,
        bands: Iterable[int] | None = None,
        dtype: Literal["int8", "float32"] = "int8",
        crs: Any = None,
        mask: bool = False,
    ) -> "Path":
        """Write one modality as a tiled GeoTIFF, shard by shard.

        Args:
            path: of the file; an existing one is replaced when the new one is whole.
            region: as in `region`; the whole field by default.
            modality: which; may be left out if the field has one only.
            bands: numbers of the bands to write; all by default.
            dtype: `int8` as stored, no data -128; `float32` unit vectors, no data NaN.
            crs: as in `region`.
            mask: as in `region`.

        Raises:
            MissingExtraError: if rasterio is not installed.
            LayoutError: if the field has no such modality or band.
            StoreError: if the file cannot be written.
        """
        from unigeo.client.exporting import write_geotiff

        chosen = self._chosen(modality)
        return write_geotiff(self, path, chosen, bands, dtype, region=region, crs=crs, mask=mask)

    @overload
    def coverage(self) -> dict[str, Counter[Status]]: ...
    @overload
    def coverage(
        self, polygons: Any, modalities: str | Iterable[str] | None = None, *, crs: Any = None
    ) -> "pd.DataFrame": ...

    def coverage(
        self,
        polygons: Any = None,
        modalities: str | Iterable[str] | None = None,
        *,
        crs: Any = None,
    ) -> "dict[str, Counter[Status]] | pd.DataFrame":
        """Count the cells of each modality by status, or share out polygons' area by it.

        Args:
            polygons: in any form `zonal` takes.
            modalities: which; all by default.
            crs: of the polygons, where they do not say it; WGS 84 by default.

        Returns:
            Without polygons, cells by modality and status. With polygons, one row each, columns
            (modality, reason): the share of its area, 1 in all for each modality; the reasons are
            the statuses and "off the field".
        """
        if polygons is not None:
            from unigeo.client.averaging import shares_by_reason
            from unigeo.client.polygons import read_polygons

            return shares_by_reason(self, read_polygons(polygons, crs), self._chosen(modalities))
        counts: dict[str, Counter[Status]] = {}
        for modality in self._chosen(modalities):
            counts[modality] = Counter()
            for window in self.grid.windows(self.layout.shard):
                codes = self.read(status_name(modality), *window.slices)
                for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
                    counts[modality][Status(int(code))] += int(count)
        return counts

    def info(self) -> dict[str, Any]:
        """What the field is: region, grid, model, observations, coverage; JSON."""
        own = self.attributes
        return {
            "url": self.url,
            "region": own.region,
            "state": own.state,
            "layout_version": own.layout_version,
            "crs": self.grid.crs,
            "resolution_m": self.grid.resolution_m,
            "shape": list(self.grid.shape),
            "bands": self.bands,
            "modalities": list(self.modalities),
            "cells": {
                modality: {code.words: count for code, count in sorted(counts.items())}
                for modality, counts in self.coverage().items()
            },
            "model": {"name": own.model.name, "sha256": own.model.sha256},
            "observations": own.observations.get("name", "not stated"),
            "code_version": own.code_version,
            "licence": self.licence,
            "citation": self.citation,
        }

    def verify(self, level: "Level" = "hash", *, progress: bool = False) -> "Report":
        """Compare every object with the manifest, and the metadata with the layout.

        Args:
            level: `hash` reads every object, `presence` asks for its size only.
            progress: show a bar on stderr.

        Returns:
            A report: `ok`, and `problems` that name what is damaged; see `verifying`.

        Raises:
            StoreError: if the store cannot be reached, or a Dataset does not say which it is of.
        """
        from unigeo.client.verifying import verify_store

        return verify_store(self._known_source("verified"), level=level, progress=progress)

    def _known_source(self, verb: str) -> Any:
        if self.source is None:
            raise StoreError(
                f"the Dataset does not say which store it came from, so that cannot be {verb}; "
                "open the field with client.open_field(url)"
            )
        return self.source

    def cite(self) -> str:
        """How to cite the field, and under which licence it comes."""
        return (
            f"{self.citation}\nunigeo field {self.attributes.region!r}, model "
            f"{self.attributes.model.name} {self.attributes.model.sha256[:12]}.\n"
            f"Licence: {self.licence}"
        )

    def preview(
        self, folder: "str | Path", modalities: str | Iterable[str] | None = None
    ) -> "list[Path]":
        """Draw each modality as a map, its three main directions as colours; see `previewing`."""
        from unigeo.client.previewing import draw_previews

        return draw_previews(self, folder, self._chosen(modalities))

    def _chosen(self, modalities: str | Iterable[str] | None) -> tuple[str, ...]:
        if modalities is None:
            return self.modalities
        chosen = (modalities,) if isinstance(modalities, str) else tuple(modalities)
        unknown = [name for name in chosen if name not in self.modalities]
        if unknown or not chosen:
            raise LayoutError(
                f"the field has no modality {', '.join(map(repr, unknown)) or 'named'}; it has "
                f"{', '.join(self.modalities)}"
            )
        return chosen

    def modality(self, name: str) -> Modality:
        """One modality's arrays."""
        return Modality(name, self.grid, self.cells(name), self.cells(status_name(name)))

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
