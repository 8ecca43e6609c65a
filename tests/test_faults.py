"""Reading over a network that fails: the right answer after new tries, or a named error."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import servers, stores
from support.children import child

from benchmarks.producer import kills
from unigeo import client
from unigeo.schemas.errors import LayoutError, MissingExtraError, StoreError

PLACES = np.random.default_rng(0).uniform((-18, -13), (14, 16), (120, 2))
VECTORS = "aerial/c/*"
EVERYTHING = "*/c/*"


@pytest.fixture(scope="module", params=["none", "zstd"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published store of vectors, uncompressed and compressed."""
    path: Path = tmp_path_factory.mktemp("faults") / "field.zarr"
    stores.build(path, layout=stores.layout_of(("coordinate", "aerial"), codec=request.param))
    return path


def read(url: str, **options: float) -> dict[str, np.ndarray]:
    field = client.open_field(url, **options)
    sampled: dict[str, np.ndarray] = field.sample(PLACES, as_="numpy")
    return sampled


def patience(fault: dict[str, Any]) -> dict[str, float]:
    """Only an answer that never comes is given up soon: a slow machine is slow to answer, too."""
    return {"timeout_s": 2} if "stall" in fault else {}


def check(url: str, folder: Path, **options: float) -> None:
    """The same vectors as from the folder."""
    expected = client.sample(PLACES, folder, as_="numpy")
    for name, vectors in read(url, **options).items():
        assert np.array_equal(vectors, expected[name], equal_nan=True)


def test_requests_are_few_and_none_is_for_what_is_not_there(folder: Path) -> None:
    with servers.RangeServer(folder, latency_s=0.1) as server:
        check(server.url, folder)
        assert not server.not_found
        assert server.counts.in_flight_max >= 4
        opening = [request.path for request in server.log[:1]]
        assert opening == ["zarr.json"]
        served = server.requests
        check(server.url, folder)
        assert server.requests == 2 * served  # another field knows nothing yet
        field = client.open_field(server.url)
        field.sample(PLACES, as_="numpy")
        served = server.requests
        field.sample(PLACES[:1], as_="numpy", modalities="coordinate")
        # The vector alone: the index is kept. After new objects the root is looked at, once.
        assert server.requests == served + 2
        field.sample(PLACES[:1], as_="numpy", modalities="coordinate")
        assert server.requests == served + 3


@pytest.mark.parametrize(
    "fault",
    [
        {"pattern": EVERYTHING, "status": 503, "times": 2},
        {"pattern": EVERYTHING, "status": 500, "times": 2},
        {"pattern": EVERYTHING, "status": 429, "times": 2, "retry_after_s": 1},
        {"pattern": "zarr.json", "status": 503, "times": 2},
        {"pattern": VECTORS, "cut_after": 10, "times": 2},
        {"pattern": VECTORS, "stall": True, "times": 1},
    ],
    ids=["503", "500", "429", "503 at first", "cut", "stall"],
)
def test_failures_that_pass_are_not_noticed(folder: Path, fault: dict[str, Any]) -> None:
    with servers.RangeServer(folder) as server:
        server.fault(**fault)
        check(server.url, folder, **patience(fault))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"pattern": EVERYTHING, "status": 500}, r"cannot read manifest/coordinate_bytes.* 500 "),
        ({"pattern": VECTORS, "status": 429}, r"cannot read aerial/c/\d/\d/0: .* 429 "),
        ({"pattern": VECTORS, "status": 403}, r"aerial/c/.* 403 Forbidden.*give credentials"),
        ({"pattern": VECTORS, "status": 401}, r"aerial/c/.* 401 Unauthorized.*give credentials"),
        ({"pattern": VECTORS, "status": 416}, r"aerial/c/.* 416 "),
        ({"pattern": VECTORS, "status": 404}, r"aerial/c/\d/\d/0 is not there.*lost a shard"),
        ({"pattern": "manifest/*", "status": 404}, "coordinate_bytes.* is not there.*manifest"),
        ({"pattern": VECTORS, "cut_after": 3}, r"cannot read aerial/c/\d/\d/0: .*body"),
        ({"pattern": VECTORS, "stall": True}, r"cannot read aerial/c/\d/\d/0: "),
        ({"pattern": VECTORS, "ignore_range": True}, "answers range requests"),
        ({"pattern": VECTORS, "truncate_to": 700}, "index does not match its CRC-32C"),
        ({"pattern": VECTORS, "truncate_to": 20}, "cut off"),
        ({"pattern": VECTORS, "corrupt": True}, "index does not match its CRC-32C"),
        ({"pattern": VECTORS, "shift_range": 7}, r"Requested \S+, got"),
        ({"pattern": "zarr.json", "status": 403}, r"cannot read the store.* 403 .*credentials"),
        ({"pattern": "zarr.json", "status": 500}, r"cannot read the store at http://.* 500 "),
        ({"pattern": "zarr.json", "status": 404}, "no Zarr v3 store at"),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_failures_that_stay_are_named_and_fill_nothing(
    folder: Path, fault: dict[str, Any], said: str
) -> None:
    with servers.RangeServer(folder) as server:
        server.fault(**fault)
        with pytest.raises(StoreError, match=said):
            read(server.url, **patience(fault))


