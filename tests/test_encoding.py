"""The coordinate encoder in numpy is the producer's in torch, and the stored field."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import stores
from zarr.storage import MemoryStore

from unigeo import client
from unigeo.client.encoding.coordinate_encoder import Encoder
from unigeo.client.encoding.layers import gelu
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import CoordinateSettings, TextSettings
from unigeo.producer.publishing.coordinate_encoder import coordinate_settings, coordinate_weights
from unigeo.producer.publishing.publish import publish
from unigeo.schemas.errors import LayoutError, StoreError
from unigeo.schemas.store.encoder import EncoderSettings

WORDS = TextSettings(width=8, depth=0, heads=1, tokens=4, vocabulary=300)


def model_of(seed: int = 0, dimension: int = 16, **options: Any) -> UniGeoCLIP:
    """A model with every weight drawn at random, biases and norms too, as after training."""
    chosen = {"width": 32, "depth": 2, "heads": 4} | options
    coordinate = CoordinateSettings(**chosen)
    model = UniGeoCLIP(
        ModelSettings(
            dimension=dimension, towers={"coordinate": coordinate, "text": WORDS}, seed=seed
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.encoders["coordinate"].parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def encoder_in_numpy(model: UniGeoCLIP) -> Encoder:
    return Encoder(
        EncoderSettings.model_validate(coordinate_settings(model)), coordinate_weights(model)
    )


def in_torch(model: UniGeoCLIP, lonlat: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model.encode("coordinate", torch.from_numpy(lonlat)).numpy()


def places(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform((-180, -90), (180, 90), (count, 2))


@settings(max_examples=25)
@given(
    sigmas=st.lists(st.sampled_from([1.0, 16.0, 256.0, 4096.0, 65536.0]), min_size=1, max_size=4),
    depth=st.integers(0, 3),
    registers=st.integers(0, 3),
    features=st.sampled_from(["plane", "sphere"]),
    embedding=st.booleans(),
    dimension=st.sampled_from([16, 32]),
    ratio=st.sampled_from([1.0, 2.5, 4.0]),
    layers=st.integers(0, 2),
    readout=st.sampled_from(["mean", "concat", "registers"]),
    seed=st.integers(0, 1000),
)
def test_numpy_gives_torch_s_vectors(
    sigmas: list[float],
    depth: int,
    registers: int,
    features: str,
    embedding: bool,
    dimension: int,
    ratio: float,
    layers: int,
    readout: str,
    seed: int,
) -> None:
    assume(registers > 0 or readout != "registers")
    model = model_of(
        seed,
        dimension,
        sigmas=tuple(sigmas),
        depth=depth,
        registers=registers,
        features=features,
        scale_embedding=embedding,
        mlp_ratio=ratio,
        scale_layers=layers,
        readout=readout,
    )
    lonlat = places(seed, 40)
    vectors = encoder_in_numpy(model).encode(lonlat, batch=17)
    assert vectors.dtype == np.float32
    assert np.abs(vectors - in_torch(model, lonlat)).max() < 1e-4
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@settings(max_examples=20)
@given(
    kind=st.sampled_from(["geoclip", "satclip", "fourier"]),
    depth=st.integers(0, 3),
    scales=st.integers(1, 3),
    features=st.sampled_from(["plane", "sphere"]),
    degree=st.integers(1, 20),
    w0=st.sampled_from([1.0, 10.0]),
    seed=st.integers(0, 1000),
)
def test_numpy_gives_the_peers_vectors_too(
    kind: str, depth: int, scales: int, features: str, degree: int, w0: float, seed: int
) -> None:
    model = model_of(
        seed,
        kind=kind,
        depth=depth,
        sigmas=(1.0, 64.0, 4096.0)[:scales],
        features=features,
        degree=degree,
        w0=w0,
    )
    lonlat = places(seed, 40)
    vectors = encoder_in_numpy(model).encode(lonlat, batch=17)
    assert (1 - (vectors * in_torch(model, lonlat)).sum(axis=1)).max() < 1e-6


EVERY_KIND: list[dict[str, Any]] = [
    {},
    {"learned_frequencies": True},
    {"scale_layers": 2, "readout": "concat"},
    {"readout": "registers", "dropout": 0.5},
    {"kind": "geoclip"},
    {"kind": "satclip", "degree": 7, "w0": 3.0},
    {"kind": "fourier", "features": "sphere"},
]


@pytest.mark.parametrize("options", EVERY_KIND, ids=str)
def test_every_weight_changes_the_vectors(options: dict[str, Any]) -> None:
    """So that the comparison with torch above compares what it says."""
    lonlat, rng = places(0, 40), np.random.default_rng(0)
    whole = encoder_in_numpy(model_of(**options))
    assert np.abs(whole.encode(lonlat) - in_torch(model_of(**options), lonlat)).max() < 1e-4
    for name, values in whole.weights.items():
        noise = rng.normal(0, 0.05, values.shape).astype(values.dtype)
        changed = Encoder(whole.settings, whole.weights | {name: values + noise})
        assert np.abs(changed.encode(lonlat) - whole.encode(lonlat)).max() > 1e-4, name


@given(st.floats(-50, 50))
def test_gelu_is_exact(x: float) -> None:
    exact = 0.5 * x * (1 + math.erf(x / math.sqrt(2)))
    for kind in (np.float32, np.float64):
        assert abs(gelu(np.array([x], kind))[0] - exact) < 1e-6 * max(1, abs(x))


@settings(max_examples=10)
@given(st.integers(1, 50))
def test_a_vector_does_not_depend_on_its_batch(batch: int) -> None:
    encoder, lonlat = encoder_in_numpy(model_of()), places(1, 30)
    assert np.abs(encoder.encode(lonlat, batch=batch) - encoder.encode(lonlat)).max() < 1e-5


@given(
    lon=st.floats(-180, 180), lat=st.floats(-90, 90), features=st.sampled_from(["plane", "sphere"])
)
def test_a_turn_round_the_globe_comes_back(lon: float, lat: float, features: Any) -> None:
    encoder = encoder_in_numpy(model_of(features=features, sigmas=(1.0, 16.0)))
    here, again = encoder.encode(np.array([[lon, lat], [lon + (360 if lon < 0 else -360), lat]]))
    at_seam = features == "plane" and abs(lon) in (0, 180)
    assert at_seam or np.abs(here - again).max() < 1e-4


def put(
    path: Any, model: UniGeoCLIP, weights: dict[str, np.ndarray] | None = None, **changed: Any
) -> None:
    """A field of the model's own coordinate vectors, its encoder group changed or not."""
    group, grid, layout = stores.begin(
        path, layout=stores.layout_of(("coordinate",), bands=model.settings.dimension)
    )
    stores.fill(
        group, grid, layout, encode=lambda _, lonlat: (in_torch(model, lonlat), lonlat[:, 0] < 999)
    )
    publish(
        group,
        encoder=coordinate_weights(model) | (weights or {}),
        encoder_settings=coordinate_settings(model) | changed,
    )


