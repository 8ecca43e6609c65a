"""A store that changes under an open field: an answer of one generation, or an error."""

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import servers, stores

from unigeo import client
from unigeo.schemas.errors import DamagedError, StoreError

PLACES = np.random.default_rng(0).uniform((-18, -13), (14, 16), (300, 2))
WEST, EAST = PLACES[PLACES[:, 0] < 0], PLACES[PLACES[:, 0] > 0]
BOX = (-16.0, -12.0, 14.0, 15.0)
CHANGED = "changed since the field was opened"


@pytest.fixture(params=["none", "zstd"])
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "field.zarr"
    stores.build(path, layout=stores.layout_of(codec=request.param))
    return path


def other(folder: Path, codec: str = "none") -> Path:
    """The next release: other vectors of the same sizes."""
    path = folder / "other.zarr"

    def encode(modality: str, lonlat: np.ndarray) -> Any:
        vectors, observed = stores.encoder()(modality, lonlat)
        return vectors[:, ::-1].copy(), observed

    stores.build(path, layout=stores.layout_of(codec=codec), encode=encode)
    return path


def codec_of(store: Path) -> str:
    return "zstd" if b'"codec":"zstd"' in (store / "zarr.json").read_bytes() else "none"


def shards(store: Path, name: str = "aerial") -> list[Path]:
    return sorted(path for path in (store / name / "c").rglob("*") if path.is_file())


def renamed_into_place(store: Path, release: Path) -> None:
    for path in shards(store):
        new = Path(f"{path}.new")
        shutil.copy(release / path.relative_to(store), new)
        new.replace(path)


def sampled(field: client.Field, places: np.ndarray = PLACES) -> np.ndarray:
    found: np.ndarray = field.sample(places, "aerial", as_="numpy")["aerial"]
    return found


READERS: dict[str, Callable[[client.Field], Any]] = {
    "sample": sampled,
    "bilinear": lambda field: field.sample(PLACES, "aerial", method="bilinear"),
    "lazy": lambda field: field.sample(PLACES, as_="xarray", lazy=True).compute(),
    "region": lambda field: field.region(BOX).aerial.values,
    "iter_region": lambda field: [piece.stored for piece in field.iter_region(BOX, "aerial")],
    "zonal": lambda field: field.zonal(BOX, "aerial"),
    "similarity": lambda field: field.similarity((-10.0, 3.0), "aerial"),
}


def test_rows_of_two_releases_never_stand_in_one_answer(copy: Path, tmp_path: Path) -> None:
    release = other(tmp_path, codec_of(copy))
    fields = {reader: client.open_field(copy) for reader in READERS}
    for field in fields.values():
        sampled(field, WEST)
    renamed_into_place(copy, release)
    for reader, field in fields.items():
        with pytest.raises(DamagedError, match=CHANGED):
            READERS[reader](field)
        with pytest.raises(DamagedError, match=CHANGED):
            sampled(field, EAST)


def test_a_directory_renamed_into_place_is_noticed(copy: Path, tmp_path: Path) -> None:
    """Its files are older than the field's opening."""
    release = other(tmp_path, codec_of(copy))
    field = client.open_field(copy)
    sampled(field, WEST)
    copy.rename(tmp_path / "old.zarr")
    release.rename(copy)
    for places in (EAST, WEST):
        with pytest.raises(DamagedError, match=CHANGED):
            sampled(field, places)


def test_a_link_that_is_set_elsewhere_leaves_an_open_field_where_it_was(
    copy: Path, tmp_path: Path
) -> None:
    release, link = other(tmp_path), tmp_path / "current.zarr"
    link.symlink_to(copy, target_is_directory=True)
    field = client.open_field(link)
    expected = sampled(client.open_field(copy))
    sampled(field, WEST)
    link.unlink()
    link.symlink_to(release, target_is_directory=True)
    assert np.array_equal(sampled(field), expected, equal_nan=True)


