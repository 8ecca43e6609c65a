"""The readers that the timings compare read the same vectors."""

import importlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SIDE, BANDS, POINTS = 256, 16, 500


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(str(ROOT))

    def load(name: str) -> ModuleType:
        return importlib.import_module(f"benchmarks.client.{name}")

    return load


@pytest.mark.parametrize("kind", ["uniform", "clustered"])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_every_reader_reads_the_true_vectors(
    benchmark: Any, tmp_path: Path, kind: str, codec: str
) -> None:
    fields, readers = benchmark("fields"), benchmark("readers")
    raw = fields.raw_vectors(tmp_path, SIDE, BANDS)
    store = fields.field_store(tmp_path, SIDE, BANDS, codec)
    with np.load(fields.points_file(tmp_path, kind, POINTS, SIDE, raw)) as file:
        points = dict(file)
    names = ["unigeo_int8", "unigeo_float32", "unigeo_opened_anew", "zarr_vindex", "xarray_sel"]
    if importlib.util.find_spec("tensorstore"):
        names += ["tensorstore_vindex", "tensorstore_chunks"]
    for name in names:
        read = readers.READERS[name](str(store), points)
        assert readers.right(read(), points["vectors"]), name
    mapped = readers.memory_map(str(raw), points)()
    assert readers.right(mapped, points["vectors"])
    assert not readers.right(mapped[::-1], points["vectors"])
    if codec == "zstd":
        touched = len(np.unique(points["rowcol"] // 16, axis=0))
        assert readers.decode_only(str(store), points)() == touched * 16 * 16 * BANDS


def test_evicted_files_are_not_in_the_page_cache(benchmark: Any, tmp_path: Path) -> None:
    measuring = benchmark("measuring")
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    measuring.evict([path])  # a file system may keep what it likes, so no more than that it runs
    assert path.read_bytes() == bytes(1 << 20)


def test_the_page_says_which_bars_are_kept(benchmark: Any) -> None:
    cases, reporting = benchmark("cases"), benchmark("reporting")
    result = cases.Result(
        "points", [{"reader": "a", "seconds": 1.0}, {"reader": "b", "seconds": 5.0}]
    )
    result.add_ratio_goal("a", "b", 5)
    result.add_ratio_goal("a", "b", 6)
    result.add_goal("memory", 100.0, 128, unit="MB")
    result.add_goal("memory", None, 1)
    assert [goal.met for goal in result.goals] == [True, False, True]
    found = {
        "command": "this",
        "machine": reporting.machine(),
        "results": [reporting.document(result, "warm")],
    }
    page = reporting.report(json.loads(json.dumps(found)))
    assert "2 of 3 bars are kept" in page
    assert "| b / a, times | 5x | ≥ 6x | **missed** |" in page
