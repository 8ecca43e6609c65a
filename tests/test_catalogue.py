"""What stands beside a store: STAC that validates offline, a card, a catalogue of fields."""

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pystac
import pytest
import xarray as xr
from jsonschema import Draft7Validator
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource
from support import stores
from support.servers import RangeServer, object_store

from benchmarks.producer import kills
from unigeo import client
from unigeo.producer.publishing.announce import announce, gather
from unigeo.producer.publishing.field_card import field_card
from unigeo.producer.publishing.stac import interval, licence_of
from unigeo.producer.storage.objects import read_object, update_object
from unigeo.schemas.errors import StoreError
from unigeo.schemas.io.stores import open_group, open_store
from unigeo.schemas.store.attributes import read_attributes
from unigeo.schemas.store.catalogue import FIELDS, Entry, read_catalogue, relative_inside
from unigeo.schemas.store.page import page_of

DATA = Path(__file__).parent / "data" / "stac"
EXTENSIONS = {
    schema["$id"]: schema
    for schema in map(json.loads, (p.read_text() for p in sorted(DATA.glob("*.json"))))
}


def faults(document: dict[str, Any]) -> list[str]:
    """What STAC's own schemas find, without any network."""
    schemas = get_local_schema_cache() | EXTENSIONS
    registry: Any = Registry().with_resources(
        [(uri, Resource.from_contents(schema)) for uri, schema in schemas.items()]
    )
    kind = {"Feature": "item"}.get(document["type"], document["type"].lower())
    uris = [f"https://schemas.stacspec.org/v1.1.0/{kind}-spec/json-schema/{kind}.json"]
    uris += document.get("stac_extensions", [])
    return [
        error.message
        for uri in uris
        for error in Draft7Validator(schemas[uri], registry=registry).iter_errors(document)
    ]


def fields_of(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "catalog.json").read_text())[FIELDS])


def test_the_page_of_a_store_is_beside_it(gulf: Path, tmp_path: Path) -> None:
    """Found by a web server of the folder; a file that somebody wrote there stays."""
    shutil.copytree(gulf, tmp_path / "a b.zarr")
    announce(str(tmp_path / "a b.zarr"))
    page = tmp_path / "a b.html"
    assert page.read_bytes() == page_of("a%20b.zarr")
    page.write_bytes(page_of("before.zarr"))
    announce(str(tmp_path / "a b.zarr"))
    assert page.read_bytes() == page_of("a%20b.zarr")
    page.write_text("mine")
    announce(str(tmp_path / "a b.zarr"))
    assert page.read_text() == "mine"


@pytest.fixture
def shelf(gulf: Path, fiji: Path, tmp_path: Path) -> Path:
    """Two fields in two folders, with a catalogue above."""
    for region, path in (("gulf", gulf), ("fiji", fiji)):
        (tmp_path / region).mkdir()
        copied = shutil.copytree(path, tmp_path / region / f"{region}.zarr")
        announce(str(copied), model_card="# Waves\n\nA card.\n", providers=("Nobody",))
    listed = [str(tmp_path / region / f"{region}.zarr") for region in ("gulf", "fiji")]
    gather(str(tmp_path / "catalog.json"), listed)
    return tmp_path


def test_everything_written_is_valid_stac(shelf: Path) -> None:
    documents = [json.loads(path.read_text()) for path in shelf.glob("*/*.json")]
    documents.append(json.loads((shelf / "catalog.json").read_text()))
    assert sorted({one["type"] for one in documents}) == ["Catalog", "Collection", "Feature"]
    assert len(documents) == 7
    for document in documents:
        assert faults(document) == []
    broken = next(one for one in documents if one["type"] == "Feature")
    broken["properties"]["proj:epsg"] = 8857
    del broken["properties"]["datetime"]
    assert len(faults(broken)) >= 2, "the schemas do look"


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item["assets"]["encoder"].pop("mlm:artifact_type"),
        lambda item: item["assets"].pop("encoder"),
        lambda item: item["properties"].pop("mlm:name"),
        lambda item: item["properties"].update(version=1),
        lambda item: item["assets"]["field"].update({"xarray:open_kwargs": "zarr"}),
        lambda item: item["assets"]["field"].update({"zarr:zarr_format": 4}),
    ],
)
def test_the_schemas_of_extensions_do_look(shelf: Path, change: Callable[[Any], Any]) -> None:
    item = json.loads((shelf / "gulf" / "unigeo-gulf-80000m-r1.json").read_text())
    change(item)
    assert faults(item)


