"""A region is read from the same forms wherever one is asked for."""

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
import xarray as xr
from support.commands import done, refused
from support.probe_tables import linear_table

from unigeo import client
from unigeo.client.areas.polygon_tables import read_areas
from unigeo.client.areas.polygons import read_polygons
from unigeo.client.areas.subset import cut_field
from unigeo.client.field.field import Field
from unigeo.client.field.labelling import Labelled
from unigeo.client.field.opening import open_field
from unigeo.client.probing.probe import Probe
from unigeo.producer.commands import cli, evaluate
from unigeo.producer.sources import build_set
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.region_forms import load_region, read_region

EDGES = (-8.0, -9.0, 6.0, 7.0)
SHAPE = shapely.box(*EDGES)
GEOJSON = shapely.geometry.mapping(SHAPE)
TEXT_FORMS = ("box as text", "GeoJSON as text", "path as text", "GeoPackage")
FORMS = (
    "box", "list", "array", *TEXT_FORMS, "path", "GeoJSON", "feature", "collection", "interface",
    "shape", "frame", "series",
)  # fmt: skip
"""Every form but a name: no named region lies on the stores of the tests."""
ELSEWHERE = "amsterdam"


class Interface:
    """What describes itself as GeoJSON, as geometries of many libraries do."""

    __geo_interface__ = GEOJSON


def form_of(form: str, folder: Path) -> Any:
    """The same box in a form."""
    feature = {"type": "Feature", "properties": {}, "geometry": GEOJSON}
    collection = {"type": "FeatureCollection", "features": [feature]}
    frame = geopandas.GeoDataFrame(geometry=[SHAPE], crs="EPSG:4326")
    geojson, package = folder / "box.geojson", folder / "box.gpkg"
    geojson.write_text(json.dumps(collection))
    frame.to_file(package)
    forms = {
        "box": EDGES,
        "list": list(EDGES),
        "array": np.array(EDGES),
        "box as text": ",".join(map(str, EDGES)),
        "GeoJSON as text": json.dumps(GEOJSON),
        "path as text": str(geojson),
        "GeoPackage": str(package),
        "path": geojson,
        "GeoJSON": GEOJSON,
        "feature": feature,
        "collection": collection,
        "interface": Interface(),
        "shape": SHAPE,
        "frame": frame,
        "series": frame.geometry,
    }
    return forms[form]


@pytest.fixture(scope="module")
def field(gulf: Path) -> Field:
    return open_field(str(gulf))


@pytest.fixture(scope="module")
def probe(field: Field) -> Probe:
    return field.probe(linear_table(field), "height", block_km=350, baselines=["mean"])


@pytest.mark.parametrize("form", FORMS)
def test_both_readers_read_every_form(tmp_path: Path, form: str) -> None:
    given = form_of(form, tmp_path)
    polygons, region = read_polygons(given), read_region(given)
    assert len(polygons) == 1
    (ring,) = region.rings
    for vertices in (polygons.lonlat, ring):
        assert np.allclose(np.sort(np.unique(vertices[:, 0])), (-8, 6))
        assert np.allclose(np.sort(np.unique(vertices[:, 1])), (-9, 7))


def test_a_name_is_read_by_both() -> None:
    assert read_region("conus").crs == "EPSG:8858"
    assert read_region("conus", "EPSG:8857").crs == "EPSG:8857"
    assert read_region(read_region("conus")).name == "conus"
    assert read_polygons("conus").index.tolist() == ["conus"]


def test_a_region_of_a_file_bears_its_name(tmp_path: Path) -> None:
    form_of("path", tmp_path)
    assert read_region(tmp_path / "box.geojson").name == "box"
    assert read_region(str(tmp_path / "box.gpkg")).name == "box"
    assert read_region(GEOJSON).name == "polygons"


def test_a_file_may_be_named_by_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("2020").write_text(json.dumps(GEOJSON))
    assert read_region("2020").name == "2020"
    assert read_polygons("2020").index.tolist() == [0]


