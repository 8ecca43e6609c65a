"""Probes of frozen encoders on synthetic copies of public benchmarks."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.evaluation.downstream import run
from unigeo.producer.evaluation.downstream.confusion import (
    IGNORED,
    class_scores,
    confusion_matrix,
    overall_scores,
)
from unigeo.producer.evaluation.downstream.geobench import GeoBench, label_in_pickle
from unigeo.producer.evaluation.downstream.inputs import encode_tokens, resize_image
from unigeo.producer.evaluation.downstream.linear import (
    PixelSettings,
    fit_pixels,
    pixel_confusion,
)
from unigeo.producer.evaluation.downstream.mdas import LAND_USE
from unigeo.producer.observations.forms import default_forms
from unigeo.schemas.errors import ModelError, ObservationsError

h5py = pytest.importorskip("h5py")
rasterio = pytest.importorskip("rasterio")

CPU = torch.device("cpu")
SIDE = 24
SHORT = PixelSettings(steps=150)


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def model() -> UniGeoCLIP:
    shapes = {"aerial": (3, SIDE, SIDE), "dsm": (1, SIDE, SIDE)}
    return UniGeoCLIP(tiny(default_forms(shapes, text=False), seed=1)).eval()


def write_geobench(
    folder: Path, samples: dict[str, list[tuple[np.ndarray, int | np.ndarray]]], marker: Path
) -> None:
    """Write images (0 to 255) and classes as GEO-Bench's `write_sample_hdf5` does.

    The objects that replace its BandInfo touch the file `marker` when they are unpickled.
    """
    folder.mkdir(parents=True)
    names = {split: [f"{split},{n}" for n in range(len(s))] for split, s in samples.items()}
    (folder / "default_partition.json").write_text(json.dumps(names))
    stats = {band: {"min": 0.0, "max": 255.0} for band in ("Red", "Green", "Blue")}
    (folder / "band_stats.json").write_text(json.dumps(stats))
    (folder / "task_specs.pkl").write_bytes(pickle.dumps(Malicious(marker)))
    for split, content in samples.items():
        for name, (image, label) in zip(names[split], content, strict=True):
            with h5py.File(folder / f"{name}.hdf5", "w") as file:
                attributes = {} if isinstance(label, np.ndarray) else {"label": label}
                for band, key in enumerate(("Red", "Green_2020-01-01", "Blue")):
                    file[key] = image[..., band]
                    attributes[key] = {"band_info": Malicious(marker), "crs": "EPSG:4326"}
                if isinstance(label, np.ndarray):
                    file["label"] = label
                attributes["bands_order"] = list(file)
                file.attrs["pickle"] = str(pickle.dumps(attributes))


def coloured(count: int, seed: int) -> list[tuple[np.ndarray, int]]:
    """Noise, reddish (class 1) or bluish (class 0), of another size than the encoder takes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    images = rng.normal(128, 40, (count, 40, 40, 3))
    images[..., 0] += np.where(labels, 15, -15)[:, None, None]
    return [(p, int(c)) for p, c in zip(images.clip(0, 255).astype(np.uint8), labels, strict=True)]