@pytest.mark.parametrize("status", [401, 403])
def test_a_bucket_that_denies_what_it_lacks_reads_as_one_that_says_so(
    tmp_path: Path, status: int
) -> None:
    """Of the covariates the southern shards have no object: a bucket without listing denies it."""
    folder = tmp_path / "wide.zarr"
    stores.build_wide(folder)
    expected = client.open_field(folder).region((-18, -13, 14, 16))["covariates"].values
    with servers.RangeServer(folder) as server:
        absent = [f"covariates/c/1/{col}/*" for col in (0, 1)]
        for pattern in absent:
            assert not list(folder.glob(pattern))
            server.fault(pattern, status=status)
        field = client.open_field(server.url)
        found = field.region((-18, -13, 14, 16))["covariates"].values
        assert np.array_equal(found, expected, equal_nan=True)
        assert not field.verify().problems
        assert any(request.path.startswith("covariates/c/1/") for request in server.log)


@pytest.mark.parametrize("folder", ["zstd"], indirect=True)
def test_damaged_chunks_are_found_where_they_are_decoded(folder: Path) -> None:
    """A chunk read whole is compared with its CRC; of vectors read alone, `verify` says it."""
    with servers.RangeServer(folder) as server:
        server.fault(VECTORS, corrupt=True, after=4)  # the four indexes go well
        with pytest.raises(StoreError, match=r"aerial/c/.*does not match its CRC-32C"):
            read(server.url)


