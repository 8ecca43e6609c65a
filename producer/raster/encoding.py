"""A trained model and its observations as the encoder of rasterization.

`encoder_of` makes one. Its two stages overlap: `observe` reads on the CPU, `codes` encodes and
quantizes on the device.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8, Shaped
from tokenizers import Tokenizer

from unigeo.producer.encoders.folded import CellEncoder, cell_encoder, gains_from_bfloat16
from unigeo.producer.encoders.fusion import fuse
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.text import tokenize
from unigeo.producer.encoders.tower_settings import ClassesSettings, PatchSettings
from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.observations.patches import Gap
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.raster.coordinate_interpolation import MixedCells, NodeVectors
from unigeo.producer.raster.covariate_columns import ModalityColumns, columns_of
from unigeo.producer.raster.device_transfer import fetch, quantize_on_device
from unigeo.producer.raster.patch_mosaic import (
    Mosaic,
    MosaicBatch,
    UnreadableError,
)
from unigeo.producer.raster.patch_statistics import patch_statistics
from unigeo.producer.raster.shard_encoder import Numbers, Observe, ObservedCells, ShardEncoder
from unigeo.producer.raster.stored_cells import VectorsToFuse
from unigeo.producer.training.step import compile_blocks
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.store.layout import FUSED
from unigeo.schemas.store.quantization import FILL

INPUT_BYTES = 64 << 20
"""Largest size of the patches of a batch, which has at least `LEAST_CELLS` cells."""
LEAST_CELLS = 128
FUSED_CELLS = 2048
"""Number of cells fused in a batch."""
COORDINATES = {"cuda": 2048, "cpu": 256}
"""Number of coordinates in a batch, by kind of device; on a CPU their tokens stay in its cache."""


@dataclass(frozen=True, eq=False)
class InterpolatedCells:
    """Inputs of coordinates that are interpolated between the nodes of a coarser lattice."""

    nodes: NodeVectors
    mixed: MixedCells


@dataclass(frozen=True, eq=False)
class PendingPatches:
    """Inputs of patches that the device still has to cut; which hold data is not known yet."""

    mosaic: Mosaic
    batch: MosaicBatch

    @cached_property
    def cut(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels and a `Gap` of each patch; cut once, in the order in which batches were read."""
        with torch.inference_mode():
            return self.mosaic.cut(self.batch)