@pytest.fixture(scope="module")
def model() -> UniGeoCLIP:
    return model_of(registers=0, features="plane")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory, model: UniGeoCLIP) -> Path:
    path = tmp_path_factory.mktemp("stores") / "encoded.zarr"
    put(path, model)
    return path


@pytest.mark.parametrize("options", EVERY_KIND[-3:], ids=str)
def test_a_store_of_every_kind_is_encoded(options: dict[str, Any]) -> None:
    store, model = MemoryStore(), model_of(**options)
    put(store, model)
    lonlat = places(0, 9)
    vectors = client.open_field(store).encode(lonlat, as_="numpy")
    assert np.abs(vectors - in_torch(model, lonlat)).max() < 1e-4


def test_a_store_written_before_there_were_kinds_still_opens(model: UniGeoCLIP) -> None:
    """Its settings are those of the first version."""
    of_old = "width depth heads mlp_ratio sigmas registers scale_embedding features seed dimension"
    values = {key: coordinate_settings(model)[key] for key in of_old.split()}
    encoder = Encoder(EncoderSettings.model_validate(values), coordinate_weights(model))
    assert {k: v.shape for k, v in encoder.weights.items()} == encoder.settings.shapes()
    assert np.abs(encoder.encode(places(0, 9)) - in_torch(model, places(0, 9))).max() < 1e-4


def test_at_the_cells_centres_it_is_the_stored_field(encoded: Path, model: UniGeoCLIP) -> None:
    field = client.open_field(encoded)
    centres = field.grid.centres().reshape(-1, 2)[::5]
    stored = field.sample(centres, as_="numpy")["coordinate"]
    has = ~np.isnan(stored[:, 0])
    vectors = field.encode(centres[has], as_="numpy")
    assert has.sum() > 300
    step = np.abs(vectors).max(axis=1) / 127
    assert (np.abs(vectors - stored[has]).max(axis=1) < step).all()
    assert np.abs(vectors - in_torch(model, centres[has])).max() < 1e-4


