import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import commands, servers, stores
from zarr.storage import MemoryStore, WrapperStore

from unigeo import client
from unigeo.client.verifying.verify import VerificationReport, verify_store
from unigeo.schemas.errors import ForeignError, LayoutError, StoreError
from unigeo.schemas.store.sharding import parse_index

SHARDS = 4 * 2 * 2
"""Of the store `gulf`: four of each of two modalities' vectors and statuses."""


@pytest.fixture
def copy(gulf: Path, tmp_path: Path) -> Path:
    """A store to damage."""
    return Path(shutil.copytree(gulf, tmp_path / "copy.zarr"))


def verified(path: Any, **options: Any) -> VerificationReport:
    return client.open_field(path).verify(**options)


def flip(path: Path, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("name", ["gulf", "fiji"])
def test_a_whole_store_has_no_problem(name: str, request: pytest.FixtureRequest) -> None:
    report = verified(request.getfixturevalue(name))
    assert report.ok, report.problems
    assert report.notes == ()
    assert report.chunks > report.objects > 0


def test_everything_is_counted(gulf: Path) -> None:
    whole, present = verified(gulf), verified(gulf, level="presence")
    assert whole.objects == present.objects == SHARDS
    files = [p for m in ("coordinate", "aerial") for p in gulf.glob(f"{m}*/c/**/*") if p.is_file()]
    assert whole.size_bytes == sum(path.stat().st_size for path in files)
    assert (present.ok, present.chunks, present.size_bytes) == (True, 0, 0)
    assert str(present) == "16 objects checked (presence): no problem"
    with pytest.raises(dataclasses.FrozenInstanceError):
        whole.objects = 0  # type: ignore[misc]


def test_a_flipped_byte_is_named_by_its_chunk(copy: Path) -> None:
    path = copy / "coordinate/c/1/0/0"
    offset, size = parse_index(path.read_bytes(), (4, 4))[0, 3].tolist()
    flip(path, offset + 100)
    where = "coordinate shard (1, 0), coordinate/c/1/0/0"
    assert verified(copy).problems == (
        f"{where}: its SHA-256 is not the manifest's",
        f"{where}: the CRC-32C of chunk (0, 3) differs: {size} bytes at {offset}",
    )
    assert verified(copy, level="presence").ok


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_no_flipped_bit_of_any_shard_escapes(copy: Path, data: st.DataObject) -> None:
    paths = sorted(p for p in copy.glob("*/c/*/**/*") if p.is_file())
    path = data.draw(st.sampled_from(paths))
    byte = data.draw(st.integers(0, path.stat().st_size - 1))
    flip(path, byte)
    problems = verified(copy).problems
    flip(path, byte)
    key = path.relative_to(copy).as_posix()
    assert all(f", {key}: " in problem for problem in problems)
    assert any("SHA-256" in problem for problem in problems)
    if "_status" not in key:  # whose objects are the codes and nothing else
        assert any("CRC" in problem or "outside the object" in problem for problem in problems)


def test_a_damaged_status_is_named(copy: Path) -> None:
    path = copy / "aerial_status/c/0/1"
    content = np.frombuffer(path.read_bytes(), np.uint8)
    byte = int(np.flatnonzero(content == 1)[0])  # valid becomes not produced
    flip(path, byte)
    where = "aerial_status shard (0, 1), aerial_status/c/0/1"
    valid = int((content == 1).sum())
    assert verified(copy).problems == (
        f"{where}: its SHA-256 is not the manifest's",
        f"{where}: {valid - 1} cells have the status valid, the manifest says {valid}",
    )


def test_a_damaged_status_of_layout_1_is_named_by_its_crc_too(
    past: dict[str, Path], tmp_path: Path
) -> None:
    copy = tmp_path / "gulf.zarr"
    shutil.copytree(past["layout1"], copy)
    flip(copy / "aerial_status/c/0/1", -1)
    where = "aerial_status shard (0, 1), aerial_status/c/0/1"
    assert verified(copy).problems == (
        f"{where}: its SHA-256 is not the manifest's",
        f"{where}: the CRC-32C of chunk (0, 0) differs",
    )


def test_a_shard_cut_off_is_named(copy: Path) -> None:
    path = copy / "aerial/c/0/0/0"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:1000])
    where = "aerial shard (0, 0), aerial/c/0/0/0"
    told = f"{where} holds 1000 bytes, the manifest says {size}"
    assert verified(copy, level="presence").problems == (told,)
    assert verified(copy).problems == (
        told,
        f"{where}: its SHA-256 is not the manifest's",
        f"{where}: the shard's index does not match its CRC-32C. The object is damaged or cut off: "
        "copy it anew.",
    )
    path.write_bytes(b"")
    assert "holds 0 bytes" in verified(copy).problems[0]