def touched(store: Path) -> None:
    for path in store.rglob("*"):
        path.touch()


def linked(store: Path) -> None:
    for number, path in enumerate(shards(store)):
        os.link(path, store.parent / f"backup{number}")


def copied_anew(store: Path) -> None:
    for path in [path for path in store.rglob("*") if path.is_file()]:
        new = Path(f"{path}.new")
        shutil.copyfile(path, new)
        new.replace(path)


@pytest.mark.parametrize("change", [touched, linked, copied_anew])
def test_what_holds_the_same_bytes_reads_on(copy: Path, change: Callable[[Path], None]) -> None:
    field = client.open_field(copy)
    expected = sampled(client.open_field(copy))
    sampled(field, WEST)
    region = field.region(BOX).aerial.values
    change(copy)
    assert np.array_equal(sampled(field), expected, equal_nan=True)
    assert np.array_equal(field.region(BOX).aerial.values, region)


def test_a_shard_cut_short_in_place_is_an_error_and_no_signal(copy: Path) -> None:
    code = """
import os, sys
import test_changing_stores as tests
from pathlib import Path
from unigeo import client
from unigeo.schemas.errors import DamagedError
fields = {reader: client.open_field(sys.argv[1]) for reader in tests.READERS}
for field in fields.values():
    tests.sampled(field)
for path in tests.shards(Path(sys.argv[1])):
    os.truncate(path, 40)
for reader, field in fields.items():
    try:
        tests.READERS[reader](field)
    except DamagedError as error:
        assert tests.CHANGED in str(error), error
    else:
        raise AssertionError(reader)
"""
    run = subprocess.run(
        [sys.executable, "-c", code, copy],
        capture_output=True, text=True, cwd=Path(__file__).parent,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_a_store_that_is_still_built_may_grow(tmp_path: Path) -> None:
    group, grid, layout = stores.begin(tmp_path / "field.zarr")
    field = client.open_field(tmp_path / "field.zarr", allow_building=True)
    assert np.isnan(sampled(field)).all()
    stores.fill(group, grid, layout)
    field = client.open_field(tmp_path / "field.zarr", allow_building=True)
    assert np.isfinite(sampled(field)).any()


def test_a_server_s_object_that_changes_is_noticed(copy: Path, tmp_path: Path) -> None:
    release = stores.tree(other(tmp_path, codec_of(copy)))
    content = stores.tree(copy)
    with servers.RangeServer(content) as server:
        field = client.open_field(server.url)
        expected = sampled(field, WEST)
        for key in [key for key in content if key.startswith("aerial/c/")]:
            content[key] = release[key]
        for reader in ("sample", "region", "iter_region", "bilinear"):
            with pytest.raises(DamagedError, match=CHANGED):
                READERS[reader](field)
        content.update(stores.tree(copy))
        assert np.array_equal(sampled(field, WEST), expected, equal_nan=True)


def test_a_server_s_new_release_is_noticed_by_its_root(copy: Path, tmp_path: Path) -> None:
    release = stores.tree(other(tmp_path, codec_of(copy)))
    content = stores.tree(copy)
    with servers.RangeServer(content) as server:
        field = client.open_field(server.url)
        field.sample(WEST, "coordinate")
        content.clear()
        content.update(release)
        with pytest.raises(DamagedError, match=r"(zarr\.json|/0) changed since"):
            sampled(field)


@pytest.mark.parametrize("same", [False, True])
def test_an_object_store_s_later_object_is_compared_with_the_manifest(
    same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore

    store = tmp_path / "field.zarr"
    stores.build(store)
    release = store if same else other(tmp_path)
    with servers.object_store(monkeypatch) as bucket:
        remote: Any = obstore.store.from_url(f"{bucket}/f", client_options={"allow_http": True})
        for key, content in stores.tree(store).items():
            obstore.put(remote, key, content)
        field = client.open_field(f"{bucket}/f")
        time.sleep(1.1)  # times of objects are whole seconds
        for path in shards(store):
            key = path.relative_to(store).as_posix()
            obstore.put(remote, key, (release / key).read_bytes())
        if same:
            expected = sampled(client.open_field(store))
            assert np.array_equal(sampled(field), expected, equal_nan=True)
            return
        for reader in ("sample", "region"):
            with pytest.raises(DamagedError, match=CHANGED):
                READERS[reader](field)


FORK = """
import multiprocessing, sys
import numpy as np
from unigeo import client
from unigeo.schemas.errors import StoreError

def read(field):
    return field.sample([(-10.0, 3.0)], "aerial").iloc[0, 0]

def work(how, url, field, answers):
    try:
        answers.put(str(read(client.open_field(url) if how == "open" else field)))
    except StoreError as error:
        answers.put(f"StoreError {error}")

if __name__ == "__main__":
    how, url = sys.argv[1:]
    field = client.open_field(url)
    here = read(field)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=work, args=(how, url, field, answers))
    child.start()
    answer = answers.get()
    child.join()
    print(answer == str(here), answer)
"""


def in_fork(tmp_path: Path, how: str, url: Any) -> str:
    script = tmp_path / "fork.py"
    script.write_text(FORK)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", script, how, str(url)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("how", ["read", "open"])
def test_a_forked_worker_reads_a_folder(gulf: Path, tmp_path: Path, how: str) -> None:
    assert in_fork(tmp_path, how, gulf).startswith("True ")


@pytest.mark.parametrize("how", ["read", "open"])
def test_a_forked_worker_says_at_once_that_it_cannot_read_over_a_network(
    gulf: Path, tmp_path: Path, how: str
) -> None:
    with servers.RangeServer(gulf) as server:
        said = in_fork(tmp_path, how, server.url)
    assert said.startswith("False StoreError")
    assert "multiprocessing.get_context('spawn')" in said


def test_a_spawned_worker_reads_over_a_network(gulf: Path) -> None:
    with servers.RangeServer(gulf) as server:
        field = client.open_field(server.url)
        expected = sampled(field)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(sampled, (field,))
    assert np.array_equal(found, expected, equal_nan=True)


@pytest.fixture
def beside(gulf: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a store in the working directory."""
    monkeypatch.chdir(gulf.parent)
    return gulf.name


@pytest.mark.parametrize("form", ["name", "dots", "path", "home", "file", "dataset"])
def test_an_address_means_the_same_after_a_change_of_directory(
    gulf: Path, beside: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(gulf.parent))
    forms: dict[str, Any] = {
        "name": beside,
        "dots": f"../{gulf.parent.name}/./{beside}",
        "path": Path(beside),
        "home": f"~/{beside}",
        "file": gulf.as_uri(),
        "dataset": beside,
    }
    field = client.open_field(forms[form])
    if form == "dataset":
        field = field.dataset().unigeo
    expected = sampled(client.open_field(gulf))
    monkeypatch.chdir(tmp_path)
    assert field.url == str(gulf.resolve())
    assert np.array_equal(sampled(field), expected, equal_nan=True)
    assert field.region(BOX).aerial.values.any()
    assert field.verify(level="presence").ok
    if form != "dataset":
        again = pickle.loads(pickle.dumps(field))
        assert np.array_equal(sampled(again), expected, equal_nan=True)


def test_a_catalogue_by_a_relative_address_is_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unigeo.producer.publishing.announce import announce

    store = tmp_path / "here" / "gulf.zarr"
    store.parent.mkdir()
    stores.build(store)
    announce(store)
    monkeypatch.chdir(store.parent)
    field = client.open_field("catalog.json")
    monkeypatch.chdir(tmp_path)
    assert np.isfinite(sampled(field)).any()


def test_a_file_url_of_another_machine_is_refused() -> None:
    with pytest.raises(StoreError, match="names the machine 'conus'; write file:///path"):
        client.open_field("file://conus/conus.zarr")
