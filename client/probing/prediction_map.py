"""A fitted probe over a region: a raster whose cells are computed when they are looked at."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from xarray.backends import BackendArray
from xarray.core import indexing

from unigeo.client.areas.coverage import holds_centre
from unigeo.client.areas.outlines import Outlines
from unigeo.client.areas.windows import region_of_field
from unigeo.client.probing.table_columns import short
from unigeo.client.progress import with_progress
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
"""Components of vectors that are held at once: 64 MB as float64."""
_FEW_CELLS = 64  # of a window that is small enough to look at before it is mapped
_REMEMBERED = 64
"""Pieces of a shard that are kept, so that the layers of a window share its computation; those of
256 x 256 cells take 64 MB."""


@dataclass(frozen=True, eq=False, repr=False)
class PredictionMap:
    """One target's predictions in a window of a field."""

    field: "AtPoints"
    modalities: tuple[str, ...]
    """Whose vectors, side by side, the model takes."""
    model: "Model"
    target: str
    window: Window
    """Of the field's grid."""
    outlines: Outlines | None
    """Of a region: cells whose centre lies outside are NaN."""

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
        where: tuple[Outlines, Window] | None = None,
    ) -> "PredictionMap":
        """A map of the whole field, or of a region as `outlined` gives it."""
        outlines, window = where or (None, field.grid.full_window)
        return cls(field, modalities, model, target, window, outlines)

    @property
    def grid(self) -> Grid:
        """The map's cells."""
        return self.field.grid.crop(self.window)

    def dataset(self) -> xr.Dataset:
        """The map as a lazy Dataset; see `Probe.map`."""
        pieces = lru_cache(maxsize=_REMEMBERED)(self.compute)
        variables = {
            layer: xr.Variable(
                ("y", "x"),
                indexing.LazilyIndexedArray(_Layer(self, pieces, layer)),
                self.attributes(layer),
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

    def pieces(self, rows: slice, cols: slice) -> Iterator[Window]:
        """The parts of the field's shards that a window of the map (rows, columns of it) touches.

        Yields:
            Windows of the field's grid, row by row.
        """
        part = Window(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)
        within = part.shifted(self.window.row, self.window.col)
        yield from self.field.grid.shard_windows(self.field.layout.shard, within)

    def compute(self, piece: Window, layers: tuple[str, ...]) -> Float[np.ndarray, "layer row col"]:
        """Predict the cells of a window of the field's grid, strip by strip; float32."""
        made = np.full((len(layers), piece.height, piece.width), np.nan, np.float32)
        bands = sum(self.field.layout.widths_of(self.modalities).values())
        step = max(1, _STRIP_NUMBERS // (bands * piece.width))
        for row in range(0, piece.height, step):
            strip = Window(piece.row + row, piece.col, min(step, piece.height - row), piece.width)
            valid = self._valid(strip)
            if not valid.any():
                continue
            read = self.field.read
            stored = [read(name, *strip.slices)[valid] for name in self.modalities]
            vectors = np.concatenate([dequantize(part) for part in stored], axis=1)
            with one_thread():
                found = self.model.predict(vectors, layers)
            for number, layer in enumerate(layers):
                made[number, row : row + strip.height][valid] = found[layer]
        return made

    def parts(
        self, progress: bool, *, aligned: bool = False
    ) -> Iterator[tuple[Window, Float[np.ndarray, "layer row col"]]]:
        """Every part of the map, as a window of the map, and its values.

        Args:
            progress: show a bar on stderr.
            aligned: cut along the map's own chunks, which no two parts then share, instead of
                along the field's shards.
        """
        rows, cols = self.grid.shape
        if aligned:
            parts = [
                part.shifted(self.window.row, self.window.col)
                for part in self.grid.windows(self.field.layout.shard)
            ]
        else:
            parts = list(self.pieces(slice(0, rows), slice(0, cols)))
        for part in with_progress(parts, f"map {self.target}", "shards", progress):
            own = part.shifted(-self.window.row, -self.window.col)
            yield own, self.compute(part, self.model.layers)

    def _valid(self, strip: Window) -> np.ndarray:
        """Cells that have every vector and lie in the region."""
        codes = [self.field.read(status_name(name), *strip.slices) for name in self.modalities]
        valid: np.ndarray = np.all(np.stack(codes) == Status.VALID, axis=0)
        if self.outlines is not None and valid.any():
            valid &= holds_centre(self.outlines, strip)
        return valid

    def root_attributes(self) -> dict[str, Any]:
        """What the map is, where its vectors come from, and where its cells lie."""
        own, model = self.field.attributes, self.field.attributes.model
        return {
            "title": f"{self.target}, predicted from the vectors {', '.join(self.modalities)}",
            "source": f"unigeo field {own.region!r}, model {model.name} {model.sha256[:12]}",
            "license": self.field.licence,
            **georeference(self.grid),
        }

    def attributes(self, layer: str) -> dict[str, Any]:
        """Of a layer's array: its own, and where its cells lie."""
        return (
            self.own_attributes(layer) | {"grid_mapping": "spatial_ref"} | georeference(self.grid)
        )

    def own_attributes(self, layer: str) -> dict[str, Any]:
        """Of a layer: its name, and the names of classes."""
        attributes: dict[str, Any] = {"long_name": f"{self.target} {layer}"}
        classes = getattr(self.model, "classes", None)
        if classes is not None and layer == "prediction":
            attributes["flag_values"] = list(range(len(classes)))
            attributes["flag_meanings"] = " ".join(str(c).replace(" ", "_") for c in classes)
        return attributes


class _Layer(BackendArray):
    """One layer of a map, as xarray reads arrays lazily."""

    def __init__(self, made: PredictionMap, compute: Any, layer: str) -> None:
        self.made, self.compute, self.layer = made, compute, layer
        self.shape = made.grid.shape
        self.dtype = np.dtype(np.float32)
        whole = tuple(made.model.layers)
        self.layers = ("prediction",) if layer == "prediction" else whole

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        basic = indexing.IndexingSupport.BASIC
        return indexing.explicit_indexing_adapter(key, self.shape, basic, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray:
        """Integers drop their dimension, slices keep theirs."""
        ranges = [
            range(k, k + 1) if isinstance(k, int | np.integer) else range(*k.indices(size))
            for k, size in zip(key, self.shape, strict=True)
        ]
        drop = tuple(0 if isinstance(k, int | np.integer) else slice(None) for k in key)
        if not all(ranges):
            return np.asarray(np.empty([len(r) for r in ranges], self.dtype)[drop])
        rows, cols = (slice(min(r), max(r) + 1) for r in ranges)
        window = np.empty((rows.stop - rows.start, cols.stop - cols.start), self.dtype)
        corner = self.made.window.row + rows.start, self.made.window.col + cols.start
        for piece in self.made.pieces(rows, cols):
            inside = replace(piece, row=piece.row - corner[0], col=piece.col - corner[1])
            values = self.compute(piece, self.layers)
            window[inside.slices] = values[self.layers.index(self.layer)]
        own = np.ix_(*(np.asarray(r) - min(r) for r in ranges))
        return np.asarray(window[own][drop])


def outlined(field: "AtPoints", region: Any, crs: Any = None) -> tuple[Outlines, Window] | None:
    """The outlines of a region, and the part of the field round it; None for the whole field.

    Args:
        field: to map.
        region: in any form that `Field.region` takes.
        crs: of its polygons, where they do not say it.

    Raises:
        RegionError: if the region cannot be read, lies outside the field, or is smaller than a cell
            and holds no cell's centre.
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
