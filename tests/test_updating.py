"""`unigeo-produce --update` as documented: a raster has changed, and no model is named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner, Result
from support import small_rasters, stores
from support.commands import done as done_by_client

from unigeo import client
from unigeo.producer.api import open_observations
from unigeo.producer.commands.cli import produce
from unigeo.producer.pipeline.production_run import choose, describe
from unigeo.schemas.geo.regions import region_of_bbox

CHANGES = (
    "training.locations=200", "training.batch=8", "training.steps=2", "training.warmup=1",
    "training.gallery=8", "training.block_km=5", "training.holdout=0.3", "model.coordinate.depth=0",
    "model.coordinate.width=32", "model.dsm=none", "model.landcover=none",
)  # fmt: skip


def command(folder: Path, *options: object) -> Result:
    """Produce the field of the rasters in `folder/data`, from `folder`."""
    box = [str(edge) for edge in (2.05, 48.6, 2.45, 48.95)]
    words = ["--bbox", *box, "--resolution", "4000", "--no-covariates"]
    words += ["--observations", "data/observations.toml", *map(str, options)]
    if "--model" not in options:
        words += [word for change in CHANGES for word in ("--set", change)]
    return CliRunner().invoke(produce, words)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rasters, and the first release of a field with its model."""
    folder = tmp_path_factory.mktemp("field")
    (folder / "data").mkdir()
    small_rasters.write_folder(folder / "data")
    with pytest.MonkeyPatch.context() as inside:
        inside.chdir(folder)
        done = command(folder)
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "bbox/bbox.zarr"
    return folder


SUPPORTS = (
    "cells of 434 m by aerial (pixels of 434 m, patch pixels of 31.2 m); finer cells add little"
)


def test_the_store_says_which_cells_the_rasters_support(first: Path) -> None:
    store = first / "bbox/bbox.zarr"
    field = client.open_field(store)
    detail = field.info()["observed_detail"]
    assert detail == {"aerial": {"pixel_m": [434.0, 434.0], "patch_pixel_m": 31.2}}
    assert f"supports     {SUPPORTS}\n" in done_by_client("info", store)
    assert field.verify().ok and "keeps the layout" in done_by_client("validate", store)


