"""The group `search`: fewer numbers of wide vectors order cells nearly as the vectors do."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from support import stores
from support.convention_rules import store_faults

from unigeo import client
from unigeo.client.areas.subset import cut_field
from unigeo.schemas.store.quantization import FILL, dequantize
from unigeo.schemas.store.search_levels import NUMBERS, WIDE


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    url = tmp_path_factory.mktemp("wide") / "gulf.zarr"
    stores.build_searched(url)
    return url


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_cosines_of_few_numbers_are_nearly_those_of_all(wide: Path, factor: int) -> None:
    group = f"overviews/{factor}" if factor > 1 else None
    vectors = xr.open_zarr(wide, group=group, chunks=None)["aerial"].values
    level = xr.open_zarr(wide, group=f"search/{factor}", chunks=None)
    numbers = level["aerial"].values
    assert level["aerial"].dims == ("y", "x", f"band_{NUMBERS}")
    assert list(level.data_vars) == ["aerial"]
    valid = vectors[..., 0] != FILL
    assert np.array_equal(valid, numbers[..., 0] != FILL) and 20 < valid.sum() < valid.size
    axes = xr.open_zarr(wide, group="search", chunks=None)["aerial_axes"].values
    np.testing.assert_allclose(axes @ axes.T, np.eye(NUMBERS), atol=2e-3)
    full, few = dequantize(vectors[valid]), dequantize(numbers[valid])
    products = full.astype(float) @ axes.T
    expected = products / np.linalg.norm(products, axis=1, keepdims=True)
    assert np.abs(few - expected).max() <= np.abs(expected).max() / 127
    assert np.abs(few @ few.T - full @ full.T).max() < 0.05


def test_the_group_keeps_every_rule_of_a_store(wide: Path, tmp_path: Path) -> None:
    assert store_faults(wide) == []
    groups = xr.open_groups(wide, engine="zarr")
    assert dict(groups["/"].sizes)["band"] == WIDE + 4 and "/search/4" in groups
    assert xr.open_datatree(wide, engine="zarr", group="search").name is None
    field = client.open_field(wide)
    assert field.verify().problems == ()
    part = client.open_field(cut_field(field, tmp_path / "part.zarr", (-5.0, -5.0, 5.0, 5.0)))
    assert part.attributes.model_extra is not None
    assert "search" in part.attributes.model_extra["part_of"]["left_out"]


def test_a_changed_number_is_found(wide: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zarr"
    shutil.copytree(wide, copy)
    stored = sorted((copy / "search/1/aerial/c").rglob("0"))[-1]
    content = bytearray(stored.read_bytes())
    content[100] ^= 1
    stored.write_bytes(content)
    (problem,) = client.open_field(copy).verify().problems
    assert problem.startswith(f"{stored.relative_to(copy).as_posix()}: its SHA-256 is not")


def test_a_field_of_narrow_vectors_has_none(gulf: Path) -> None:
    assert not (gulf / "search").exists()