def test_a_lost_shard_is_named(copy: Path) -> None:
    size = (copy / "aerial/c/0/1/0").stat().st_size
    (copy / "aerial/c/0/1/0").unlink()
    for level in ("presence", "hash"):
        assert verified(copy, level=level).problems == (
            f"aerial shard (0, 1), aerial/c/0/1/0 is missing; the manifest says {size} bytes",
        )


def test_two_shards_swapped_are_named_by_each_other(copy: Path) -> None:
    """Each is whole in itself: only the manifest knows its place."""
    one, other = copy / "coordinate/c/0/0/0", copy / "coordinate/c/1/1/0"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    problems = [problem for problem in verified(copy).problems if "SHA-256" in problem]
    names = [f"coordinate shard ({i}, {i}), coordinate/c/{i}/{i}/0" for i in (0, 1)]
    assert problems == [
        f"{names[0]}: its SHA-256 is not the manifest's; it is that of {names[1]}",
        f"{names[1]}: its SHA-256 is not the manifest's; it is that of {names[0]}",
    ]


def test_objects_that_do_not_belong_are_named(copy: Path) -> None:
    for name in ("aerial/c/0/0/0.ab12.partial", "aerial/c/7/7/0", "letter.txt", "x/c/notes"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(b"?")
    assert verified(copy).problems == tuple(
        f"{name} is not in the manifest and belongs to no array"
        for name in ("aerial/c/0/0/0.ab12.partial", "aerial/c/7/7/0", "letter.txt", "x/c/notes")
    )


def test_edited_metadata_are_named(copy: Path) -> None:
    edit(copy / "aerial/zarr.json", lambda d: d["attributes"].update(scale_factor=2))
    edit(copy / "y/zarr.json", lambda d: d.update(shape=[63]))
    (copy / "manifest/zarr.json").write_text("{")
    assert verified(copy).problems == (
        "aerial/zarr.json: attributes differ from what the root says of it",
        "manifest/zarr.json is missing, or is no JSON",
        "y/zarr.json: shape differ from what the root says of it",
    )


def test_a_root_that_breaks_the_layout_is_named(copy: Path) -> None:
    field = client.open_field(copy)
    edit(copy / "zarr.json", lambda d: d["attributes"].update({"proj:code": "EPSG:8858"}))
    assert field.verify().problems == (
        "attribute proj:code is 'EPSG:8858', the grid says 'EPSG:8857'",
    )


def of_root(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda document: change(document["attributes"])


ROOT_EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "licence": (lambda a: a.update(license="mine"), "license is 'mine', published as 'CC0-1.0'"),
    "citation": (lambda a: a.update(citation="Else"), "citation is 'Else', published as 'Nob"),
    "source": (lambda a: a.update({"geoemb:source_data": "urn:x"}), "geoemb:source_data is 'urn"),
    "observations": (
        lambda a: a["unigeo"]["observations"].update(name="real"),
        "unigeo.observations.name is 'real', published as 'nothing'",
    ),
    "region": (lambda a: a["unigeo"].update(region="conus"), "unigeo.region is 'conus'"),
    "seed": (lambda a: a["unigeo"].update(seed=77), "unigeo.seed is 77, published as 0"),
    "true for one": (lambda a: a["unigeo"].update(seed=False), "unigeo.seed is False"),
    "code": (lambda a: a["unigeo"].update(code_version="9"), "unigeo.code_version is '9'"),
    "model": (lambda a: a["unigeo"]["model"].update(name="Sat"), "unigeo.model.name is 'Sat'"),
    "model hash": (lambda a: a["unigeo"]["model"].update(sha256="0" * 64), "unigeo.model.sha256"),
    "settings": (lambda a: a["unigeo"]["model"]["settings"].clear(), "model.settings.kind is miss"),
    "manifest": (lambda a: a["unigeo"].update(manifest_sha256="0" * 64), "not the one whose"),
    "no manifest": (lambda a: a["unigeo"].pop("manifest_sha256"), "manifest_sha256 is missing"),
    "hash": (lambda a: a["unigeo"].update(attributes_sha256="0" * 64), "attributes_sha256 is '00"),
    "no hash": (lambda a: a["unigeo"].pop("attributes_sha256"), "attributes_sha256 is None"),
    "new": (lambda a: a.update(evil="yes"), "evil is 'yes', and was not published"),
    "new of ours": (lambda a: a["unigeo"].update(release="9"), "unigeo.release is '9', and"),
    "gone": (lambda a: a.pop("geoemb:type"), "geoemb:type is missing, published as 'pixel'"),
    "conventions": (lambda a: a["zarr_conventions"].pop(), "zarr_conventions is "),
    "state": (lambda a: a["unigeo"].update(state="building"), "unigeo.state is 'building'"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROOT_EDITS)
def test_every_edited_attribute_of_the_root_is_named(copy: Path, name: str) -> None:
    change, said = ROOT_EDITS[name]
    edit(copy / "zarr.json", of_root(change))
    for level in ("presence", "hash"):
        problems = verify_store(copy, level=level).problems
        if level == "hash" or name != "manifest":
            assert any(said in problem for problem in problems), problems
    assert verify_store(copy).notes == ()


def test_several_edits_are_named_each_also_where_the_store_cannot_be_listed(copy: Path) -> None:
    changes = {"license": "mine", "citation": "Else", "evil": "yes"}
    edit(copy / "zarr.json", of_root(lambda a: a.update(changes)))
    with servers.RangeServer(copy) as server:
        problems = verified(server.url).problems
    assert [problem.split(" ")[1] for problem in problems] == ["citation", "evil", "license"]


def test_a_changed_manifest_is_seen_where_the_store_cannot_be_listed(copy: Path) -> None:
    edit(copy / "manifest/zarr.json", lambda d: d["attributes"].update(runs=[]))
    nodes = ("consolidated_metadata", "metadata", "manifest", "attributes")

    def same(document: dict[str, Any]) -> None:
        for name in nodes:
            document = document[name]
        document.update(runs=[])

    edit(copy / "zarr.json", same)
    with servers.RangeServer(copy) as server:
        assert verified(server.url).problems == (
            "the manifest is not the one whose digest the root holds",
        )


def test_arrays_that_the_root_does_not_repeat_are_named(copy: Path) -> None:
    edit(
        copy / "zarr.json",
        lambda d: d["consolidated_metadata"]["metadata"].pop("preview/1/aerial"),
    )
    with servers.RangeServer(copy) as server:
        problems = verified(server.url).problems
    assert "preview/1/aerial/zarr.json was published, and the root does not repeat it" in problems


def test_attributes_of_a_store_from_before_the_hash_are_reported_as_not_held(
    copy: Path,
) -> None:
    shutil.rmtree(copy / "manifest/root_attributes")

    def forget(document: dict[str, Any]) -> None:
        document["attributes"]["unigeo"].pop("attributes_sha256")
        document["attributes"]["unigeo"].pop("manifest_sha256")  # the older one's is another
        document["consolidated_metadata"]["metadata"].pop("manifest/root_attributes")

    edit(copy / "zarr.json", forget)
    report = verified(copy)
    assert report.ok
    (note,) = report.notes
    assert "a changed licence, citation, region or model's name goes unnoticed" in note


def test_overviews_hold_what_the_root_does(gulf: Path) -> None:
    """Their own metadata are objects of the manifest."""
    field = client.open_field(gulf, overview=2)
    assert field.verify().ok
    assert field.licence == client.open_field(gulf).licence


BAD_ROOTS = {
    "empty": b"",
    "cut": b'{"zarr_format": 3, "node_type": "gro',
    "html": b"<!doctype html><title>Not found</title>",
    "binary": bytes(range(256)),
    "list": b"[1, 2]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "nothing": b"{}",
    "v2": b'{"zarr_format": 2, "node_type": "group"}',
    "array": b'{"zarr_format": 3, "node_type": "array", "shape": [2]}',
    "another": b'{"zarr_format": 3, "node_type": "group", "attributes": {}}',
    "attributes": b'{"zarr_format": 3, "node_type": "group", "attributes": "x"}',
    "nodes": b'{"zarr_format": 3, "node_type": "group", "attributes": {}, '
    b'"consolidated_metadata": {"kind": "inline", "must_understand": false, "metadata": {"a": 5}}}',
    "no nodes": b'{"zarr_format": 3, "node_type": "group", "attributes": {}, '
    b'"consolidated_metadata": 5}',
    "foreign": b'{"zarr_format": 3, "node_type": "group", "attributes": {"unigeo": 5}, '
    b'"consolidated_metadata": {"kind": "inline", "must_understand": false, "metadata": {}}}',
}


@pytest.mark.parametrize("command", ["info", "verify", "validate", "cite", "coverage"])
@pytest.mark.parametrize("name", BAD_ROOTS)
def test_a_cut_or_foreign_root_is_one_line_and_exit_code_1(
    tmp_path: Path, name: str, command: str
) -> None:
    (tmp_path / "zarr.json").write_bytes(BAD_ROOTS[name])
    result = commands.run(command, tmp_path)
    assert result.exit_code == 1
    assert len((result.stdout + result.stderr).splitlines()) <= 2  # verify counts, too
    assert re.search("zarr.json|attribute unigeo: ", result.stdout + result.stderr)
    with pytest.raises(ForeignError):
        client.open_field(tmp_path)
    with pytest.raises(ForeignError):
        client.open_field(tmp_path, allow_building=True)


@pytest.mark.parametrize("command", ["info", "verify", "cite"])
def test_a_root_that_repeats_nothing_is_one_that_was_never_published(
    copy: Path, command: str
) -> None:
    document = json.loads((copy / "zarr.json").read_text())
    (copy / "zarr.json").write_text(json.dumps(document | {"consolidated_metadata": {}}))
    result = commands.run(command, copy)
    assert result.exit_code == 2
    assert "has no consolidated metadata, so it was never published" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["cut", "html", "list", "array"])
def test_a_foreign_root_of_a_server_is_one_line(name: str) -> None:
    with servers.RangeServer({"zarr.json": BAD_ROOTS[name]}) as server:
        result = commands.run("info", server.url)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1


def test_a_store_of_zarr_v2_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    result = commands.run("info", tmp_path)
    assert (result.exit_code, "is of Zarr v2" in result.stderr) == (1, True)


@pytest.mark.parametrize("name", ["cut", "html", "list", "null", "attributes"])
def test_nothing_is_produced_over_a_cut_or_foreign_root(tmp_path: Path, name: str) -> None:
    (tmp_path / "zarr.json").write_bytes(BAD_ROOTS[name])
    with pytest.raises(StoreError, match="is cut off, or of something else"):
        stores.begin(tmp_path)
    assert (tmp_path / "zarr.json").read_bytes() == BAD_ROOTS[name]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"zarr_format": 3, "node_type": "x"}'])