def test_an_item_is_in_the_file_of_its_id_and_says_where_links_lead(shelf: Path) -> None:
    documents = [*shelf.glob("*/*.json"), shelf / "catalog.json"]
    for path in documents:
        document = json.loads(path.read_text())
        if document["type"] == "Feature":
            assert path.name == f"{document['id']}.json"
            assert set(document["assets"]) == {"field", "preview", "card", "encoder"}
            assert document["assets"]["field"]["type"] == "application/vnd.zarr"
            assert document["properties"]["version"] == "1"
        links = {link["rel"]: link for link in document["links"]}
        assert (path.parent / links["self"]["href"]).resolve() == path.resolve()
        for link in document["links"]:
            target = json.loads((path.parent / link["href"]).read_text())
            assert link["title"] == target.get("title", target.get("properties", {}).get("title"))
    kwargs = pystac.Item.from_file(
        str(shelf / "gulf" / "unigeo-gulf-80000m-r1.json")
    ).assets["field"].extra_fields["xarray:open_kwargs"]  # fmt: skip
    opened = xr.open_dataset(shelf / "gulf" / "gulf.zarr", **kwargs)
    assert opened.unigeo.attributes.region == "gulf"


def test_a_model_s_name_is_one_that_stac_takes(gulf: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(gulf, tmp_path / "gulf.zarr")
    for name, said in (("conus (1) a", "conus -1- a"), ("π", "unigeo-abababababab")):
        root = json.loads((copied / "zarr.json").read_text())
        root["attributes"]["unigeo"]["model"]["name"] = name
        (copied / "zarr.json").write_text(json.dumps(root))
        announce(str(copied))
        item = json.loads((tmp_path / "unigeo-gulf-80000m-r1.json").read_text())
        assert faults(item) == []
        assert item["properties"]["mlm:name"] == said


def test_a_catalogue_of_before_still_opens_and_takes_new_fields(shelf: Path) -> None:
    """Its item was named after the store."""
    folder = shelf / "gulf"
    (folder / "unigeo-gulf-80000m-r1.json").rename(folder / "gulf.json")
    place = folder / "catalog.json"
    place.write_text(place.read_text().replace("unigeo-gulf-80000m-r1.json", "gulf.json"))
    assert client.open_field(place, region="gulf").attributes.region == "gulf"
    copied = shutil.copytree(folder / "gulf.zarr", folder / "other.zarr")
    announce(str(copied))
    listed = {field["href"]: field["item"] for field in fields_of(folder)}
    assert listed == {
        "gulf.zarr": "gulf.json", "other.zarr": "unigeo-gulf-80000m-r1-other.json"
    }  # fmt: skip
    catalogue = pystac.Catalog.from_file(str(place))
    assert len(list(catalogue.get_items(recursive=True))) == 2
    announce(str(folder / "gulf.zarr"))
    assert {field["item"] for field in fields_of(folder)} == {
        "unigeo-gulf-80000m-r1.json", "unigeo-gulf-80000m-r1-other.json"
    }  # fmt: skip


def test_stac_readers_walk_from_the_catalogue_to_the_store(shelf: Path) -> None:
    catalogue = pystac.Catalog.from_file(str(shelf / "catalog.json"))
    items = {item.id: item for item in catalogue.get_items(recursive=True)}
    assert sorted(items) == ["unigeo-fiji-20000m-r1", "unigeo-gulf-80000m-r1"]
    item = items["unigeo-gulf-80000m-r1"]
    href = item.assets["field"].get_absolute_href()
    assert client.open_field(href).attributes.region == "gulf"
    assert item.properties["license"] == "CC0-1.0"
    assert item.properties["unigeo:citation"] == "Nobody (2026)"
    assert item.properties["providers"][0]["name"] == "Nobody"
    card = Path(str(item.assets["card"].get_absolute_href())).read_text()
    assert card.startswith("# Waves") and "## Data statement" in card and "CC0-1.0" in card
    field = client.open_field(href)
    lonlat = field.grid.centres()[field.dataset()["coordinate_status"].values == 1]
    west, south, east, north = item.bbox
    assert west <= lonlat[:, 0].min() and lonlat[:, 0].max() <= east
    assert south <= lonlat[:, 1].min() and lonlat[:, 1].max() <= north
    assert lonlat[:, 0].min() - west < 1.0 > north - lonlat[:, 1].max()


def test_across_the_antimeridian_the_box_is_two(shelf: Path) -> None:
    item = json.loads((shelf / "fiji" / "unigeo-fiji-20000m-r1.json").read_text())
    west, _, east, _ = item["bbox"]
    assert 170 < west < 180 and -180 < east < -170
    assert item["geometry"]["type"] == "MultiPolygon"
    assert len(item["geometry"]["coordinates"]) == 2


def test_a_field_is_opened_by_its_region(shelf: Path) -> None:
    for region in ("gulf", "fiji"):
        field = client.open_field(shelf / "catalog.json", region=region)
        assert field.attributes.region == region
        assert client.open_field(shelf, region=region).url == field.url
        assert client.open_field(shelf / region / "catalog.json").url.endswith(f"{region}.zarr")
    assert client.open_field(shelf, region="gulf", overview=2).grid.resolution_m == 160_000
    with pytest.raises(StoreError, match=r"no region 'atlantis' .*; it lists fiji, gulf"):
        client.open_field(shelf, region="atlantis")
    with pytest.raises(StoreError, match=r"name a region .*; it lists fiji, gulf"):
        client.open_field(shelf / "catalog.json")
    with pytest.raises(StoreError, match=r"no release '7' .*; it has 1"):
        client.open_field(shelf, region="gulf", release="7")
    with pytest.raises(StoreError, match="no catalogue at"):
        client.open_field(shelf / "nowhere", region="gulf")


def test_over_http_and_s3(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [[-10.0, 3.0], [2.0, -8.0]]
    expected = client.open_field(shelf, region="gulf").sample(points)
    with RangeServer(stores.tree(shelf)) as server:
        url = f"http://127.0.0.1:{server.port}/catalog.json"
        assert client.open_field(url, region="gulf").sample(points).equals(expected)
    with object_store(monkeypatch) as bucket:
        stores.build(f"{bucket}/gulf/gulf.zarr")
        announce(f"{bucket}/gulf/gulf.zarr")
        gather(f"{bucket}/catalog.json", [f"{bucket}/gulf/gulf.zarr"])
        found = client.open_field(f"{bucket}/catalog.json", region="gulf")
        assert found.sample(points).equals(expected)


def test_many_announce_at_once_and_all_are_listed(
    gulf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(content: bytes, url: str) -> tuple[Entry, ...]:
        time.sleep(0.1)  # so that all have read before one writes
        return read_catalogue(content, url)

    monkeypatch.setattr("unigeo.producer.publishing.announce.read_catalogue", slow)
    names = [f"gulf-{number}.zarr" for number in range(4)]
    for name in names:
        shutil.copytree(gulf, tmp_path / name)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(announce, [str(tmp_path / name) for name in names]))
    assert sorted(field["href"] for field in fields_of(tmp_path)) == names
    collection = json.loads((tmp_path / "gulf.collection.json").read_text())
    items = [link["href"] for link in collection["links"] if link["rel"] == "item"]
    stem = "./unigeo-gulf-80000m-r1-gulf"  # not what the producer calls a store: the id has it
    assert sorted(items) == [f"{stem}-{number}.json" for number in range(4)]


def test_of_many_changes_in_a_folder_none_is_lost(tmp_path: Path) -> None:
    def add(number: int) -> bytes:
        def slow(old: bytes | None) -> bytes:
            time.sleep(0.02)
            return (old or b"") + bytes([number])

        return update_object(open_store(tmp_path, read_only=False), "list", slow)

    with ThreadPoolExecutor(8) as pool:
        after = list(pool.map(add, range(16)))
    assert sorted(max(after, key=len)) == list(range(16))
    assert sorted(map(len, after)) == list(range(1, 17))


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_of_two_changes_in_an_object_store_none_is_lost(kind: str) -> None:
    """One comes while the other is under way: first of a new object, then of one that is there."""
    with kills.store_root(kind) as bucket:
        store = open_store(bucket, read_only=False)
        rounds = []

        def slow(old: bytes | None) -> bytes:
            rounds.append(old)
            if len(rounds) in (1, 3):
                update_object(store, "list", lambda old: (old or b"") + b"fast ")
            return (old or b"") + b"slow "

        assert update_object(store, "list", slow) == b"fast slow "
        assert update_object(store, "list", slow) == b"fast slow fast slow "
        assert rounds == [None, b"fast ", b"fast slow ", b"fast slow fast "]
        assert read_object(store, "list") == b"fast slow fast slow "


def test_announcing_again_changes_nothing_and_another_release_comes_first(shelf: Path) -> None:
    folder = shelf / "gulf"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    announce(str(folder / "gulf.zarr"), model_card="# Waves\n\nA card.\n", providers=("Nobody",))
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    for release in ("2", "10"):
        copied = shutil.copytree(folder / "gulf.zarr", folder / f"gulf-r{release}.zarr")
        root = json.loads((copied / "zarr.json").read_text())
        root["attributes"]["unigeo"]["release"] = release
        (copied / "zarr.json").write_text(json.dumps(root))
        announce(str(copied))
    assert [field["release"] for field in fields_of(folder)] == ["1", "2", "10"]
    assert client.open_field(folder, region="gulf").url.endswith("gulf-r10.zarr")
    assert client.open_field(folder, region="gulf", release="2").url.endswith("gulf-r2.zarr")
    collection = json.loads((folder / "gulf.collection.json").read_text())
    assert faults(collection) == []
    assert sum(link["rel"] == "item" for link in collection["links"]) == 3


ESCAPES = [
    "../secret.zarr", "/etc/secret.zarr", "a/../../secret.zarr", "file:///etc", "s3://other/x.zarr",
    "..%2Fsecret.zarr", "%252e%252e/secret.zarr", "C:\\secret", "\\\\host\\share", "~/secret.zarr",
    "a\\..\\..\\secret", "", ".", "x.zarr?versionId=1", "a\0b",
]  # fmt: skip


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("member", ["href", "item", "collection"])
def test_no_path_of_a_catalogue_leads_out_of_it(shelf: Path, path: str, member: str) -> None:
    with pytest.raises(ValueError, match="inside the catalogue's folder"):
        relative_inside(path)
    place = shelf / "catalog.json"
    document = json.loads(place.read_text())
    document[FIELDS][0][member] = path
    place.write_text(json.dumps(document))
    with pytest.raises(StoreError, match=f"{FIELDS}.0.{member}"):
        client.open_field(place, region="gulf")


def test_no_link_leads_out_of_the_catalogue_s_folder(shelf: Path, tmp_path: Path) -> None:
    inner = shelf / "inner"
    inner.mkdir()
    shutil.copy(shelf / "gulf" / "catalog.json", inner / "catalog.json")
    (inner / "gulf.zarr").symlink_to(shelf / "gulf" / "gulf.zarr")
    with pytest.raises(StoreError, match="a link that leads out of"):
        client.open_field(inner, region="gulf")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{", "no JSON"), (b"[]", "no catalogue"), (b'{"unigeo:fields": 1}', FIELDS)],
)
def test_other_files_are_no_catalogues(tmp_path: Path, content: bytes, words: str) -> None:
    place = tmp_path / "catalog.json"
    place.write_bytes(content)
    with pytest.raises(StoreError, match=words):
        client.open_field(place, region="gulf")
    with pytest.raises(StoreError):
        read_catalogue(content, "x")


def test_a_catalogue_stands_above_its_stores(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not lie below"):
        gather(str(shelf / "fiji" / "catalog.json"), [str(shelf / "gulf" / "gulf.zarr")])
    with pytest.raises(StoreError, match=r"other\.zarr"):
        gather(str(shelf / "catalog.json"), [str(shelf / "gulf" / "other.zarr")])
    with pytest.raises(StoreError, match="never published"):
        stores.begin(tmp_path / "new.zarr")
        announce(str(tmp_path / "new.zarr"))


def test_a_store_that_was_copied_alone_is_catalogued(shelf: Path, tmp_path: Path) -> None:
    """Or one whose catalogue was lost: what is beside it is written again."""
    alone = shelf / "alone"
    alone.mkdir()
    shutil.copytree(shelf / "gulf" / "gulf.zarr", alone / "gulf.zarr")
    before = stores.tree(alone / "gulf.zarr")
    entries = gather(str(shelf / "catalog.json"), [str(alone / "gulf.zarr")])
    assert {"alone/gulf.zarr", "gulf/gulf.zarr"} <= {entry.href for entry in entries}
    gather(str(alone / "catalog.json"), [str(alone / "gulf.zarr")])
    assert client.open_field(alone, region="gulf").verify().ok
    assert stores.tree(alone / "gulf.zarr") == before
    documents = [json.loads(path.read_text()) for path in alone.glob("*.json")]
    assert len(documents) == 3 and [faults(one) for one in documents] == [[], [], []]


def test_the_number_of_a_release_is_its_name(shelf: Path) -> None:
    for release in (1, "1"):
        field = client.open_field(shelf / "catalog.json", region="gulf", release=release)
        assert field.url == str(shelf / "gulf" / "gulf.zarr")
    with pytest.raises(StoreError, match=r"no release '2'"):
        client.open_field(shelf / "catalog.json", region="gulf", release=2)


def test_dates_and_licences_as_stac_wants_them() -> None:
    def dated(*acquired: str) -> tuple[str, str]:
        return interval({"modalities": {str(i): {"acquired": a} for i, a in enumerate(acquired)}})

    assert dated("2004-02", "2016") == ("2004-02-01T00:00:00Z", "2016-12-31T23:59:59Z")
    assert dated("1999-12-31/2000-01-15") == ("1999-12-31T00:00:00Z", "2000-01-15T23:59:59Z")
    assert dated("12345, 30 m") == dated() == ("1900-01-01T00:00:00Z", "2100-01-01T00:00:00Z")
    assert licence_of("CC-BY-4.0") == "CC-BY-4.0"
    assert licence_of("public domain; see the file") == "other"


def test_the_card_says_what_each_modality_is_made_of(gulf: Path) -> None:
    attributes = dict(open_group(gulf).attrs)
    own = read_attributes(attributes, "gulf")
    source = {"acquired": "2004", "licence": "CC0", "credit": "A|B", "inputs": [{"bytes": 2048}]}
    own = own.model_copy(update={"observations": {"name": "o", "modalities": {"dsm": source}}})
    card = field_card(None, own, "CC0-1.0", "Nobody", ("Somebody",))
    assert "came without a card" in card
    assert "| dsm | 2004 | CC0 | A\\|B | 1 | 2,048 |" in card
    assert open_store(gulf) is not None
