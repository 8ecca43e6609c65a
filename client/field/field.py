"""`Field`: an embedding field with all its methods."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.field.by_likeness import ByLikeness
from unigeo.client.points.join import append_columns, check_joinable, take_rows
from unigeo.client.points.keys import Keys
from unigeo.client.points.sample_options import SampleOptions, check_choice
from unigeo.client.reading.covariates import (
    Covariates,
    Selection,
    chosen_covariates,
    positions,
    sample_covariates,
)
from unigeo.client.reading.sampling import Method
from unigeo.schemas.errors import PointsError
from unigeo.schemas.store.layout import COVARIATES, status_name
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns
from unigeo.schemas.tables.table_files import loaded_table

if TYPE_CHECKING:
    from pathlib import Path

    from unigeo.client.probing.probe import Probe
    from unigeo.client.probing.spatial_option import Spatial
    from unigeo.client.probing.targets import Task
    from unigeo.client.verifying.shard_objects import Level
    from unigeo.client.verifying.verify import VerificationReport
    from unigeo.client.viewing.notebook import Exploration


class Field(ByLikeness):
    """An embedding field; open it with `open_field`, or use `ds.unigeo` of a Dataset."""

    def _join_means(
        self, table: Any, keys: list[str], known: Keys, chosen: Selection, options: SampleOptions
    ) -> Any:
        """Append the means over the outlines that a table's rows name; see `join`."""
        from unigeo.client.areas.keyed_tables import MeansByKey, keyed_columns, valid_rows

        check_joinable(table, keyed_columns(self.layout, chosen, options.prefix))
        means = MeansByKey(self, known, chosen, options.prefix, options.progress).rows(keys)
        valid = valid_rows(means, [options.prefix + status_name(one) for one in chosen.arrays])
        if options.missing == "raise" and not valid.all():
            row = int(np.argmin(valid))
            raise PointsError(
                f"{np.count_nonzero(~valid):,} of {len(valid):,} rows have no vector, the first "
                f"row {row}, {keys[row]!r}. Pass missing='nan' or missing='drop'"
            )
        if options.missing == "drop":
            kept = np.flatnonzero(valid)
            table, means = take_rows(table, kept), means.iloc[kept]
        return append_columns(table, means)

    def probe(
        self,
        table: Any,
        targets: Any,
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
        crs: Any = None,
        columns: CoordinateColumns | None = None,
        controls: Any = None,
        covariates: Covariates = False,
        spatial: "Spatial | None" = None,
        kernel: bool = False,
        weights: Any = None,
        bounds: Any = None,
        progress: bool | None = None,
    ) -> "Probe":
        """Evaluate how well a linear model on the vectors predicts columns of a table.

        Args:
            table: a pandas or polars DataFrame, GeoDataFrame, Arrow table or mapping of columns
                with coordinates and the target columns, or the path of a file that holds one; or
                points alone, in any form that `sample` takes. Rows without a target, a position or
                a vector take no part; `Probe` counts them.
            targets: name of a column, or several; or values, one for each row: a list, an array, a
                column of pandas, polars or Arrow, or a table or mapping of such columns. Dates and
                complex numbers are refused.
            modalities: the modalities to use, each alone and several joined; by default `fused`, or
                all where it is not stored.
            task: `regression` (ridge) or `classification` (logistic ridge); by default a column of
                words, categories or True and False is classified.
            method: as in `sample`.
            groups: name of a column, or a label for each row; groups are then held out as a third
                split.
            block_km: side of the blocks of the blocked folds: squares in EPSG:5070 in the
                contiguous United States, elsewhere in the field's CRS.
            folds: number of folds of each split. Rows at one position stay in one fold.
            seed: seed of the folds.
            baselines: also score the mean, and ridge, nearest neighbours, inverse distance and
                trees on longitude and latitude; or names of some of them: `mean`,
                `lonlat ridge`, `lonlat kNN`, `lonlat IDW`, `lonlat trees`.
            level: share of the points that prediction intervals should cover.
            crs: CRS of the coordinates, if the table does not name it.
            columns: names of the longitude and latitude columns, or of the one that holds
                positions as text, if they are unusual.
            controls: columns as for `targets`, of numbers or categories: variables that are
                available without vectors. They are scored alone and with each set of vectors, and
                `Probe.gains` says what the vectors add, with intervals. Rows that lack one take no
                part.
            covariates: True, or names of covariates of the field: plain numbers that are scored as
                controls are, alone and with each set of vectors, so that `Probe.gains` says what
                the vectors add to numbers that can be read. Numbers of classes are left out.
            spatial: `residuals` adds to each set of vectors a model of vectors and position, such
                as `joined + position`: ridge, and its residuals at the table's points spread by
                kriging. It is scored beside the others, and predicts by default where its score is
                the better one. For targets of numbers; needs scikit-learn.
            kernel: also fit each set of vectors by a kernel, such as `joined kernel`: a ridge on
                how alike a vector is to those of up to 2,048 rows, which follows bends that a
                linear model cannot. It is scored beside the others, and predicts by default where
                its score is the best one. It takes several times as long.
            weights: name of a column, or a number for each row: how much the row counts in fits,
                choices, baselines, scores and intervals, such as its people. Only their ratios
                matter; a row whose weight is 0 or missing takes no part.
            bounds: `(low, high)` that targets of numbers keep, such as `(0, 1)` for shares, None
                where there is no end; or a mapping of names to such pairs. Predictions beyond a
                bound, and the ends of intervals, are moved onto it, in scores, tables and maps.
            progress: print on stderr what will be computed and about how long it takes, and show a
                bar; by default if it takes more than 2 seconds.

        Returns:
            A `Probe`: its `scores` are a table, and it can `predict` and `map` the targets.

        Raises:
            ValueError: if there is no such method.
            ProbeError: if the data cannot support the probe; before any vector is read, if the
                table itself shows it.
            PointsError: if the coordinates cannot be read.
            LayoutError: if the field has no such modality.

        Warns:
            ProbeWarning: if there are few data, many rows take no part or repeat a position, or a
                row has no position.
            PointsWarning: if most points lie off the field, as `sample` does.
        """
        from unigeo.client.probing.conformal import check_level
        from unigeo.client.probing.controls import with_covariates
        from unigeo.client.probing.cross_validation import evaluate
        from unigeo.client.probing.kernel_option import check_kernel
        from unigeo.client.probing.models import chosen_baselines
        from unigeo.client.probing.probe import Probe
        from unigeo.client.probing.probe_data import prepare
        from unigeo.client.probing.probe_inputs import read_inputs
        from unigeo.client.probing.sampled_features import feature_set_names, sample_features
        from unigeo.client.probing.spatial_option import check_spatial

        table = loaded_table(table, columns)
        if modalities is None:
            modalities = self.default_modalities
        chosen = tuple(dict.fromkeys(self.chosen(modalities)))
        check_choice("method", method, Method)
        check_level(level)
        check_kernel(kernel, feature_set_names(chosen))
        chosen_baselines(baselines, feature_set_names(chosen))
        names = chosen_covariates(self, covariates, numbers_only=True)
        inputs, points = read_inputs(
            table,
            targets,
            task=task,
            crs=crs,
            columns=columns,
            otherwise=self.grid.crs,
            groups=groups,
            controls=controls,
            weights=weights,
            bounds=bounds,
            block_km=block_km,
            folds=folds,
            seed=seed,
        )
        weighted = inputs.weights is not None
        check_spatial(spatial, inputs.targets, feature_set_names(chosen), weighted)
        if names:
            source, chosen_numbers = self.modality(COVARIATES), positions(self, names)
            numbers = sample_covariates(source, points, chosen_numbers).vectors
            beside = with_covariates(inputs.controls, names, numbers, inputs.needs_vector)
            inputs = replace(inputs, controls=beside)
        features, status = sample_features(self, points, inputs.needs_vector, chosen, method)
        data = prepare(inputs, features, status)
        if kernel:
            data = data.with_kernels(seed, progress)
        evaluation = evaluate(
            data,
            seed=seed,
            baselines=baselines,
            level=level,
            progress=progress,
            spatial=spatial,
        )
        return Probe.of(self, data, evaluation, chosen, method, level, spatial)

    def info(self) -> dict[str, Any]:
        """Describe the field as JSON: region, grid, model, observations, coverage."""
        attributes = self.attributes
        return {
            "url": self.url,
            "region": attributes.region,
            "state": attributes.state,
            "layout_version": attributes.layout_version,
            "crs": self.grid.crs,
            "resolution_m": self.grid.resolution_m,
            "shape": list(self.grid.shape),
            "bands": self.bands,
            "widths": self.layout.widths_of(self.modalities),
            "modalities": list(self.modalities),
            "covariates": self.covariates.to_dict("records"),
            "cells": {
                modality: {code.label: count for code, count in sorted(counts.items())}
                for modality, counts in self.coverage().items()
            },
            "model": {"name": attributes.model.name, "sha256": attributes.model.sha256},
            "observations": attributes.observations.get("name", "not stated"),
            "code_version": attributes.code_version,
            "coordinate_detail": None
            if attributes.coordinate_detail is None
            else attributes.coordinate_detail.model_dump(),
            "observed_detail": {
                modality: detail.model_dump(mode="json")
                for modality, detail in attributes.observed_detail.items()
                if modality in self.modalities
            },
            "licence": self.licence,
            "citation": self.citation,
        }

    def explore(self, *, height: int = 600, port: int = 0) -> "Exploration":
        """Show the field's page in a notebook, served on this machine alone.

        Args:
            height: of the frame, in pixels.
            port: of 127.0.0.1; 0 takes a free one.

        Returns:
            What a notebook shows as a frame; its `url` is for a browser, and `close()` ends it.

        Raises:
            StoreError: if the port cannot be had, or a Dataset does not name its store.
        """
        from unigeo.client.viewing.notebook import Exploration

        return Exploration(self.known_source("explored"), height=height, port=port)

    def verify(self, level: "Level" = "hash", *, progress: bool = False) -> "VerificationReport":
        """Compare every object with the manifest, and the metadata with the layout.

        Args:
            level: `hash` reads every object, `presence` only its size.
            progress: show a bar on stderr.

        Returns:
            A report: `ok`, and `problems` that name what is damaged; see `client.verifying`.

        Raises:
            StoreError: if the store cannot be reached, or a Dataset does not name its store.
        """
        from unigeo.client.verifying.verify import verify_store

        return verify_store(self.known_source("verified"), level=level, progress=progress)

    def cite(self) -> str:
        """Return how to cite the field, and its licence."""
        return (
            f"{self.citation}\nunigeo field {self.attributes.region!r}, model "
            f"{self.attributes.model.name} {self.attributes.model.sha256[:12]}.\n"
            f"Licence: {self.licence}"
        )

    def preview(
        self, folder: "str | Path", modalities: str | Iterable[str] | None = None
    ) -> "list[Path]":
        """Draw each modality as a map, its main directions as colours; see `field.preview`."""
        from unigeo.client.field.preview import draw_previews

        return draw_previews(self, folder, self.chosen(modalities))

    def plot(self, modality: str | None = None, *, ax: Any = None) -> Any:
        """Draw one modality as a map, its main directions as colours, in a notebook.

        Args:
            modality: its name; by default `fused`, or the first where it is not stored.
            ax: matplotlib's Axes to draw into; new ones by default.

        Returns:
            The Axes; without matplotlib a picture that a notebook shows.

        Raises:
            LayoutError: if the field has no such modality, or no cell has a vector of it.
        """
        from unigeo.client.field.plot import plot_field

        (name,) = self.chosen(modality or self.default_modalities[0])
        return plot_field(self, name, ax)
