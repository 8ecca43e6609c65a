"""Where nothing can be written is told before any work is done, whatever is to be written."""

import os
from collections.abc import Callable
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
from unigeo.schemas.errors import StoreError
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
    with pytest.raises(StoreError, match=r"^cannot write .*: there is no folder .*file$"):
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
