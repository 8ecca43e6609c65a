"""A made region, from services on loopback to a trained model; killed, restarted, damaged."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import obstore
import pytest
import rasterio
from click.testing import CliRunner
from PIL import Image
from rasterio.transform import from_origin
from support.catalogues import TABLE, TOKEN, Services, colour, make, write_table
from support.children import child
from support.servers import object_store
from support.training_runs import logged_metrics
from torch.utils.data import DataLoader

from unigeo.producer.commands.cli import produce
from unigeo.producer.observations.observation_set.named_objects import ObjectFolder
from unigeo.producer.observations.observation_set.set_observations import open_observation_set
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.sources import s2, web_requests
from unigeo.producer.sources.build_set import observe_set, prepare
from unigeo.producer.sources.datasheet import VOID
from unigeo.producer.sources.set_description import (
    LocationRules,
    SetDescription,
    SurfaceRules,
    read_set_description,
)
from unigeo.producer.training.location_dataset import LocationDataset
from unigeo.schemas.errors import ObservationsError, PointsError, StoreError, UnigeoError


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("services")
    with pytest.MonkeyPatch.context() as patch, Services(folder) as services:
        patch.setenv("MAPILLARY_TOKEN", TOKEN)
        make(services)
        yield services


@pytest.fixture(scope="module")
def built(services: Services) -> Path:
    """The set, built without interruption, in the folder that the services serve."""
    out = services.folder / "built"
    table = write_table(services, services.folder)
    result = CliRunner().invoke(produce, ["observe", str(table), "--out", str(out)])
    assert result.exit_code == 0, (result.output, result.exception)
    return out


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()
    }


def test_every_modality_is_observed_where_it_is(built: Path, services: Services) -> None:
    observations = open_observation_set(str(built))
    assert isinstance(observations, Observations)
    assert observations.modalities == ("coordinate", "aerial", "street", "dsm", "text")
    locations = observations.about["counts"]["places"]
    assert locations + observations.about["border"] == 200 and locations > 100
    lonlat = observations.locations(1000, 0)
    assert (
        len(lonlat) == len(observations.members) == observations.about["counts"]["splits"]["train"]
    )
    aerial = observations.patches("aerial", lonlat)
    assert aerial.valid.all()
    centre = aerial.values[:, :, 7:9, 7:9].mean(axis=(2, 3))
    truth = np.stack([colour(lon, lat) for lon, lat in lonlat])
    assert np.abs(centre - truth).mean() < 6  # JPEG, and the mean of 12 m
    surface = observations.patches("dsm", lonlat)
    lowest = surface.values.min(axis=(1, 2, 3))  # a little under the second percentile
    assert surface.valid.all() and lowest.min() > -8 and lowest.max() <= 0
    texts = observations.texts(lonlat)
    assert sum(text is not None for text in texts) > 0.9 * len(texts)
    assert any("Washington" in (text or "") for text in texts)
    street = observations.patches("street", lonlat)
    assert street.valid.mean() > 0.5
    numbers = observations.panoramas(lonlat)
    assert (numbers[~street.valid] == -1).all() and len(np.unique(numbers)) > 10
    assert not observations.patches("aerial", lonlat + 0.001).valid.any()
    assert observations.gaps()["aerial"] == {"no such place": len(lonlat)}
    assert observations.verify() == []


def test_the_origin_of_every_observation_is_recorded(built: Path) -> None:
    observations = open_observation_set(str(built))
    rows = observations.rows
    dates = set(rows["aerial_date"])
    assert dates == {"2022-07-01"}  # the newest
    joined = [item for item in rows["aerial_item"] if "+" in item]
    assert joined  # patches over the border of two UTM zones
    by = {
        who
        for who, why in zip(rows["street_credit"], rows["street_reason"], strict=True)
        if not why
    }
    assert len(by) > 3 and all(who.endswith(", Mapillary") for who in by)
    sheet = (built / "datasheet.md").read_text()
    for text in ("CC-BY-SA-4.0", "public domain", "NAVD88", "percentile 2 of the patch",
                  "nothing in reach", "ODbL-1.0", observations.about["index_sha256"]):  # fmt: skip
        assert text in sheet
    states = observations.about["counts"]["areas"]
    assert set(states) == {"Virginia"}  # to 3 km; the region lies in its north
    of_year = [
        sum(years.values()) for years in observations.about["counts"]["aerial"]["areas"].values()
    ]
    assert sum(of_year) == observations.about["counts"]["aerial"]["observed"]
    assert "| Virginia | " in sheet
    for figure in ("coverage.png", "examples.png"):
        assert (built / figure).read_bytes().startswith(b"\x89PNG")


def test_no_cell_or_panorama_crosses_a_split(built: Path) -> None:
    observations = open_observation_set(str(built))
    rows, splits = observations.rows, np.array(observations.rows["split"])
    assert {"train", "spatial"} <= set(splits)
    cells = s2.cell_ids(observations.lonlat, 13)
    for cell in np.unique(cells):
        assert len(set(splits[cells == cell])) == 1
    for number in np.unique(rows["panorama"][rows["panorama"] >= 0]):
        assert len(set(splits[rows["panorama"] == number])) == 1


LAUNCHER = """
import os, sys
import unigeo.producer.sources.build_set, unigeo.producer.sources.panorama
from unigeo.producer.commands.cli import main
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(2, 1)
        sys.argv[1:] = line.split()
        main()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Runs the command in each line in a process of its own; imports are loaded once for all."""


@pytest.fixture
def launcher() -> Iterator[subprocess.Popen[str]]:
    with child(
        [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process


@pytest.mark.slow
def test_a_build_killed_three_times_is_the_unbroken_one(
    built: Path, services: Services, tmp_path: Path, launcher: subprocess.Popen[str]
) -> None:
    out = tmp_path / "killed"
    assert launcher.stdin is not None and launcher.stdout is not None
    output, finished = launcher.stdout, 0

    def start() -> int:
        command = f"observe {services.folder / 'set.toml'} --out {out} --workers 1"
        print(command, file=launcher.stdin, flush=True)
        return int(output.readline())

    for _ in range(3):
        number = start()
        while len(list(out.glob("shards/*.parquet"))) < finished + 1:
            time.sleep(0.005)
        os.kill(number, signal.SIGKILL)
        assert int(output.readline()) == -signal.SIGKILL
        written = {f: f.stat().st_mtime_ns for f in out.glob("shards/*.parquet")}
        finished = len(written)
    assert not (out / "set.json").exists()
    with pytest.raises(ObservationsError, match="not finished"):
        open_observation_set(str(out))
    start()
    assert int(output.readline()) == 0
    assert all(f.stat().st_mtime_ns == at for f, at in written.items())  # none was built twice
    assert bytes_of(out) == bytes_of(built)


def test_another_set_is_not_mixed_in(built: Path, services: Services, tmp_path: Path) -> None:
    table = write_table(services, tmp_path, TABLE.replace("seed = 3", "seed = 4"))
    with pytest.raises(ObservationsError, match="other settings"):
        observe_set(prepare(read_set_description(table)), str(built))


def test_samples_are_streamed_once_in_an_order_of_seed_and_epoch(
    built: Path, services: Services
) -> None:
    observations, far = (
        open_observation_set(str(built)),
        open_observation_set(f"{services.url}/built"),
    )
    order = [one["row"] for one in observations.epoch(0, seed=5)]
    assert sorted(order) == sorted(observations.members) and order != sorted(order)
    assert [one["row"] for one in observations.epoch(1, seed=5)] != order
    ranks = [[one["row"] for one in observations.epoch(0, 5, rank, 3)] for rank in range(3)]
    assert len({len(rank) for rank in ranks}) == 1
    assert sorted(row for rank in ranks for row in rank) == sorted(order[: len(order) // 3 * 3])
    assert [one["row"] for one in observations.epoch(0, 5, 1, 3, start=7)] == ranks[1][7:]
    for near, remote in zip(observations.epoch(0, 5, 0, 8), far.epoch(0, 5, 0, 8), strict=True):
        assert near["text"] == remote["text"]
        for modality in ("aerial", "street", "dsm"):
            assert (near[modality] is None) == (remote[modality] is None)
            assert near[modality] is None or (near[modality] == remote[modality]).all()


# As torch starts the workers of a loader by default.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_set_is_a_dataset_whose_batches_workers_read(built: Path, services: Services) -> None:
    observations = open_observation_set(str(built))
    samples = {tuple(one["lonlat"]): one for one in observations.epoch(0)}
    dataset = LocationDataset(observations, 30, seed=5)
    seen, gaps = 0, 0
    for batch in DataLoader(dataset, batch_size=8, num_workers=2, shuffle=True):
        for row, lonlat in enumerate(batch["coordinate"].tolist()):
            sample = samples[tuple(lonlat)]
            assert batch["text"][row] == (sample["text"] or "")
            assert batch["present"]["text"][row] == (sample["text"] is not None)
            for name in ("aerial", "street", "dsm"):
                assert batch["present"][name][row] == (sample[name] is not None)
                expected = 0 if sample[name] is None else sample[name]
                assert (batch[name][row].numpy() == expected).all()
                gaps += sample[name] is None
            seen += 1
    assert seen == len(dataset) == 30 and gaps > 0
    assert set(LocationDataset(observations, [(0.0, 0.0)], modalities=["dsm"])[0]) == {
        "present",
        "dsm",
    }
    far = LocationDataset(open_observation_set(f"{services.url}/built"), 4)
    with pytest.raises(StoreError, match="multiprocessing_context='spawn'"):
        next(iter(DataLoader(far, num_workers=1)))
    with pytest.raises(ObservationsError, match="has no radar; it has coordinate"):
        LocationDataset(observations, 3, modalities=["radar"])
    with pytest.raises(PointsError, match=r"shape \(n, 2\), not \(2,\)"):
        LocationDataset(observations, [1.0, 2.0])


@pytest.fixture(scope="module")
def small(services: Services, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A description of 24 locations, and its set, built without interruption."""
    folder = tmp_path_factory.mktemp("small")
    table = write_table(services, folder, TABLE.replace("count = 200", "count = 24"))
    observe_set(prepare(read_set_description(table)), str(folder / "built"))
    return table, folder / "built"


