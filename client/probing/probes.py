"""A probe that was scored: what it can be asked next, from its scores to a map of its target."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.client.probing.conformal import conformal_quantile
from unigeo.client.probing.evaluating import Evaluation, ProbeData
from unigeo.client.probing.logistic import FittedLogistic, LogisticProbe
from unigeo.client.probing.reporting import by_features, to_markdown
from unigeo.client.probing.ridge import FittedRidge, RidgeProbe
from unigeo.client.threads import one_thread
from unigeo.schemas.errors import ProbeError
from unigeo.schemas.layout import status_name
from unigeo.schemas.points import read_points
from unigeo.schemas.status import Status

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import xarray as xr

    from unigeo.client.field import Field
    from unigeo.client.probing.mapping import PredictionMap
    from unigeo.client.reading.sampling import Method


@dataclass(frozen=True)
class NumberModel:
    """Ridge on one target, with intervals."""

    ridge: FittedRidge
    strangeness: float
    """Half-width of an interval where the difficulty is 1, in the target's unit."""
    layers = ("prediction", "lower", "upper", "uncertainty")
    """`uncertainty` is the half-width of the interval from `lower` to `upper`."""

    def predict(
        self, vectors: Float[np.ndarray, "point band"], layers: tuple[str, ...] = layers
    ) -> dict[str, Float[np.ndarray, " point"]]:
        """Some or all layers; the prediction alone takes far less work than its interval."""
        found = {"prediction": self.ridge.predict(vectors)[:, 0]}
        if set(layers) - {"prediction"}:
            width = self.strangeness * self.ridge.difficulty(vectors)[:, 0]
            found["lower"] = found["prediction"] - width
            found["upper"] = found["prediction"] + width
            found["uncertainty"] = width
        return {name: found[name] for name in layers}


@dataclass(frozen=True)
class ClassModel:
    """Logistic ridge on one target."""

    logistic: FittedLogistic
    classes: tuple[Any, ...]
    layers = ("prediction", "uncertainty")
    """The number of the most probable class, and 1 - its probability."""

    def predict(
        self, vectors: Float[np.ndarray, "point band"], layers: tuple[str, ...] = layers
    ) -> dict[str, Float[np.ndarray, " point"]]:
        """Some or all layers."""
        probabilities = self.logistic.predict(vectors)
        found = {
            "prediction": probabilities.argmax(axis=1).astype(np.float64),
            "uncertainty": 1 - probabilities.max(axis=1),
        }
        return {name: found[name] for name in layers}


Model = NumberModel | ClassModel


