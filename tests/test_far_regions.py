"""Regions at the edge of every map: cut at 180 degrees, round a pole, the globe; observed there."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin

from unigeo import client
from unigeo.producer import api
from unigeo.producer.commands import cli
from unigeo.producer.observations.observation_set.set_observations import open_observation_set
from unigeo.producer.observations.open_named import included_observations
from unigeo.producer.sources.build_set import observe_set, prepare
from unigeo.producer.sources.set_description import read_set_description
from unigeo.producer.sources.stac_items import box_round, footprints
from unigeo.schemas.errors import ObservationsError, RegionError
from unigeo.schemas.geo.region_forms import read_region
from unigeo.schemas.geo.regions import Region, region_of_bbox
from unigeo.schemas.store.status import Status

FIJI = ((178.0, 180.0), (-180.0, -178.0))
SOUTH, NORTH = -18.5, -16.0
RESOLUTION_M = 20_000
CIRCLE = np.array(shapely.Point(0, 0).buffer(1, quad_segs=4).exterior.coords)
TINY = {"locations": 400, "batch": 16, "steps": 2, "warmup": 1, "gallery": 16}
CHANGES = {f"training.{key}": value for key, value in TINY.items()}
OPTIONS: dict[str, Any] = dict.fromkeys(["name", "bbox", "geojson", "crs", "own_name"])


def raster(path: Path, west: float, north: float, shape: tuple[int, int], pixel: float) -> None:
    values = np.random.default_rng(0).integers(1, 255, (3, *shape)).astype(np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", height=shape[0], width=shape[1], count=3, dtype="uint8",
        crs=4326, transform=from_origin(west, north, pixel, pixel),
    ) as file:  # fmt: skip
        file.write(values)


def description(name: str, files: list[str], patch_m: float) -> str:
    return (
        f'name = "{name}"\nlicence = "CC0-1.0"\n[land]\nfile = "{name}.geojson"\n[aerial]\n'
        f'kind = "raster"\nfiles = {json.dumps(files)}\nbands = [1, 2, 3]\npatch_m = {patch_m}\n'
        "patch_px = 8\n"
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rasters on both sides of 180 degrees, one of the globe, and land everywhere."""
    path = tmp_path_factory.mktemp("far")
    raster(path / "west.tif", 177, -15, (64, 48), 1 / 16)
    raster(path / "east.tif", -180, -15, (64, 48), 1 / 16)
    raster(path / "globe.tif", -180, 90, (180, 360), 1)
    boxes = [shapely.box(west, SOUTH, east, NORTH) for west, east in FIJI]
    land = {"fiji": shapely.MultiPolygon(boxes), "globe": shapely.box(-180, -90, 180, 90)}
    for name, shape in land.items():
        geopandas.GeoDataFrame(geometry=[shape], crs=4326).to_file(path / f"{name}.geojson")
    (path / "fiji.toml").write_text(description("fiji", ["west.tif", "east.tif"], 20_000))
    (path / "globe.toml").write_text(description("globe", ["globe.tif"], 400_000))
    api.train(api.open_observations(path / "fiji.toml"), path / "model", changes=CHANGES)
    return path


@pytest.mark.parametrize("crs", [None, "EPSG:8857", "EPSG:8858"])
def test_islands_on_both_sides_of_180_degrees_are_one_field(
    data: Path, tmp_path: Path, crs: str | None
) -> None:
    """Cut there as RFC 7946 asks; EPSG:8857 has them at both ends of its map, the others as one."""
    observations = api.open_observations(data / "fiji.toml")
    region = read_region(data / "fiji.geojson", crs)
    run = api.plan(
        region, observations, model=data / "model", resolution_m=RESOLUTION_M,
        out=tmp_path / "fiji.zarr",
    )  # fmt: skip
    assert run.grid.crs == (crs or "EPSG:8859")
    field = client.open_field(api.publish(run, observations))
    lonlat = np.array([((west + east) / 2, -17.0) for west, east in FIJI] + [(179.7, -17.0)])
    assert (field.sample(lonlat, modalities="aerial").iloc[:, -1] == "valid").all()
    area = 2 * 2 * 111.3 * np.cos(np.radians(17.25)) * 2.5 * 110.6  # km^2, of both boxes
    assert field.coverage()["aerial"][Status.VALID] * (RESOLUTION_M / 1000) ** 2 == pytest.approx(
        area, rel=0.03
    )


