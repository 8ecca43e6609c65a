"""Every group and array of a store against the rules of the public conventions it has keys of."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import zarr
from pyproj import CRS
from support.convention_rules import faults, nodes_of, store_faults

from unigeo import client
from unigeo.client.areas.subset import cut_field
from unigeo.schemas.store.conventions import KEY, registered
from unigeo.schemas.store.validation import field_problems


@pytest.fixture(scope="module")
def cut(gulf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of a field as a field of its own."""
    path = tmp_path_factory.mktemp("cut") / "part.zarr"
    cut_field(client.open_field(gulf), path, (-5.0, -5.0, 5.0, 5.0))
    return path


@pytest.mark.parametrize("which", ["gulf", "fiji", "cut"])
def test_every_group_and_array_keeps_the_conventions_it_uses(
    which: str, request: pytest.FixtureRequest
) -> None:
    store = request.getfixturevalue(which)
    assert store_faults(store) == []
    consolidated = nodes_of(store)["."]["consolidated_metadata"]["metadata"]
    assert [fault for name, node in consolidated.items() for fault in faults(name, node)] == []


def test_what_lies_on_the_grid_says_so_everywhere(gulf: Path) -> None:
    nodes = nodes_of(gulf)
    placed = {name for name, node in nodes.items() if "proj:code" in node["attributes"]}
    pictures = [f"preview/{factor}" for factor in (1, 2)]
    fields = [".", *(f"overviews/{factor}" for factor in (2, 4))]
    arrays = ("coordinate", "coordinate_status", "aerial", "aerial_status")
    expected = {"preview", "overviews", *pictures, *fields}
    expected |= {f"{one}/{name}".removeprefix("./") for one in fields for name in arrays}
    expected |= {f"{one}/{name}" for one in pictures for name in ("coordinate", "aerial")}
    assert placed == expected
    for name in placed:
        node = nodes[name]
        # An array inherits PROJJSON of the group it lies in, and only of that one.
        group = nodes[name if node["node_type"] == "group" else Path(name).parent.as_posix()]
        assert ("proj:projjson" in node["attributes"]) == (node is group)
        stated = CRS.from_json_dict(group["attributes"]["proj:projjson"])
        assert stated == CRS(node["attributes"]["proj:code"]), name


@pytest.mark.parametrize("group", ["preview", "overviews"])
def test_a_pyramid_says_where_each_level_lies(gulf: Path, group: str) -> None:
    nodes = nodes_of(gulf)
    attributes = nodes[group]["attributes"]
    layout = attributes["multiscales"]["layout"]
    assert [level["asset"] for level in layout] == {"preview": ["1", "2"], "overviews": ["2", "4"]}[
        group
    ]
    assert [level.get("derived_from") for level in layout] == [
        None,
        *(level["asset"] for level in layout[:-1]),
    ]
    for level in layout:
        there = nodes[f"{group}/{level['asset']}"]["attributes"]
        for key in ("spatial:shape", "spatial:transform"):
            assert level[key] == there[key]
        assert there["spatial:bbox"] == attributes["spatial:bbox"]
    assert attributes["spatial:shape"] == layout[0]["spatial:shape"]


def test_a_preview_names_its_colours_and_its_no_data(gulf: Path) -> None:
    root = zarr.open_group(gulf, mode="r")
    for factor in (1, 2):
        colours = root[f"preview/{factor}/rgb"]
        assert colours[...].tolist() == [0, 1, 2]
        assert colours.attrs["flag_meanings"] == "red green blue"
        picture = root[f"preview/{factor}/coordinate"]
        assert picture.attrs["nodata"] == picture.fill_value == 0


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (".", "geoemb:source_data", "urn:one"),
        (".", "geoemb:source_data", ["not a URI"]),
        (".", "proj:projjson", {"type": "ProjectedCRS"}),
        (".", "proj:code", "8857"),
        ("coordinate", "spatial:transform", [1.0, 0.0]),
        ("coordinate", "spatial:dimensions", None),
        ("preview", "multiscales", {"layout": [{"asset": "../coordinate"}]}),
        ("preview/1", "stac:id", "unigeo"),
    ],
)
def test_the_rules_do_look(gulf: Path, name: str, key: str, value: Any) -> None:
    node = nodes_of(gulf)[name]
    broken = copy.deepcopy(node)
    broken["attributes"][key] = value
    if value is None:
        del broken["attributes"][key]
    assert list(faults(name, node)) == []
    assert list(faults(name, broken))


def test_a_key_without_its_registration_is_a_fault(gulf: Path) -> None:
    node = nodes_of(gulf)["coordinate"]
    for changed in ({**node["attributes"], KEY: []}, registered({"proj:code": "EPSG:8857"})):
        broken = {**node, "attributes": {**node["attributes"], KEY: changed[KEY]}}
        assert list(faults("coordinate", broken))
    renamed = copy.deepcopy(node)
    renamed["attributes"][KEY][0]["name"] = "proj:"
    assert list(faults("coordinate", renamed))


def test_a_store_of_before_the_registrations_is_still_a_field(gulf: Path, tmp_path: Path) -> None:
    """As version 0.1.0 wrote it: without `nodata`, PROJJSON and registrations of arrays."""
    old = shutil.copytree(gulf, tmp_path / "old.zarr")
    root = zarr.open_group(old, mode="r+", use_consolidated=False)
    for name, array in root.arrays():
        kept = {k: v for k, v in array.attrs.items() if k not in ("nodata", "proj:projjson", KEY)}
        root[name].attrs.put(kept)
    assert field_problems(zarr.open_group(old, mode="r", use_consolidated=False)) == []
    points = [[-10.0, 3.0], [2.0, -8.0], [100.0, 0.0]]
    assert client.sample(points, gulf).notna().to_numpy().any()
    field = client.open_field(zarr.storage.LocalStore(old))
    assert field.sample(points).equals(client.sample(points, gulf))
