"""The methods of a field over areas: means, coverage, windows, rasters."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from unigeo.client.points.join import Missing
from unigeo.client.points.sample_options import check_choice
from unigeo.client.progress import with_progress
from unigeo.client.reading.covariates import Covariates, select
from unigeo.client.reading.stored_field import StoredField
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import xarray as xr

    from unigeo.client.areas.windows import Piece


class OverAreas(StoredField):
    """A field whose vectors can be read over polygons and regions."""

    def zonal(
        self,
        polygons: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        covariates: Covariates = False,
        stats: str | Iterable[str] = "mean",
        weights: Any = None,
        normalize: bool = False,
        missing: Missing = "nan",
        crs: Any = None,
        prefix: str = "",
        progress: bool = False,
    ) -> "pd.DataFrame":
        """Average the vectors over polygons, each cell weighted by the share that lies inside.

        The mean of unit vectors is not normalized: its length says how similar the area's cells
        are, 1 if they are all equal. Other statistics are of each band by itself.

        Args:
            polygons: in any form that `areas.polygons` reads: a GeoDataFrame, GeoJSON, a path,
                shapely geometries, a box (west, south, east, north), the name of a region. A row
                without a shape, or with an empty one, has the status `no polygon`. A polygon
                smaller than rounding lies in one cell, as a point does.
            modalities: the modalities to read; by default `fused`, or all where it is not stored.
            covariates: also the plain numbers that `covariates` lists: True for all of them but
                numbers of classes, or some by name, each over the cells that have it, in columns
                such as `dsm_point` and `dsm_point_std`. They have no quantiles. With
                `modalities=[]` they are read alone.
            stats: `mean`, `std` (of the population), `min`, `max` and `quantile:Q`, Q from 0 to 1;
                one or several. Cells count by share and weight; `min` and `max` are over all that
                have any. `quantile:0.9` is the smallest value at or below which lie 90 % of the
                weight: exact up to 65,536 cells, and within a 8,192nd of the band's range in a
                larger polygon.
            weights: weights of the cells beside their shares, such as population: the path of a
                GeoTIFF of one band, an xarray DataArray over y and x, or the name of a covariate of
                the field. A cell's weight is the raster's mean over it: exact if the raster has
                the field's cells, else by GDAL's average; 0 where it has no data. A power can stand
                behind a path or a name: `nightlights_16km_mean^2`.
            normalize: make the means unit vectors.
            missing: `nan` keeps polygons without a vector as empty rows, `drop` leaves out those
                that lack one in any modality, `raise` refuses and names the first ones.
            crs: CRS of the polygons, if they do not name it; WGS 84 by default.
            prefix: put before every column name.
            progress: show a bar on stderr.

        Returns:
            One row per polygon, with its label: the means, float32, NaN where no cell has a vector,
            in columns such as `aerial_000`, and other statistics in `aerial_std_000`,
            `aerial_q0.9_000`; `<modality>_cells`, the area of valid cells in cells;
            `<modality>_share`, the share of the polygon's area that is valid; with weights
            `<modality>_weight`, the sum of share times weight over valid cells; and
            `<modality>_status`: `valid` if any cell is, else the status of most of its area, or
            `no weight` if no valid cell has a weight above 0.

        Raises:
            ValueError: if an option has no such value, or there is no such statistic.
            RegionError: naming the first polygon that cannot be read, is not valid, or overlaps
                itself; if `missing='raise'` and one has no vector; or if the weights cannot be
                used, or one is negative.
            LayoutError: if the field has no such modality.
            StoreError: if the store cannot be read.

        Warns:
            RegionWarning: once, if rows have no shape, or if most polygons lie off the field; then
                with the likely cause.
        """
        from unigeo.client.areas.polygons import read_polygons
        from unigeo.client.areas.statistic_names import parse_statistics
        from unigeo.client.areas.zonal import zonal_table

        check_choice("missing", missing, Missing)
        statistics = parse_statistics(stats)
        chosen = select(self, modalities, covariates, numbers_only=True)
        return zonal_table(
            self,
            read_polygons(polygons, crs, self.grid),
            chosen,
            statistics,
            weights=weights,
            normalize=normalize,
            missing=missing,
            prefix=prefix,
            progress=progress,
        )

    def region(self, region: Any, *, crs: Any = None, mask: bool = False) -> "xr.Dataset":
        """Return a lazy window of the field around a region, int8 as stored.

        Args:
            region: in any form that `zonal` takes: the name of a region, a box, GeoJSON, a path, a
                geometry. The window holds the bounds of all its polygons.
            crs: CRS of the polygons, if they do not name it; WGS 84 by default.
            mask: give cells whose centre lies outside the polygons the status "outside region".

        Raises:
            RegionError: if it cannot be read, a row has no shape, or it lies off the field; then
                with the likely cause.
        """
        from unigeo.client.areas.windows import region_dataset

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
            modalities: the modalities to read; all by default.
            crs: as in `region`.
            mask: as in `region`; shards without a cell inside are left out.

        Yields:
            A `Piece` for each shard: its window, vectors and statuses.
        """
        from unigeo.client.areas.windows import iter_pieces

        return iter_pieces(self, self.chosen(modalities), region, crs, mask)

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
        overwrite: bool = False,
    ) -> "Path":
        """Write one modality as a tiled GeoTIFF, shard by shard.

        Args:
            path: of the file, which ends in `.tif` or `.tiff`.
            region: as in `region`; the whole field by default.
            modality: its name; may be left out if the field has only one.
            bands: numbers of the bands to write; all by default.
            dtype: `int8` as stored, no data -128; `float32` unit vectors, no data NaN.
            crs: as in `region`.
            mask: as in `region`.
            overwrite: replace an existing file, once the new one is complete.

        Raises:
            MissingExtraError: if rasterio is not installed.
            LayoutError: if the field has no such modality or band.
            StoreError: if the file exists already, has another ending or cannot be written.
        """
        from unigeo.client.areas.geotiff import write_geotiff

        chosen = self.chosen(modality)
        return write_geotiff(
            self,
            path,
            chosen,
            bands,
            dtype,
            region=region,
            crs=crs,
            mask=mask,
            overwrite=overwrite,
        )

    @overload
    def coverage(self) -> dict[str, Counter[Status]]: ...
    @overload
    def coverage(
        self,
        polygons: Any,
        modalities: str | Iterable[str] | None = None,
        *,
        missing: Missing = "nan",
        crs: Any = None,
    ) -> "pd.DataFrame": ...

    def coverage(
        self,
        polygons: Any = None,
        modalities: str | Iterable[str] | None = None,
        *,
        missing: Missing = "nan",
        crs: Any = None,
    ) -> "dict[str, Counter[Status]] | pd.DataFrame":
        """Count the cells of each modality by status, or compute polygons' shares of area by it.

        Args:
            polygons: in any form that `zonal` takes.
            modalities: the modalities to read; all by default, and the covariates.
            missing: of polygons: `nan` keeps rows without a shape, `drop` leaves them out, `raise`
                refuses them.
            crs: CRS of the polygons, if they do not name it; WGS 84 by default.

        Returns:
            Without polygons the number of cells by modality and status. With polygons one row each
            with columns (modality, reason): the share of its area, which adds up to 1 for each
            modality; the reasons are the statuses, "off the field" and "no polygon", which is 1
            for a row without a shape.

        Raises:
            ValueError, RegionError, LayoutError, StoreError: as `zonal`.

        Warns:
            RegionWarning: as `zonal`.
        """
        check_choice("missing", missing, Missing)
        chosen = self.layout.arrays if modalities is None else self.chosen(modalities)
        if polygons is not None:
            from unigeo.client.areas.polygons import read_polygons
            from unigeo.client.areas.zonal import shares_by_status

            return shares_by_status(self, read_polygons(polygons, crs, self.grid), chosen, missing)
        counts: dict[str, Counter[Status]] = {}
        for array in chosen:
            counts[array] = Counter()
            windows = list(self.grid.windows(self.layout.shard))
            for window in with_progress(windows, array, "shards", show=False):
                codes = self.read(status_name(array), *window.slices)
                for code, count in zip(*np.unique(codes, return_counts=True), strict=True):
                    counts[array][Status(int(code))] += int(count)
        return counts
