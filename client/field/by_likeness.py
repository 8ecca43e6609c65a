"""The half of a field that compares cells: with points, vectors, words and a few labels."""

import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from unigeo.client.areas.over_areas import OverAreas
from unigeo.client.points.at_points import AtPoints
from unigeo.client.reading.stored_field import check_of_model
from unigeo.schemas.errors import LayoutError, WordsWarning
from unigeo.schemas.store.layout import FUSED
from unigeo.schemas.tables.coordinate_columns import CoordinateColumns

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from unigeo.client.field.labelling import Labelled
    from unigeo.client.field.search import Concepts
    from unigeo.client.probing.targets import Task


class ByLikeness(AtPoints, OverAreas):
    """Methods of a field that score every cell by its vector."""

    def similarity(
        self, query: Any, modality: str | None = None, *, region: Any = None, crs: Any = None
    ) -> "xr.DataArray":
        """Map the cosine of every cell's vector with a vector, a point's, or the mean of several.

        Args:
            query: one or several points in any form that `sample` takes, or one vector.
            modality: its name; may be left out if the field has only one.
            region: as in `region`; the whole field by default.
            crs: CRS of the region's polygons, if they do not name it.

        Returns:
            Cosines over y and x, float32, NaN where a cell has no vector.

        Raises:
            PointsError: if a point of the query has no vector, or the vector has no direction.
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
        """Find the cells most similar to a point, a mean of points, or a vector.

        Args:
            query: as in `similarity`.
            modality: as in `similarity`.
            count: the largest number of cells.
            apart_km: least great-circle distance between two of the cells.
            region: the region to search; the whole field by default.
            crs: CRS of the region's polygons, if they do not name it.

        Returns:
            Longitude, latitude and cosine of each cell, the best first.

        Raises:
            PointsError, LayoutError: as `similarity`.
        """
        from unigeo.client.field.similarity import best_cells, check_choice

        check_choice(count, apart_km)
        scores = self.similarity(query, modality, region=region, crs=crs)
        return best_cells(self, scores, count, apart_km)

    def label(
        self,
        table: Any,
        column: Any,
        modality: str | None = None,
        *,
        crs: Any = None,
        columns: CoordinateColumns | None = None,
        task: "Task | None" = None,
    ) -> "Labelled":
        """Map a few labels to every cell, by ridge on the vectors of one modality.

        It is what the page of `unigeo view` does with labels, and gives the same numbers: for
        a hundred labels made while looking, where `probe` is for a table to be judged by.

        Args:
            table: as in `probe`; or GeoJSON features, a mapping or a file, or a GeoDataFrame, with
                polygons among its rows. A polygon labels the cells whose centre it holds: all, or a
                hundred of them in even steps.
            column: name of the column of labels: numbers, or two or more classes.
            modality: its name; may be left out if the field has only one.
            crs: CRS of the coordinates, if the table does not name it.
            columns: names of the longitude and latitude columns, or of the one that holds
                positions as text, if they are unusual.
            task: `classification` if numbers are codes of classes; as in `probe`.

        Returns:
            A `Labelled`: its `map()` has a value and an uncertainty for each cell, its `score` is
            of blocks that were left out, and `suggest` says what to label next.

        Raises:
            ProbeError: if the labels are too few, or all alike.
            PointsError, RegionError: if the coordinates or polygons cannot be read.
            LayoutError: if the field has no such modality, or several and none is named.
        """
        from unigeo.client.field.labelling import label_field

        return label_field(self, table, column, self._only(modality), crs, columns, task)

    def suggest(
        self, labels: "Labelled", count: int = 10, *, apart_km: float | None = None
    ) -> "pd.DataFrame":
        """Return the cells worth labelling next; see `Labelled.suggest`.

        Args:
            labels: what `label` returned.
            count: the largest number of cells.
            apart_km: least great-circle distance between two; by default half the distance of as
                many points spread evenly over the field.
        """
        return labels.suggest(count, apart_km=apart_km)

    @cached_property
    def concepts(self) -> "Concepts":
        """The phrases that `search` looks text up in, read once: `concepts.phrases`, `.vectors`."""
        from unigeo.client.field.search import load_concepts

        return load_concepts(self.known_store("searched"), self.url).leading(self.bands)

    def search(
        self,
        words: Any,
        modality: str | None = None,
        *,
        count: int = 10,
        apart_km: float = 0.0,
        region: Any = None,
        crs: Any = None,
        as_: Literal["table", "map"] = "table",
    ) -> Any:
        """Find the cells that a text describes; needs no torch.

        The text is looked up among the field's `concepts`, a few thousand phrases; see
        `field.search`.

        Args:
            words: the text, such as "remote rural county"; `concepts.phrases` lists what is known.
            modality: the modality to compare with; by default fused if the concepts are mapped to
                it, else aerial, or the first of the model's width, which the concepts have.
            count: the largest number of cells.
            apart_km: least great-circle distance between two of the cells.
            region: the region to search; the whole field by default.
            crs: CRS of the region's polygons, if they do not name it.
            as_: `table`: the best cells, as `similar` returns them; `map`: the score of every
                cell, as `similarity` returns it. If the field has centres of its modalities (see
                `schemas.store.concepts`) both sides are seen from theirs, so that no cells are near
                to every text.

        Returns:
            Cells or a map, whose `attrs` have the `phrases` that stood for the text, and the words
            that are `unknown`. The column `deviations` says how sure a cell is: by how many
            standard deviations its score exceeds the mean of the searched cells.

        Warns:
            WordsWarning: naming the words that no concept has.

        Raises:
            WordsError: if no concept has any of the words, or they are no text.
            LayoutError: if the field holds no concepts, has no such modality, or the concepts
                cannot be compared with its vectors.
        """
        from unigeo.client.field.similarity import (
            best_cells,
            check_choice,
            score_map,
            with_deviations,
        )

        check_choice(count, apart_km)
        if as_ not in ("table", "map"):
            raise ValueError(f"as_ must be 'table' or 'map', not {as_!r}")
        concepts = self.concepts
        (name,) = self.chosen(modality or self._modality_for_text())
        self._check_searchable(name)
        match = concepts.find(words)
        if match.unknown:
            listed = ", ".join(map(repr, match.unknown))
            text = f"no concept has the word {listed}: the others alone are searched"
            warnings.warn(WordsWarning(text), stacklevel=2)
        if match.left_out:
            listed = ", ".join(map(repr, match.left_out))
            best = ", ".join(map(repr, match.phrases[:3]))
            text = f"the concepts that match best ({best}) lack {listed}: search for it by itself"
            warnings.warn(WordsWarning(text), stacklevel=2)
        vector, centre = concepts.query(match, name)
        found: Any = score_map(self, vector, name, region, crs, centre)
        if as_ == "table":
            found = with_deviations(best_cells(self, found, count, apart_km), found.values)
        found.attrs |= {"phrases": list(match.phrases), "unknown": list(match.unknown)}
        return found

    def _modality_for_text(self) -> str:
        """Return the modality that text is compared with by default."""
        if FUSED in self.modalities and self.concepts.fused is not None:
            return FUSED
        stored = self.attributes.field_layout()
        fitting = stored.model_width_modalities or self.modalities
        return "aerial" if "aerial" in fitting else fitting[0]

    def _check_searchable(self, modality: str) -> None:
        """Check that text can be compared with a modality's vectors.

        Raises:
            LayoutError: saying why not.
        """
        fitting = self.attributes.field_layout().model_width_modalities
        fused = self.concepts.fused if modality == FUSED else None
        if modality == FUSED and fused is None and FUSED not in fitting:
            others = f"modality={fitting[0]!r}" if fitting else "a point: field.similar(point)"
            raise LayoutError(
                "words cannot be compared with 'fused' vectors, which a map makes: this field was "
                "published without its phrases by that map, as older ones were, or with too few of "
                f"them. Search by {others}"
            )
        if fused is None:
            check_of_model(self, modality, "the concepts")
        width = (self.concepts.vectors if fused is None else fused).shape[1]
        if width != self.layout.width(modality):
            raise LayoutError(
                f"the concepts of {self.url} have {width} numbers, and vectors of {modality!r} "
                f"have {self.layout.width(modality)}: its publication is damaged"
            )

    def _only(self, modality: str | None) -> str:
        """Return the one modality that is named, or that the field has."""
        chosen = self.chosen(modality)
        if len(chosen) > 1:
            raise LayoutError(f"name one modality of {', '.join(chosen)}")
        return chosen[0]
