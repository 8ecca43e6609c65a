"""`Probe`: the scores of a probe, and the predictions and maps of its models."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from unigeo.client.probing.cross_validation import ProbeEvaluation
from unigeo.client.probing.fitted_models import Model
from unigeo.client.probing.prediction_table import prediction_table
from unigeo.client.probing.probe_data import ProbeData
from unigeo.client.probing.probe_models import ProbeModels
from unigeo.client.probing.probe_text import probe_html, probe_text
from unigeo.client.probing.row_counts import RowCounts
from unigeo.client.probing.score_tables import interval_table
from unigeo.client.probing.spatial_option import Spatial
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns
from unigeo.schemas.tables.points import read_points

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import xarray as xr

    from unigeo.client.points.at_points import AtPoints
    from unigeo.client.probing.prediction_map import PredictionMap
    from unigeo.client.reading.sampling import Method


_MAX_REPR = 2000
"""Characters of a probe's `repr`."""


@dataclass(frozen=True, eq=False, repr=False)
class Probe(ProbeModels):
    """The result of `Field.probe`: scores, and models that are fitted on all points when needed.

    The penalty of these models is chosen, and their intervals are calibrated, on the folds of whole
    groups if groups were given, else of whole blocks: an interval is right for a position as far
    from the points as a block is, and too wide among them.
    """

    field: "AtPoints"
    evaluation: ProbeEvaluation
    modalities: tuple[str, ...]
    """Modalities that were sampled."""
    method: "Method"
    """Method of sampling."""
    level: float
    """Share of the points that intervals should hold."""
    sets: tuple[str, ...]
    """Names of the sets of vectors: each modality, and `joined` if there are several."""
    counts: Mapping[str, RowCounts]
    """Counts of the rows that take part, and of the others, by target."""
    controls: tuple[str, ...]
    """Names of the columns that vectors were compared with."""
    splits: Mapping[str, Any]
    """Options of the folds: their number and seed, and side and CRS of the blocks."""
    folds: Mapping[str, Int[np.ndarray, " point"]]
    """Fold of each point, by the name of the split."""
    rows: Int[np.ndarray, " point"]
    """Row of the table that each point is."""
    data: ProbeData | None
    """Points that models are fitted on; None if the probe was loaded."""
    spatial: Spatial | None = None
    """Whether each set of vectors has a model with position, such as `joined + position`, too."""
    weighted: bool = False
    """Whether rows count by weights of their own."""
    _models: dict[tuple[str, str], Model] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(
        cls,
        field: "AtPoints",
        data: ProbeData,
        evaluation: ProbeEvaluation,
        modalities: tuple[str, ...],
        method: "Method",
        level: float,
        spatial: Spatial | None = None,
    ) -> "Probe":
        """Build the probe of points that were just scored."""
        inputs = data.inputs
        splits = {"folds": inputs.folds, "seed": inputs.seed, "block_km": inputs.block_km}
        return cls(
            field,
            evaluation,
            modalities,
            method,
            level,
            sets=tuple(data.vectors),
            counts=data.counts,
            controls=() if data.controls is None else data.controls.names,
            splits=splits | {"crs": inputs.crs},
            folds={split.name: split.folds for split in data.splits},
            rows=data.rows,
            data=data,
            spatial=spatial,
            weighted=data.weights is not None,
        )

    @classmethod
    def load(cls, path: "str | Path", field: "AtPoints") -> "Probe":
        """Read a probe that `save` wrote, to predict on a field of the same model.

        Args:
            path: folder of the probe.
            field: field to predict on: the one it was fitted on, a newer release, or that of
                another region.

        Raises:
            ProbeError: if the probe cannot be read, or the field is of another model.
            MissingExtraError: without safetensors.
        """
        from unigeo.client.probing.probe_files import load_probe

        return load_probe(path, field)

    def save(
        self,
        path: "str | Path",
        features: Any = None,
        *,
        locations: bool = True,
        overwrite: bool = False,
    ) -> "Path":
        """Write the models of every target, the scores and the folds into a folder.

        `probe.json` describes them, with the hash of the model that made the vectors;
        `weights.safetensors` holds the arrays. Labels of classes that JSON has no form for, such as
        dates and intervals, become text.

        The table's own values and positions are not written, except with two kinds of models.
        Those of vectors and position hold the longitude and latitude of every row that took part,
        and its residual, from which its value can be told with the vectors. Those of a kernel hold
        the vectors of up to 2,048 rows, by which their cells can be found.

        Args:
            path: folder to write.
            features: sets of vectors whose models are written: a modality, `joined`, or several; by
                default those that predict a target by default, each with position and without
                where both are fitted.
            locations: whether models with position or a kernel may be written; False writes none,
                and what is loaded predicts by linear models of vectors and warns that it does.
            overwrite: replace an existing probe, once the new one is complete.

        Raises:
            ProbeError: if there is no such set of features, or one with position is named without
                `locations`.
            StoreError: if something exists there already, or the folder cannot be written; nothing
                is left then.
            MissingExtraError: without safetensors.
        """
        from unigeo.client.probing.probe_files import save_probe

        return save_probe(self, path, features, overwrite, locations)

    def on(self, field: "AtPoints") -> "Probe":
        """Return the probe for another field of the same model, such as of another region.

        Raises:
            ProbeError: if the field is of another model, or lacks a modality.
        """
        from unigeo.client.probing.probe_files import check_bands, check_model

        model = self.field.attributes.model
        check_model(field, model.name, model.sha256, "the probe")
        check_bands(field, dict(self.bands), "the probe")
        return dataclasses.replace(self, field=field)

    @property
    def bands(self) -> Mapping[str, int]:
        """Number of bands of each modality."""
        return self.field.layout.widths_of(self.modalities)

    @property
    def scores(self) -> "pd.DataFrame":
        """One row per target, set of features or baseline, and split; see `probe_table`."""
        return self.evaluation.scores

    @property
    def fold_scores(self) -> "pd.DataFrame":
        """The score of each fold by itself."""
        return self.evaluation.fold_scores

    @property
    def gains(self) -> "pd.DataFrame":
        """Gains of vectors over the controls; see `cross_validation.evaluate`."""
        return self.evaluation.gains

    @property
    def intervals(self) -> "pd.DataFrame":
        """Level, mean half-width and measured coverage of the intervals of each ridge and split."""
        return interval_table(self.scores, self.level)

    def predict(
        self,
        points: Any,
        features: str | None = None,
        *,
        crs: Any = None,
        columns: CoordinateColumns | None = None,
    ) -> "pd.DataFrame":
        """Predict every target at new points.

        Args:
            points: in any form that `Field.sample` takes.
            features: a modality or `joined`; by default the model of each target that scored best.
            crs: CRS of the points, if they do not state it.
            columns: names of the longitude and latitude columns, or of the one that holds
                positions as text, if not usual.

        Returns:
            One row per point, with the points' own index. A target of numbers has the columns
            `income`, `income_lower` and `income_upper`, NaN where there is no vector; a target of
            classes has `crop` and `crop_probability`. The status of each modality used is the
            reason for a missing vector: `no position` where a coordinate is missing.
        """
        return prediction_table(self, read_points(points, crs, columns, missing="keep"), features)

    def map(
        self,
        target: Any = None,
        region: Any = None,
        features: str | None = None,
        *,
        crs: Any = None,
    ) -> "xr.Dataset":
        """Predict a target over a region, lazily: a cell is computed when it is read.

        Args:
            target: name of the target; needed if there are several.
            region: in any form that `Field.region` takes: a name, a box (west, south, east,
                north), GeoJSON, a path, a geometry, a GeoDataFrame; the whole field by default.
            features: a modality or `joined`; by default the model that scored best.
            crs: CRS of the region's polygons, if they do not state it; WGS 84 by default.

        Returns:
            float32 arrays over y and x with the field's CRS. A target of numbers has `prediction`,
            `lower`, `upper` and `uncertainty`, the half-width of the interval; a target of classes
            has `prediction`, the number of the class (named in its attributes), and `uncertainty`,
            1 - its probability. Cells are NaN where there is no vector or the cell's centre lies
            outside the region. A window of the map, as from `.isel` or `.rio.clip_box`, reads and
            computes its own cells only; `.chunk()` gives dask arrays.

        Raises:
            ProbeError: if there is no such target or set of features.
            RegionError: if the region cannot be read, lies off the field, or is so small that it
                holds no cell's centre.
        """
        return self._map(target, region, features, crs).dataset()

    def to_geotiff(
        self,
        path: "str | Path",
        target: Any = None,
        region: Any = None,
        features: str | None = None,
        *,
        crs: Any = None,
        overwrite: bool = False,
        progress: bool = False,
    ) -> "Path":
        """Write a map as a tiled GeoTIFF, one band per layer of `map`, shard by shard.

        Args:
            path: local file, whose name ends in `.tif` or `.tiff`.
            target: as in `map`.
            region: as in `map`.
            features: as in `map`.
            crs: as in `map`.
            overwrite: replace an existing file, once the new one is complete.
            progress: show a bar on stderr.

        Raises:
            ProbeError, RegionError: as `map`.
            StoreError: if the file exists already, its name has another ending, or it cannot be
                written; nothing is left then.
            MissingExtraError: without rasterio.
        """
        from unigeo.client.areas.geotiff_files import check_geotiff_path
        from unigeo.client.probing.map_files import write_geotiff

        file = check_geotiff_path(path, overwrite)
        return write_geotiff(self._map(target, region, features, crs), file, progress=progress)

    def to_zarr(
        self,
        url: Any,
        target: Any = None,
        region: Any = None,
        features: str | None = None,
        *,
        crs: Any = None,
        overwrite: bool = False,
        progress: bool = False,
    ) -> None:
        """Write a map as a Zarr store that `xr.open_zarr` reads, shard by shard.

        Args:
            url: a path, an address, or a Zarr store object.
            target: as in `map`.
            region: as in `map`.
            features: as in `map`.
            crs: as in `map`.
            overwrite: replace an existing local Zarr store, once the new one is complete; never a
                file or folder that is no Zarr store, nor a unigeo field.
            progress: show a bar on stderr.

        Raises:
            ProbeError, RegionError: as `map`.
            StoreError: if the store cannot be written, or something exists that must not be
                replaced.
        """
        from unigeo.client.probing.map_files import check_zarr_path, write_zarr

        check_zarr_path(url, overwrite)
        predictions = self._map(target, region, features, crs)
        write_zarr(predictions, url, overwrite=overwrite, progress=progress)

    def __repr__(self) -> str:
        return self.text(most=_MAX_REPR)

    def text(self, most: int | None = None) -> str:
        """Write the scores, and counts of the rows behind them, as Markdown.

        Args:
            most: characters; the last targets are left out, and their number is stated, where
                there is no room for them. All targets by default.
        """
        return probe_text(self, most)

    def _repr_html_(self) -> str:
        return probe_html(self)

    def _map(self, target: Any, region: Any, features: str | None, crs: Any) -> "PredictionMap":
        from unigeo.client.probing.prediction_map import PredictionMap, region_outlines

        name = self._target(target)
        chosen = self.default_features(name) if features is None else self._features(features)
        mapped = region_outlines(self.field, region, crs)
        model = self.model(name, chosen)
        return PredictionMap.of(self.field, self.modalities_of(chosen), model, name, mapped)
