"""A store whose server is gone for a while, for real: the run waits, says so, and ends as ever."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from support import stores

from unigeo.producer.publishing.publish import publish
from unigeo.producer.storage.objects import list_objects, need_object
from unigeo.schemas.io import retrying
from unigeo.schemas.io.retrying import patient

OUTAGE_S = float(os.environ.get("UNIGEO_OUTAGE_S", "4"))
"""Seconds without a server; `UNIGEO_OUTAGE_S=300 pytest -m slow tests/test_outages.py` is real."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An S3 server that can be stopped and started again at its address; what it holds stays."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import urllib.request

    bucket = urllib.request.Request(f"http://{host}:{port}/fields", method="PUT")
    urllib.request.urlopen(bucket).close()
    running = {"server": server}

    def restart_after(seconds: float) -> None:
        running["server"].stop()
        time.sleep(seconds)
        running["server"] = ThreadedMotoServer(ip_address=host, port=port, verbose=False)
        running["server"].start()

    yield restart_after
    running["server"].stop()


@pytest.mark.slow
def test_a_server_that_is_gone_for_a_while_is_waited_for(
    server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(retrying, "_said_s", [-1e9])
    url = "s3://fields/f.zarr"
    group, grid, layout = stores.begin(url)
    outage = threading.Thread(target=server, args=(OUTAGE_S,))
    with patient(OUTAGE_S + 60):
        outage.start()
        begin = time.monotonic()
        while outage.is_alive() and time.monotonic() < begin + 0.2:  # the server is gone by now
            time.sleep(0.01)
        stores.fill(group, grid, layout)
        publish(group)
        outage.join()
    assert time.monotonic() - begin > OUTAGE_S
    assert "waiting       " in capsys.readouterr().err
    local, *_ = stores.begin(tmp_path / "f.zarr")
    stores.fill(local, grid, layout)
    publish(local)
    expected = stores.tree(tmp_path / "f.zarr")
    assert sorted(list_objects(group.store, "")) == sorted(expected)
    for key, content in expected.items():
        assert need_object(group.store, key) == content, key