def halved(count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Green (class 2) on a random side and grey (class 4) on the other."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        left = rng.random() < 0.5
        mask = np.full((48, 48), 4, np.uint8)
        mask[:, slice(0, 24) if left else slice(24, 48)] = 2
        image = rng.normal(120, 20, (48, 48, 3))
        image[..., 1] += np.where(mask == 2, 60, 0)
        samples.append((image.clip(0, 255).astype(np.float32), mask))
    return samples


def splits(make: Callable[[int, int], list[Any]], train: int, other: int) -> dict[str, list[Any]]:
    return {"train": make(train, 0), "valid": make(other, 1), "test": make(other, 2)}


@pytest.fixture(scope="module")
def pv4ger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pv4ger")
    write_geobench(folder / "set", splits(coloured, 120, 60), folder / "marker")
    return folder / "set"


def test_a_random_encoder_tells_colours_apart_and_no_pickle_is_loaded(
    model: UniGeoCLIP, pv4ger: Path
) -> None:
    marker = pv4ger.parent / "marker"
    result = run("m-pv4ger", model, pv4ger, CPU)
    assert result.metrics["accuracy"] > 0.9
    truth = [label for _, label in coloured(60, 2)]
    assert list(result.table["pictures"]) == list(np.bincount(truth))
    assert result.facts["train pictures"] == 120
    assert not marker.exists()
    pickle.loads((pv4ger / "task_specs.pkl").read_bytes())
    assert marker.exists()  # loading one would have shown


def test_shuffled_classes_are_not_predicted(
    model: UniGeoCLIP, pv4ger: Path, tmp_path: Path
) -> None:
    samples = splits(coloured, 120, 60)
    rng = np.random.default_rng(5)
    for split, content in samples.items():
        labels = rng.permutation([label for _, label in content])
        samples[split] = [(p, int(c)) for (p, _), c in zip(content, labels, strict=True)]
    write_geobench(tmp_path / "set", samples, tmp_path / "marker")
    assert abs(run("m-pv4ger", model, tmp_path / "set", CPU).metrics["accuracy"] - 0.5) < 0.2


def test_the_label_map_comes_before_the_pickle(model: UniGeoCLIP, tmp_path: Path) -> None:
    write_geobench(tmp_path / "set", splits(coloured, 2, 2), tmp_path / "marker")
    data = GeoBench(tmp_path / "set")
    truth = data.labels()
    assert truth["test,1"] == coloured(2, 2)[1][1]
    (data.folder / "label_map.json").write_text(json.dumps({"7": ["train,0"]}))
    assert data.labels() == truth | {"train,0": 7}
    with pytest.raises(ObservationsError, match="train,0 holds class 7"):
        run("m-pv4ger", model, data.folder, CPU)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("label", [0, 1, 300, 70_000, 2**40])
def test_a_whole_number_is_found_in_every_protocol(protocol: int, label: int) -> None:
    stored = {"label": label, "Red": {"date": None}, "bands_order": ["Red"]}
    assert label_in_pickle(str(pickle.dumps(stored, protocol))) == label


@pytest.mark.parametrize(
    "stored",
    [{"label": "water"}, {"label": np.int64(1)}, {"other": 1}, {"Red": 3, "bands": ["label"]}],
)
def test_anything_else_is_no_label(stored: dict[str, Any]) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert label_in_pickle(str(pickle.dumps(stored, protocol))) is None
    assert label_in_pickle("__import__('os')") is None and label_in_pickle("") is None


def test_an_earlier_object_is_no_label() -> None:
    twice = "water-" * 3
    stored = {"first": twice, "label": twice}  # the second is a number of the memo
    assert label_in_pickle(str(pickle.dumps(stored))) is None


def test_a_class_that_is_no_plain_number_asks_for_the_label_map(tmp_path: Path) -> None:
    samples = splits(coloured, 3, 3)
    samples["test"][1] = (samples["test"][1][0], "solar")
    write_geobench(tmp_path / "set", samples, tmp_path / "marker")
    with pytest.raises(ObservationsError, match=r"test,1\.hdf5.*label_map\.json"):
        GeoBench(tmp_path / "set").labels()


def test_halves_are_recovered_from_patch_tokens(model: UniGeoCLIP, tmp_path: Path) -> None:
    write_geobench(tmp_path / "set", splits(halved, 40, 16), tmp_path / "marker")
    result = run("m-chesapeake", model, tmp_path / "set", CPU, settings=SHORT)
    assert result.metrics["miou"] > 0.85
    seen = result.table[result.table["pixels"] > 0]
    assert list(seen["class"]) == ["low-vegetation-field", "impervious-other"]
    assert not (tmp_path / "marker").exists()


def test_images_from_0_to_1_are_the_same_images(pv4ger: Path, tmp_path: Path) -> None:
    samples = {
        split: [(p.astype(np.float32) / 255, label) for p, label in content[:2]]
        for split, content in splits(coloured, 120, 60).items()
    }
    write_geobench(tmp_path / "set", samples, tmp_path / "marker")
    stats = {band: {"max": 1.0} for band in ("Red", "Green", "Blue")}
    (tmp_path / "set" / "band_stats.json").write_text(json.dumps(stats))
    one, other = GeoBench(tmp_path / "set"), GeoBench(pv4ger)
    assert np.abs(one.image("train,0") - other.image("train,0")).max() < 1e-4


def test_a_larger_image_is_averaged_not_sampled() -> None:
    stripes = np.zeros((64, 64, 3))
    stripes[:, ::2] = 200  # finer than the result can show
    shown = resize_image(stripes, (3, 16, 16))
    assert np.abs(shown[:, :, 2:-2].astype(int) - 100).max() <= 2
    assert resize_image(stripes, (1, 16, 16)).shape == (1, 16, 16)
    with pytest.raises(ModelError, match="4 channels"):
        resize_image(stripes, (4, 16, 16))


def test_tokens_lie_on_the_grid_and_do_not_see_the_batch(model: UniGeoCLIP) -> None:
    rng = np.random.default_rng(0)
    aerial = rng.integers(0, 256, (5, 3, SIDE, SIDE), np.uint8)
    heights = rng.normal(100, 9, (5, 1, SIDE, SIDE)).astype(np.float32)
    for modality, inputs in (("aerial", aerial), ("dsm", heights)):
        together = encode_tokens(model, modality, inputs, CPU)
        assert together.shape == (5, 3, 3, 128)
        alone = encode_tokens(model, modality, inputs[2:3], CPU)
        assert (together[2:3] - alone).abs().max() < 2e-2  # half precision
    flat = aerial[:1].copy()
    changed = flat.copy()
    changed[:, :, :8, 16:] = 255 - changed[:, :, :8, 16:]
    gap = encode_tokens(model, "aerial", np.concatenate([flat, changed]), CPU).float().diff(dim=0)
    assert gap.norm(dim=-1)[0].argmax() == 2  # the upper right patch


def plain_iou(truth: np.ndarray, guess: np.ndarray, classes: int) -> list[float]:
    kept = truth != IGNORED
    pairs = [(kept & (truth == c), kept & (guess == c)) for c in range(classes)]
    return [float((t & g).sum() / (t | g).sum()) if (t | g).any() else np.nan for t, g in pairs]


def test_scores_equal_those_counted_by_hand() -> None:
    rng = np.random.default_rng(3)
    truth = rng.choice([0, 1, 3, IGNORED], (6, 9, 7)).astype(np.uint8)
    guess = np.where(rng.random(truth.shape) < 0.6, truth, rng.choice([0, 1, 2], truth.shape))
    guess[guess == IGNORED] = 1
    parts = [confusion_matrix(truth[half], guess[half], 5) for half in (slice(2), slice(2, 6))]
    confusion = sum(parts)
    expected = plain_iou(truth, guess, 5)
    table = class_scores(confusion, tuple("abcde"))
    assert table["iou"].to_numpy() == pytest.approx(expected, nan_ok=True)
    assert table["f1"].to_numpy() == pytest.approx(
        [2 * iou / (1 + iou) for iou in expected], nan_ok=True
    )
    scores = overall_scores(confusion)
    assert scores["miou"] == pytest.approx(np.nanmean(expected))
    kept = truth != IGNORED
    assert scores["accuracy"] == pytest.approx((truth == guess)[kept].mean())


def test_ignored_pixels_teach_nothing_and_are_not_scored() -> None:
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.normal(size=(8, 2, 2, 5)).astype(np.float32))
    masks = rng.integers(0, 3, (8, 4, 4)).astype(np.uint8)
    masks[:, 2:] = IGNORED
    settings = PixelSettings(steps=9, batch=1)
    probe = fit_pixels(tokens, masks, 3, CPU, settings)
    more = torch.cat([tokens, tokens[:3] + 9]), np.concatenate([masks, masks[:3] | IGNORED])
    again = fit_pixels(*more, 3, CPU, settings)
    torch.testing.assert_close(probe.layer.weight, again.layer.weight)
    assert pixel_confusion(probe, *more, 3, CPU).sum() == (masks != IGNORED).sum()
    with pytest.raises(ObservationsError, match="no training picture has a labelled pixel"):
        fit_pixels(tokens, masks | IGNORED, 3, CPU, settings)