def test_a_frame_in_another_crs_is_brought_to_degrees() -> None:
    frame = geopandas.GeoSeries([SHAPE], crs="EPSG:4326").to_crs("EPSG:3857")
    inside = read_region(frame).contains(np.array([[0.0, 0.0], [6.1, 0.0]]))
    assert inside.tolist() == [True, False]


Entry = Callable[[Field, Probe, Any, Path], Any]
ENTRIES: dict[str, Entry] = {
    "field.region": lambda field, _, region, __: field.region(region),
    "field.iter_region": lambda field, _, region, __: [
        piece.window for piece in field.iter_region(region, mask=True)
    ],
    "field.zonal": lambda field, _, region, __: field.zonal(region).to_numpy(),
    "field.coverage": lambda field, _, region, __: field.coverage(region).to_numpy(),
    "field.similar": lambda field, _, region, __: field.similar((0, 5), "aerial", region=region),
    "field.similarity": lambda field, _, region, __: field.similarity(
        (0, 5), "aerial", region=region
    ),
    "field.to_geotiff": lambda field, _, region, folder: field.to_geotiff(
        folder / "a.tif", region, "aerial", mask=True
    ).read_bytes(),
    "cut_field": lambda field, _, region, folder: sorted(
        path.relative_to(folder / "a.zarr").as_posix()
        for path in cut_field(field, folder / "a.zarr", region).rglob("*")
    ),
    "probe.map": lambda _, probe, region, __: probe.map("height", region=region),
    "probe.to_geotiff": lambda _, probe, region, folder: probe.to_geotiff(
        folder / "map.tif", "height", region
    ).read_bytes(),
    "probe.to_zarr": lambda _, probe, region, folder: _zarr_map(probe, region, folder),
    "labelled.map": lambda field, _, region, __: field.label(
        linear_table(field, 40), "north", "aerial"
    ).map(region),
}


def _zarr_map(probe: Probe, region: Any, folder: Path) -> xr.Dataset:
    probe.to_zarr(folder / "map.zarr", "height", region)
    return xr.open_zarr(folder / "map.zarr").load()


def test_the_entries_are_all_that_take_a_region() -> None:
    public = [getattr(client, name) for name in client.__all__]
    callables = {one.__name__: one for one in public if inspect.isfunction(one)}
    for kind in (*filter(inspect.isclass, public), Labelled):
        methods = inspect.getmembers(kind, inspect.isfunction)
        callables |= {f"{kind.__name__.lower()}.{name}": one for name, one in methods}
    found = {
        name
        for name, one in callables.items()
        if "._" not in name and {"region", "polygons"} & {*inspect.signature(one).parameters}
    }
    found -= {"open_field", "fetch"}  # of a catalogue's region; it calls `cut_field`
    assert found - {"field.search"} == set(ENTRIES) - {"cut_field"}  # `search` calls `similar`'s


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_of_the_client_takes_every_form(
    field: Field, probe: Probe, tmp_path: Path, entry: str
) -> None:
    results = []
    for number, form in enumerate(FORMS):
        folder = tmp_path / str(number)
        folder.mkdir()
        results.append(ENTRIES[entry](field, probe, form_of(form, folder), folder))
    first = results[0]
    for form, other in zip(FORMS, results, strict=True):
        if hasattr(first, "equals"):
            assert other.equals(first), form
        elif isinstance(first, np.ndarray):
            same = other == first
            assert np.asarray(same | (other != other)).all(), form
        else:
            assert other == first, form


@pytest.mark.parametrize("entry", [name for name in ENTRIES if name != "field.coverage"])
def test_every_entry_of_the_client_takes_a_name(
    field: Field, probe: Probe, tmp_path: Path, entry: str
) -> None:
    if entry == "field.zonal":
        with pytest.warns(UserWarning, match="no vector"):
            assert ENTRIES[entry](field, probe, ELSEWHERE, tmp_path).shape[0] == 1
        return
    with pytest.raises(RegionError, match="off the field"):
        ENTRIES[entry](field, probe, ELSEWHERE, tmp_path)


