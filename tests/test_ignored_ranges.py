"""A web server that answers every request with the whole object, as Python's own does."""

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from support.servers import RangeServer
from zarr.storage import FsspecStore

from unigeo import client
from unigeo.client.areas.subset import cut_field
from unigeo.schemas.errors import DamagedError, StoreError

POINTS = [[-10.0, 3.0], [2.0, -8.0]]
BOX = (-5.0, -5.0, 5.0, 5.0)
SAID = r"cannot read \S+: the server ignores ranges .*answers range requests"


class Whole(http.server.SimpleHTTPRequestHandler):
    """Knows no ranges; says nothing, and bears a reader that hangs up."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True


@pytest.fixture(scope="module", params=["python -m http.server", "200 for everything"])
def url(gulf: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "200 for everything":
        with RangeServer(gulf) as ranges:
            ranges.fault("*", ignore_range=True)
            yield ranges.url
        return
    handler = functools.partial(Whole, directory=str(gulf))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def by_fsspec(url: str) -> FsspecStore:
    return FsspecStore.from_url(url, read_only=True)


def opened(url: str) -> client.Field:
    return client.open_field(url)


READS: dict[str, Callable[[str, Path], Any]] = {
    "nearest": lambda url, _: opened(url).sample(POINTS),
    "bicubic": lambda url, _: opened(url).sample(POINTS, method="bicubic"),
    "overview": lambda url, _: client.open_field(url, overview=2).sample(POINTS),
    "zonal": lambda url, _: opened(url).zonal(BOX),
    "region": lambda url, _: opened(url).region(BOX).load(),
    "pieces": lambda url, _: list(opened(url).iter_region(BOX)),
    "cells of the Dataset": lambda url, _: opened(url).dataset()["aerial"][3:9, 3:9].load(),
    "similar": lambda url, _: opened(url).similar(POINTS, "coordinate"),
    "plan": lambda url, _: opened(url).plan(POINTS),
    "cut": lambda url, tmp: cut_field(opened(url), tmp / "part.zarr", BOX),
    "GeoTIFF": lambda url, tmp: opened(url).to_geotiff(tmp / "part.tif", BOX, "aerial"),
    "accessor": lambda url, _: xr.open_zarr(url, chunks=None).unigeo.sample(POINTS),
    "accessor, dask": lambda url, _: xr.open_zarr(url).unigeo.sample(POINTS),
    "accessor, made anew": lambda url, _: (
        xr.open_zarr(url).transpose("band", "y", "x").unigeo.sample(POINTS)
    ),
    "fsspec": lambda url, _: client.open_field(by_fsspec(url)).sample(POINTS),
    "fsspec, zonal": lambda url, _: client.open_field(by_fsspec(url)).zonal(BOX),
    "fsspec, Dataset": lambda url, _: (
        client.open_field(by_fsspec(url)).dataset()["aerial"][3:9, 3:9].load()
    ),
}


@pytest.mark.parametrize("read", READS)
def test_one_sentence_says_what_the_server_does(url: str, read: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=SAID) as raised:
        READS[read](url, tmp_path)
    said = str(raised.value)
    assert not isinstance(raised.value, DamagedError), "nothing is damaged"
    assert "checksum" not in said and "damaged" not in said and "\n" not in said


def test_what_is_read_whole_is_read(url: str, gulf: Path) -> None:
    """Statuses and pictures are objects without parts; `verify` reads every object whole."""
    field = client.open_field(url)
    assert field.coverage() == client.open_field(gulf).coverage()
    assert field.verify().ok
