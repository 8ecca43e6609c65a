"""The whole path: from observations to a regression in pandas, and what stops it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from support import stores
from support.children import child
from support.set_inputs import tree

from unigeo import client
from unigeo.producer.commands.cli import main
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.pipeline import stages
from unigeo.producer.pipeline.pipeline import carry_out, foresee
from unigeo.producer.pipeline.production_run import ProductionRun, choose
from unigeo.producer.raster.encoding import ModelEncoder
from unigeo.producer.raster.model_equipment import open_model
from unigeo.producer.raster.run import ExecutionOptions
from unigeo.producer.training.train import train
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.regions import region_of_bbox
from unigeo.schemas.io.stores import open_group
from unigeo.schemas.store.validation import field_problems

type Product = tuple[Path, list[str]]
"""The folder of a store and its model, and the lines of the run."""
BBOX = (-106.0, 38.0, -102.0, 41.0)
"""Denver, its plains and its mountains."""


def run_of(folder: Path, seed: int = 0, **options: Any) -> ProductionRun:
    chosen = choose(
        region_of_bbox(BBOX, "denver"),
        World(),
        resolution_m=20_000,
        seed=seed,
        out=str(folder / "denver.zarr"),
        **options,
    )
    training = replace(chosen.training, locations=600, batch=48, steps=10, warmup=2, gallery=40)
    return replace(chosen, model=folder / f"model{seed}", training=training)


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[str | int | None, str, str]:
    """Run `unigeo-produce` in this process; return its exit code, output and messages."""
    monkeypatch.setattr(sys, "argv", ["unigeo-produce", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr()
    return stopped.value.code, said.out, said.err


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Product:
    folder = tmp_path_factory.mktemp("product")
    lines = list(carry_out(run_of(folder), World(), options=ExecutionOptions(progress=False)))
    return folder, lines


def test_each_stage_says_what_it_did(product: Product) -> None:
    _, lines = product
    assert [line.split()[0] for line in lines] == ["trained", "rasterized", "published"]


def test_the_store_opens_in_plain_xarray_and_breaks_no_rule(product: Product) -> None:
    folder, _ = product
    dataset = xr.open_zarr(folder / "denver.zarr")
    assert dataset.aerial.dims == ("y", "x", "band") and dataset.aerial.dtype == np.int8
    assert field_problems(open_group(folder / "denver.zarr")) == []


def test_a_regression_in_pandas_gains_columns_in_one_line(product: Product) -> None:
    folder, _ = product
    table = World().target_table(4000, seed=3)
    inside = table.lon.between(-105.9, -102.1) & table.lat.between(38.1, 40.9)
    homes = table[inside].set_index(table.index[inside] * 7)
    joined = client.open_field(str(folder / "denver.zarr")).join(homes, modalities="aerial")
    assert list(joined.columns[: homes.shape[1]]) == list(homes.columns)
    assert joined.index.equals(homes.index)
    bands = joined.filter(regex=r"^ug_aerial_\d+$")
    assert bands.shape[1] == 128
    assert np.linalg.norm(bands.to_numpy(), axis=1) == pytest.approx(np.ones(len(homes)), abs=1e-5)


def test_stored_vectors_are_the_encoder_s(product: Product) -> None:
    """A sampled cell is what the model says of its centre, within the quantization's error."""
    import torch

    from unigeo.producer.encoders.saved_models import load_model

    folder, _ = product
    field = client.open_field(str(folder / "denver.zarr"))
    lonlat = World().locations(4000, seed=3)
    west, south, east, north = BBOX
    lon, lat = lonlat.T
    lonlat = lonlat[
        (lon > west + 0.3) & (lon < east - 0.3) & (lat > south + 0.3) & (lat < north - 0.3)
    ]
    centres = field.grid.centres()[tuple(field.grid.cells(lonlat).T)]
    model, _ = load_model(folder / "model0")
    stored = field.sample(lonlat, field.modalities, as_="numpy")
    with torch.inference_mode():
        for modality, inputs in (
            ("coordinate", torch.from_numpy(centres)),
            ("aerial", torch.from_numpy(World().patches("aerial", centres).values)),
            ("dsm", torch.from_numpy(World().patches("dsm", centres).values)),
        ):
            exact = model.encode(modality, inputs).numpy()
            cosine = (exact * stored[modality]).sum(axis=1)
            assert cosine.min() > 0.9998, modality


