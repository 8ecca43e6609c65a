"""A set keeps to the files and images with which it was begun; a replaced one is noticed."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.catalogues import Services, add_item, colour, height
from support.set_inputs import BOX, SET, WRITERS, raster, stopped, tree, write_all

from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.sources import set_builder
from unigeo.producer.sources.build_set import observe_set, prepare
from unigeo.producer.sources.set_description import SetDescription, read_set_description
from unigeo.schemas.errors import ObservationsError, UnigeoError


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of every kind of input, a finished set, and one that was stopped half-way."""
    folder = tmp_path_factory.mktemp("files")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_all()
        observe_set(prepare(read_set_description(Path("set.toml"))), "done")
        stopped(patch, "half")
    return folder


@pytest.fixture
def files(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(begun, tmp_path / "copy")  # later times, the same files
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def go_on(out: str) -> Any:
    return observe_set(prepare(read_set_description(Path("set.toml"))), out)


def test_copied_or_touched_files_are_the_same(files: Path) -> None:
    for path in files.glob("*.*"):
        os.utime(path, (1, 1))
    before = tree("done")
    go_on("done")
    go_on("half")
    assert tree("done") == before == tree("half")


def test_paths_are_relative_to_the_description(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the command runs, the plan is the same, and a stopped set is finished."""
    before = tree("done")
    monkeypatch.chdir("/")
    observe_set(prepare(read_set_description(files / "set.toml")), str(files / "half"))
    assert tree(str(files / "half")) == before


@pytest.mark.parametrize("out", ["done", "half"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_file_replaced_under_its_name_is_named_and_the_set_left_alone(
    name: str, out: str, files: Path
) -> None:
    """The file has the same size and time; when it is put back, the set is continued."""
    path, before = Path(name), tree(out)
    old, times = path.read_bytes(), path.stat()
    WRITERS[name](name, 1)
    assert path.read_bytes() != old
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ObservationsError) as error:
        go_on(out)
    if name not in ("candidates.csv", "region.geojson", "weights.tif"):  # these move the places
        assert f"{name} was replaced" in str(error.value)
        assert "name another --out" in str(error.value)
    assert tree(out) == before
    path.write_bytes(old)
    go_on(out)


def test_files_that_come_and_go_are_named(files: Path) -> None:
    raster("aerial_20210101.tif", 5)
    Path("street/a.jpg").rename("street/b.jpg")
    with pytest.raises(ObservationsError) as error:
        go_on("half")
    for text in (
        "[aerial] aerial_20210101.tif is new", "[street] street/a.jpg is gone",
        "[street] street/b.jpg is new",
    ):  # fmt: skip
        assert text in str(error.value)


def test_a_new_set_needs_every_file_that_it_names(files: Path) -> None:
    text = Path("set.toml").read_text().replace('"dtm.tif"', '"gone.tif"')
    Path("other.toml").write_text(text)
    with pytest.raises(ObservationsError, match=r"table \[dsm\].* gone\.tif: no such file"):
        observe_set(prepare(read_set_description(Path("other.toml"))), "new")
    assert not Path("new").exists()


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_is_no_such_file_is_named_before_work(name: str, files: Path) -> None:
    """Missing, empty, cut short, or something else: in a dry run, too."""
    whole = Path(name).read_bytes()
    damages = {
        "missing": None,
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "other": b"words\n" * 9,
    }
    if name == "candidates.csv":
        damages.pop("cut")  # a table of fewer rows
    pattern = {"aerial_20200101.tif": "aerial_", "street/a.jpg": "street/"}.get(name, name)
    for damage, content in damages.items():
        Path(name).unlink()
        if content is not None:
            Path(name).write_bytes(content)
        with pytest.raises(UnigeoError) as refused:
            prepare(read_set_description(Path("set.toml")), dry_run=True)
        assert pattern in str(refused.value), damage
        Path(name).write_bytes(whole)


def test_a_modality_of_which_nothing_is_observed_is_an_error_that_names_the_files(
    files: Path,
) -> None:
    Path("street/a.jpg").write_bytes(Path("street/a.jpg").read_bytes()[:300])
    with pytest.raises(ObservationsError, match=r"none of 1 files .*a\.jpg: damaged image"):
        observe_set(prepare(read_set_description(Path("set.toml"))), "new")
    assert not Path("new/set.json").exists()


@given(
    edit=st.sampled_from(
        [
            ("aerial", "credit", '"Somebody"'), ("dsm", "datum", '"NAVD88"'),
            ("text", "names", '"drop"'), ("kept", "quality", "80"), ("street", "years", "[2019]"),
            ("where", "count", "23"), ("splits", "spatial_level", "9"),
        ]
    )
)  # fmt: skip
@settings(
    max_examples=7, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_key_that_was_edited_between_kill_and_resume_is_named(
    edit: tuple[str, str, str], files: Path
) -> None:
    table, key, value = edit
    lines = [line for line in SET.splitlines() if not line.startswith(f"{key} = ")]
    if f"[{table}]" not in lines:
        lines.append(f"[{table}]")
    lines.insert(lines.index(f"[{table}]") + 1, f"{key} = {value}")
    Path("edited.toml").write_text("\n".join(lines))
    before = tree("half")
    with pytest.raises(ObservationsError, match=rf"\b{table}\.{key} was .* and is "):
        observe_set(prepare(read_set_description(Path("edited.toml"))), "half")
    assert tree("half") == before


def test_photographs_that_are_damaged_are_named_before_work(files: Path) -> None:
    """The others are used; one with bytes after its end is whole."""
    shutil.copy("street/a.jpg", "street/b.jpg")
    whole = Path("street/b.jpg").read_bytes()
    table = Path("street.csv").read_text()
    Path("street.csv").write_text(table + table.splitlines()[1].replace("a.jpg", "b.jpg") + "\n")
    for content, why in (
        (whole[:-20], "damaged image"),
        (b"", "damaged image"),
        (b"words", "damaged"),
    ):
        Path("street/b.jpg").write_bytes(content)
        prepared = prepare(read_set_description(Path("set.toml")), dry_run=True)
        assert prepared.passed_over()["street"][0].startswith(f"b.jpg: {why}")
    Path("street/b.jpg").write_bytes(whole + b"more of the camera")
    assert not prepare(read_set_description(Path("set.toml")), dry_run=True).passed_over()


def test_overviews_beside_a_raster_are_part_of_it(files: Path) -> None:
    Path("dsm.tif.ovr").write_bytes(b"II*\0 and no more")
    with pytest.raises(ObservationsError, match=r"dsm.tif.ovr is new"):
        go_on("done")


@pytest.mark.parametrize("name", ["aerial_20200101.tif", "cover.tif", "street/a.jpg"])
def test_a_file_replaced_during_a_build_ends_it(
    name: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, left = set_builder._build_shard, iter(range(1))

    def replacing(*arguments: Any) -> Any:
        if next(left, None) is None:
            WRITERS[name](name, 1)
        return build(*arguments)

    monkeypatch.setattr(set_builder, "_build_shard", replacing)
    with pytest.raises(ReplacedError, match=f"{name} was replaced"):
        observe_set(prepare(read_set_description(Path("set.toml"))), "new", workers=1)
    assert not Path("new/set.json").exists()


def test_a_set_begun_before_files_were_recorded_is_explained(files: Path) -> None:
    plan = json.loads(Path("done/plan.json").read_text())
    old = {"set": plan["set"], "version": plan["version"], "plan": plan["settings"]}
    Path("done/plan.json").write_text(json.dumps(old, indent=1) + "\n")
    with pytest.raises(ObservationsError, match="older unigeo, which did not note"):
        go_on("done")


def test_the_case_of_two_naip_images_under_one_name(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    case = shared_data.parent / "cases/producer_observe_mixture.toml"
    if not case.is_file():
        pytest.skip("the folder of cases is not there")
    samples = sorted((shared_data / "samples").glob("naip_*.tif"))
    # Without its texts: there is nothing to say at eight locations, which is an error of its own.
    text = case.read_text().replace("count = 400", "count = 8").partition("[text]")[0]
    Path("set.toml").write_text(text)
    shutil.copy(samples[0], "only_20100629.tif")
    go_on("s")
    before = tree("s")
    shutil.copy(samples[1], "only_20100629.tif")
    with pytest.raises(ObservationsError, match=r"\[aerial\] only_20100629.tif was replaced \(2,"):
        go_on("s")
    assert tree("s") == before
    go_on("s2")
    assert json.loads(before["plan.json"])["plan"] != json.loads(tree("s2")["plan.json"])["plan"]


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with Services(tmp_path / "served") as served:
        (tmp_path / "served").mkdir()
        for seed, name in enumerate(("naip", "dsm")):
            paint = height if name == "dsm" else colour
            asset = "data" if name == "dsm" else "image"
            add_item(served, f"{name}_{seed}", name, asset, 32618, BOX, 5.0, 2020, paint)
        yield served


def table_of(services: Services, kind: str) -> SetDescription:
    """Aerial images and surfaces of a catalogue, or of addresses."""
    about: dict[str, Any] = {"kind": kind, "patch_px": 16, "resolution_m": 6}
    aerial, dsm = dict(about), dict(about)
    if kind == "files":
        aerial["files"], dsm["files"] = (
            [f"{services.url}/cogs/{name}.tif"] for name in ("naip_0", "dsm_1")
        )
    else:
        aerial |= {"url": f"{services.url}/stac", "collections": "naip"}
        dsm |= {"url": f"{services.url}/stac", "collections": "dsm"}
    return SetDescription.model_validate(
        {
            "name": "far", "licence": "CC0-1.0", "aerial": aerial, "dsm": dsm,
            "where": {"bbox": BOX, "count": 12, "cell_level": 17, "balance_level": 14},
            "kept": {"shard_level": 14, "shard_places": 4},
        }
    )  # fmt: skip


@pytest.mark.parametrize("tells", ["ETag", "Last-Modified", ""])
@pytest.mark.parametrize("kind", ["files", "stac"])
def test_an_object_replaced_at_its_address_is_noticed(
    kind: str, tells: str, services: Services, tmp_path: Path
) -> None:
    """By its ETag, its date, or if the server states neither by its first bytes."""
    services.tells = tells
    out = str(tmp_path / "set")
    observe_set(prepare(table_of(services, kind)), out)
    before = tree(out)
    observe_set(prepare(table_of(services, kind)), out)
    assert tree(out) == before
    path = services.folder / "cogs/naip_0.tif"
    old = path.read_bytes()
    path.write_bytes((services.folder / "cogs/dsm_1.tif").read_bytes().ljust(len(old), b"\0"))
    os.utime(path, (2e9, 2e9))
    for wanted in ([], ["set.json", "shards/000000.parquet"]):  # finished, and stopped on its way
        for name in wanted:
            Path(out, name).unlink()
        with pytest.raises(ObservationsError, match=r"\[aerial\] .*naip_0.* (replaced|changed)"):
            observe_set(prepare(table_of(services, kind)), out)


def test_an_item_that_changes_in_its_catalogue_is_noticed(
    services: Services, tmp_path: Path
) -> None:
    out, item = str(tmp_path / "set"), services.items[0]
    observe_set(prepare(table_of(services, "stac")), out)
    about = json.loads(Path(out, "set.json").read_text())
    assert list(about["items"]["aerial"]) == ["naip_0"]
    properties = dict(item["properties"])
    item["properties"]["datetime"] = "2020-08-01T00:00:00Z"
    with pytest.raises(ObservationsError, match=r"\[aerial\] the image naip_0 changed"):
        observe_set(prepare(table_of(services, "stac")), out)
    item["properties"] = properties
    observe_set(prepare(table_of(services, "stac")), out)
    services.items.remove(item)
    with pytest.raises(ObservationsError, match=r"\[aerial\] the image naip_0 is gone"):
        observe_set(prepare(table_of(services, "stac")), out)


def test_a_checksum_stands_for_the_file_of_an_item(services: Services, tmp_path: Path) -> None:
    out, asset = str(tmp_path / "set"), services.items[0]["assets"]["image"]
    asset["file:checksum"] = "1220aa"
    observe_set(prepare(table_of(services, "stac")), out)
    services.items[0]["properties"]["created"] = "2026-01-01T00:00:00Z"
    observe_set(prepare(table_of(services, "stac")), out)
    asset["file:checksum"] = "1220bb"
    with pytest.raises(ObservationsError, match="naip_0 changed"):
        observe_set(prepare(table_of(services, "stac")), out)


def test_an_item_that_changes_during_a_build_ends_it(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, left = set_builder._build_shard, iter(range(1))

    def changing(*arguments: Any) -> Any:
        if next(left, None) is None:
            services.items[0]["properties"]["datetime"] = "2020-08-01T00:00:00Z"
        return build(*arguments)

    monkeypatch.setattr(set_builder, "_build_shard", changing)
    with pytest.raises(ReplacedError, match=r"naip_0 .* changed during the build"):
        observe_set(prepare(table_of(services, "stac")), str(tmp_path / "set"), workers=1)