def test_vectors_come_in_every_form_with_the_points_own_index(encoded: Path) -> None:
    field = client.open_field(encoded)
    table = pd.DataFrame({"east": [0.0, 1e6], "north": [1e6, 0.0]}, index=["p", "q"])
    options: dict[str, Any] = {"crs": "EPSG:8857", "columns": ("east", "north")}
    array = field.encode(table, as_="numpy", **options)
    frame = field.encode(table, prefix="ug_", **options)
    dataset = field.encode(table, as_="xarray", **options)
    assert array.shape == (2, 16)
    assert frame.index.tolist() == ["p", "q"]
    assert next(iter(frame)) == "ug_coordinate_000"
    np.testing.assert_allclose(frame, array, atol=1e-6)
    np.testing.assert_allclose(dataset["coordinate"], array, atol=1e-6)
    assert dataset["lat"].values == pytest.approx([7.795, 0.0], abs=1e-3)
    assert field.encode([], as_="numpy").shape == (0, 16)
    again = xr.open_zarr(encoded).unigeo.encode(table, **options)
    np.testing.assert_allclose(again, array, atol=1e-6)
    with pytest.raises(ValueError, match="at least one point"):
        field.encode(table, batch=0, **options)


def test_a_point_without_a_position_is_encoded_as_nan(encoded: Path) -> None:
    field = client.open_field(encoded)
    points = np.array([[1.0, 2.0], [np.nan, 3.0], [10.0, 4.0]])
    with pytest.warns(client.PointsWarning, match="1 of 3 points have no position"):
        vectors = field.encode(points, as_="numpy")
    assert np.array_equal(np.isnan(vectors).all(axis=1), [False, True, False])
    assert np.allclose(vectors[::2], field.encode(points[::2], as_="numpy"), atol=1e-6)


def test_a_store_in_memory_is_encoded_too(model: UniGeoCLIP) -> None:
    store = MemoryStore()
    put(store, model)
    vectors = client.open_field(store).encode([(500.0 - 360, 10.0)], as_="numpy")
    assert np.abs(vectors - in_torch(model, np.array([[140.0, 10.0]]))).max() < 1e-4


def test_a_store_without_an_encoder_says_so(tmp_path: Path) -> None:
    group, grid, layout = stores.begin(tmp_path / "f")
    stores.fill(group, grid, layout)
    publish(group)
    with pytest.raises(LayoutError, match="has no group 'encoder'"):
        client.open_field(tmp_path / "f").encode([(0.0, 0.0)])


def test_an_encoder_of_another_kind_is_refused_with_what_is_unknown(
    gulf: Path, model: UniGeoCLIP
) -> None:
    with pytest.raises(LayoutError, match=r"cannot evaluate \(.*kind: Input should be 'scales'"):
        client.open_field(gulf).encode([(0.0, 0.0)])  # its settings are {"kind": "waves"}
    for changed, said in (
        ({"features": "torus"}, "features: Input should be 'plane' or 'sphere'"),
        ({"heads": 5}, "5 heads do not divide the width 32"),
        ({"mixer": "mlp"}, "mixer: Extra inputs"),
    ):
        store = MemoryStore()
        put(store, model, **changed)
        with pytest.raises(LayoutError, match=said):
            client.open_field(store).encode([(0.0, 0.0)])


def test_weights_that_do_not_fit_are_named(model: UniGeoCLIP) -> None:
    store = MemoryStore()
    put(store, model, depth=3)
    with pytest.raises(LayoutError, match=r"blocks\.2\.attention_norm\.bias is missing"):
        client.open_field(store).encode([(0.0, 0.0)])
    store = MemoryStore()
    put(store, model, {"rotation": np.eye(8, dtype=np.float32)})
    with pytest.raises(LayoutError, match=r"rotation is \(8, 8\), expected \(16, 16\)"):
        client.open_field(store).encode([(0.0, 0.0)])
    store = MemoryStore()
    put(store, model, {"frequencies": coordinate_weights(model)["frequencies"].astype("f4")})
    with pytest.raises(LayoutError, match="frequencies in float32"):
        client.open_field(store).encode([(0.0, 0.0)])


def test_a_dataset_from_nowhere_cannot_be_encoded(encoded: Path) -> None:
    dataset = xr.open_zarr(encoded)
    dataset.encoding.clear()
    with pytest.raises(StoreError, match="does not say which store"):
        dataset.unigeo.encode([(0.0, 0.0)])