def commands_in(message: str) -> list[dict[str, Any]]:
    """Options of the commands that a refusal advises."""
    found = []
    for text in re.split(r" and | or ", message.rpartition(": ")[2]):
        words = re.findall(r"--(\w+)((?: (?!--)\S+)+)", text)
        each = {key: value.split() for key, value in words}
        box = tuple(map(float, each.pop("bbox", [])))
        found.append({key: value[0] for key, value in each.items()} | {"bbox": box or None})
    return found


@pytest.mark.parametrize("crs", [None, "EPSG:8857", "EPSG:8858", "EPSG:8859"])
@pytest.mark.parametrize(
    "box",
    [
        (-180.0, -60.0, 180.0, 84.0),  # the globe
        (-180.0, 66.0, 180.0, 90.0),  # round the pole, from an edge of a map
        (-100.0, 66.0, 260.0, 90.0),  # and from the middle of every map
        (-170.0, -90.0, 185.0, -66.0),
        (0.0, 0.0, 360.0, 10.0),
    ],
)
def test_the_globe_and_caps_are_planned_or_every_command_that_is_advised_is(
    data: Path, tmp_path: Path, box: tuple[float, ...], crs: str | None
) -> None:
    observations = api.open_observations(data / "globe.toml")

    def plan(region: Region) -> None:
        api.plan(
            region, observations, model=data / "model", resolution_m=400_000,
            out=tmp_path / f"{region.name}.zarr", accept_ground_size=True,
        )  # fmt: skip

    options = OPTIONS | {"bbox": box, "crs": crs, "own_name": "far"}
    try:
        plan(cli._region(options))
    except RegionError as error:
        advised = commands_in(str(error))
        assert advised and all(one["crs"] for one in advised), str(error)
        regions = []
        for one in advised:
            other = {"bbox": one["bbox"] or box, "crs": one["crs"]}
            regions.append(cli._region(options | other | {"own_name": one.get("name", "far")}))
            plan(regions[-1])
        if advised[0]["bbox"]:  # two that are not written to one folder, and are the whole
            assert len({region.name for region in regions}) == len(regions) == 2
            assert regions[0].bounds[3] == box[3]
            assert (advised[0]["bbox"][0], advised[1]["bbox"][2]) == (box[0], box[2])
            assert advised[0]["bbox"][2] == advised[1]["bbox"][0]


def test_a_cut_map_is_refused_before_other_observations_are_asked_for() -> None:
    """The observations that come along show no globe, but no others could be mapped either."""
    with pytest.raises(RegionError, match="crosses longitude 90"):
        cli._region(OPTIONS | {"bbox": (-180.0, -60.0, 180.0, 84.0), "crs": "EPSG:8858"})


def test_a_polygon_that_is_cut_as_the_refusal_says_is_mapped() -> None:
    wide = shapely.Polygon(np.stack([75 + 120 * CIRCLE[:, 0], 70 + 10 * CIRCLE[:, 1]], axis=1))
    with pytest.raises(RegionError, match=r"into one MultiPolygon.* --crs EPSG:8858$"):
        read_region(wide, "EPSG:8858").grid(100_000)
    sides = [wide.intersection(shapely.box(*box)) for box in ((-90, 0, 90, 90), (90, 0, 270, 90))]
    cut = read_region(shapely.MultiPolygon(sides), "EPSG:8858")
    assert cut.grid(100_000).crs == "EPSG:8858"


