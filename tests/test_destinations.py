"""Where nothing can be written is told before any work is done, whatever is to be written."""

import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import stores

from unigeo.client.areas.geotiff_files import check_geotiff_path
from unigeo.client.areas.subset import cut_field
from unigeo.client.commands.options import check_output_path
from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.client.probing.map_files import check_zarr_path
from unigeo.client.probing.probe_folders import check_probe_path
from unigeo.producer.commands.options import output_folder
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.pipeline.production_run import choose
from unigeo.producer.storage.output_checks import check_writable as check_field
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.regions import region
from unigeo.schemas.tables.table_files import check_writable

Check = Callable[[Field, Path], Any]
WRITERS: dict[str, tuple[str, Check]] = {
    "table": (".csv", lambda _, path: check_writable(str(path))),
    "report": (".md", lambda _, path: check_output_path(str(path), (".md",))),
    "GeoTIFF": (".tif", lambda _, path: check_geotiff_path(path, overwrite=False)),
    "map": (".zarr", lambda _, path: check_zarr_path(str(path), overwrite=False)),
    "probe": ("", lambda _, path: check_probe_path(path, overwrite=False)),
    "cut field": (".zarr", lambda field, path: cut_field(field, path, (-8, -9, 6, 7))),
    "previews": ("", lambda field, path: field.preview(path)),
    "field": (".zarr", lambda _, path: check_field(path)),
    "report of a model": ("", lambda _, path: output_folder(str(path), Path("unused"))),
}
EACH = pytest.mark.parametrize("writer", WRITERS)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Field:
    path = tmp_path_factory.mktemp("destinations") / "field.zarr"
    stores.build(path)
    return open_field(path)


@EACH
def test_a_name_that_is_too_long_is_told(field: Field, tmp_path: Path, writer: str) -> None:
    ending, check = WRITERS[writer]
    with pytest.raises(StoreError, match=r"^cannot write .*: File name too long$"):
        check(field, tmp_path / f"{'a' * 300}{ending}" / f"b{ending}")
    assert not list(tmp_path.iterdir())


@EACH
def test_a_file_where_a_folder_is_needed_is_told(field: Field, tmp_path: Path, writer: str) -> None:
    ending, check = WRITERS[writer]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match=r"^cannot write .*: there is no folder .*file"):
        check(field, tmp_path / "file" / f"b{ending}")
    assert (tmp_path / "file").read_text() == "mine"


@EACH
def test_a_folder_of_someone_else_is_told(
    field: Field, tmp_path: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, check = WRITERS[writer]
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(StoreError, match=f"the folder {tmp_path} is not yours to write to"):
        check(field, tmp_path / f"b{ending}")
    assert not list(tmp_path.iterdir())


def test_a_field_is_not_begun_inside_another_nor_among_other_files(
    field: Field, tmp_path: Path
) -> None:
    for name in ("inner.zarr", "deep/inner.zarr"):
        with pytest.raises(StoreError, match="lies inside the Zarr store"):
            check_field(Path(field.url) / name)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match="holds other files and no store"):
        check_field(tmp_path)
    assert [path.name for path in tmp_path.parent.glob(f"{tmp_path.name}*")] == [tmp_path.name]
    check_field(field.url)  # is gone on with


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (403, "<Code>AccessDenied</Code><Message>No</Message>", "Access is denied"),
        (404, "<Code>NoSuchBucket</Code><BucketName>b</BucketName>", "there is no bucket b"),
        (503, "<Code>SlowDown</Code><Message>Later</Message>", "Later"),
    ],
)
def test_an_object_store_says_in_one_sentence_why_it_cannot_be_written(
    status: int, answer: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked by writing; without patience only the client itself repeats a request."""
    asked: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            asked.append(self.path)
            body = f"<Error>{answer}</Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        for key in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION"):
            monkeypatch.setenv(f"AWS_{key}", "any")
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StoreError, match=r"^cannot write s3://b/a\.zarr: ") as refused:
            check_field("s3://b/a.zarr", waits=False)
        server.shutdown()
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert len(asked) == (1 if status < 500 else 5)


@pytest.mark.parametrize("given", ["", " "])
def test_an_empty_output_is_no_default(given: str) -> None:
    with pytest.raises(StoreError, match="--out is empty"):
        output_folder(given, Path("report"))
    with pytest.raises(StoreError, match=r"--out is empty.*amsterdam/amsterdam\.zarr"):
        choose(region("amsterdam"), World(), out=given)