def test_a_probe_of_constant_tokens_finds_the_frequencies() -> None:
    """It can only learn its intercepts, whose best values are known."""
    masks = np.random.default_rng(0).choice([0, 1, 1, 2, 2, 2], (64, 4, 4)).astype(np.uint8)
    tokens = torch.ones(64, 2, 2, 3)
    probe = fit_pixels(tokens, masks, 3, CPU, PixelSettings(steps=500, decay=0.0))
    shares = probe(tokens[:1], (4, 4)).softmax(dim=1)[0, :, 0, 0]
    assert shares.tolist() == pytest.approx(np.bincount(masks.ravel()) / masks.size, abs=0.02)


LANDUSE = list(LAND_USE)[:2]


def write_mdas(folder: Path, areas: int) -> None:
    """Buildings of 15 m are class 0, flat ground is class 1, a strip has no label."""
    rng = np.random.default_rng(0)
    for area in range(1, areas + 1):
        area_folder = folder / "Augsburg_data_4_publication" / f"sub_area_{area}"
        area_folder.mkdir(parents=True)
        high = np.kron(rng.random((6, 7)) < 0.5, np.ones((16, 16), bool))
        ground = 480 + 20 * area + rng.normal(0, 0.3, (192, 224))
        dsm = ground + 15 * high.repeat(2, 0).repeat(2, 1) * (rng.random((192, 224)) < 0.8)
        codes = np.where(high, *LANDUSE).astype(np.float64)
        codes[:8] = -2147483647
        write_tif(area_folder / f"3K_DSM_sub_area{area}.tif", dsm.astype(np.float32), 0.5)
        (area_folder / "OSM_label").mkdir()
        write_tif(area_folder / "OSM_label" / f"osm_landuse_sub_area{area}.tif", codes, 1.0)