@given(west=st.floats(-180, 179), span=st.floats(0.5, 179), turn=st.sampled_from([-360, 0, 360]))
def test_the_bounds_of_a_region_are_the_shortest(west: float, span: float, turn: int) -> None:
    """Whatever turn of the globe its longitudes are written in."""
    turn = turn if -360 <= west + turn <= west + span + turn <= 360 else 0
    region = region_of_bbox((west + turn, -10.0, west + span + turn, 5.0))
    assert region.bounds == pytest.approx((west, -10.0, west + span, 5.0))


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ({"type": "MultiPolygon", "coordinates": [[[[w, SOUTH], [e, SOUTH], [e, NORTH], [w, NORTH],
                                                    [w, SOUTH]]] for w, e in FIJI]},
         "from 178 to -178 and -18.5 to -16"),
        ((170.0, -10.0, -170.0, 5.0), "from 170 to -170 and"),
        ((170.0, -10.0, 180.0, 5.0), "from 170 to 180 and"),
        ((-180.0, -60.0, 180.0, 84.0), "from -180 to 180 and"),
        ((235.0, 10.0, 250.0, 20.0), "from -125 to -110 and"),
    ],
)  # fmt: skip
def test_the_reach_of_a_region_is_told_as_it_is(region: Any, said: str) -> None:
    with pytest.raises(ObservationsError, match=re.escape(said)) as refused:
        included_observations(read_region(region))
    assert "world" not in str(refused.value)  # which shows no land there either


def test_longitudes_of_another_turn_are_served_by_what_comes_along() -> None:
    assert included_observations(region_of_bbox((250.0, 35.0, 255.0, 40.0)))


@pytest.mark.parametrize("where", ['region = "fiji.geojson"', "bbox = [-180, 70, 180, 90]"])
def test_a_set_is_observed_over_180_degrees_and_round_a_pole(
    data: Path, tmp_path: Path, where: str
) -> None:
    files = '["west.tif", "east.tif"]' if "fiji" in where else '["globe.tif"]'
    (data / "set.toml").write_text(
        f'name = "far"\nlicence = "CC0-1.0"\n[where]\n{where}\ncount = 40\ncell_level = 7\n'
        f'balance_level = 3\n[aerial]\nkind = "files"\nfiles = {files}\nresolution_m = 7000\n'
        "patch_px = 8\nacquired = 2004\n"
    )
    built = observe_set(prepare(read_set_description(data / "set.toml")), str(tmp_path / "set"))
    assert built.about["counts"]["aerial"]["reasons"] == {}
    observations = open_observation_set(str(tmp_path / "set"))
    assert observations.patches("aerial", observations.lonlat).valid.all()
    covering = [name for name in observations.modalities if observations.covers_land(name)]
    assert covering == ["coordinate"]  # the patches are those of the locations alone


@given(lon=st.floats(-180, 180), lat=st.floats(-90, 90), side_m=st.floats(10, 400_000))
def test_a_footprint_holds_its_location_and_no_other_side_of_the_globe(
    lon: float, lat: float, side_m: float
) -> None:
    (area,) = footprints(np.array([[lon, lat]]), side_m)
    assert area.is_valid
    assert shapely.distance(area, shapely.Point(lon, lat)) < 1e-6 * max(1, side_m / 1000)
    west, south, east, north = area.bounds
    assert west >= -180 and south >= -90 and east <= 180 and north <= 90
    box = box_round([area])
    width = (box[2] - box[0]) % 360 or 360.0
    ground = width * 111_320 * np.cos(np.radians(lat))
    if abs(lat) < 80:
        assert ground < 3 * side_m
    if box[0] > box[2]:  # over the antimeridian: the parts touch it on both of its sides
        assert {-180.0, 180.0} <= set(np.round(shapely.get_coordinates(area)[:, 0], 9))


def test_boxes_of_several_footprints_are_the_shortest() -> None:
    lon = [178.0, 179.99, -179.0, -178.5]
    box = box_round(footprints(np.array([[each, -17.0] for each in lon]), 1000.0))
    assert box[0] == pytest.approx(178, abs=0.02) and box[2] == pytest.approx(-178.5, abs=0.02)
    assert all(a < b for a, b in pairwise((box[1], -17.0, box[3])))