def test_a_service_that_is_down_ends_the_build_and_a_later_run_resumes_it(
    small: tuple[Path, Path], services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_requests, "LONGEST_WAIT_S", 0.0)
    table, unbroken = small
    out = tmp_path / "down"
    services.faults.append(["features/*", 429, 2])  # retried
    services.faults.append(["pixels/*", 503, 10**6])
    try:
        with pytest.raises(StoreError, match="HTTP 503 after 6 tries"):
            observe_set(prepare(read_set_description(table)), str(out))
    finally:
        services.faults.clear()
    observe_set(prepare(read_set_description(table)), str(out))
    assert bytes_of(out) == bytes_of(unbroken)


@pytest.mark.slow
def test_a_set_in_an_object_store_is_that_of_a_disk(
    small: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, local = small
    with object_store(monkeypatch) as bucket:
        url = f"{bucket}/region/set"
        far = observe_set(prepare(read_set_description(table)), url)
        store = ObjectFolder(url)
        for name, data in bytes_of(local).items():
            assert store.get(name) == data
        last = f"shards/{len(far.about['shards']) - 1:06d}"
        before = store.get(last + ".tar")
        obstore.delete(store._store, [last + ".parquet", last + ".tar", "set.json"])
        with pytest.raises(ObservationsError, match="not finished"):
            open_observation_set(url)
        far = observe_set(prepare(read_set_description(table)), url)  # resumes the build
        assert store.get(last + ".tar") == before and far.verify() == []
        near = open_observation_set(str(local), far.split)
        pairs = list(zip(near.epoch(3, 1), far.epoch(3, 1), strict=True))
        assert len(pairs) > 3
        for one, other in pairs:
            assert one["text"] == other["text"]
            np.testing.assert_array_equal(one["aerial"], other["aerial"])
        obstore.put(store._store, last + ".tar", b"x" + (before or b"")[1:])
        assert far.verify() == [last + ".tar"]


def test_a_set_in_the_ocean_and_an_empty_region_are_refused(
    services: Services, tmp_path: Path
) -> None:
    table = write_table(
        services, tmp_path, TABLE.replace("count = 200", "count = 4").replace(
            'region = "{folder}/region.geojson"', "bbox = [-30.0, 30.0, -29.99, 30.01]"
        ).replace("spatial_share = 0.25", "spatial_share = 0"),
    )  # fmt: skip
    with pytest.raises(
        ObservationsError, match=r"nothing was observed at any of .* locations"
    ) as error:
        observe_set(prepare(read_set_description(table)), str(tmp_path / "ocean"))
    for text in ("no item", "nothing in reach", "nothing to say"):
        assert text in str(error.value)
    assert not (tmp_path / "ocean" / "set.json").exists()
    empty = tmp_path / "empty.geojson"
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    table.write_text(table.read_text().replace(
        "bbox = [-30.0, 30.0, -29.99, 30.01]", f'region = "{empty}"'
    ))  # fmt: skip
    with pytest.raises(UnigeoError, match="polygon"):
        prepare(read_set_description(table))


@pytest.mark.slow
def test_training_over_http_is_training_from_disk(
    built: Path, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss curves are equal, of runs by the command."""
    curves = []
    for k, url in enumerate((str(built), f"{services.url}/built")):
        folder = tmp_path / str(k)
        folder.mkdir()
        monkeypatch.chdir(folder)
        text = (
            f"--bbox -78.02 38.78 -77.98 38.82 --observations {url} --preset tiny --steps 3 "
            "--resolution 500 --modalities coordinate --out field.zarr --set training.batch=32 "
            "--set training.locations=400 --set training.warmup=1 --set training.gallery=8 "
            "--set training.holdout=0.3 --set training.block_km=0.3"
        )
        result = CliRunner().invoke(produce, text.split())
        assert result.exit_code == 0, (result.output, result.exception)
        (curve,) = folder.rglob("train.jsonl")
        curves.append(logged_metrics(curve.parent))
    assert len(curves[0]) == 3 and curves[0] == curves[1]


def test_voids_are_filled_for_the_model_and_drawn_as_voids(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    surface = rng.uniform(0, 30, (1200, 1200)).astype(np.float32)
    surface[::7, ::5] = -9999
    with rasterio.open(
        tmp_path / "dsm.tif", "w", driver="GTiff", width=1200, height=1200, count=1,
        dtype="float32", crs=32618, transform=from_origin(320_000, 4_300_000, 1, 1), nodata=-9999,
        tiled=True,
    ) as raster:  # fmt: skip
        raster.write(surface, 1)
    table = SetDescription(
        name="voids", licence="CC0-1.0",
        where=LocationRules(
            bbox=(-77.072, 38.822, -77.063, 38.829), count=12, per_cell=4, cell_level=15
        ),
        dsm=SurfaceRules(
            kind="files", files=(str(tmp_path / "dsm.tif"),), patch_px=32, resolution_m=1
        ),
    )  # fmt: skip
    observations = observe_set(prepare(table), str(tmp_path / "set"))
    metres = observations.heights(observations.lonlat)[:, None]
    void = np.isnan(metres)
    assert 0.01 < void.mean() < 0.2 and not void.all(axis=(2, 3)).any()
    filled = observations.patches("dsm", observations.lonlat)
    assert filled.valid.all() and (filled.values[~void] == metres[~void]).all()
    means = np.broadcast_to(np.nanmean(metres, axis=(2, 3), keepdims=True), metres.shape)
    np.testing.assert_allclose(filled.values[void], means[void], rtol=1e-5)
    assert np.isnan(observations.heights(observations.lonlat + 0.01)).all()
    with Image.open(tmp_path / "set" / "examples.png") as sheet:
        colours = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    assert (colours == [int(VOID[k : k + 2], 16) for k in (1, 3, 5)]).all(axis=1).sum() > 100
