"""The map to fused vectors: what it keeps, how it is fitted, and a store that holds its vectors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from support.training_runs import SMALL, model_settings

from unigeo import client
from unigeo.producer.encoders.fusion import FusionMap
from unigeo.producer.encoders.model_settings import from_json, to_json
from unigeo.producer.encoders.saved_models import load_model, save_model
from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.pipeline.pipeline import carry_out
from unigeo.producer.pipeline.production_run import choose
from unigeo.producer.raster.run import ExecutionOptions
from unigeo.producer.training.dataset import prepare_data
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.train import fit_fusion, train
from unigeo.schemas.errors import ModelError
from unigeo.schemas.geo.regions import region_of_bbox
from unigeo.schemas.store.quantization import dequantize, quantize

NAMES = ("coordinate", "aerial", "dsm")
DIMENSION, NUMBERS = 24, 10


def unit(values: np.ndarray) -> torch.Tensor:
    directions = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return torch.from_numpy(directions.astype(np.float32))


@pytest.fixture(scope="module")
def vectors() -> dict[str, torch.Tensor]:
    """Views of six causes, which each modality shows in its own way, with noise."""
    rng = np.random.default_rng(0)
    causes = rng.standard_normal((500, 6))
    return {
        name: unit(
            3 * rng.standard_normal(DIMENSION)
            + causes @ rng.standard_normal((6, DIMENSION))
            + 0.05 * rng.standard_normal((500, DIMENSION))
        )
        for name in NAMES
    }


def fitted(vectors: dict[str, torch.Tensor]) -> FusionMap:
    fusion = FusionMap(NAMES, DIMENSION, NUMBERS)
    fusion.fit(vectors, seed=0)
    return fusion


def everything(vectors: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    together = torch.stack([vectors[name] for name in NAMES], dim=1)
    return together, torch.ones(together.shape[:2], dtype=torch.bool)


def test_fused_vectors_are_of_unit_length_and_a_linear_map_of_all(
    vectors: dict[str, torch.Tensor],
) -> None:
    fusion, (together, present) = fitted(vectors), everything(vectors)
    fused = fusion(NAMES, together, present).double().numpy()
    assert fused.shape == (500, NUMBERS)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1, atol=1e-6)
    # Independent: the concatenation, moved and multiplied in float64.
    maps = torch.cat(list(fusion.maps)).double().numpy()
    moved = (together - fusion.means).flatten(1).double().numpy()
    expected = moved @ maps
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(fused, expected, atol=1e-5)


def test_it_keeps_the_causes_that_modalities_share(vectors: dict[str, torch.Tensor]) -> None:
    """The inputs can be read back from the fused numbers, through int8 as well."""
    fused = fitted(vectors)(NAMES, *everything(vectors)).numpy()
    stored = dequantize(quantize(fused)).astype(np.float64)
    inputs = np.concatenate([vectors[name].double().numpy() for name in NAMES], axis=1)
    train_rows, test_rows = slice(0, 400), slice(400, None)
    design = np.concatenate([stored, np.ones((500, 1))], axis=1)
    weights = np.linalg.lstsq(design[train_rows], inputs[train_rows], rcond=None)[0]
    error = ((inputs - design @ weights)[test_rows] ** 2).sum()
    assert error < 0.2 * ((inputs - inputs[train_rows].mean(axis=0))[test_rows] ** 2).sum()


def test_every_number_carries_about_as_much(vectors: dict[str, torch.Tensor]) -> None:
    spread = fitted(vectors)(NAMES, *everything(vectors)).var(dim=0)
    assert spread.max() < 12 * spread.min()


def test_leading_numbers_say_what_a_map_of_their_own_says() -> None:
    """The first 64 of 100 numbers span the directions of a map to 64."""
    rng = np.random.default_rng(0)
    vectors = {name: unit(rng.standard_normal((600, 40)) * 0.97 ** np.arange(40)) for name in NAMES}
    maps = []
    for numbers in (64, 100):
        fusion = FusionMap(NAMES, 40, numbers)
        fusion.fit(vectors, seed=0)
        maps.append(torch.cat(list(fusion.maps)).double().numpy())
    alone, of_all = maps
    rest = alone - of_all[:, :64] @ np.linalg.lstsq(of_all[:, :64], alone, rcond=None)[0]
    assert np.linalg.norm(rest) < 1e-5 * np.linalg.norm(alone)
    # Within both parts the spread is even: no number is far below the others in int8.
    for part in (of_all[:, :64], of_all[:, 64:]):
        lengths = np.linalg.norm(part, axis=0)
        assert lengths.max() < 3 * lengths.min()


def test_a_modality_that_is_missing_counts_as_its_mean(vectors: dict[str, torch.Tensor]) -> None:
    fusion, (together, present) = fitted(vectors), everything(vectors)
    present[:, 2] = False
    without = fusion(NAMES, together, present)
    together[:, 2] = fusion.means[2]
    torch.testing.assert_close(fusion(NAMES, together, torch.ones_like(present)), without)
    alone = fusion(("dsm", "aerial"), together[:, [2, 1]], present[:, [2, 1]])
    assert alone.isfinite().all() and not torch.equal(alone, without)
    with pytest.raises(ModelError, match="none of them is stored"):
        fusion(("text",), together[:, :1], present[:, :1])


def test_the_order_of_stored_modalities_does_not_matter(vectors: dict[str, torch.Tensor]) -> None:
    fusion, (together, present) = fitted(vectors), everything(vectors)
    turned = fusion(NAMES[::-1], together.flip(1), present.flip(1))
    torch.testing.assert_close(turned, fusion(NAMES, together, present))


def test_too_few_directions_are_refused(vectors: dict[str, torch.Tensor]) -> None:
    few = {name: values[:5] for name, values in vectors.items()}
    with pytest.raises(ModelError, match="have 4 directions, and fused vectors want 10"):
        fitted(few)
    with pytest.raises(ModelError, match="equal"):
        fitted({name: values[:1].expand(9, -1) for name, values in vectors.items()})


def test_a_trained_model_stores_vectors_of_its_own_width(tmp_path: Path) -> None:
    world = World()
    settings = from_json({**to_json(model_settings()), "fused": 12})
    train(world, settings, SMALL, tmp_path / "model", progress=False)
    model, _ = load_model(tmp_path / "model")
    assert model.fusion is not None and model.fusion.maps.abs().amax(dim=(1, 2)).min() > 0
    maps = model.fusion.maps.clone()
    model.fusion.maps.zero_()
    fit_fusion(model, prepare_data(world, settings, SMALL, Processes()), torch.device("cpu"))
    torch.testing.assert_close(model.fusion.maps, maps, rtol=1e-3, atol=1e-3)  # as after training
    url = tmp_path / "f.zarr"
    run = choose(
        region_of_bbox((-100.0, 40.0, -99.4, 40.4), "plains"),
        world,
        model=str(tmp_path / "model"),
        out=str(url),
        resolution_m=5000,
        modalities="coordinate,aerial,dsm,fused",
    )
    assert run.layout.width("fused") == 12 and run.layout.width("aerial") == 32
    list(carry_out(run, world, options=ExecutionOptions(progress=False)))
    field = client.open_field(url)
    point = (-99.7, 40.2)
    vectors = field.sample([point], as_="numpy")["fused"]
    group: Any = zarr.open_group(url, mode="r")
    assert group["fused"].shape[-1] == 12 and vectors.shape == (1, 12)
    asked = field.concepts.find("dense forest").fused
    assert asked is not None
    found = field.search("dense forest", as_="map")
    np.testing.assert_array_equal(found, field.similarity(asked, "fused"))
    assert len(field.similar(point, modality="fused")) > 0
    _check_a_map_of_images_alone(tmp_path)


class SeenInTheWest(World):
    """A world whose aerial images end at a meridian."""

    def patches(self, modality: str, lonlat: np.ndarray) -> Patches:
        seen = super().patches(modality, lonlat)
        return Patches(seen.values, seen.valid & ((modality != "aerial") | (lonlat[:, 0] < -99.7)))


def _check_a_map_of_images_alone(folder: Path) -> None:
    """A cell without any modality of the map has no fused vector; a field needs one of them."""
    model, tokenizer = load_model(folder / "model")
    assert model.fusion is not None
    for number, name in enumerate(model.fusion.modalities):
        model.fusion.maps[number] *= name == "aerial"
    assert model.fusion.fitted == ("aerial",)
    metrics = {"metrics.json": (folder / "model/metrics.json").read_text()}
    save_model(model, tokenizer, folder / "images", metrics)
    for modalities in ("dsm,aerial,fused", "coordinate,dsm,fused"):
        run = choose(
            region_of_bbox((-100.0, 40.0, -99.4, 40.4), "plains"),
            SeenInTheWest(),
            model=str(folder / "images"),
            out=str(folder / f"{modalities}.zarr"),
            resolution_m=5000,
            modalities=modalities,
        )
        produced = carry_out(run, SeenInTheWest(), options=ExecutionOptions(progress=False))
        if "aerial" in modalities:
            list(produced)
            cells: Any = zarr.open_group(run.out, mode="r")
            aerial, fused = (cells[f"{name}_status"][...] for name in ("aerial", "fused"))
            assert np.array_equal(aerial, fused) and {1, 3} <= set(fused.ravel().tolist())
        else:
            with pytest.raises(ModelError, match="made of aerial, none of which is to be stored"):
                list(produced)


def test_a_width_without_sense_is_refused() -> None:
    with pytest.raises(ModelError, match="fused must be less"):
        from_json({**to_json(model_settings()), "fused": 32})
    assert "fused" not in to_json(model_settings())
