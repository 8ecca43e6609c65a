import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.attributes import read_attributes
from unigeo.schemas.store.validation import field_problems

Break = Callable[[zarr.Group], None]


@pytest.fixture
def broken(gulf: Path, tmp_path: Path) -> zarr.Group:
    """A copy to break."""
    shutil.copytree(gulf, tmp_path / "field.zarr")
    return zarr.open_group(tmp_path / "field.zarr", mode="r+", use_consolidated=False)


def own(group: zarr.Group, **changed: Any) -> None:
    group.attrs["unigeo"] = dict(group.attrs["unigeo"]) | changed


def replace(group: zarr.Group, name: str, **changed: Any) -> None:
    """The array again, otherwise stored."""
    old = group[name]
    keep: dict[str, Any] = {
        "shape": old.shape,
        "dtype": old.dtype,
        "chunks": old.chunks,
        "shards": old.shards,
        "compressors": None,
        "filters": None,
        "fill_value": old.fill_value,
        "dimension_names": old.metadata.dimension_names,
        "attributes": dict(old.attrs),
    }
    group.create_array(name, overwrite=True, **(keep | changed))


def drop_attribute(name: str, key: str) -> Break:
    def act(group: zarr.Group) -> None:
        attributes = dict(group[name].attrs)
        del attributes[key]
        group[name].attrs.put(attributes)

    return act


def shift_x(group: zarr.Group) -> None:
    group["x"][...] = np.asarray(group["x"][...]) + 40_000.0


def set_attribute(name: str, key: str, value: Any) -> Break:
    return lambda group: group[name].attrs.__setitem__(key, value)


FAULTS: dict[str, tuple[Break, str]] = {
    "no field": (lambda g: g.attrs.pop("unigeo", None) and g.attrs.put({}), "not a unigeo field"),
    "state": (lambda g: own(g, state="half"), "unigeo.state"),
    "version": (lambda g: own(g, layout_version=0), "unigeo.layout_version"),
    "flag for version": (lambda g: own(g, layout_version=True), "unigeo.layout_version"),
    "fraction for version": (lambda g: own(g, layout_version=2.0), "a whole number, not '2.0'"),
    "hash": (lambda g: own(g, model={"name": "m", "sha256": "x", "settings": {}}), "model.sha256"),
    "crs": (lambda g: own(g, grid=g.attrs["unigeo"]["grid"] | {"crs": "EPSG:4326"}), "EPSG:4326"),
    "grid moved": (
        lambda g: own(g, grid=g.attrs["unigeo"]["grid"] | {"row0": 0}),
        "spatial:transform",
    ),
    "grid off shard": (
        lambda g: own(g, grid=g.attrs["unigeo"]["grid"] | {"row0": 1}),
        "whole multiples",
    ),
    "no licence": (lambda g: g.attrs.__delitem__("license"), "license is missing"),
    "proj": (lambda g: g.attrs.__setitem__("proj:code", "EPSG:8858"), "proj:code"),
    "no vectors": (lambda g: g.__delitem__("aerial"), "array 'aerial' is missing"),
    "a group": (
        lambda g: g.create_group("aerial", overwrite=True),
        "'aerial' is a group, not an array",
    ),
    "dtype": (lambda g: replace(g, "aerial", dtype="uint8", fill_value=0), "dtype is uint8"),
    "fill": (lambda g: replace(g, "aerial", fill_value=0), "fill value is 0"),
    "unsharded": (lambda g: replace(g, "aerial", shards=None), "shards is None"),
    "chunks": (lambda g: replace(g, "aerial", chunks=(16, 16, 8)), "chunks is (16, 16, 8)"),
    "dimensions": (
        lambda g: replace(g, "aerial", dimension_names=("x", "y", "band")),
        "dimensions is ('x', 'y', 'band')",
    ),
    "shape": (
        lambda g: replace(g, "aerial_status", shape=(32, 64)),
        "shape is (32, 64), the layout says (64, 64)",
    ),
    "codec": (
        lambda g: replace(g, "aerial_status", filters=zarr.codecs.numcodecs.Delta(dtype="u1")),
        "not read everywhere",
    ),
    "no mapping": (drop_attribute("aerial", "grid_mapping"), "attribute grid_mapping is None"),
    "array proj": (set_attribute("aerial", "proj:code", "EPSG:1"), "proj:code is 'EPSG:1'"),
    "scale": (set_attribute("aerial", "scale_factor", 0.5), "scale_factor would make"),
    "no x": (lambda g: g.__delitem__("x"), "coordinate 'x' is missing"),
    "x moved": (shift_x, "coordinate 'x' does not hold"),
    "axis": (drop_attribute("y", "axis"), "attribute axis is None"),
    "no spatial_ref": (lambda g: g.__delitem__("spatial_ref"), "'spatial_ref' is missing"),
    "no wkt": (drop_attribute("spatial_ref", "crs_wkt"), "crs_wkt is not EPSG:8857"),
    "bad wkt": (set_attribute("spatial_ref", "crs_wkt", "nonsense"), "crs_wkt is not EPSG:8857"),
    "transform": (set_attribute("spatial_ref", "GeoTransform", "0 1 0 0 0 1"), "GeoTransform is"),
}


def test_a_good_store_has_no_problem(gulf: Path, fiji: Path) -> None:
    assert field_problems(zarr.open_group(gulf, mode="r")) == []
    assert field_problems(zarr.open_group(fiji, mode="r")) == []


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(broken: zarr.Group, fault: str) -> None:
    act, said = FAULTS[fault]
    act(broken)
    problems = field_problems(zarr.open_group(broken.store, mode="r", use_consolidated=False))
    assert any(said in problem for problem in problems), problems


def test_all_faults_are_named_at_once(broken: zarr.Group) -> None:
    together = ["no vectors", "shape", "x moved", "axis", "transform"]
    for fault in together:
        FAULTS[fault][0](broken)
    problems = field_problems(broken)
    assert len(problems) >= len(together)
    for fault in together:
        assert any(FAULTS[fault][1] in problem for problem in problems), (fault, problems)


def test_all_wrong_attributes_are_named_at_once(broken: zarr.Group) -> None:
    own(broken, state="half", seed="seven", layout_version=0)
    assert {"unigeo.state", "unigeo.seed", "unigeo.layout_version"} <= {
        problem.split()[1].rstrip(":") for problem in field_problems(broken)
    }


def test_a_newer_layout_asks_for_an_upgrade(broken: zarr.Group) -> None:
    own(broken, layout_version=7)
    with pytest.raises(LayoutError, match=r"layout version 7.*Upgrade"):
        read_attributes(dict(broken.attrs), "here")