def test_the_same_command_again_finds_everything_done(product: Product) -> None:
    folder, _ = product
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    lines = list(carry_out(run_of(folder), World(), options=ExecutionOptions(progress=False)))
    assert "as it was: " in lines[-1] and lines[-1].endswith(" vectors")
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_objects_lost_from_a_published_store_are_made_again(
    product: Product, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether statuses are lost or not; the plan, which opens the model once, has these alone."""
    store, run = tmp_path / "denver.zarr", run_of(product[0])
    shutil.copytree(run.out, store)
    run = replace(run, out=str(store))
    before = tree(str(store))
    lost = [name for name in before if name.startswith(("aerial/c/", "dsm_status/c/"))]
    for name in lost:
        (store / name).unlink()
    opened: list[Path] = []

    def counted(model: Path) -> Any:
        opened.append(model)
        return open_model(model)

    with monkeypatch.context() as patch:
        patch.setattr(stages, "open_model", counted)
        said = dict(line.split(maxsplit=1) for line in foresee(run, World()))
    assert opened == [run.model]
    for name in run.layout.arrays:
        if name in ("aerial", "dsm"):
            assert said[name].startswith("1 shards to write") and "cells/s here" in said[name]
        else:
            assert said[name] == "no shard to write"
    lines = list(carry_out(run, World(), options=ExecutionOptions(progress=False)))
    assert "2 shards" in lines[-2] and "as it was" in lines[-1]
    assert tree(str(store)) == before


def test_a_store_of_another_model_is_not_touched(product: Product) -> None:
    folder, _ = product
    before = {p: p.stat().st_mtime_ns for p in (folder / "denver.zarr").rglob("*") if p.is_file()}
    other = run_of(folder, seed=1)
    train(World(), other.model_settings, other.training, other.model, progress=False)
    with pytest.raises(StoreError, match="model"):
        list(carry_out(other, World(), options=ExecutionOptions(progress=False)))
    after = {p: p.stat().st_mtime_ns for p in (folder / "denver.zarr").rglob("*") if p.is_file()}
    assert before == after


def test_the_command_uses_a_finished_model(
    product: Product,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, _ = product
    out = tmp_path / "again.zarr"
    monkeypatch.setattr(
        sys,
        "argv",
        ["unigeo-produce", "--bbox", *map(str, BBOX), "--resolution", "20000", "--observations",
         "world", "--model", str(folder / "model0"), "--modalities", "coordinate",
         "--out", str(out)],
    )  # fmt: skip
    try:
        main()
    except SystemExit as stopped:
        assert stopped.code == 0
    assert capsys.readouterr().out.strip() == str(out)
    again, first = xr.open_zarr(out), xr.open_zarr(folder / "denver.zarr")
    assert np.array_equal(again.coordinate, first.coordinate)
    assert "aerial" not in again


def test_a_stopped_run_says_what_it_kept_and_the_last_line_counts_the_whole_store(
    product: Product,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "stopped.zarr"
    arguments = ["--bbox", *BBOX, "--resolution", 20_000, "--model", product[0] / "model0"]
    arguments += ["--observations", "world"]
    arguments += ["--modalities", "coordinate,aerial", "--out", out]

    encode = ModelEncoder.codes

    def codes(encoder: ModelEncoder, modality: str, observed: Any) -> Any:
        if modality == "aerial":
            os.kill(os.getpid(), signal.SIGINT)  # in the main thread, which handles it at once
        return encode(encoder, modality, observed)

    with monkeypatch.context() as stopping:
        stopping.setattr(ModelEncoder, "codes", codes)
        code, _, said = command(monkeypatch, capsys, *arguments)
    last = said.strip().splitlines()[-1]
    assert code == 130 and last.startswith("Stopped by Ctrl-C: "), said
    assert f"finished shards of {out} are kept" in last and "the same command goes on" in last
    code, _, said = command(monkeypatch, capsys, *arguments)
    field = client.open_field(out)
    stored = open_group(out)
    count = sum(stored[f"manifest/{name}_valid_cells"][...].sum() for name in field.modalities)
    assert code == 0 and field.verify().ok
    assert said.strip().splitlines()[-1] == f"published     {out}: {count:,} vectors"


SHARE = """
import sys
from functools import partial
from pathlib import Path

from support import stores
import torch

from unigeo.producer.encoders.saved_models import load_model
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.raster.encoding import encoder_of
from unigeo.producer.raster.local_executor import rasterize
from unigeo.producer.raster.raster_job import Equipment
from unigeo.producer.raster.store_lease import lease_store
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.geo.regions import region_of_bbox

url, model, *box = sys.argv[1:]
torch.set_num_threads(1)
model = load_model(Path(model))[0]
region = region_of_bbox(tuple(map(float, box)), "denver")
layout = Layout(
    modalities=("coordinate", "aerial"), bands=model.settings.dimension, shard=8, chunk=4
)
grid = region.grid(20_000, layout.shard)
world = World()
encoder = encoder_of(model, world, torch.device("cpu"))
opened = partial(Equipment, encoder, world.land)
job = stores.job_of(url, grid, layout, encoder, region, open_equipment=opened, batch=2048)
print("ready", flush=True)
sys.stdin.readline()
with lease_store(url) as lease:
    group = create_field(url, grid, layout, stores.attributes_of(region, grid, layout))
    report = rasterize(group, stores.opened(job), progress=False, leases=lease.leases)
print(report.shards)
"""


@pytest.mark.slow
def test_two_processes_with_the_torch_encoder_write_the_bytes_of_one(
    product: Product, tmp_path: Path
) -> None:
    """On one machine, with one number of threads; see docs/production.md."""
    here = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with ExitStack() as children:
        began = [
            children.enter_context(
                child(
                    [sys.executable, "-c", SHARE, tmp_path / name, product[0] / "model0", *BBOX],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=here,
                )
            )
            for name in ("one.zarr", "both.zarr", "both.zarr")
        ]  # fmt: skip
        for process in began:
            assert process.stdout.readline() == "ready\n"
        for process in began:
            process.stdin.write("\n")
            process.stdin.flush()
        one, *both = [int(process.communicate()[0]) for process in began]
    assert sum(both) == one > 10, "none is done twice"
    assert stores.tree(tmp_path / "both.zarr") == stores.tree(tmp_path / "one.zarr")
    assert not list(tmp_path.glob("*.run"))


def test_terms_and_what_stays_go_from_release_to_release(
    product: Product,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first holds coordinates; the second adds images, and copies what it has already."""
    out = tmp_path / "denver.zarr"
    arguments = ["--bbox", *BBOX, "--resolution", 20_000, "--model", product[0] / "model0"]
    arguments += ["--observations", "world"]
    arguments += ["--out", out]
    terms = ["--licence", "CC-BY-4.0", "--citation", "A. Nybody (2026)", "--provider", "One Lab"]
    terms += ["--provider", "Two Lab"]
    code, _, said = command(monkeypatch, capsys, *arguments, "--modalities", "coordinate", *terms)
    assert code == 0, said
    shards = len(list((out / "coordinate_status/c").glob("*/*")))
    before = stores.tree(out)

    for changed in (["--licence", "MIT"], ["--provider", "Two Lab"]):
        code, _, said = command(
            monkeypatch, capsys, *arguments, "--modalities", "coordinate", *changed
        )
        assert code == 2 and "never changes" in said and "--update" in said
    both = ["--modalities", "coordinate,aerial", "--update"]
    code, newer, said = command(monkeypatch, capsys, *arguments, *both)
    assert code == 0, said
    assert f"taken over    {shards} shards of release 1" in said
    assert f"rasterized    {shards} shards" in said
    assert stores.tree(out) == before, "a release never changes"

    second = client.open_field(newer.strip())
    assert second.verify().ok
    made_by = {
        name: open_group(newer.strip())[f"manifest/{name}_run"] for name in second.layout.modalities
    }
    assert not made_by["coordinate"][...].any() and made_by["aerial"][...].all()
    new = stores.tree(tmp_path / "denver-r2.zarr")
    copied = [key for key in before if key.startswith(("coordinate/c/", "coordinate_status/c/"))]
    assert len(copied) > shards and all(new[key] == before[key] for key in copied)

    for stem, release in (("denver", 1), ("denver-r2", 2)):
        field = client.open_field(tmp_path / f"{stem}.zarr")
        assert (field.licence, field.citation) == ("CC-BY-4.0", "A. Nybody (2026)")
        (path,) = tmp_path.glob(f"unigeo-*m-r{release}*.json")
        item = json.loads(path.read_text())["properties"]
        assert item["license"] == "CC-BY-4.0"
        assert item["unigeo:citation"] == "A. Nybody (2026)"
        assert [one["name"] for one in item["providers"]] == ["One Lab", "Two Lab"]
        card = (tmp_path / f"{stem}.card.md").read_text()
        assert "CC-BY-4.0. Citation: A. Nybody (2026). Provided by: One Lab, Two Lab" in card


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--region", "conus", "--citation", " "], "--citation is empty"),
        (["--region", "atlantis"], "atlantis"),
        ([], "--region"),
        (["--region", "conus", "--bbox", "0", "0", "1", "1"], "one of"),
        (["--region", "conus", "--preset", "huge"], "huge"),
        (["--region", "conus", "--model", "nowhere"], "nowhere"),
        (["--region", "conus", "--resolution", "-5"], "resolution"),
        (["--region", "conus", "--modalities", "radar"], "radar"),
        (["--region", "conus", "--observations", "none.toml"], "none.toml"),
        (["--region", "conus", "--data", "x"], "--observations"),
        (["--region", "amsterdam"], "amsterdam reaches from 4.73"),
        (["--region", "amsterdam", "--observations", "world"], "no land"),
        (["--bbox", "5", "50", "4", "95"], "bounding box"),
        (["--region", "conus", "--steps", "0"], "steps"),
    ],
)
def test_bad_options_end_in_one_message_and_exit_code_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command(monkeypatch, capsys, *arguments)
    errors = [line for line in err.splitlines() if line.startswith("Error:")]
    assert code == 2 and out == "" and len(errors) == 1 and words in errors[0]
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_key_of_the_description_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = tmp_path / "observations.toml"
    toml.write_text('name = "x"\nlicence = "CC0"\n[land]\nfiel = "land.parquet"\n')
    monkeypatch.chdir(tmp_path)
    code, _, err = command(monkeypatch, capsys, "--region", "conus", "--observations", toml)
    assert code == 2 and "'fiel'" in err and "did you mean 'file'" in err