@pytest.mark.slow
def test_the_dry_run_says_which_cells_the_rasters_support(
    first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(first)
    dry = command(first, "--dry-run", "--out", "other.zarr")
    assert dry.exit_code == 0, dry.output
    assert f"supports      {SUPPORTS}\n" in dry.stderr
    assert "warning       cells of 4,000 m are 9.22 times as wide as aerial" in dry.stderr


@pytest.fixture
def folder(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(first, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    return tmp_path / "own"


def test_where_nothing_has_changed_there_is_no_other_release(folder: Path) -> None:
    before = stores.tree(folder)
    done = command(folder, "--update")
    assert done.exit_code == 0 and done.stdout.strip() == "bbox/bbox.zarr"
    last = done.stderr.strip().splitlines()[-1]
    assert "nothing has changed since" in last and "release 1" in last and "removed" not in last
    assert stores.tree(folder) == before
    shutil.copytree("bbox/bbox.zarr", "bbox/bbox-r2.zarr")  # begun, and its change taken back
    for dry in ((), ("--dry-run",)):
        told = command(folder, "--update", *dry).stderr.strip().splitlines()[-1]
        assert "nothing has changed since" in told and "bbox/bbox-r2.zarr" in told
        assert "can be removed" in told


def test_another_box_of_the_same_name_and_shards_is_refused_or_has_its_own_folder(
    folder: Path,
) -> None:
    """Its store would be taken for that of the first box, and no cell of it be made."""
    before = stores.tree(folder)
    other = [str(edge) for edge in (2.05, 48.6, 2.4, 48.95)]
    refused = command(folder, "--bbox", *other)
    message = str(refused.exception)
    assert refused.exit_code != 0 and "its outline differ" in message
    assert "--name, other than 'bbox', or --out" in message
    assert stores.tree(folder) == before
    named = command(folder, "--bbox", *other, "--name", "east", "--model", "bbox/model")
    assert named.exit_code == 0, named.output
    assert named.stdout.strip() == "east/east.zarr"
    assert client.open_field("east/east.zarr").info()["region"] == "east"
    for name in ("", "../east", ".east", "a/b"):
        assert "cannot be the name of a folder" in str(command(folder, "--name", name).exception)


def test_a_changed_raster_makes_a_model_beside_the_old_one(folder: Path) -> None:
    before = stores.tree(folder / "bbox")
    with rasterio.open(folder / "data/west.tif") as file:
        colours = file.read()
    small_rasters.write(
        folder / "data/west.tif", np.where(colours > 1, colours - 1, colours), nodata=0
    )
    again = command(folder)
    assert again.exit_code != 0 and "--model-out" in str(again.exception)
    assert "--model-out" in str(command(folder, "--dry-run").exception)
    for options in (("--modalities", "coordinate"), ("--resolution", "5000")):
        for dry in ((), ("--dry-run",)):
            refused = command(folder, "--update", *options, *dry)
            assert refused.exit_code != 0 and "--allow-loss" in str(refused.exception)
    assert stores.tree(folder / "bbox") == before, "refused before any work"

    done = command(folder, "--update")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == "bbox/bbox-r2.zarr"
    assert "bbox/model-r2, to be trained" in done.stderr
    model = client.open_field("bbox/bbox.zarr").info()["model"]["sha256"]
    warning = f"release 1 was made by another model ({model[:12]}), so every shard is made anew; "
    assert warning + "--model FOLDER" in done.stderr
    after = stores.tree(folder / "bbox")
    kept = {key for key in before if not key.endswith(("catalog.json", "collection.json"))}
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    newest = client.open_field(folder / "bbox", region="bbox")
    assert newest.url.endswith("bbox-r2.zarr") and newest.verify().ok
    assert client.open_field(folder / "bbox", region="bbox", release=1).verify().ok

    unchanged = command(folder, "--update")
    assert unchanged.stdout.strip() == "bbox/bbox-r2.zarr", "the second model is found again"
    assert "bbox/model-r2, trained before" in unchanged.stderr
    assert stores.tree(folder / "bbox") == after


def test_a_corrected_credit_takes_over_the_model_and_every_shard(folder: Path) -> None:
    """The release says the new one, its vectors are those of before, and nothing is trained."""
    path = folder / "data/observations.toml"
    before = stores.tree(folder / "bbox")
    licence = 'licence = "CC0-1.0"\n'
    path.write_text(path.read_text().replace(licence, f'{licence}citation = "Corrected."\n', 1))
    done = command(folder, "--update")
    assert done.exit_code == 0, done.output
    assert "bbox/model, trained before" in done.stderr and "warning" not in done.stderr
    after = stores.tree(folder / "bbox")
    assert after["model/model.safetensors"] == before["model/model.safetensors"]
    shards = [key for key in before if key.startswith("bbox.zarr/aerial/c/")]
    assert shards
    for key in shards:
        assert after[key.replace("bbox.zarr", "bbox-r2.zarr")] == before[key]
    newest = client.open_field(folder / "bbox/bbox-r2.zarr")
    assert "Corrected." in str(newest.cite()) and newest.verify().ok
    assert "Corrected." in (folder / "bbox/model/card.md").read_text()


@pytest.mark.slow
def test_the_plan_of_an_update_leaves_out_what_is_taken_over(folder: Path) -> None:
    path = folder / "data/observations.toml"
    path.write_text(path.read_text().replace("[aerial]\n", '[aerial]\ncredit = "Corrected."\n'))
    dry = command(folder, "--update", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "taken over    3 shards of release 1, unchanged" in dry.stderr
    assert dry.stderr.count("no shard to write") == 3
    assert "rasterizing" not in dry.stderr.splitlines()[-1]
    done = command(folder, "--update")
    assert "taken over    3 shards of release 1, unchanged" in done.stderr


def test_a_model_of_other_settings_is_refused_key_by_key(folder: Path) -> None:
    told = str(command(folder, "--set", "training.rate=0.5").exception)
    assert "training.rate was 0.003 and is 0.5" in told and "model." not in told.partition(";")[0]


def test_the_folder_of_the_model_can_be_named(folder: Path) -> None:
    both = command(folder, "--model", "bbox/model", "--model-out", "other")
    assert both.exit_code != 0 and "name one of them" in str(both.exception)
    observations = open_observations("data/observations.toml")
    run = choose(
        region_of_bbox((2.05, 48.6, 2.45, 48.95)), observations, model_out="other", out="o.zarr"
    )
    told = list(describe(run, observations))
    assert any(line.startswith("model         other, to be trained") for line in told)
