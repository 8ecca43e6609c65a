"""A field: the store seen as a function from place to vector."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from unigeo.client.areas.over_areas import OverAreas
from unigeo.client.points.at_points import AtPoints
from unigeo.client.points.sample_options import check_choice
from unigeo.client.reading.sampling import Method
from unigeo.client.reading.stored_field import check_of_model
from unigeo.schemas.errors import LayoutError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import xarray as xr

    from unigeo.client.field.search import Concepts
    from unigeo.client.probing.probe import Probe
    from unigeo.client.probing.targets import Task
    from unigeo.client.verifying.shard_objects import Level
    from unigeo.client.verifying.verify import VerificationReport


class Field(AtPoints, OverAreas):
    """An embedding field: open it with `open_field`, or find it as `ds.unigeo`."""

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
        columns: tuple[Any, Any] | None = None,
        controls: Any = None,
        progress: bool | None = None,
    ) -> "Probe":
        """Ask how well a linear model on the vectors predicts columns of a table.

        Args:
            table: a pandas or polars DataFrame, GeoDataFrame or Arrow table with coordinates and
                the target columns. Rows without a target, a position or a vector take no part;
                `Probe` counts them.
            targets: name of a column, or several. Dates and complex numbers are refused.
            modalities: which vectors; all by default, each alone and all joined.
            task: `regression` (ridge) or `classification` (logistic ridge); by default a column of
                words, categories or True and False is classified.
            method: as in `sample`.
            groups: a column, or a label for each row; whole groups are then held out as a third
                split.
            block_km: side of the blocks that the blocked folds are made of, squares of EPSG:5070
                in the contiguous United States, elsewhere of the field's CRS.
            folds: number of folds of each split. The rows of one position stay in one fold.
            seed: of the folds.
            baselines: also score the mean, and ridge, nearest neighbours, inverse distance and
                trees on longitude and latitude; or names of some of `probing.BASELINES`.
            level: share of the places that prediction intervals should hold.
            crs: of the coordinates, where the table does not say it.
            columns: names of the longitude and latitude columns, if not usual.
            controls: name of a column, or several, of numbers or categories: the variables at hand
                without vectors. They are scored alone and beside each set of vectors, and
                `Probe.gains` says what the vectors add, with intervals. A row that lacks one takes
                no part.
            progress: say on stderr what will be done and about how long it takes, and show a bar;
                by default where it takes more than 5 seconds.

        Returns:
            A `Probe`: its `scores` are a table, and it can `predict` and `map` the targets.

        Raises:
            ValueError: if there is no such method.
            ProbeError: if the data cannot support the probe; before a vector is read, where the
                table itself shows it.
            PointsError: if the coordinates cannot be read.
            LayoutError: if the field has no such modality.

        Warns:
            ProbeWarning: where they are thin, many rows take no part or repeat a position, or a
                row has no position.
            PointsWarning: where most points lie off the field, as `sample` does.
        """
        from unigeo.client.probing.conformal import check_level
        from unigeo.client.probing.cross_validation import evaluate
        from unigeo.client.probing.models import chosen_baselines
        from unigeo.client.probing.probe import Probe
        from unigeo.client.probing.probe_data import prepare
        from unigeo.client.probing.probe_inputs import read_inputs
        from unigeo.client.probing.sampled_features import feature_set_names, sample_features

        chosen = tuple(dict.fromkeys(self.chosen(modalities)))
        check_choice("method", method, Method)
        check_level(level)
        chosen_baselines(baselines, feature_set_names(chosen))
        inputs, points = read_inputs(
            table,
            targets,
            task=task,
            crs=crs,
            columns=columns,
            otherwise=self.grid.crs,
            groups=groups,
            controls=controls,
            block_km=block_km,
            folds=folds,
            seed=seed,
        )
        features, status = sample_features(self, points, inputs.needs_vector, chosen, method)
        data = prepare(inputs, features, status)
        evaluation = evaluate(data, seed=seed, baselines=baselines, level=level, progress=progress)
        return Probe.of(self, data, evaluation, chosen, method, level)

    def similarity(
        self, query: Any, modality: str | None = None, *, region: Any = None, crs: Any = None
    ) -> "xr.DataArray":
        """Map how like a place, the mean of several, or a vector every cell is.

        Args:
            query: a place or several in any form `sample` takes, or one vector.
            modality: whose vectors; may be left out if the field has one only.
            region: as in `region`; the whole field by default.
            crs: of the region's polygons, where they do not say it.

        Returns:
            Cosines over y and x, float32, NaN where a cell has no vector.

        Raises:
            PointsError: if a place of the query has no vector, or the vector no direction.
            LayoutError: if the field has no such modality, or several and none is named.
        """
        from unigeo.client.field.similarity import query_vector, score_map

        name = self._only(modality)
        return score_map(self, query_vector(self, query, name), name, region, crs)

    def similar(
        self,
        query: Any,
        modality: str | None = None,
        *,
        count: int = 10,
        apart_km: float = 0.0,
        region: Any = None,
        crs: Any = None,
    ) -> "pd.DataFrame":
        """Find the cells most like a place, the mean of several, or a vector.

        Args:
            query: as in `similarity`.
            modality: as in `similarity`.
            count: how many cells, at most.
            apart_km: how far each must lie from the better ones, by great circle.
            region: where to look; the whole field by default.
            crs: of the region's polygons, where they do not say it.

        Returns:
            Longitude, latitude and cosine of each cell, the best first.

        Raises:
            PointsError, LayoutError: as `similarity`.
        """
        from unigeo.client.field.similarity import best_cells

        if count < 1 or apart_km < 0:
            raise ValueError(f"count {count} must be positive and apart_km {apart_km} not negative")
        scores = self.similarity(query, modality, region=region, crs=crs)
        return best_cells(self, scores, count, apart_km)

    @cached_property
    def concepts(self) -> "Concepts":
        """The phrases that words are looked up in, read once: `concepts.phrases`, `.vectors`."""
        from unigeo.client.field.search import load_concepts

        return load_concepts(self.known_store("searched"), self.url)

    def search(
        self,
        words: str,
        modality: str | None = None,
        *,
        count: int = 10,
        apart_km: float = 0.0,
        region: Any = None,
        crs: Any = None,
        as_: Literal["table", "map"] = "table",
    ) -> Any:
        """Find the cells that words describe; needs no torch.

        The words are looked up among the field's `concepts`, a few thousand phrases; see
        `searching`.

        Args:
            words: such as "dense forest by the sea".
            modality: whose vectors are compared; aerial by default, or else the first there is of
                the model's width, which the concepts have.
            count: how many cells, at most.
            apart_km: how far each must lie from the better ones, by great circle.
            region: where to look; the whole field by default.
            crs: of the region's polygons, where they do not say it.
            as_: `table`: the best cells, as `similar` gives them; `map`: the cosine of every cell,
                as `similarity` gives it.

        Raises:
            WordsError: if no concept has any of the words.
            LayoutError: if the field holds no concepts, has no such modality, or its vectors are
                of another width than the concepts.
        """
        if as_ not in ("table", "map"):
            raise ValueError(f"as_ must be 'table' or 'map', not {as_!r}")
        concepts = self.concepts
        (name,) = self.chosen(modality or self._default_of_words())
        check_of_model(self, name, "the concepts")
        vector = concepts.find(words).vector
        if as_ == "map":
            return self.similarity(vector, name, region=region, crs=crs)
        return self.similar(vector, name, count=count, apart_km=apart_km, region=region, crs=crs)

    def _default_of_words(self) -> str:
        """The modality that words are compared with where none is named."""
        fitting = self.layout.model_width_modalities or self.modalities
        return "aerial" if "aerial" in fitting else fitting[0]

    def _only(self, modality: str | None) -> str:
        chosen = self.chosen(modality)
        if len(chosen) > 1:
            raise LayoutError(f"name one modality of {', '.join(chosen)}")
        return chosen[0]

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
            "widths": self.layout.widths_of(self.modalities),
            "modalities": list(self.modalities),
            "cells": {
                modality: {code.label: count for code, count in sorted(counts.items())}
                for modality, counts in self.coverage().items()
            },
            "model": {"name": own.model.name, "sha256": own.model.sha256},
            "observations": own.observations.get("name", "not stated"),
            "code_version": own.code_version,
            "coordinate_detail": None
            if own.coordinate_detail is None
            else own.coordinate_detail.model_dump(),
            "licence": self.licence,
            "citation": self.citation,
        }

    def verify(self, level: "Level" = "hash", *, progress: bool = False) -> "VerificationReport":
        """Compare every object with the manifest, and the metadata with the layout.

        Args:
            level: `hash` reads every object, `presence` asks for its size only.
            progress: show a bar on stderr.

        Returns:
            A report: `ok`, and `problems` that name what is damaged; see `verifying`.

        Raises:
            StoreError: if the store cannot be reached, or a Dataset does not say which it is of.
        """
        from unigeo.client.verifying.verify import verify_store

        return verify_store(self.known_source("verified"), level=level, progress=progress)

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
        from unigeo.client.field.preview import draw_previews

        return draw_previews(self, folder, self.chosen(modalities))