def write_tif(path: Path, values: np.ndarray, pixel_m: float) -> None:
    from rasterio.transform import from_origin

    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[0],
        width=values.shape[1],
        count=1,
        dtype=values.dtype,
        crs="EPSG:32632",
        transform=from_origin(640_000, 5_360_000, pixel_m, pixel_m),
    ) as file:
        file.write(values, 1)


def test_land_use_is_read_from_heights(model: UniGeoCLIP, tmp_path: Path) -> None:
    write_mdas(tmp_path, 3)
    result = run("mdas", model, tmp_path, CPU, resolution_m=1.0, settings=SHORT)
    assert next(iter(result.metrics)) == "accuracy"
    assert result.metrics["accuracy"] > 0.85
    assert list(result.table["class"]) == ["forest", "park"]
    # 96 x 112 m at 1 m: all but the 8 rows without a label, of each area, and nothing off it.
    assert result.table["pixels"].sum() == 3 * (96 - 8) * 112
    assert result.facts["sub_area_1 tiles"] == 4 * 5


def test_mdas_says_what_is_missing(model: UniGeoCLIP, tmp_path: Path) -> None:
    write_mdas(tmp_path, 1)
    with pytest.raises(ObservationsError, match=r"holds sub_area_1; at least two"):
        run("mdas", model, tmp_path, CPU)
    write_mdas(tmp_path / "two", 2)
    root = tmp_path / "two" / "Augsburg_data_4_publication"
    (root / "sub_area_2" / "3K_DSM_sub_area2.tif").write_bytes(b"no picture")
    with pytest.raises(ObservationsError, match="sub_area_2"):
        run("mdas", model, root, CPU)
    (root / "sub_area_2" / "3K_DSM_sub_area2.tif").unlink()
    with pytest.raises(ObservationsError, match=r"sub_area_2 must hold one file 3k_dsm_\*\.tif"):
        run("mdas", model, root, CPU)