@dataclass(frozen=True, eq=False)
class ModelEncoder(ShardEncoder):
    """Observes cells and encodes what is observed."""

    model: UniGeoCLIP
    observations: Observations
    device: torch.device
    cells: CellEncoder | None
    """The coordinate encoder, prepared for many cells; None where the model has none."""
    interpolate: int = 1
    """Side of the squares of cells of which one coordinate is encoded."""
    tokenizer: Tokenizer | None = None
    """Tokenizer of the text encoders."""

    def __call__(
        self, modality: str, lonlat: Float[np.ndarray, "point 2"]
    ) -> tuple[Float[np.ndarray, "point band"], Bool[np.ndarray, " point"]]:
        """Return unit vectors, NaN where nothing was observed, and whether anything was."""
        seen = self.observe(modality, lonlat)
        vectors = np.full((len(lonlat), self.model.settings.dimension), np.nan, np.float32)
        if seen.valid.any():
            vectors[seen.valid] = self._encode(modality, seen).float().cpu().numpy()
        return vectors, seen.valid

    def batch(self, modality: str) -> int:
        """Return the size of batches: fixed by model and device, so that the bytes do not vary."""
        if modality == FUSED:
            return FUSED_CELLS
        if modality == COORDINATE:
            return COORDINATES.get(self.device.type, COORDINATES["cuda"])
        settings = self.model.settings
        numbers = int(np.prod(settings.shape(modality)))
        size = numbers * np.dtype(settings.number_type(modality)).itemsize
        return max(LEAST_CELLS, min(2048, INPUT_BYTES // size))

    def observe(self, modality: str, lonlat: Float[np.ndarray, "point 2"]) -> ObservedCells:
        """Read coordinates, patches or texts; on the CPU, from any thread."""
        if modality == COORDINATE:
            return ObservedCells(np.asarray(lonlat, np.float64), np.ones(len(lonlat), bool))
        if self.model.settings.encoder(modality) == "text":
            assert self.tokenizer is not None, "a model of texts has a tokenizer"
            texts = self.observations.texts(lonlat, modality)
            tokens = tokenize(self.tokenizer, texts).numpy()
            return ObservedCells(tokens, np.array([text is not None for text in texts], bool))
        patches = self.observations.patches(modality, lonlat)
        return ObservedCells(patches.values, patches.valid, patches.unreadable, patches.damaged)

    @contextmanager
    def open_shard(
        self,
        modality: str,
        grid: Grid,
        window: Window,
        lonlat: Float[np.ndarray, "window_cell 2"],
        cells: Int[np.ndarray, " cell"],
    ) -> Iterator[Observe]:
        """Open the nodes or the rasters that the batches of a shard share."""
        if modality == COORDINATE and self.interpolate > 1 and len(cells):
            nodes = NodeVectors(grid, window, self.interpolate, lonlat, cells)
            yield lambda part: ObservedCells(
                InterpolatedCells(nodes, nodes.mixed(part)), np.ones(len(part), bool)
            )
            return
        rasters = self.observations.rasters_of(modality)
        if rasters is None:
            yield lambda part: self.observe(modality, lonlat[part])
            return

        def observe(part: Int[np.ndarray, " cell"]) -> ObservedCells:
            try:
                pending = PendingPatches(mosaic, mosaic.look(lonlat[part]))
            except UnreadableError:  # the slow way tells which patches are lost, and in which file
                return self.observe(modality, lonlat[part])
            return ObservedCells(pending, np.ones(len(part), bool))

        with closing(Mosaic(rasters, self.device)) as mosaic:
            yield observe
            mosaic.check()  # after the last batch: no file was replaced while it was read

    def codes(
        self, modality: str, seen: ObservedCells
    ) -> Callable[[], tuple[Int8[np.ndarray, "observed band"], Bool[np.ndarray, " point"]]]:
        """Encode and quantize on the device; call the result to wait for the numbers.

        Raises:
            ValueError: from the result, if a vector has no direction.
        """
        if isinstance(seen.inputs, PendingPatches):
            return self._codes_of_patches(modality, seen.inputs)
        if not seen.valid.any():
            nothing = np.empty((0, self._width(modality)), np.int8)
            return lambda: (nothing, seen.valid)
        codes, sound = quantize_on_device(self._encode(modality, seen))
        fetched = [fetch(codes), fetch(sound)]

        def result() -> tuple[Any, Any]:
            numbers, good = (wait() for wait in fetched)
            if not good.all():
                raise ValueError(
                    f"vector {np.flatnonzero(~good)[0]} is zero or not finite, without direction"
                )
            return numbers, seen.valid

        return result

    def _codes_of_patches(
        self, modality: str, pending: PendingPatches
    ) -> Callable[[], tuple[Int8[np.ndarray, "observed band"], Bool[np.ndarray, " point"]]]:
        """Encode every patch, also those without data: which these are is known after a wait."""
        pixels, gaps = pending.cut
        with torch.inference_mode():
            codes, sound = quantize_on_device(self._encode_pixels(modality, pixels))
        fetched = [fetch(codes), fetch(sound), fetch(gaps)]

        def result() -> tuple[Any, Any]:
            numbers, good, gap = (wait() for wait in fetched)
            valid = pending.mosaic.count_gaps(gap)
            if not good[valid].all():
                raise ValueError(
                    f"vector {np.flatnonzero(valid & ~good)[0]} is zero or not finite, without "
                    "direction"
                )
            return numbers[valid], valid

        return result

    def _width(self, modality: str) -> int:
        """Return the numbers of a modality's vectors."""
        settings = self.model.settings
        return settings.fused or settings.dimension if modality == FUSED else settings.dimension

    @property
    def derived(self) -> frozenset[str]:
        """Vectors that are made of all others of a cell."""
        return frozenset({FUSED})

    def fused_of(self, modalities: tuple[str, ...]) -> tuple[str, ...]:
        """Return which of the stored modalities fused vectors are made of."""
        fusion = self.model.fusion
        known = modalities if fusion is None else fusion.fitted
        return tuple(name for name in modalities if name in known)

    def covariates(self, modalities: tuple[str, ...]) -> tuple[ModalityColumns, ...]:
        """Return the covariates of the modalities that are cut from rasters."""
        return columns_of(self.observations, modalities)

    def numbers(self, modality: str, seen: ObservedCells) -> Numbers:
        """Compute the statistics of patches on the device; call the result to wait for them."""
        form = self.observations.form(modality)
        if isinstance(seen.inputs, PendingPatches):
            pixels, gaps = seen.inputs.cut
            with torch.inference_mode():
                fetched = [fetch(patch_statistics(pixels, form)), fetch(gaps)]

            def result() -> tuple[Any, Any]:
                numbers, gap = (wait() for wait in fetched)
                valid = gap == Gap.NONE
                return numbers[valid], valid

            return result
        with torch.inference_mode():
            values = torch.from_numpy(seen.inputs[seen.valid]).to(self.device)
            of_values = fetch(patch_statistics(values, form))
        return lambda: (of_values(), seen.valid)

    def _encode(self, modality: str, seen: ObservedCells) -> torch.Tensor:
        if isinstance(seen.inputs, InterpolatedCells):
            with torch.inference_mode():
                return seen.inputs.nodes.vectors(seen.inputs.mixed, self.encode_cells, self.device)
        if isinstance(seen.inputs, VectorsToFuse):
            with torch.inference_mode():
                return self._fuse(seen.inputs.modalities, seen.inputs.codes[seen.valid])
        values: Shaped[np.ndarray, "observed ..."] = seen.inputs
        if not seen.valid.all():
            values = values[seen.valid]
        with torch.inference_mode():
            if modality == COORDINATE:
                return self.encode_cells(torch.from_numpy(values))
            inputs = torch.from_numpy(values).to(self.device, non_blocking=True)
            return self._encode_pixels(modality, inputs)

    def _fuse(
        self, modalities: tuple[str, ...], stored: Int8[np.ndarray, "point modality band"]
    ) -> torch.Tensor:
        """Fuse stored vectors."""
        codes = torch.from_numpy(stored).to(self.device)
        present = codes[..., 0] != FILL
        unit = torch.nn.functional.normalize(codes.float(), dim=-1)
        if self.model.fusion is not None:
            fused: torch.Tensor = self.model.fusion(modalities, unit, present)
            return fused
        return fuse(unit, present)

    def _encode_pixels(self, modality: str, pixels: torch.Tensor) -> torch.Tensor:
        """Encode patches; on a GPU in bfloat16 as in training, and in batches of one size."""
        count = len(pixels)
        cuda = self.device.type == "cuda"
        if cuda and count < self.batch(modality):
            pixels = torch.cat(
                [pixels, pixels.new_zeros(self.batch(modality) - count, *pixels.shape[1:])]
            )
        half = cuda and gains_from_bfloat16(self.device, self.model.settings.towers[modality].width)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            return self.model.encode(modality, pixels)[:count]

    def encode_cells(self, lonlat: torch.Tensor) -> torch.Tensor:
        """Encode coordinates in batches; on a GPU all of the size that programs are made for."""
        assert self.cells is not None, "the model has a coordinate encoder"
        upload = self._upload_padded if self.device.type == "cuda" else self._upload
        parts = lonlat.split(self.batch(COORDINATE))
        vectors = [self.cells(upload(part)) for part in parts]
        return torch.cat(vectors)[: len(lonlat)]

    def _upload(self, lonlat: torch.Tensor) -> torch.Tensor:
        return lonlat.to(self.device)

    def _upload_padded(self, lonlat: torch.Tensor) -> torch.Tensor:
        """Return a full batch on the device, copied from pinned memory without waiting."""
        full = torch.zeros(self.batch(COORDINATE), 2, dtype=lonlat.dtype, pin_memory=True)
        full[: len(lonlat)] = lonlat
        return full.to(self.device, non_blocking=True)


def encoder_of(
    model: UniGeoCLIP,
    observations: Observations,
    device: torch.device,
    interpolate: int = 1,
    *,
    tokenizer: Tokenizer | None = None,
) -> ModelEncoder:
    """Make an encoder of a model and its observations; see `check_fit` for what must agree.

    Args:
        model: moved to the device, in evaluation mode from now on.
        observations: what is observed.
        device: where it is encoded.
        interpolate: side of the squares of cells of which one coordinate is encoded.
        tokenizer: tokenizer of the text encoders; None where no text is encoded.
    """
    model = model.to(device).eval()
    if device.type == "cuda":
        compile_blocks(model)
    cells = cell_encoder(model) if COORDINATE in model.modalities else None
    return ModelEncoder(model, observations, device, cells, interpolate, tokenizer)


def check_fit(
    model: UniGeoCLIP,
    observations: Observations,
    modalities: tuple[str, ...],
    *,
    accept_ground_size: bool = False,
) -> None:
    """Refuse a model that cannot encode what is observed.

    Args:
        model: the model.
        observations: what is observed.
        modalities: modalities to encode.
        accept_ground_size: accept patches of another size on the ground than those it learned from.

    Raises:
        ModelError: naming the modality.
    """
    fusion = model.fusion
    if FUSED in modalities and fusion is not None and not set(fusion.fitted) & set(modalities):
        raise ModelError(
            f"{FUSED} of this model is made of {', '.join(fusion.fitted)}, none of which is to be "
            f"stored; name one of them by --modalities too, or leave {FUSED} out"
        )
    for modality in modalities:
        if modality == FUSED:
            continue
        if modality not in model.modalities:
            raise ModelError(
                f"the model has no {modality} encoder; it has {', '.join(model.modalities)}"
            )
        if modality == COORDINATE:
            continue
        if modality not in observations.modalities:
            raise ModelError(
                f"the observations {observations.name!r} have no {modality}; they have "
                f"{', '.join(observations.modalities)}"
            )
        for what, trained, observed in _compared(model.settings, modality, observations):
            if trained != observed:
                raise ModelError(
                    f"the model takes {modality} of {what} {trained}, the observations give "
                    f"{observed}; train a model on them"
                )
        trained_m = getattr(model.settings.towers[modality], "sides_m", ())
        sides_m = observations.form(modality).sides_m
        if trained_m and sides_m and trained_m != sides_m and not accept_ground_size:
            listed = [", ".join(f"{side:g}" for side in sides) for sides in (trained_m, sides_m)]
            raise ModelError(
                f"the model learned {modality} patches of {listed[0]} m on the ground, those of "
                f"{observations.name} are of {listed[1]} m; train a model on them, or describe "
                "them with its size (unigeo-produce --accept-ground-size encodes them as they are)"
            )


def _compared(
    settings: ModelSettings, modality: str, observations: Observations
) -> Iterator[tuple[str, Any, Any]]:
    """Yield what a tower was made for, and the same of the observations."""
    form, tower = observations.form(modality), settings.towers[modality]
    yield "the kind", settings.encoder(modality), form.encoder
    if not isinstance(tower, PatchSettings):
        return
    yield "shape", settings.shape(modality), form.shape
    yield "type", settings.number_type(modality), np.dtype(form.pixel_type).name
    if isinstance(tower, ClassesSettings):
        yield "the classes", tower.classes, form.classes
