"""The outlines of states and counties are those of the Census Bureau, and meet without gaps."""

from importlib.resources import files
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

from unigeo.client.areas.polygons import read_polygons
from unigeo.client.field.opening import open_field
from unigeo.schemas.errors import RegionError
from unigeo.schemas.geo.region_forms import load_region, read_region
from unigeo.schemas.geo.regions import Region, region
from unigeo.schemas.geo.us_outlines import County, _outlines, name_of_key, similar_names, us_region


def shape(outline: Region | None) -> shapely.Geometry:
    """A region as shapely has it: within an odd number of rings."""
    assert outline is not None
    whole = shapely.Polygon()
    for ring in outline.rings:
        polygon = shapely.Polygon(ring)
        assert polygon.is_valid, outline.name
        whole = whole.symmetric_difference(polygon)
    return whole


def counties() -> tuple[County, ...]:
    return _outlines().counties


def test_a_state_is_its_counties_and_conus_its_states() -> None:
    area = {one.fips: shape(us_region(one.fips)).area for one in counties()}
    assert len(area) == 3108
    states = {one.fips[:2]: one for one in counties()}
    assert len(states) == 49
    for code, one in states.items():
        own = sum(size for fips, size in area.items() if fips[:2] == code)
        assert shape(us_region(one.postal)).area == pytest.approx(own, rel=1e-9)
    assert shape(us_region("conus")).area == pytest.approx(sum(area.values()), rel=1e-9)
    assert files("unigeo.schemas.geo").joinpath("us_outlines.npz").stat().st_size < 400_000  # type: ignore[attr-defined]


def test_outlines_are_those_of_the_census_bureau(shared_data: Path) -> None:
    for name, key in (("us_counties_5m", "fips"), ("us_states_5m", "STUSPS")):
        frame = geopandas.read_parquet(shared_data / "vectors" / f"{name}.parquet")
        frame = frame.set_index(key).geometry.to_crs(5070)
        found = {label: shape(us_region(label)) for label in frame.index}
        own = geopandas.GeoSeries(found, crs=4326).to_crs(5070)
        wrong = own.symmetric_difference(frame).area / frame.area
        assert wrong.max() < 0.01, wrong.idxmax()
        assert wrong.mean() < 0.001


def test_names_are_those_that_people_write() -> None:
    for same in ("Boulder, CO", "boulder,co", "BOULDER COUNTY, Colorado", "08013"):
        assert us_region(same) is us_region("Boulder County, CO")
    for same in ("Colorado", "co", "08", " COLORADO "):
        assert us_region(same) is us_region("CO")
    assert us_region("lower 48") is us_region("conus")
    alike = {
        "Doña Ana County, NM": ("Dona Ana, NM", "doña ana county, nm"),
        "St. Louis city, MO": ("saint louis city,MO", "St Louis City, Missouri"),
        "Ste. Genevieve County, MO": ("Sainte Genevieve, MO",),
        "DeKalb County, GA": ("De Kalb, GA",),
        "Prince George's County, MD": ("Prince Georges, MD", "prince george’s county, maryland"),
        "Miami-Dade County, FL": ("Miami Dade, FL",),
        "District of Columbia, DC": ("Washington, DC",),
    }
    for name, others in alike.items():
        for other in others:
            assert us_region(name) is us_region(other) is not None, other
    titles = [name_of_key(f"{one.full_name}, {one.postal}") for one in _outlines().counties]
    assert None not in titles and len(set(titles)) == len(titles)
    for path in ("./co", "-08", "co.", "texas/", "../texas"):
        assert us_region(path) is None
    with pytest.raises(RegionError, match=r"there are 2 counties 'Baltimore, MD': name 'Baltimore"):
        us_region("Baltimore, MD")
    assert similar_names("Califrnia")[0].lower() == "california"
    assert "Boulder County, CO" in similar_names("Bolder, CO")
    with pytest.raises(RegionError, match=r"did you mean 'Texas'.*; regions are conus, the 48"):
        load_region("texs")
    labels = read_polygons(["06", "Boulder, CO", "conus"])
    assert len(labels) == 3


def test_the_producers_regions_stay_wider_than_the_outlines() -> None:
    for name in ("conus", "california"):
        assert read_region(name) is region(name)
        produced, outline = shape(region(name)), shape(us_region(name))
        assert load_region(name) is us_region(name)
        assert outline.difference(produced).area < 0.02 * outline.area
        assert produced.area > outline.area
    assert read_region("Texas").name == "Texas"
    assert load_region("AMSTERDAM") is region("amsterdam")


def test_a_box_in_0_to_360_is_the_same_cells(gulf: Path) -> None:
    field = open_field(gulf)
    west = field.zonal((-8.0, -9.0, -2.0, 7.0)).to_numpy()
    np.testing.assert_array_equal(field.zonal((352.0, -9.0, 358.0, 7.0)).to_numpy(), west)
    assert field.region((352.0, -9.0, 358.0, 7.0)).equals(field.region((-8.0, -9.0, -2.0, 7.0)))


def test_west_beyond_east_crosses_the_antimeridian_only_where_the_field_does(
    gulf: Path, fiji: Path
) -> None:
    box = (177.0, -20.0, -178.0, -15.0)
    assert open_field(fiji).zonal(box)["coordinate_share"].item() > 0
    for given in (box, ",".join(map(str, box)), [(0, 0, 1, 1), box], np.array(box)):
        field = open_field(gulf)
        with pytest.raises(RegionError, match=r"177, east of its east, -178, and the field does"):
            field.zonal(given)
        if not isinstance(given, list):
            with pytest.raises(RegionError, match="exchange the two"):
                field.region(given)