def test_cut_arrays_of_a_store_that_is_still_built_are_an_error(
    tmp_path: Path, content: bytes
) -> None:
    stores.begin(tmp_path / "field.zarr")
    (tmp_path / "field.zarr/aerial/zarr.json").write_bytes(content)
    with pytest.raises((StoreError, LayoutError)):
        client.open_field(tmp_path / "field.zarr", allow_building=True).sample([[0.0, 0.0]])


@pytest.mark.parametrize("group", ["manifest", "encoder", "preview", "overviews/2", "aerial"])
@pytest.mark.parametrize("content", [b"", b"[1]", b'{"zarr_format": 3'])
def test_a_cut_group_below_the_root_is_named_and_read_from_the_root(
    copy: Path, group: str, content: bytes
) -> None:
    (copy / group / "zarr.json").write_bytes(content)
    assert any(f"{group}/zarr.json" in problem for problem in verified(copy).problems)
    assert client.open_field(copy).coverage() == client.open_field(copy, overview=None).coverage()


def test_lost_coordinates_manifest_and_encoder_are_named(copy: Path) -> None:
    (copy / "encoder/matrix/c/0/0").unlink()
    (copy / "manifest/aerial_valid_cells/c/0/0").write_bytes(b"")
    flip(copy / "x/c/0", 3)
    (copy / "y/c/0").write_bytes(b"torn")
    problems = verified(copy, level="presence").problems
    assert "encoder/matrix/c/0/0 is missing" in problems
    assert "manifest/aerial_valid_cells/c/0/0 holds 0 bytes, expected 32" in problems
    assert "coordinate 'x' does not hold what the grid says" in problems
    assert "y/c/0 holds 4 bytes, expected 512" in problems
    told = [problem for problem in problems if "cannot be read" in problem]
    assert [problem.split(" cannot")[0] for problem in told] == [
        "coordinate 'y'", "array 'manifest/aerial_valid_cells'",
    ]  # fmt: skip


