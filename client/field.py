"""A field: the store seen as a function from place to vectors."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from jaxtyping import Float, UInt8

from unigeo.client.joining import Missing, beside, refuse_missing, table_of
from unigeo.client.sampling import (
    Method,
    Read,
    sample_bilinear,
    sample_nearest,
    valid_points,
)
from unigeo.schemas.attributes import UnigeoAttributes, read_attributes
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.grid import Grid
from unigeo.schemas.layout import Layout, status_name
from unigeo.schemas.points import read_points
from unigeo.schemas.status import Status
from unigeo.schemas.stores import open_group, open_store, unreachable_errors

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr

    from unigeo.client.probes import Probe
    from unigeo.client.targets import Task

As = Literal["pandas", "numpy", "xarray"]


@dataclass(frozen=True, eq=False)
class Field:
    """An embedding field: open it with `open_field`, or find it as `ds.unigeo`."""

    url: str
    attributes: UnigeoAttributes
    grid: Grid
    layout: Layout
    read: Read
    """From an array's name and a window of rows and columns to its values."""
    licence: str
    citation: str

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
        crs: str | None = None,
        columns: tuple[str, str] | None = None,
        prefix: str = "",
        progress: bool = False,
    ) -> Any:
        """Read the vectors at points.

        Args:
            points: in any form `schemas.points` reads: (n, 2) lon/lat, a table, GeoJSON, ...
            modalities: which; all by default.
            method: `nearest` takes the cell that holds the point, `bilinear` mixes the four
                nearest that have a vector.
            missing: `nan` keeps points without a vector as empty rows, `drop` leaves out points
                that lack one in any modality, `raise` refuses.
            as_: `pandas`: one row per point, columns `aerial_000` ..., `aerial_status`, with the
                points' own index; `numpy`: float32 arrays (point, band) by modality; `xarray`: a
                Dataset over `point` and `band`.
            crs: of the points, where they do not say it; WGS 84 longitude and latitude by default.
            columns: names of the longitude and latitude columns, if not usual.
            prefix: put before every column name.
            progress: show a bar on stderr.

        Returns:
            Unit vectors, float32.

        Raises:
            PointsError: if the points cannot be read, or `missing='raise'` and one has no vector.
            LayoutError: if the field has no such modality.
            StoreError: if the store cannot be read.
        """
        read = read_points(points, crs, columns)
        chosen = self._chosen(modalities)
        vectors, status = self._sample(read.lonlat, chosen, method, progress)
        lonlat, index = read.lonlat, read.index
        if missing == "raise":
            refuse_missing(status)
        elif missing == "drop":
            keep = valid_points(status)
            vectors = {name: v[keep] for name, v in vectors.items()}
            status = {name: s[keep] for name, s in status.items()}
            lonlat, index = lonlat[keep], None if index is None else index[keep]
        elif missing != "nan":
            raise ValueError(f"missing must be 'nan', 'raise' or 'drop', not {missing!r}")
        if as_ == "numpy":
            return vectors
        if as_ == "xarray":
            return _dataset_of(vectors, status, lonlat)
        if as_ != "pandas":
            raise ValueError(f"as_ must be 'pandas', 'numpy' or 'xarray', not {as_!r}")
        return table_of(vectors, status, index, prefix)

    def join(
        self,
        table: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        prefix: str = "ug_",
        method: Method = "nearest",
        crs: str | None = None,
        columns: tuple[str, str] | None = None,
        progress: bool = False,
    ) -> Any:
        """Put the vectors beside a table's own columns.

        Args:
            table: a DataFrame with longitude and latitude columns, or a GeoDataFrame of points.
            modalities: which; all by default.
            prefix: put before the new columns' names.
            method: as in `sample`.
            crs: of the coordinates, where the table does not say it.
            columns: names of the longitude and latitude columns, if not usual.
            progress: show a bar on stderr.

        Returns:
            The same kind of table, same rows and index, with the new columns at the right. Rows
            without a vector are NaN there, and the status column says why.
        """
        sampled = self.sample(
            table,
            modalities,
            method=method,
            crs=crs,
            columns=columns,
            prefix=prefix,
            progress=progress,
        )
        return beside(table, sampled)

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
        columns: tuple[str, str] | None = None,
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
        vectors, _ = self._sample(lonlat, chosen, method, progress=False)
        if len(chosen) > 1:
            vectors["joined"] = np.concatenate(list(vectors.values()), axis=1)
        return vectors

    def dataset(self) -> "xr.Dataset":
        """The whole field as a lazy xarray Dataset, int8 as stored."""
        import xarray as xr

        opened: xr.Dataset = xr.open_zarr(
            cast(Any, open_store(self.url)),
            zarr_format=3,
            consolidated=True,
            decode_coords="all",
            chunks=None,
        )
        return opened

    def coverage(self) -> dict[str, Counter[Status]]:
        """Cells of each modality by status; read shard by shard."""
        counts: dict[str, Counter[Status]] = {}
        for modality in self.modalities:
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

    def _sample(
        self,
        lonlat: Float[np.ndarray, "point 2"],
        modalities: tuple[str, ...],
        method: Method,
        progress: bool,
    ) -> tuple[dict[str, np.ndarray], dict[str, UInt8[np.ndarray, " point"]]]:
        vectors, status = {}, {}
        for name in modalities:
            where = (self.read, self.grid, self.layout, name, lonlat)
            if method == "nearest":
                sampled = sample_nearest(*where, progress=progress)
                vectors[name], status[name] = sampled.vectors, sampled.status
            elif method == "bilinear":
                vectors[name], status[name] = sample_bilinear(*where, progress=progress)
            else:
                raise ValueError(f"method must be 'nearest' or 'bilinear', not {method!r}")
        return vectors, status


