"""Stores of both layouts, with modalities of any name and width, through every verb."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
import zarr
from pyproj import Transformer
from support import stores

from unigeo import client
from unigeo.client.areas.subset import cut_field
from unigeo.producer.publishing.announce import announce
from unigeo.producer.publishing.publish import publish
from unigeo.producer.publishing.releases import next_release, take_over
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.errors import LayoutError, PointsError, StoreError
from unigeo.schemas.store.attributes import read_attributes
from unigeo.schemas.store.encoder import EncoderSettings
from unigeo.schemas.store.layout import Layout

POINTS = np.array([[-10.0, 0.0], [0.5, 10.0], [10.0, 3.0], [20.0, -5.0], [5.0, 5.0], [80.0, 0.0]])
BOX = (-12.0, -8.0, 3.0, 4.0)
LAYOUTS = ("layout1", "layout2")


def identify_inputs(layout: Layout) -> dict[str, Any]:
    """Attributes of the stores in tests/data."""
    grid = stores.grid_of(stores.GULF, layout)
    attributes = stores.attributes_of(stores.GULF, grid, layout)
    attributes["unigeo"]["observations"]["modalities"] = {"aerial": {"inputs": [{"sha256": "one"}]}}
    return attributes


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_store_of_every_layout_opens_and_verifies(name: str, past: dict[str, Path]) -> None:
    field = client.open_field(past[name])
    assert field.attributes.layout_version == int(name[-1])
    report = field.verify()
    assert report.ok and (report.objects, report.chunks) == (16, 104), str(report)
    opened = xr.open_zarr(past[name], chunks=None)
    table = field.sample(POINTS)
    assert opened.unigeo.sample(POINTS).equals(table)
    project = Transformer.from_crs("OGC:CRS84", field.grid.crs, always_xy=True).transform
    x, y = (xr.DataArray(side, dims="point") for side in project(*POINTS[:5].T))
    there = opened.sel(x=x, y=y, method="nearest")
    stored = field.sample(POINTS[:5], as_="xarray", dtype="int8")
    for modality in field.modalities:
        for part in (modality, f"{modality}_status"):
            assert np.array_equal(field.dataset()[part], opened[part])
            assert np.array_equal(stored[part], there[part])
    assert (table["aerial_status"] == "valid").any() and field.info()["bands"] == 8


def test_both_layouts_hold_the_same_field(past: dict[str, Path]) -> None:
    """Made of the same inputs on the same machine."""
    for options in ({}, {"overview": 2}):
        one, two = (client.open_field(past[name], **options) for name in LAYOUTS)
        assert one.sample(POINTS).equals(two.sample(POINTS))
        assert one.zonal([BOX]).equals(two.zonal([BOX]))


def test_both_layouts_hold_the_same_encoder_and_concepts(past: dict[str, Path]) -> None:
    one, two = (client.open_field(past[name]) for name in LAYOUTS)
    assert np.array_equal(one.encode(POINTS, as_="numpy"), two.encode(POINTS, as_="numpy"))
    assert one.concepts.phrases == two.concepts.phrases
    assert one.search("forest").equals(two.search("forest"))


def arrays_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    document = json.loads((path / "zarr.json").read_text())
    for name, node in document["consolidated_metadata"]["metadata"].items():
        if node["node_type"] == "array":
            yield name, node


@pytest.mark.parametrize("name", ["wide", "past", "gulf", "fiji"])
def test_a_dimension_has_one_length_and_no_array_is_empty(
    name: str, request: pytest.FixtureRequest
) -> None:
    """But for rows and columns, which overviews and previews have fewer of, in their own groups."""
    path = request.getfixturevalue(name)
    path = path["layout2"] if name == "past" else path
    lengths: dict[str, set[int]] = {}
    for array, node in arrays_of(path):
        assert 0 not in node["shape"], array
        names = node.get("dimension_names", [])  # a scalar has none
        assert len(set(names)) == len(names), array
        for dimension, length in zip(names, node["shape"], strict=True):
            group = array.rpartition("/")[0] if dimension in ("x", "y") else ""
            lengths.setdefault(f"{group}/{dimension}", set()).add(length)
    assert {dimension: n for dimension, n in lengths.items() if len(n) > 1} == {}


def test_xarray_opens_every_group_and_a_tree_of_one(wide: Path, past: dict[str, Path]) -> None:
    for path in (wide, past["layout2"]):
        groups = xr.open_groups(path, engine="zarr")
        assert {"/", "/manifest", "/preview/1", "/overviews/2", "/concepts"} <= set(groups)
        for name in ("manifest", "preview", "overviews", "concepts"):
            assert xr.open_datatree(path, engine="zarr", group=name).name is None
    assert "/encoder" in groups
    with pytest.raises(ValueError, match="conflicting sizes"):
        xr.open_groups(past["layout1"], engine="zarr")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_gdal_reads_the_statuses(wide: Path) -> None:
    field = client.open_field(wide)
    with rasterio.open(f'ZARR:"{wide}":/sar_status') as status:
        assert np.array_equal(status.read(1), field.dataset()["sar_status"])
        assert tuple(status.transform)[:6] == field.grid.affine


def test_modalities_of_any_name_and_width_are_read_by_every_verb(
    wide: Path, tmp_path: Path
) -> None:
    field = client.open_field(wide)
    every = field.modalities  # named, since `fused` alone is read by default
    assert field.modalities == tuple(stores.WIDTHS)
    info = field.info()
    assert (info["bands"], info["widths"]) == (8, stores.WIDTHS)
    assert "8 bands (night-lights 3, sar 12)" in repr(field)
    assert field.verify().ok
    dataset = xr.open_zarr(wide)
    sizes = {name: dataset[name].sizes for name in stores.WIDTHS}
    assert [list(own)[2] for own in sizes.values()] == ["band", "band_3", "band_12", "band"]
    # Sampling: the stored vectors, by bytes, by xarray, lazily, between cells.
    project = Transformer.from_crs("OGC:CRS84", field.grid.crs, always_xy=True).transform
    rowcol, _ = field.grid.locate_m(*project(*POINTS[:5].T))
    sampled = field.sample(POINTS, every, as_="numpy", dtype="int8")
    for name, width in stores.WIDTHS.items():
        assert sampled[name].shape == (6, width)
        assert np.array_equal(sampled[name][:5], dataset[name].values[tuple(rowcol.T)])
    table = field.sample(POINTS, every)
    assert sum(column.startswith("sar_0") for column in table) == 12
    assert dataset.unigeo.sample(POINTS, every).equals(table)
    assert xr.open_zarr(wide, chunks=None).unigeo.sample(POINTS, every).equals(table)
    eager, lazy = (field.sample(POINTS, every, as_="xarray", lazy=lazy) for lazy in (False, True))
    assert eager.sizes == {"point": 6, "band": 8, "band_3": 3, "band_12": 12} == lazy.sizes
    assert eager.equals(lazy.compute())
    for method in ("bilinear", "bicubic"):
        between = field.sample(POINTS, "sar", method=method, as_="numpy")["sar"]
        known = ~np.isnan(between[:, 0])
        assert np.allclose(np.linalg.norm(between[known], axis=1), 1, atol=1e-6)
    own = pd.DataFrame({"lon": POINTS[:, 0], "lat": POINTS[:, 1], "id": range(6)})
    joined = field.join(own, modalities=every)
    assert len([name for name in joined if name.startswith("ug_")]) == 8 + 3 + 12 + 8 + 4
    assert np.array_equal(
        joined.filter(like="ug_sar_0"), table.filter(like="sar_0"), equal_nan=True
    )
    with pytest.raises(PointsError, match="'ug_sar_011'"):
        field.join(own.assign(ug_sar_011=0.0), modalities=every)
    plan = field.plan(POINTS, every)
    assert plan.output_bytes == 6 * 4 * (8 + 3 + 12 + 8)
    # Areas.
    means = field.zonal([BOX], every, prefix="m_")
    assert {"m_sar_000", "m_sar_011", "m_night-lights_002", "m_sar_cells"} <= set(means)
    assert "m_sar_012" not in means
    pieces = list(field.iter_region(BOX, mask=True))
    assert {p.stored["night-lights"].shape[2] for p in pieces} == {3}
    assert field.region(BOX, mask=True)["sar"].sizes["band_12"] == 12
    coverage = field.coverage()
    assert set(coverage) == {*stores.WIDTHS, "covariates"}
    tiff = field.to_geotiff(tmp_path / "sar.tif", BOX, "sar")
    with rasterio.open(tiff) as written:
        assert written.count == 12
    with pytest.raises(LayoutError, match="its bands are 0 to 2"):
        field.to_geotiff(tmp_path / "wrong.tif", BOX, "night-lights", bands=[3])
    assert len(field.preview(tmp_path / "stored")) == 4
    # A coarser field has the same widths.
    coarse = client.open_field(wide, overview=2)
    assert coarse.info()["widths"] == stores.WIDTHS
    assert coarse.sample(POINTS, "sar", as_="numpy")["sar"].shape == (6, 12)


def test_a_query_has_the_width_of_its_modality(wide: Path) -> None:
    field = client.open_field(wide)
    place = (-10.0, 0.0)
    (vector,) = field.sample([place], "sar", as_="numpy")["sar"]
    assert field.similar(vector, "sar").equals(field.similar([place], "sar"))
    with pytest.raises(PointsError, match=r"of 8 numbers, as those of the model .*'sar' have 12"):
        field.similar(np.ones(8), "sar")
    with pytest.raises(PointsError, match=r"of 12 numbers, as those of sar .*'coordinate' have 8"):
        field.similar(vector, "coordinate")
    with pytest.raises(PointsError, match="neither a vector of 12 numbers nor places"):
        field.similar(np.ones(7), "sar")
    assert len(field.search("forest")) == 10  # of the first modality of the model's width
    with pytest.raises(
        LayoutError, match=r"concepts have 8 .*'sar' have 12.*width are: coordinate, fused"
    ):
        field.search("forest", "sar")


def test_a_probe_joins_vectors_of_several_widths(wide: Path) -> None:
    field = client.open_field(wide)
    rng = np.random.default_rng(0)
    lonlat = rng.uniform((-19, -14), (9, 14), (120, 2))
    table = pd.DataFrame(lonlat, columns=["lon", "lat"]).assign(height=lonlat[:, 1])
    probe = field.probe(table, "height", field.modalities, baselines=False, folds=3)
    assert set(probe.scores["features"]) >= {*stores.WIDTHS, "joined"}
    there = np.array([[-10.0, 0.0]])
    (expected,) = probe.predict(there, features="joined")["height"]
    project = Transformer.from_crs("OGC:CRS84", field.grid.crs, always_xy=True).transform
    x, y = project(*there[0])
    found = probe.map("height", BOX, features="joined")["prediction"]
    found = found.sel(x=x, y=y, method="nearest")
    assert float(found) == pytest.approx(expected, rel=1e-3)


def changed(source: Path, to: Path) -> zarr.Group:
    """A copy whose root can be written."""
    shutil.copytree(source, to)
    return zarr.open_group(to, mode="r+", use_consolidated=False)


def test_what_is_not_known_is_skipped(gulf: Path, tmp_path: Path) -> None:
    """Keys, arrays and groups of releases to come, made before the store was published."""
    layout = stores.layout_of()
    grid = stores.grid_of(stores.GULF, layout)
    attributes = identify_inputs(layout)
    own = attributes["unigeo"]
    own |= {"season": "wet", "layout": own["layout"] | {"depth": 3}}
    own["grid"] = own["grid"] | {"datum": "x"}
    own["model"] = own["model"] | {"licence": "CC0-1.0"}
    group = create_field(tmp_path / "new.zarr", grid, layout, attributes)
    more = group.create_group("seasons")
    more.create_array("x", shape=(5,), chunks=(2,), dtype="float64", dimension_names=("x",))
    array = group.create_array(
        "roughness", shape=(64, 64), chunks=(10, 10), dtype="float64", dimension_names=("y", "x")
    )
    array[:10] = 1.0
    stores.fill(group, grid, layout)
    publish(group)
    field = client.open_field(tmp_path / "new.zarr")
    assert str(field.verify()).splitlines() == [str(field.verify())]
    assert field.attributes.model_extra["season"] == "wet"
    assert field.sample(POINTS).equals(client.open_field(gulf).sample(POINTS))
    assert "roughness" in field.dataset()
    cut = client.open_field(cut_field(field, tmp_path / "part.zarr", BOX))
    assert cut.verify().ok and cut.attributes.layout.model_extra["depth"] == 3


def test_what_is_needed_is_still_checked(past: dict[str, Path], tmp_path: Path) -> None:
    group = changed(past["layout2"], tmp_path / "field.zarr")
    own: Any = group.attrs["unigeo"]
    for part, key in (("grid", "crs"), ("layout", "bands"), ("model", "sha256")):
        without = {name: value for name, value in own[part].items() if name != key}
        group.attrs["unigeo"] = own | {part: without}
        found = zarr.open_group(tmp_path / "field.zarr", use_consolidated=False)
        with pytest.raises((StoreError, LayoutError), match=f"unigeo.{part}.{key}"):
            read_attributes(dict(found.attrs), "it")


def test_covariates_are_read_verified_and_cut_along(wide: Path, tmp_path: Path) -> None:
    field = client.open_field(wide)
    stored = field.dataset()["covariates"]
    assert stored.dims == ("y", "x", "name") and stored.attrs["units"] == ["m", "mm", "class"]
    expected = stores.covariates_at(*np.indices(field.grid.shape))
    assert np.array_equal(stored.values, expected, equal_nan=True)
    listed = zarr.open_group(wide, mode="r")["manifest/covariates_bytes"]
    chunks = 16 * (8 * 8 * 3 * 4 + 4)
    assert np.asarray(listed).tolist() == [[chunks + 16 * 16 + 4] * 2, [0, 0]]
    part = client.open_field(cut_field(field, tmp_path / "part.zarr", BOX))
    assert part.verify().ok
    same = part.dataset()["covariates"]
    assert same.equals(stored.sel(x=same.x, y=same.y))
    broken = tmp_path / "broken.zarr"
    shutil.copytree(wide, broken)
    place = broken / "covariates/c/0/1/0"
    content = bytearray(place.read_bytes())
    content[7] ^= 1
    place.write_bytes(content)
    assert [p for p in client.open_field(broken).verify().problems if "covariates" in p]
    place.unlink()
    assert "covariates shard (0, 1), covariates/c/0/1/0 is missing" in str(
        client.open_field(broken).verify()
    )
    with pytest.raises(StoreError, match="covariates/c/0/1/0"):
        client.open_field(broken).dataset()["covariates"].load()


@pytest.mark.parametrize("name", [*LAYOUTS, "wide"])
def test_a_part_of_either_layout_is_of_layout_2(
    name: str, past: dict[str, Path], wide: Path, tmp_path: Path
) -> None:
    whole = client.open_field(wide if name == "wide" else past[name])
    for number, mask in enumerate((False, True)):
        path = cut_field(whole, tmp_path / f"{number}.zarr", BOX, mask=mask)
        part = client.open_field(path)
        assert part.attributes.layout_version == 2
        assert part.layout.widths == whole.layout.widths
        assert part.verify().ok, str(part.verify())
        assert xr.open_groups(path, engine="zarr")
        assert part.sample(POINTS[:1]).equals(whole.sample(POINTS[:1]))
        if name != "wide":
            one, other = (f.encode(POINTS, as_="numpy") for f in (part, whole))
            assert np.array_equal(one, other)
        assert part.concepts.phrases == whole.concepts.phrases


def test_a_release_of_layout_1_is_updated_to_layout_2(
    past: dict[str, Path], tmp_path: Path
) -> None:
    """Everything is taken over: vectors byte for byte, statuses without their CRC."""
    folder = tmp_path / "fields"
    shutil.copytree(past["layout1"].parent, folder)
    first = folder / "gulf.zarr"
    before = stores.tree(first)
    following = next_release(str(first), "gulf")
    layout = stores.layout_of()
    grid = stores.grid_of(stores.GULF, layout)
    group = create_field(following.url, grid, layout, following.mark(identify_inputs(layout)))
    assert take_over(following.previous_url, group, stores.GULF, stores.land) == 8
    report = stores.fill(group, grid, layout)
    assert report.shards == 0, "nothing was encoded again"
    publish(group, previous=following.previous_url)
    announce(following.url)
    assert stores.tree(first) == before
    old, new = client.open_field(first), client.open_field(folder, region="gulf")
    assert new.url == following.url and new.verify().ok
    assert (old.attributes.layout_version, new.attributes.layout_version) == (1, 2)
    after = stores.tree(Path(following.url))
    for modality in layout.modalities:
        for row, col in np.ndindex(2, 2):
            key = f"{modality}/c/{row}/{col}/0"
            assert after.get(key) == before.get(key)
            status = f"{modality}_status/c/{row}/{col}"
            assert after[status] == before[status][:-4] and len(after[status]) == 32 * 32
        runs = zarr.open_group(following.url, mode="r")[f"manifest/{modality}_run"]
        assert not np.asarray(runs).any(), "the first run made them all"
    assert xr.open_groups(following.url, engine="zarr")


def test_a_damaged_status_of_layout_1_is_made_again(past: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "fields"
    shutil.copytree(past["layout1"].parent, folder)
    place = folder / "gulf.zarr/aerial_status/c/0/0"
    place.write_bytes(place.read_bytes()[:-1] + b"?")
    following = next_release(str(folder / "gulf.zarr"), "gulf")
    layout = stores.layout_of()
    grid = stores.grid_of(stores.GULF, layout)
    group = create_field(following.url, grid, layout, following.mark(identify_inputs(layout)))
    assert take_over(following.previous_url, group, stores.GULF, stores.land) == 7
    stores.fill(group, grid, layout)
    publish(group, previous=following.previous_url)
    assert client.open_field(following.url).verify().ok


def test_a_half_built_store_of_layout_1_is_refused_in_one_sentence(
    past: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "half.zarr"
    group = changed(past["layout1"], path)
    group.attrs["unigeo"] = dict(group.attrs["unigeo"]) | {"state": "building"}
    layout = stores.layout_of()
    with pytest.raises(StoreError) as raised:
        create_field(path, stores.grid_of(stores.GULF, layout), layout, identify_inputs(layout))
    told = str(raised.value)
    assert "was begun by an earlier unigeo in layout 1, which this one, of layout 2," in told
    assert "name another --out, or remove it first" in told
    assert "\n" not in told and told.count(". ") == 0


def test_a_published_store_of_layout_1_is_left_as_it_is(
    past: dict[str, Path], tmp_path: Path
) -> None:
    """The same command finds its product done, and another model's is refused."""
    path = tmp_path / "done.zarr"
    shutil.copytree(past["layout1"], path)
    before = stores.tree(path)
    layout = stores.layout_of()
    grid = stores.grid_of(stores.GULF, layout)
    group = create_field(path, grid, layout, identify_inputs(layout))
    assert group.attrs["unigeo"]["layout_version"] == 1  # type: ignore[index,call-overload]
    assert stores.tree(path) == before
    other = identify_inputs(layout)
    other["unigeo"]["seed"] = 1
    with pytest.raises(StoreError, match="its seed differs"):
        create_field(path, grid, layout, other)


def test_an_encoder_without_registers_stores_none_and_is_read(past: dict[str, Path]) -> None:
    held = {name: dict(arrays_of(past[name])) for name in LAYOUTS}
    assert "encoder/registers" in held["layout1"]
    assert "encoder/registers" not in held["layout2"]
    settings = EncoderSettings.model_validate(
        zarr.open_group(past["layout2"], mode="r")["encoder"].attrs["settings"]
    )
    assert settings.shapes()["registers"] == (0, 8)
    assert client.open_field(past["layout2"]).encoder.weights["registers"].shape == (0, 8)
