"""What a new user does first: help, completion, a folder for its store, an object at the prompt."""

import pydoc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unigeo import client
from unigeo.client.field.opening import open_field, store_in_folder
from unigeo.schemas.errors import StoreError

WITHOUT_SKLEARN = """
import sys
sys.modules["sklearn"] = sys.modules["sklearn.base"] = None
import inspect, pydoc
from unigeo import client
assert "Not available" in pydoc.render_doc(client, renderer=pydoc.plaintext)
namespace = {}
exec("from unigeo.client import *", namespace)
assert inspect.isclass(namespace["ProbeRegressor"])
assert all(hasattr(client, name) for name in dir(client))
try:
    client.ProbeRegressor(folds=3)
except client.errors.MissingExtraError as error:
    print(error)
"""


def test_help_and_completion_need_no_extra() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_SKLEARN], capture_output=True, text=True, check=True
    )
    assert "pip install 'unigeo[probe]'" in run.stdout
    assert "open_field" in pydoc.render_doc(client, renderer=pydoc.plaintext)


def test_the_version_is_told() -> None:
    assert client.__version__[0].isdigit()


def test_a_folder_with_one_store_is_that_store(
    gulf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gulf.zarr").symlink_to(gulf)
    assert open_field(tmp_path).attributes.region == "gulf"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_field("~").attributes.region == "gulf"
    (tmp_path / "other.zarr").mkdir()
    (tmp_path / "other.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match=r"a folder of 2 stores: name one of gulf\.zarr, other"):
        open_field(tmp_path)
    for same in ("s3://bucket/folder", str(gulf), str(tmp_path / "gone")):
        assert store_in_folder(same) == same


def test_objects_at_the_prompt_are_short(gulf: Path, wide: Path) -> None:
    field = open_field(gulf)
    objects: list[Any] = [field, field.plan([(0, 0)]), field.verify("presence"), field.modalities]
    for one in objects:
        assert len(repr(one)) < 2000
        html = getattr(one, "_repr_html_", None)
        assert html is None or "<" in html()
    assert "coordinate, aerial" in field._repr_html_()


def test_a_plan_counts_computing(gulf: Path) -> None:
    from unigeo.client.reading.cost import StoreLink

    field, points = open_field(gulf), np.random.default_rng(0).uniform(-9, 9, (500, 2))
    link = StoreLink(latency_s=0.0, bytes_per_s=1e30, output_bytes_per_s=1e6)
    plan = field.plan(points, link=link)
    assert plan.seconds == pytest.approx(plan.output_bytes / 1e6)
    assert field.plan(points, link=link, method="bicubic").seconds == pytest.approx(
        16 * plan.seconds
    )


def test_three_thousand_similar_cells_are_one_sort(gulf: Path) -> None:
    field = open_field(gulf)
    scores = field.similarity((0, 5), "aerial").values
    for count in (1, 10, 3000):
        found = field.similar((0, 5), "aerial", count=count)
        best = np.sort(scores[~np.isnan(scores)])[::-1][:count]
        np.testing.assert_array_equal(found["similarity"].to_numpy(np.float32), best)
        again = field.sample(found[["lon", "lat"]], "aerial")
        assert again["aerial_status"].eq("valid").all()
    apart = field.similar((0, 5), "aerial", count=5, apart_km=0.001)
    np.testing.assert_allclose(apart, field.similar((0, 5), "aerial", count=5), rtol=1e-9)