@dataclass(frozen=True, eq=False, repr=False)
class Probe:
    """What `Field.probe` gives: scores, and models fitted on all points when they are asked for.

    The penalty of these models is chosen, and their intervals are calibrated, on the folds of whole
    groups if groups were given, else of whole blocks: an interval holds for a place as far from the
    points as a block is, and is too wide among them.
    """

    field: "Field"
    data: ProbeData
    evaluation: Evaluation
    modalities: tuple[str, ...]
    """Sampled for the probe."""
    method: "Method"
    """Of sampling."""
    level: float
    """Of the intervals."""
    _models: dict[tuple[str, str], Model] = dataclasses.field(default_factory=dict)

    @property
    def scores(self) -> "pd.DataFrame":
        """One row per target, set of features or baseline, and split; see `probing.probe_table`."""
        return self.evaluation.scores

    @property
    def fold_scores(self) -> "pd.DataFrame":
        """The score of each fold by itself."""
        return self.evaluation.fold_scores

    @property
    def intervals(self) -> "pd.DataFrame":
        """Stated level, mean half-width and measured coverage of each ridge under each split."""
        percent = f"{100 * self.level:g}"
        width, covered = f"interval_{percent}", f"coverage_{percent}"
        ridges = self.scores[self.scores["features"].isin(list(self.data.vectors))]
        if width not in ridges:
            return ridges.head(0)[["target", "features", "split"]]
        chosen = ridges.loc[ridges[width].notna(), ["target", "features", "split", width, covered]]
        chosen = chosen.rename(columns={width: "half_width", covered: "coverage"})
        chosen.insert(3, "level", self.level)
        return chosen.reset_index(drop=True)

    def model(self, target: str | None = None, features: str | None = None) -> Model:
        """The model of one target on one set of features, fitted on all points.

        Args:
            target: which; needed if there are several.
            features: a modality or `joined`; by default `joined`, or the only one.

        Raises:
            ProbeError: if there is no such target or set, or several targets and none is named.
        """
        target, features = self._target(target), self._features(features)
        if (target, features) not in self._models:
            with one_thread():
                self._fit(target, features)
        return self._models[target, features]

    def predict(
        self,
        points: Any,
        features: str | None = None,
        *,
        crs: str | None = None,
        columns: tuple[str, str] | None = None,
    ) -> "pd.DataFrame":
        """Predict every target at new points.

        Args:
            points: in any form that `Field.sample` takes.
            features: a modality or `joined`; by default `joined`, or the only one.
            crs: of the points, where they do not say it.
            columns: names of the longitude and latitude columns, if not usual.

        Returns:
            One row per point, with the points' own index. Of numbers `income`, `income_lower`,
            `income_upper`, NaN where there is no vector; of classes `crop` and
            `crop_probability`; and the status of each modality used, which says why.
        """
        import pandas as pd

        name = self._features(features)
        read = read_points(points, crs, columns)
        used = self._modalities_of(name)
        sampled = self.field.sample(read.lonlat, used, method=self.method, as_="xarray")
        vectors = np.concatenate([sampled[modality].values for modality in used], axis=1)
        valid = np.isfinite(vectors).all(axis=1)
        made: dict[str, Any] = {}
        for target in self.data.known:
            model = self.model(target, name)
            found = {layer: np.full(len(valid), np.nan) for layer in model.layers}
            for layer, values in model.predict(vectors[valid]).items():
                found[layer][valid] = values
            if isinstance(model, ClassModel):
                labels = np.full(len(valid), None, object)
                labels[valid] = [model.classes[int(c)] for c in found["prediction"][valid]]
                made |= {target: labels, f"{target}_probability": 1 - found["uncertainty"]}
            else:
                made[target] = found["prediction"]
                made |= {f"{target}_{side}": found[side] for side in ("lower", "upper")}
        kinds = pd.CategoricalDtype([code.words for code in Status])
        for modality in used:
            codes = sampled[status_name(modality)].values.astype(np.int64)
            made[status_name(modality)] = pd.Categorical.from_codes(codes, dtype=kinds)
        return pd.DataFrame(made, index=read.index)

    def map(
        self, target: str | None = None, region: Any = None, features: str | None = None
    ) -> "xr.Dataset":
        """Predict a target over a region, lazily: a cell is computed when it is looked at.

        Args:
            target: which; needed if there are several.
            region: a name, a box (west, south, east, north), a GeoJSON file or a `Region`; the
                whole field by default.
            features: a modality or `joined`; by default `joined`, or the only one.

        Returns:
            float32 arrays over y and x with the field's CRS: of numbers `prediction`, `lower`,
            `upper` and `uncertainty`, the half-width of the interval; of classes `prediction`, the
            number of the class (named in its attributes), and `uncertainty`, 1 - its probability.
            NaN where there is no vector or the cell lies outside the region. A window of it, as
            from `.isel` or `.rio.clip_box`, reads and computes its own cells only; `.chunk()` gives
            dask arrays.
        """
        return self._map(target, region, features).dataset()

    def to_geotiff(
        self,
        path: "str | Path",
        target: str | None = None,
        region: Any = None,
        features: str | None = None,
        *,
        progress: bool = False,
    ) -> "Path":
        """Write a map as a tiled GeoTIFF, one band per layer of `map`, shard by shard.

        Raises:
            StoreError: if it cannot be written; nothing is left then.
            MissingExtraError: without rasterio.
        """
        return self._map(target, region, features).to_geotiff(path, progress=progress)

    def to_zarr(
        self,
        url: Any,
        target: str | None = None,
        region: Any = None,
        features: str | None = None,
        *,
        progress: bool = False,
    ) -> None:
        """Write a map as a Zarr store that `xr.open_zarr` reads, shard by shard.

        Raises:
            StoreError: if it cannot be written, or there is something already.
        """
        self._map(target, region, features).to_zarr(url, progress=progress)

    def __repr__(self) -> str:
        return f"{to_markdown(by_features(self.scores))}\n\n{self._counts()}"

    def _repr_html_(self) -> str:
        table = by_features(self.scores).to_html(float_format="{:.3f}".format)
        return f"{table}<p>{self._counts()}</p>"

    def _counts(self) -> str:
        used = self.scores.drop_duplicates("target")
        counts = "; ".join(
            f"{row.target} ({row.metric}): {row.points:,} points ({row.dropped:,} without a vector "
            f"left out) in {row.blocks} blocks"
            for row in used.itertuples()
        )
        return f"Scores of held-out predictions. {counts}."

    def _target(self, target: str | None) -> str:
        known = list(self.data.known)
        if target is None and len(known) == 1:
            return known[0]
        if target not in known:
            what = "name one" if target is None else f"there is no target {target!r}"
            raise ProbeError(f"{what}: the probe has {', '.join(known)}")
        return target

    def _features(self, features: str | None) -> str:
        known = list(self.data.vectors)
        if features is None:
            return known[-1]
        if features not in known:
            raise ProbeError(f"the probe has no features {features!r}; it has {', '.join(known)}")
        return features

    def _modalities_of(self, features: str) -> tuple[str, ...]:
        return (features,) if features in self.modalities else self.modalities

    def _map(self, target: str | None, region: Any, features: str | None) -> "PredictionMap":
        from unigeo.client.probing.mapping import PredictionMap

        name, chosen = self._target(target), self._features(features)
        used = self._modalities_of(chosen)
        return PredictionMap.of(self.field, used, self.model(name, chosen), name, region)

    def _fit(self, target: str, features: str) -> None:
        vectors, folds = self.data.vectors[features], self.data.splits[-1].folds
        labels = self.data.labels(target)
        if labels is not None:
            has = self.data.has(target)
            codes = self.data.known[target][has].astype(np.int64)
            fitted = LogisticProbe().fit(vectors[has], codes, folds[has])
            self._models[target, features] = ClassModel(fitted, labels.classes)
            return
        numeric = [name for name in self.data.known if self.data.labels(name) is None]
        truth = np.stack([self.data.known[name] for name in numeric], axis=1)
        ridge = RidgeProbe().fit(vectors, truth, folds)
        for column, name in enumerate(numeric):
            alone = ridge.only(column)
            known = alone.strangeness[np.isfinite(alone.strangeness)]
            self._models[name, features] = NumberModel(alone, conformal_quantile(known, self.level))
