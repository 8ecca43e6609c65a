"""The run that a GPU is to make goes through every stage on a CPU, on a bare machine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import torch
from rasterio.transform import from_origin

from benchmarks.producer import gpu_docs, gpu_run, model_parts
from benchmarks.producer.carried import direct, open_carried
from benchmarks.producer.gpu_data import carry
from benchmarks.producer.waves import Waves, model_settings
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.saved_models import load_model, save_model
from unigeo.producer.encoders.text import train_tokenizer
from unigeo.producer.observations.folder.folder_observations import FolderObservations
from unigeo.producer.observations.folder.open_folder import open_observations
from unigeo.producer.observations.raster_files.patch_frames import local_lonlat

ROOT = Path(__file__).parents[1]
ABSENT = (
    "affine", "beartype", "dask", "distributed", "donfig", "geopandas", "google_crc32c",
    "numcodecs", "obstore", "odc", "pydantic", "pydantic_core", "pyogrio", "pyproj", "rasterio",
    "shapely", "zarr",
)  # fmt: skip
"""What a machine lent for its GPU may lack."""
WITHOUT = f"""
import sys
from importlib import machinery

class PathFinder(machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in {ABSENT!r}:
            return machinery.PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(machinery.PathFinder)] = PathFinder
"""
"""As `sitecustomize.py`: no process finds any of them."""
DESCRIPTION = """
name = "box"
licence = "CC0-1.0"
data = "data"
[land]
file = "land.parquet"
[locations]
file = "words.csv"
uniform = 0.5
[aerial]
kind = "raster"
files = ["aerial.tif"]
bands = [1, 2, 3]
patch_m = [16_000, 64_000]
patch_px = 32
acquired = "2020"
[dsm]
kind = "raster"
files = ["dsm.tif"]
bands = [1]
patch_m = 64_000
patch_px = 32
units = "m"
[text]
kind = "table"
file = "words.csv"
radius_m = 5000
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> FolderObservations:
    """An image in Web Mercator and a surface in degrees, over a few degrees of the plains."""
    folder = tmp_path_factory.mktemp("box")
    data = folder / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    smooth = rng.uniform(20, 230, (3, 40, 40)).astype(np.float32)
    image = smooth.repeat(25, 1).repeat(25, 2).round().astype(np.uint8)
    heights = rng.uniform(-50, 2000, (1, 300, 300)).round().astype(np.int16)
    written(data / "aerial.tif", image, "EPSG:3857", (-11_400_000, 5_200_000, 611.5))
    written(data / "dsm.tif", heights, "EPSG:4326", (-102.5, 43.0, 1 / 60))
    land = shapely.box(-101.5, 39.0, -98.5, 41.5)
    geopandas.GeoDataFrame(geometry=[land], crs=4326).to_parquet(data / "land.parquet")
    lonlat = rng.uniform((-101.5, 39.0), (-98.5, 41.5), (400, 2))
    table = pd.DataFrame(lonlat, columns=["lon", "lat"])
    table["text"] = [f"Place {k % 7}, where the wind is {k % 5}." for k in range(400)]
    table.to_csv(data / "words.csv", index=False)
    (folder / "observations.toml").write_text(DESCRIPTION)
    return open_observations(folder / "observations.toml")


def written(path: Path, values: np.ndarray, crs: str, corner: tuple[float, float, float]) -> None:
    west, north, side = corner
    with rasterio.open(
        path, "w", driver="GTiff", count=len(values), height=values.shape[1], dtype=values.dtype,
        width=values.shape[2], crs=crs, transform=from_origin(west, north, side, side),
        compress="deflate", tiled=True,
    ) as file:  # fmt: skip
        file.write(values)