def test_an_output_that_cannot_be_written_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.chdir(tmp_path)
    code, _, err = command(
        monkeypatch, capsys, "--region", "conus", "--out", tmp_path / "file" / "s.zarr"
    )
    assert code == 2 and "Error:" in err and "file" in err
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    # A folder that even root, who has every permission, cannot write in.
    code, _, err = command(monkeypatch, capsys, "--region", "conus", "--out", "/proc/s.zarr")
    assert code == 2 and "cannot write /proc/s.zarr" in err
    assert not (tmp_path / "conus").exists()
    dry = ("--region", "conus", "--dry-run")
    for option in ("--out", "--model-out", "--log"):
        code, _, err = command(monkeypatch, capsys, *dry, option, "/proc/some")
        assert code == 2 and "cannot write" in err and "/proc" in err, option
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr/zarr.json").write_text("{}")
    code, _, err = command(monkeypatch, capsys, *dry, "--log", tmp_path / "a.zarr/log.jsonl")
    assert code == 2 and "lies inside the Zarr store" in err
    keys = {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "REGION": "us-east-1"}
    for key, value in {**keys, "ENDPOINT_URL": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(f"AWS_{key}", value)
    code, _, err = command(monkeypatch, capsys, *dry, "--out", "s3://bucket/conus.zarr")
    assert code == 2 and err.startswith("Error: cannot write s3://bucket/conus.zarr: no server")
    assert len(err.splitlines()) == 1
