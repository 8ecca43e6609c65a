"""Predictions of a fitted probe over a region, as a raster whose cells are computed lazily."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from xarray.backends import BackendArray
from xarray.core import indexing

from unigeo.client.areas.windows import region_of_field
from unigeo.client.probing.fitted_models import predict_layers
from unigeo.client.probing.table_columns import short
from unigeo.client.progress import with_progress
from unigeo.client.shapes.coverage import holds_centre
from unigeo.client.shapes.outlines import Outlines
from unigeo.client.threads import one_thread
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.layout import (
    axis_attributes,
    georeference,
    spatial_ref_attributes,
    status_name,
)
from unigeo.schemas.store.quantization import dequantize
from unigeo.schemas.store.status import Status

if TYPE_CHECKING:
    from unigeo.client.points.at_points import AtPoints
    from unigeo.client.probing.fitted_models import Model

_STRIP_NUMBERS = 2**23
"""Numbers of the vectors that are held at once: 64 MB as float64."""
_FEW_CELLS = 64
"""Cells of a window that is tested for the centre of a cell before it is mapped."""
_CACHED_WINDOWS = 64
"""Windows whose predictions are kept, so that the layers of a window share its computation; those
of 256 x 256 cells take 64 MB."""


@dataclass(frozen=True, eq=False, repr=False)
class PredictionMap:
    """The predictions of one target in a window of a field."""

    field: "AtPoints"
    modalities: tuple[str, ...]
    """Modalities whose vectors, side by side, the model takes."""
    model: "Model"
    target: str
    window: Window
    """Cells of the field's grid that the map covers."""
    outlines: Outlines | None
    """Outlines of a region, outside of which cells are NaN; None where the window is the map."""

    def __repr__(self) -> str:
        rows, cols = self.grid.shape
        return f"PredictionMap({short(self.target)}, {rows} x {cols} cells)"

    @classmethod
    def of(
        cls,
        field: "AtPoints",
        modalities: tuple[str, ...],
        model: "Model",
        target: str,
        region: tuple[Outlines, Window] | None = None,
    ) -> "PredictionMap":
        """Map the whole field, or a region that `region_outlines` returned."""
        outlines, window = region or (None, field.grid.full_window)
        return cls(field, modalities, model, target, window, outlines)

    @property
    def grid(self) -> Grid:
        """Grid of the map's cells."""
        return self.field.grid.crop(self.window)

    def dataset(self) -> xr.Dataset:
        """Return the map as a lazy Dataset; see `Probe.map`."""
        predict = lru_cache(maxsize=_CACHED_WINDOWS)(self.predict_window)
        variables = {
            layer: xr.Variable(
                ("y", "x"),
                indexing.LazilyIndexedArray(_LazyLayer(self, predict, layer)),
                self.array_attributes(layer),
                {"preferred_chunks": dict.fromkeys(("y", "x"), self.field.layout.shard)},
            )
            for layer in self.model.layers
        }
        grid = self.grid
        coords = {
            "y": ("y", grid.y, axis_attributes("y")),
            "x": ("x", grid.x, axis_attributes("x")),
            "spatial_ref": ((), 0, spatial_ref_attributes(grid)),
        }
        return xr.Dataset(variables, coords, self.root_attributes())

    def shard_windows(self, rows: slice, cols: slice) -> Iterator[Window]:
        """Cut rows and columns of the map along the edges of the field's shards.

        Yields:
            Windows of the field's grid, row by row, each in one shard.
        """
        part = Window(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)
        within = part.shifted(self.window.row, self.window.col)
        yield from self.field.grid.shard_windows(self.field.layout.shard, within)

    def predict_window(
        self, window: Window, layers: tuple[str, ...]
    ) -> Float[np.ndarray, "layer row col"]:
        """Predict the cells of a window of the field's grid, strip by strip; float32."""
        predicted = np.full((len(layers), window.height, window.width), np.nan, np.float32)
        bands = sum(self.field.layout.widths_of(self.modalities).values())
        step = max(1, _STRIP_NUMBERS // (bands * window.width))
        for row in range(0, window.height, step):
            height = min(step, window.height - row)
            strip = Window(window.row + row, window.col, height, window.width)
            valid = self._valid_cells(strip)  # cells without a vector are never predicted
            if not valid.any():
                continue
            read = self.field.read
            stored = [read(name, *strip.slices)[valid] for name in self.modalities]
            vectors = np.concatenate([dequantize(part) for part in stored], axis=1)

            def centres(strip: Window = strip, valid: np.ndarray = valid) -> np.ndarray:
                return np.asarray(self.field.grid.centres(strip)[valid])

            with one_thread():  # windows are computed side by side by dask
                values = predict_layers(self.model, vectors, centres, layers)
            for number, layer in enumerate(layers):
                predicted[number, row : row + height][valid] = values[layer]
        return predicted

    def predict_parts(
        self, progress: bool, *, aligned: bool = False
    ) -> Iterator[tuple[Window, Float[np.ndarray, "layer row col"]]]:
        """Predict the map part by part.

        Args:
            progress: show a bar on stderr.
            aligned: cut the map along its own chunks, so that each part is written to chunks of
                its own, instead of along the field's shards.

        Yields:
            Each part as a window of the map, and its values.
        """
        rows, cols = self.grid.shape
        if aligned:
            parts = [
                part.shifted(self.window.row, self.window.col)
                for part in self.grid.windows(self.field.layout.shard)
            ]
        else:
            parts = list(self.shard_windows(slice(0, rows), slice(0, cols)))
        for part in with_progress(parts, f"map {self.target}", "shards", progress):
            of_map = part.shifted(-self.window.row, -self.window.col)
            yield of_map, self.predict_window(part, self.model.layers)

    def _valid_cells(self, strip: Window) -> np.ndarray:
        """Mark the cells that have every vector and lie in the region."""
        codes = [self.field.read(status_name(name), *strip.slices) for name in self.modalities]
        valid: np.ndarray = np.all(np.stack(codes) == Status.VALID, axis=0)
        if self.outlines is not None and valid.any():
            valid &= holds_centre(self.outlines, strip)
        return valid

    def root_attributes(self) -> dict[str, Any]:
        """Return the attributes of the dataset: title, source, licence and georeference."""
        region, model = self.field.attributes.region, self.field.attributes.model
        return {
            "title": f"{self.target}, predicted from the vectors {', '.join(self.modalities)}",
            "source": f"unigeo field {region!r}, model {model.name} {model.sha256[:12]}",
            "license": self.field.licence,
            **georeference(self.grid),
        }

    def array_attributes(self, layer: str) -> dict[str, Any]:
        """Return the attributes of a layer's array: those of the layer, and the georeference."""
        georeferenced = {"grid_mapping": "spatial_ref"} | georeference(self.grid)
        return self.layer_attributes(layer) | georeferenced

    def layer_attributes(self, layer: str) -> dict[str, Any]:
        """Return the attributes of a layer: its name, and the names of classes."""
        attributes: dict[str, Any] = {"long_name": f"{self.target} {layer}"}
        classes = getattr(self.model, "classes", None)
        if classes is not None and layer == "prediction":
            attributes["flag_values"] = list(range(len(classes)))
            attributes["flag_meanings"] = " ".join(str(c).replace(" ", "_") for c in classes)
        return attributes


class _LazyLayer(BackendArray):
    """One layer of a map that xarray reads lazily."""

    def __init__(self, predictions: PredictionMap, predict: Any, layer: str) -> None:
        self.predictions, self.predict, self.layer = predictions, predict, layer
        self.shape = predictions.grid.shape
        self.dtype = np.dtype(np.float32)
        # The prediction alone takes far less work than its interval, whose layers come together.
        every = tuple(predictions.model.layers)
        self.layers = ("prediction",) if layer == "prediction" else every

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        basic = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, basic, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        """Read integers and slices of both axes; an integer drops its axis.

        xarray asks for slices of any step, and models predict windows: the bounding window is
        predicted, and the rows and columns asked for are taken out of it.
        """
        ranges = [
            range(k, k + 1) if isinstance(k, int | np.integer) else range(*k.indices(size))
            for k, size in zip(key, self.shape, strict=True)
        ]
        drop = tuple(0 if isinstance(k, int | np.integer) else slice(None) for k in key)
        if not all(ranges):
            return np.asarray(np.empty([len(r) for r in ranges], self.dtype)[drop])
        rows, cols = (slice(min(r), max(r) + 1) for r in ranges)
        window = np.empty((rows.stop - rows.start, cols.stop - cols.start), self.dtype)
        full = self.predictions.window
        for part in self.predictions.shard_windows(rows, cols):
            inside = part.shifted(-full.row - rows.start, -full.col - cols.start)
            values = self.predict(part, self.layers)
            window[inside.slices] = values[self.layers.index(self.layer)]
        selected = np.ix_(*(np.asarray(r) - min(r) for r in ranges))
        return np.asarray(window[selected][drop])


def region_outlines(
    field: "AtPoints", region: Any, crs: Any = None
) -> tuple[Outlines, Window] | None:
    """Read the outlines of a region, and the window of the field around it.

    Args:
        field: field to map.
        region: region in any form that `Field.region` takes; None for the whole field.
        crs: CRS of the region's polygons, if they do not state it.

    Returns:
        Outlines and window, as `PredictionMap.of` takes them; None for the whole field.

    Raises:
        RegionError: if the region cannot be read, lies outside the field, or is smaller than a cell
            and holds the centre of none.
    """
    if region is None:
        return None
    outlines, window = region_of_field(field, region, crs)
    few = window.height * window.width <= _FEW_CELLS
    if few and not holds_centre(outlines, window).any():
        raise RegionError(
            f"the region holds no centre of the field's cells of {field.grid.resolution_m:g} m: "
            "map a larger one, or predict at a point of it"
        )
    return outlines, window