def test_interrupted_it_asks_for_nothing_more(folder: Path) -> None:
    """Ctrl-C in the middle of many slow requests."""
    code = """
import sys
import numpy as np
from unigeo import client
field = client.open_field(sys.argv[1])
vectors = field.modality("aerial").vectors
vectors.source.most_in_flight, vectors.source.most_gap_bytes = 2, -1
print("reading", flush=True)
field.sample(np.random.default_rng(0).uniform((-18, -13), (14, 16), (120, 2)), "aerial")
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with servers.RangeServer(folder, latency_s=0.2) as server:
        with child([sys.executable, "-c", code, server.url], **pipes) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == "reading\n"
            opened = server.requests
            while server.requests < opened + 4:
                time.sleep(0.02)
            run.send_signal(signal.SIGINT)
            _, err = run.communicate()
        assert "KeyboardInterrupt" in err
        assert run.returncode != 0
        assert server.requests < opened + 60  # of about 120: a process that has ended asks no more


def test_a_server_that_is_not_there_is_one_clear_error() -> None:
    with servers.RangeServer({}) as server:
        url = server.url
    with pytest.raises(StoreError, match=f"cannot read the store at {url}"):
        client.open_field(url, timeout_s=0.5)


def test_an_unknown_modality_or_newer_layout_is_named_without_a_request_for_vectors(
    folder: Path,
) -> None:
    now = (folder / "zarr.json").read_bytes()
    newer = re.sub(rb'"layout_version": ?2', b'"layout_version": 9', now)
    with servers.RangeServer(folder) as server:
        with pytest.raises(LayoutError, match="no modality 'street'; it has coordinate, aerial"):
            client.sample(PLACES, server.url, modalities="street")
        assert server.requests == 1
    with (
        servers.RangeServer({"zarr.json": newer}) as server,
        pytest.raises(LayoutError, match=r"layout version 9; this unigeo reads up to 2\. Upgrade"),
    ):
        client.open_field(server.url)


@pytest.mark.parametrize("kind", ["s3", "gcs"])
def test_an_object_store_gives_the_same(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kills.store_root(kind) as bucket:
        import obstore
        from obstore.store import from_url

        remote: Any = from_url(bucket, client_options={"allow_http": True})
        for key, body in stores.tree(folder).items():
            obstore.put(remote, f"field.zarr/{key}", body)
        check(f"{bucket}/field.zarr", folder)
        with pytest.raises(StoreError, match="no Zarr v3 store"):
            client.open_field(f"{bucket}/other.zarr")
        obstore.delete(remote, "field.zarr/aerial/c/0/0/0")
        with pytest.raises(StoreError, match="aerial/c/0/0/0 is not there"):
            read(f"{bucket}/field.zarr")
        if kind == "gcs":
            monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "another")
            with pytest.raises(StoreError, match="Access is denied: give credentials"):
                client.open_field(f"{bucket}/field.zarr")


def test_in_azure_a_field_that_is_not_there_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The account is known from the environment alone, and Zarr's own error names the store."""
    with servers.RangeServer({}) as empty:
        for name, value in (("STORAGE_ACCOUNT_NAME", "devstoreaccount1"),
                            ("STORAGE_USE_EMULATOR", "true")):  # fmt: skip
            monkeypatch.setenv(f"AZURE_{name}", value)
        monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", empty.url)
        with pytest.raises(StoreError, match=r"no Zarr v3 store at az://container/field\.zarr"):
            client.open_field("az://container/field.zarr")
        assert empty.counts.requests > 0


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Azure at once; of S3 where the cloud's own address, asked for them, gives none."""
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StoreError, match=r"cannot open az://.* no credentials were found: set "):
        client.open_field("az://container/field.zarr")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with servers.RangeServer({}) as nobody:
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", nobody.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL", nobody.url)
        with pytest.raises(StoreError, match=r"s3://bucket/field.zarr"):
            client.open_field("s3://bucket/field.zarr", timeout_s=1)


def test_other_protocols_are_read_by_fsspec(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").put(str(folder), "/fields", recursive=True)
    check("memory://fields", folder)
    with pytest.raises(StoreError, match="no Zarr v3 store at memory://nothing"):
        client.open_field("memory://nothing")
    with pytest.raises(MissingExtraError, match="cannot open oci://bucket@space"):
        client.open_field("oci://bucket@space/field.zarr")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match="pip install fsspec"):
        client.open_field("memory://fields")


def test_fsspec_stores_give_the_same_and_fail_by_name(folder: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    from zarr.storage import FsspecStore

    def opened(url: str) -> FsspecStore:
        files = fsspec.filesystem("http", asynchronous=True)
        return FsspecStore(files, path=url, read_only=True)

    with servers.RangeServer(folder) as server:
        check_store = client.open_field(opened(server.url)).sample(PLACES, as_="numpy")
        expected = client.sample(PLACES, folder, as_="numpy")
        for name, vectors in check_store.items():
            assert np.array_equal(vectors, expected[name], equal_nan=True)
        server.fault(VECTORS, status=503, times=2)  # fsspec does not try again, we do
        again = client.open_field(opened(server.url)).sample(PLACES, as_="numpy")
        assert np.array_equal(again["aerial"], expected["aerial"], equal_nan=True)
        server.fault(VECTORS, ignore_range=True)
        with pytest.raises(StoreError, match="ignores ranges"):
            client.open_field(opened(server.url)).sample(PLACES, as_="numpy")