def conus27_table(count: int = 400) -> pd.DataFrame:
    """A table like PDFM's: smooth targets over the United States, and one of noise."""
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-120, -75, count), rng.uniform(30, 48, count)
    wave = np.sin(np.radians(lon * 6)) + np.cos(np.radians(lat * 9))
    east = lon > np.quantile(lon, 0.8)
    county = rng.random(count) < 0.4
    return pd.DataFrame(
        {
            "place": [f"{'geoId' if c else 'zip'}/{n:05d}" for n, c in enumerate(county)],
            "county": "geoId/01001",
            "state": "geoId/01",
            "latitude": lat,
            "longitude": lon,
            "Count_Person": rng.integers(1, 9, count),
            "Percent_Person_WithAsthma": wave + rng.normal(0, 0.1, count),
            "Median_Income_Household": 50_000 + 9_000 * wave + 500 * lat,
            "tree_cover": np.where(rng.random(count) < 0.1, np.nan, lat),
            "elevation": rng.normal(size=count),
            "imputation_split": np.where(rng.random(count) < 0.2, "train", "test"),
            "extrapolation_split": np.where(east, "test", "train"),
            "superresolution_split": np.where(county, "train", "test"),
        }
    )


def test_smooth_targets_are_read_from_coordinates(model: UniGeoCLIP, tmp_path: Path) -> None:
    conus27_table().to_csv(tmp_path / "conus27.csv", index=False)
    result = run("conus27", model, tmp_path, CPU, folds=3)
    table = result.table.set_index(["split", "features", "target"])["r2"]
    names = ("random", "blocked", "imputation", "extrapolation", "superresolution")
    assert list(result.metrics)[:5] == [f"r2_{name}" for name in names]
    health = table["random", "coordinate", "Percent_Person_WithAsthma"]
    assert result.metrics["r2_random_health"] == pytest.approx(health)
    for split in ("random", "imputation", "superresolution"):
        assert table[split, "coordinate", "Median_Income_Household"] > 0.8
        assert table[split, "lonlat IDW", "Median_Income_Household"] > 0.8
        assert table[split, "coordinate", "elevation"] < 0.1
        assert abs(table[split, "mean", "elevation"]) < 0.05
    assert table["blocked"].mean() < table["random"].mean()
    assert set(result.table["family"]) == {"health", "socio-economic", "environment"}
    mine = result.table.query("split == 'imputation' and features == 'coordinate'")["r2"].mean()
    assert result.metrics["r2_imputation"] == pytest.approx(mine)
    assert result.facts["targets"] == 4


def test_the_table_s_splits_train_on_train_alone(model: UniGeoCLIP, tmp_path: Path) -> None:
    """Test rows must not help to predict their neighbours that are test rows too."""
    table = conus27_table()
    hidden = table["imputation_split"] == "test"
    table.loc[hidden, "Median_Income_Household"] = np.arange(hidden.sum())
    other = table.copy()
    other.loc[hidden, "Median_Income_Household"] *= -1
    scores = []
    for number, content in enumerate((table, other)):
        content.to_csv(tmp_path / f"{number}.csv", index=False)
        report = run(
            "conus27", model, tmp_path / f"{number}.csv", CPU, splits=("imputation",)
        ).table
        rows = report.query("target == 'Median_Income_Household'")
        scores.append(rows.set_index("features")["r2"])
    assert (scores[0].drop("mean") < 0.05).all() and len(scores[0]) == 4
    truth = table.loc[hidden, "Median_Income_Household"].to_numpy()
    mean = table.loc[~hidden, "Median_Income_Household"].mean()
    for r2, values in zip(scores, (truth, -truth), strict=True):
        expected = 1 - ((values - mean) ** 2).sum() / ((values - values.mean()) ** 2).sum()
        assert r2["mean"] == pytest.approx(expected)


