"""The store that `make readers` made; without UNIGEO_READERS, its folder, nothing here is run."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NAMED = os.environ.get("UNIGEO_READERS")
FOLDER = None if NAMED is None else Path(NAMED).resolve()  # now: snippets run elsewhere
if FOLDER is None:  # readers of others are not installed
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def folder() -> Path:
    """Where the store and the STAC documents lie."""
    assert FOLDER is not None
    return FOLDER


@pytest.fixture(scope="session")
def store(folder: Path) -> Path:
    return folder / "gulf.zarr"


@pytest.fixture(scope="session")
def truth(store: Path) -> Any:
    from truth import Truth

    return Truth(store)


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[str]:
    """Address of a web server of the folder that answers range requests."""
    from support.servers import RangeServer

    with RangeServer(folder) as ranges:
        yield ranges.url


@pytest.fixture(params=["folder", "HTTP"])
def place(request: pytest.FixtureRequest, folder: Path) -> str:
    """Where a reader finds the folder."""
    return str(folder) if request.param == "folder" else request.getfixturevalue("server")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs a block of the page, and gives the names that it defines."""
    from truth import AREA, snippet

    polygon = {"type": "Polygon", "coordinates": [AREA]}
    area = {"type": "Feature", "properties": {"name": "area"}, "geometry": polygon}
    collection = {"type": "FeatureCollection", "features": [area]}
    (tmp_path / "area.geojson").write_text(json.dumps(collection))
    monkeypatch.chdir(tmp_path)

    def run(heading: str, place: str, number: int = 0) -> dict[str, Any]:
        names: dict[str, Any] = {}
        exec(compile(snippet(heading, place, number), f"docs/readers.md, {heading}", "exec"), names)
        return names

    return run