def open_field(url: Any, *, allow_building: bool = False) -> Field:
    """Open a field.

    Args:
        url: a path, or a `file://`, `https://`, `s3://`, `gs://` or `az://` URL, or a Zarr store.
        allow_building: also open a store that is not published yet; its missing shards read as
            "not produced".

    Raises:
        StoreError: if there is no store, it cannot be reached, or it is still being built.
        LayoutError: if it is no unigeo field, or of a newer layout.
    """
    group = open_group(url, consolidated=not allow_building)
    attributes = dict(group.attrs)
    own = read_attributes(attributes, str(url))
    if own.state != "published" and not allow_building:
        raise StoreError(
            f"the field at {url} is still being built; open it with allow_building=True, or run "
            "unigeo-produce again to finish it"
        )
    # Codecs raise the latter two: torn data.
    failures: tuple[type[BaseException], ...] = (*unreachable_errors(), ValueError, RuntimeError)

    def read(name: str, rows: slice, cols: slice) -> np.ndarray:
        try:
            return np.asarray(cast(Any, group[name])[rows, cols])
        except failures as error:
            raise StoreError(f"cannot read {name} of the field at {url}: {error}") from error

    return _field(str(url), attributes, own, own.grid.grid(), read)


def field_of_dataset(dataset: "xr.Dataset") -> Field:
    """The field behind a Dataset from `xr.open_zarr`, or behind a window cut from one.

    Raises:
        LayoutError: if the Dataset is no field, or its cells were thinned or reordered.
    """
    own = read_attributes(dict(dataset.attrs), "the Dataset")
    whole = own.grid.grid()
    held = tuple(m for m in own.layout.modalities if {m, status_name(m)} <= set(dataset))
    if not held or not {"x", "y"} <= set(dataset.coords):
        raise LayoutError(
            "the Dataset lacks the field's arrays; keep x, y and, of one modality at least, the "
            f"vectors and the status: {', '.join(own.layout.modalities)}"
        )
    own = own.model_copy(update={"layout": own.layout.model_copy(update={"modalities": held})})
    x, y = dataset["x"].values, dataset["y"].values
    if not (x.size and y.size):
        raise LayoutError(f"the Dataset has no cells: {len(y)} rows, {len(x)} columns")
    row = round(float(-y[0] / whole.resolution_m - 0.5))
    col = round(float(x[0] / whole.resolution_m - 0.5))
    grid = Grid(whole.crs, whole.resolution_m, row, col, (len(y), len(x)))
    if not (np.array_equal(grid.x, x) and np.array_equal(grid.y, y)):
        raise LayoutError("the Dataset's cells were thinned or reordered; sample the whole one")

    def read(name: str, rows: slice, cols: slice) -> np.ndarray:
        return np.asarray(dataset[name].isel(y=rows, x=cols).values)

    url = str(dataset.encoding.get("source", "a Dataset"))
    return _field(url, dict(dataset.attrs), own, grid, read)


def _field(
    url: str, attributes: dict[str, Any], own: UnigeoAttributes, grid: Grid, read: Read
) -> Field:
    return Field(
        url=url,
        attributes=own,
        grid=grid,
        layout=own.layout.layout(),
        read=read,
        licence=str(attributes.get("license", "not stated")),
        citation=str(attributes.get("citation", "not stated")),
    )


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


def sample(points: Any, url: Any, **options: Any) -> Any:
    """Read the vectors at points from the field at a URL; options as in `Field.sample`."""
    return open_field(url).sample(points, **options)


def join(table: Any, url: Any, **options: Any) -> Any:
    """Join a table to the field at a URL; options as in `Field.join`."""
    return open_field(url).join(table, **options)


def probe(table: Any, url: Any, targets: str | Sequence[str], **options: Any) -> "Probe":
    """Probe the field at a URL with a table; options as in `Field.probe`."""
    return open_field(url).probe(table, targets, **options)