@pytest.fixture(scope="module")
def carried(box: FolderObservations, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("carried")
    carry(box, folder, count=400)
    return folder


def test_what_is_carried_is_what_was_observed(box: FolderObservations, carried: Path) -> None:
    opened = open_carried(carried, torch.device("cpu"))
    lonlat = opened.locations(400, 0)
    assert np.array_equal(lonlat, box.locations(400, 0))
    assert opened.texts(lonlat) == box.texts(lonlat)
    assert opened.modalities == box.modalities and opened.provenance() == box.provenance()
    for modality in ("aerial", "dsm"):
        assert opened.shape(modality) == box.shape(modality)
        true, actual = box.patches(modality, lonlat), opened.patches(modality, lonlat)
        assert actual.values.dtype == true.values.dtype
        assert np.array_equal(actual.valid, true.valid)
        apart = np.abs(actual.values.astype(float) - true.values)[true.valid]
        assert apart.max() <= (1 if modality == "aerial" else 0.6)  # averages are rounded


def test_points_around_a_point_lie_where_proj_has_them() -> None:
    rng = np.random.default_rng(0)
    lonlat = rng.uniform((-180, -80), (180, 80), (200, 2))
    east, north = rng.uniform(-140e3, 140e3, (2, 1, 9))
    true = local_lonlat(lonlat, east[0], north[0])
    actual = direct(*(torch.from_numpy(part) for part in (lonlat, east, north))).numpy()[:, 0]
    apart = (actual - true + 180) % 360 - 180
    assert np.abs(apart).max() < 1e-8  # a millimetre


def test_a_model_in_small_parts_is_the_same_model(tmp_path: Path) -> None:
    settings, waves = model_settings(), Waves()
    model = UniGeoCLIP(settings).eval()
    lonlat = waves.locations(50, 0)
    assert settings.text is not None
    tokenizer = train_tokenizer([text for text in waves.texts(lonlat) if text], settings.text)
    save_model(
        model, tokenizer, tmp_path / "model", {"metrics.json": '{"mean": 1}', "card.md": "x"}
    )
    parts = model_parts.pack(tmp_path / "model", tmp_path, part_bytes=10_000)
    assert len(parts) > 10 and max(path.stat().st_size for path in parts) == 10_000
    total_bytes = sum(path.stat().st_size for path in parts)
    assert total_bytes < 0.7 * (tmp_path / "model" / "model.safetensors").stat().st_size
    model_parts.unpack(parts[::-1], tmp_path / "again")
    again, loaded_tokenizer = load_model(tmp_path / "again")
    assert loaded_tokenizer is not None and loaded_tokenizer.to_str() == tokenizer.to_str()
    assert (tmp_path / "again" / "metrics.json").read_text() == '{"mean": 1}'
    aerial = torch.from_numpy(waves.patches("aerial", lonlat).values)
    for name, inputs in (("coordinate", torch.from_numpy(lonlat)), ("aerial", aerial)):
        with torch.inference_mode():
            cosine = (model.encode(name, inputs) * again.encode(name, inputs)).sum(1)
        assert cosine.min() > 0.99999
    assert len(model_parts.pack(tmp_path / "again", tmp_path)) == 1  # older parts are gone
    assert sorted(tmp_path.glob("model.tar.*")) == [tmp_path / "model.tar.0"]


def call(tmp_path: Path, seconds: float) -> gpu_run.Call:
    return gpu_run.Call(tmp_path, tmp_path, "cpu", "tiny", tmp_path, seconds)


def program(text: str) -> Any:
    return lambda call: [sys.executable, "-c", text, str(call.out / "one.json")]


def test_a_stage_that_fails_keeps_what_it_found_and_why_it_failed(tmp_path: Path) -> None:
    write_report = """
import json, pathlib, sys
pathlib.Path(sys.argv[1]).write_text(json.dumps({"figures": [], "rate": 3}))
"""
    stage = gpu_run.Stage("one", program(write_report + "raise ValueError('no such rate')"), 60)
    report = gpu_run.run(stage, call(tmp_path, 60))
    assert report["rate"] == 3 and "status 1" in report["failed"]
    assert "ValueError: no such rate" in report["log"]
    assert json.loads((tmp_path / "one.json").read_text()) == report
    endless = gpu_run.Stage("one", program(write_report + "import time; time.sleep(600)"), 60)
    report = gpu_run.run(endless, call(tmp_path, 8))
    assert report["rate"] == 3 and "longer than 8 s" in report["failed"]


def test_a_second_try_replaces_the_first(tmp_path: Path) -> None:
    good = """
import pathlib, sys
pathlib.Path(sys.argv[1]).write_text('{"figures": [], "rate": 2}')
"""
    stage = gpu_run.Stage("one", program("raise MemoryError('too much')"), 60, program(good))
    report = gpu_run.run(stage, call(tmp_path, 60))
    assert report["rate"] == 2 and "failed" not in report
    assert "too much" in report["first_try"]["log"]


def test_the_run_holds_every_test_that_needs_a_gpu() -> None:
    marked = re.compile(r"^@on_gpu|^pytestmark = MARKS|mark\.gpu", re.MULTILINE)
    files = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    need = {name for name in files if marked.search((ROOT / "tests" / name).read_text())}
    assert need == set(gpu_run.TESTS)


def test_figures_of_a_card_replace_its_older_ones() -> None:
    def summary(device: str, value: float) -> dict[str, Any]:
        figure = {"name": "MFU", "value": value, "unit": "", "least": 0.45, "most": None}
        figure["kept"] = value >= 0.45
        return {
            "machine": {
                "device": device, "cores": 16, "python": "3.12", "torch": "2.11", "cuda": "13.0",
                "triton": "3.6",
            },
            "size": "base",
            "seconds": 400.0,
            "stages": {
                "step": {
                    "figures": [figure],
                    "profile": [{"name": "aten::mm", "count": 3, "cpu_ms": 1.0, "device_ms": 9.0}],
                },
                "loss": {"failed": "it took longer than 45 s", "figures": []},
            },
        }  # fmt: skip

    assert all(mark in gpu_docs.PAGE.read_text() for mark in (gpu_docs.BEGIN, gpu_docs.END))
    page = f"# On a GPU\n{gpu_docs.BEGIN}\n\n{gpu_docs.NONE}\n\n{gpu_docs.END}\nThe end.\n"
    first = gpu_docs.written(page, summary("NVIDIA H200", 0.5))
    assert gpu_docs.NONE not in first and "| step | MFU | 0.5 | at least 0.45 | kept |" in first
    assert "**failed**: it took longer than 45 s" in first and "`aten::mm`" in first
    both = gpu_docs.written(first, summary("NVIDIA H100", 0.4))
    assert both.index("### NVIDIA H100") < both.index("### NVIDIA H200")
    again = gpu_docs.written(both, summary("NVIDIA H200", 0.3))
    assert again.count("### NVIDIA H200") == 1 and "| 0.5 |" not in again
    assert again.endswith("The end.\n")
    assert again.count("**missed**") == 2
    small = summary("NVIDIA H200", 0.3) | {"size": "tiny"}
    with pytest.raises(ValueError, match="of a GPU at full size"):
        gpu_docs.written(page, small)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_stage_runs_without_what_it_claims_not_to_need(tmp_path: Path, carried: Path) -> None:
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "sitecustomize.py").write_text(WITHOUT)
    environment = os.environ | {
        "PYTHON": sys.executable, "PYTHONPATH": str(absent), "OMP_NUM_THREADS": "1",
        "WHEELS": str(tmp_path / "none"),
    }  # fmt: skip
    out = tmp_path / "out"
    done = subprocess.run(
        [
            "bash", ROOT / "benchmarks/producer/gpu_run.sh", out, "--device", "cpu",
            "--size", "tiny", "--minutes", "110", "--data", carried,
        ],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    failed = [summary["stages"][name] for name in summary["failed"]]
    assert done.returncode == 0, f"{failed} {done.stderr[-2000:]}"
    assert set(summary["stages"]) == {stage.name for stage in gpu_run.STAGES}
    assert summary["failed"] == summary["missed"] == []
    assert summary["stages"]["train"]["observations"] == "box"
    for name in ("step", "loss"):
        assert len(summary["stages"][name]["profile"]) == 20
    assert {path.name for path in out.iterdir()} == {"summary.json", "summary.txt", "model.tar.0"}
    for stage in gpu_run.STAGES:
        assert f"{stage.name}: done" in (out / "summary.txt").read_text()
    model_parts.unpack(sorted(out.glob("model.tar.*")), tmp_path / "model")
    assert load_model(tmp_path / "model")[0].modalities == ("coordinate", "aerial", "dsm", "text")