@pytest.mark.parametrize("form", TEXT_FORMS)
def test_every_command_of_the_client_takes_every_form_that_is_text(
    gulf: Path, tmp_path: Path, form: str
) -> None:
    text = form_of(form, tmp_path)
    tif, cut = tmp_path / "a.tif", tmp_path / "a.zarr"
    done("geotiff", gulf, "--region", text, "--modality", "aerial", "-o", tif)
    assert tif.read_bytes()
    done("region", gulf, text, "-o", cut)
    assert open_field(str(cut)).sample([(0.0, 0.0)]).notna().all(axis=None)
    similar = ("similar", gulf, "0", "5", "--modality", "aerial", "--count", "3")
    found = json.loads(done(*similar, "--region", text, "--json"))
    assert all(-8 <= cell["lon"] <= 6 and -9 <= cell["lat"] <= 7 for cell in found)
    assert json.loads(done("zonal", gulf, text, "--json"))[0]["ug_aerial_status"] == "valid"
    assert "valid" in done("coverage", gulf, text)
    table, mapped = tmp_path / "t.csv", tmp_path / "map.tif"
    linear_table(open_field(str(gulf))).to_csv(table)
    done("probe", gulf, table, "--target", "height", "--map", text, mapped)
    assert mapped.read_bytes()
    assert "off the field" in refused("region", gulf, ELSEWHERE, "-o", tmp_path / "b.zarr")
    assert len(read_areas(text).polygons) == 1


@pytest.mark.parametrize("form", [*TEXT_FORMS, "name"])
def test_every_entry_of_the_producer_takes_every_form_that_is_text(
    tmp_path: Path, form: str
) -> None:
    text = ELSEWHERE if form == "name" else form_of(form, tmp_path)
    expected = read_region(text)
    options = {"name": None, "bbox": None, "geojson": None, "crs": None, "own_name": None}
    regions = [
        cli._region(options | {"name": text}),
        cli._region(options | {"geojson": text}),
        evaluate._region(text),
        build_set.region_of_table(text, None, "where"),
    ]
    for region in regions:
        assert region is not None
        assert np.array_equal(np.concatenate(region.rings), np.concatenate(expected.rings))
        assert (region.name, region.crs) == (expected.name, expected.crs)
    assert build_set.region_of_table(None, EDGES, "where").name == "bbox"
    for way in ("name", "geojson", "bbox"):
        value = EDGES if way == "bbox" else text
        assert cli._region(options | {way: value, "crs": "EPSG:8859"}).crs == "EPSG:8859"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3.5, "cannot read a region from a float"),
        ((1, 2, 3), "cannot read polygons from 3 numbers: a box is four"),
        (["a", "b", "c", "d"], "cannot read a region from a list"),
        (["-1", "-2", "3", "4"], "cannot read a region from a list"),
        ([None, 36, -118, 39], "cannot read a region from a list"),
        ((True, False, True, False), "a box is four real numbers"),
        (np.array([1j, 0, 1, 1]), "a box is four real numbers"),
        (np.array([np.nan, 0, 1, 1]), "not finite"),
        (np.ones((4, 2)), "cannot read a region from a ndarray"),
        ("1,2,3", "a box is west,south,east,north in degrees, not '1,2,3'"),
        ("1,2,3,nan", "a box is west,south,east,north"),
        ("atlantis", "atlantis is neither a file nor the name of a region"),
        ("{", "cannot read GeoJSON polygons from the text '{'"),
        ("[1]", "no object but a list"),
        ({"type": "FeatureCollection", "features": []}, "the GeoJSON holds no polygon"),
    ],
)
def test_what_is_no_region_says_why(value: Any, said: str) -> None:
    with pytest.raises(RegionError, match=re.escape(said)):
        read_region(value)


def test_values_that_are_no_text_are_left_as_they_are() -> None:
    for value in (EDGES, GEOJSON, SHAPE, None):
        assert load_region(value) is value