def test_rows_of_neither_side_of_a_split_have_no_effect(model: UniGeoCLIP, tmp_path: Path) -> None:
    table = conus27_table()
    out = np.arange(len(table)) % 5 == 0
    table.loc[out, "extrapolation_split"] = np.nan
    other = table.copy()
    other.loc[out, "tree_cover"] = 1e6
    means = []
    for content in (table, other):
        content.to_csv(tmp_path / "conus27.csv", index=False)
        report = run("conus27", model, tmp_path, CPU, splits=("extrapolation",)).table
        rows = report.query("target == 'tree_cover'")
        means.append(rows["r2"].to_numpy())
    assert means[0] == pytest.approx(means[1], rel=1e-9)


def test_a_table_of_another_kind_is_refused(model: UniGeoCLIP, tmp_path: Path) -> None:
    with pytest.raises(ObservationsError, match=r"conus27\.csv is missing"):
        run("conus27", model, tmp_path, CPU)
    path = tmp_path / "conus27.csv"
    conus27_table().drop(columns="longitude").to_csv(path, index=False)
    with pytest.raises(ObservationsError, match="no column longitude"):
        run("conus27", model, tmp_path, CPU)
    conus27_table().assign(extrapolation_split="east").to_csv(path, index=False)
    with pytest.raises(ObservationsError, match="extrapolation_split must say train or test"):
        run("conus27", model, tmp_path, CPU)


def test_what_is_missing_or_damaged_is_named(model: UniGeoCLIP, tmp_path: Path) -> None:
    with pytest.raises(ObservationsError, match="there is no benchmark 'm-eurosat'; there are"):
        run("m-eurosat", model, tmp_path, CPU)
    with pytest.raises(ObservationsError, match=r"nowhere is missing.*default_partition\.json"):
        run("m-pv4ger", model, tmp_path / "nowhere", CPU)
    with pytest.raises(ObservationsError, match=r"default_partition\.json is missing"):
        run("m-pv4ger", model, tmp_path, CPU)
    folder = tmp_path / "set"
    write_geobench(folder, splits(coloured, 2, 2), tmp_path / "marker")
    (folder / "valid,1.hdf5").write_bytes(b"\x89HDF but not really")
    with pytest.raises(ObservationsError, match=r"valid,1\.hdf5 is damaged"):
        run("m-pv4ger", model, folder, CPU)
    (folder / "valid,1.hdf5").unlink()
    with pytest.raises(ObservationsError, match=r"valid,1\.hdf5 is missing"):
        run("m-pv4ger", model, folder, CPU)
    with pytest.raises(ObservationsError, match="must hold one dataset 'label'"):
        run("m-chesapeake", model, folder, CPU)
    (folder / "band_stats.json").write_text('{"Red": {}}')
    with pytest.raises(ObservationsError, match=r"band_stats\.json has no maximum"):
        run("m-pv4ger", model, folder, CPU)
    (folder / "default_partition.json").write_text('{"train": ["a"]}')
    with pytest.raises(ObservationsError, match="no samples of valid, test"):
        run("m-pv4ger", model, folder, CPU)


def test_a_model_without_the_encoder_is_refused(tmp_path: Path) -> None:
    blind = UniGeoCLIP(tiny(default_forms({}, text=False)))
    with pytest.raises(ModelError, match=r"mdas probes the tower of 'dsm'.*coordinate"):
        run("mdas", blind, tmp_path, CPU)