def test_a_store_without_manifest_says_so(copy: Path) -> None:
    shutil.rmtree(copy / "manifest")
    metadata = ("consolidated_metadata", "metadata")

    def forget(document: dict[str, Any]) -> None:
        nodes = document[metadata[0]][metadata[1]]
        for name in [name for name in nodes if name.startswith("manifest")]:
            del nodes[name]

    edit(copy / "zarr.json", forget)
    assert verified(copy).problems == (
        "the store has no group 'manifest', so its objects cannot be verified",
    )


def test_a_store_in_memory_is_verified() -> None:
    store = MemoryStore()
    stores.build(store)
    assert client.open_field(store).verify().ok


@pytest.mark.slow
def test_an_object_store_is_verified(gulf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import obstore

    with servers.object_store(monkeypatch) as bucket:
        url = f"{bucket}/gulf.zarr"
        remote = obstore.store.from_url(url, client_options={"allow_http": True})
        for key, content in stores.tree(gulf).items():
            obstore.put(remote, key, content)
        for level in ("presence", "hash"):
            assert verified(url, level=level) == verified(gulf, level=level)
        obstore.delete(remote, "aerial/c/0/1/0")
        obstore.put(remote, "letter.txt", b"dear reader")
        for level in ("presence", "hash"):
            problems = verified(url, level=level).problems
            assert [problem.split(" is ")[0] for problem in problems] == [
                "letter.txt", "aerial shard (0, 1), aerial/c/0/1/0",
            ]  # fmt: skip


def test_a_web_server_is_verified_without_a_listing(copy: Path) -> None:
    (copy / "letter.txt").write_text("dear reader")
    with servers.RangeServer(copy) as server:
        url = server.url
        report = verified(url)
        assert (report.ok, report.objects) == (True, SHARDS)
        (note,) = report.notes
        assert note.startswith("objects that do not belong to the store were not looked for, since")
        (copy / "aerial/c/0/1/0").unlink()
        for level in ("presence", "hash"):
            (problem,) = verified(url, level=level).problems
            assert "aerial/c/0/1/0 is missing" in problem


def test_an_object_that_cannot_be_read_is_named_and_the_others_are_checked() -> None:
    class Faulty(WrapperStore[Any]):
        lost: str = ""

        async def get(self, key: str, *args: Any, **options: Any) -> Any:
            if key == self.lost:
                raise OSError("the disk is broken")
            return await super().get(key, *args, **options)

    store = Faulty(MemoryStore())
    stores.build(store)
    field = client.open_field(store)
    Faulty.lost = "aerial/c/1/0/0"
    report = field.verify()
    assert report.problems == (
        "aerial shard (1, 0), aerial/c/1/0/0 cannot be read: the disk is broken",
    )
    assert report.objects == SHARDS
    Faulty.lost = "aerial/zarr.json"
    with pytest.raises(StoreError, match=r"cannot read the store at .*the disk is broken"):
        field.verify()


def test_what_cannot_be_verified_is_refused(copy: Path) -> None:
    field = client.open_field(copy)
    dataset = xr.open_zarr(copy)
    assert dataset.unigeo.verify(level="presence").ok
    dataset = xr.open_zarr(copy)
    dataset.encoding.clear()
    with pytest.raises(StoreError, match="does not say which store"):
        dataset.unigeo.verify()
    shutil.rmtree(copy)
    with pytest.raises(StoreError, match="no Zarr v3 store"):
        field.verify()
