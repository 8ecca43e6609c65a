"""Dates as users write them, in settings, catalogues and EXIF."""

import calendar
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from rasterio.transform import from_origin

from unigeo.producer.observations.folder import dates
from unigeo.producer.observations.folder.description import read_description
from unigeo.producer.publishing.stac import ANY_TIME, interval
from unigeo.producer.sources.build_set import observe_set, prepare
from unigeo.producer.sources.image_folder import ImageFolder, read_exif
from unigeo.producer.sources.imagery import AerialSource
from unigeo.producer.sources.raster_catalogue import Catalogue
from unigeo.producer.sources.set_description import ImageryRules, StreetRules, read_set_description
from unigeo.producer.sources.stac_items import Item, _parse_item, rank_items
from unigeo.producer.sources.web_requests import WebClient
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.regions import region_of_bbox

DAYS = st.dates(date(1800, 1, 1), date(2199, 12, 31))


@given(DAYS, DAYS)
def test_a_date_spans_what_it_says(one: date, other: date) -> None:
    early, late = sorted((one, other))
    month_end = late.replace(day=calendar.monthrange(late.year, late.month)[1])
    assert dates.span(f"{early}") == (early, early)
    assert dates.span(f"{early:%Y}") == (early.replace(month=1, day=1), date(early.year, 12, 31))
    assert dates.span(f"{early}/{late:%Y-%m}") == (early, month_end)
    first, last = dates.days(f"{early:%Y-%m}/{late}")
    assert first <= (early - dates.EPOCH).days and last == (late - dates.EPOCH).days
    assert list(dates.years(f"{early}/{late}")) == list(range(early.year, late.year + 1))
    if early.year < late.year:
        with pytest.raises(ValueError, match="ends before it begins"):
            dates.span(f"{late:%Y}/{early:%Y}")


def test_a_moment_is_one_whatever_the_machine_s_time_zone() -> None:
    assert (
        dates.days("1970-01-02T12:00:00") == (1.5, 1.5) == dates.days("1970-01-02T14:00:00+02:00")
    )
    assert dates.years("2004-12-31T23:59:59Z") == range(2004, 2005)


SET = """
name = "dated"
licence = "CC0-1.0"
[where]
bbox = [-77.072, 38.822, -77.063, 38.829]
count = 6
cell_level = 15
balance_level = 14
[aerial]
kind = "files"
files = ["{file}"]
resolution_m = 1
patch_px = 16
{dates}
"""


def write_image(path: Path) -> Path:
    with rasterio.open(
        path, "w", driver="GTiff", width=1200, height=1200, count=3, dtype="uint8", crs=32618,
        transform=from_origin(320_000, 4_300_000, 1, 1), tiled=True,
    ) as raster:  # fmt: skip
        raster.write(np.full((3, 1200, 1200), 90, np.uint8))
    return path


@pytest.mark.parametrize(
    ("written", "kept", "year"),
    [
        ('"2004"', "2004", "2004"),
        ('"2004-07"', "2004-07", "2004"),
        ("2004", "2004", "2004"),
        ("2004-07-15", "2004-07-15", "2004"),
        ("2004-07-15T10:00:00Z", "2004-07-15", "2004"),
        ('"2004/2006"', "2004/2006", "2004 to 2006"),
        ('"2004-07-15T10:00:00Z/2004-08-01T10:00:00Z"', "2004-07-15/2004-08-01", "2004"),
        ('""', "2010-06-29", "2010"),
    ],
)
def test_a_set_is_dated_as_its_settings_say(
    written: str, kept: str, year: str, tmp_path: Path
) -> None:
    file = write_image(tmp_path / "picture_20101399_20100629.tif")  # the first is a number, no date
    settings = tmp_path / "set.toml"
    dates = f"acquired = {written}\ndate = {written}"
    if written != '""':
        dates += '\nprefer = "nearest"'
    settings.write_text(SET.format(file=file, dates=dates))
    observations = observe_set(prepare(read_set_description(settings)), str(tmp_path / "set"))
    assert set(observations.rows["aerial_date"]) == {kept}
    assert list(observations.about["counts"]["aerial"]["years"]) == [year]


@pytest.mark.parametrize("key", ["acquired", "date"])
@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('"2004-13"', "'2004-13' is no date; write 2004, 2004-07"),
        ('"2021-02-30"', "is no date"),
        ('"summer"', "'summer' is no date"),
        ('"2006/2004"', "ends before it begins"),
        ('"2004/2005/2006"', "is no date"),
        ('"2004/.."', "is no date"),
        ("12", "'12' is no date"),
        ("true", "True is no date"),
        ("2004.5", "valid string"),
        ("10:00:00", "is no date"),
    ],
)
def test_what_is_no_date_is_one_sentence_with_the_key(
    key: str, written: str, message: str, tmp_path: Path
) -> None:
    settings = tmp_path / "set.toml"
    settings.write_text(SET.format(file="x.tif", dates=f"{key} = {written}"))
    with pytest.raises(ObservationsError, match=rf"table \[aerial\], key '{key}': .*{message}"):
        read_set_description(settings)


def test_years_are_held_out_and_chosen_by_every_year_of_a_range(tmp_path: Path) -> None:
    file = write_image(tmp_path / "picture.tif")
    about = ImageryRules(kind="files", files=(str(file),), acquired="2004/2006", patch_px=16,
                         resolution_m=1, years=(2005,))  # fmt: skip
    lonlat = np.array([(-77.068, 38.826)])
    one = AerialSource(Catalogue(about, WebClient())).observe(lonlat).findings[0]
    assert one.reason == ""
    other = about.model_copy(update={"years": (2007,)})
    with pytest.raises(ObservationsError, match="no file is of the years 2007: they are of 2004"):
        AerialSource(Catalogue(other, WebClient())).observe(lonlat)
    settings = tmp_path / "set.toml"
    held = "[splits]\ntemporal_years = [2005]\n[aerial]"
    text = SET.format(file=file, dates='acquired = "2004/2006"').replace("[aerial]", held)
    settings.write_text(text)
    observations = observe_set(prepare(read_set_description(settings)), str(tmp_path / "set"))
    assert list(observations.about["counts"]["splits"]) == ["temporal"]


DESCRIPTION = """
name = "x"
licence = "CC0-1.0"
[land]
file = "land.geojson"
[aerial]
kind = "raster"
files = ["a.tif"]
bands = [1]
patch_m = 800
patch_px = 4
acquired = {written}
"""


@pytest.mark.parametrize(
    ("written", "first", "last"),
    [
        ('"2004"', "2004-01-01", "2004-12-31"),
        ("2004", "2004-01-01", "2004-12-31"),
        ("2004-07-15", "2004-07-15", "2004-07-15"),
        ('"2004-02"', "2004-02-01", "2004-02-29"),
        ('"2004/2006-07"', "2004-01-01", "2006-07-31"),
        ('"2013-2020"', "2013-01-01", "2020-12-31"),
        ('"summer of 2017 to 2024-06, without 2023"', "2017-01-01", "2024-06-30"),
        ('"various"', ANY_TIME[0][:10], ANY_TIME[1][:10]),
        ('""', ANY_TIME[0][:10], ANY_TIME[1][:10]),
    ],
)
def test_a_field_s_item_spans_what_its_observations_say(
    written: str, first: str, last: str, tmp_path: Path
) -> None:
    path = tmp_path / "observations.toml"
    path.write_text(DESCRIPTION.format(written=written))
    source = read_description(path).modalities["aerial"]
    assert source is not None
    start, end = interval({"modalities": {"aerial": source.model_dump(mode="json")}})
    assert (start[:10], end[:10]) == (first, last)
    moments = [pystac.utils.str_to_datetime(text) for text in (start, end)]
    assert moments[0] < moments[1] and all(moment.tzinfo for moment in moments)


@pytest.mark.parametrize("written", ['"2004-13"', '"2021-02-30"', '"2006/2004"', "true", "2004.5"])
def test_a_description_s_date_that_is_none_is_named(written: str, tmp_path: Path) -> None:
    path = tmp_path / "observations.toml"
    path.write_text(DESCRIPTION.format(written=written))
    with pytest.raises(ObservationsError, match=r"table \[aerial\], key 'acquired'"):
        read_description(path)


def feature(**properties: Any) -> dict[str, Any]:
    shape = shapely.geometry.mapping(shapely.box(0, 0, 1, 1))
    asset = {"image": {"href": "https://example.org/a.tif"}}
    return {"id": "a", "geometry": shape, "assets": asset, "properties": properties}


def test_an_item_without_a_moment_is_of_its_range() -> None:
    ends = {"start_datetime": "2004-06-01T00:00:00Z", "end_datetime": "2005-08-01T00:00:00Z"}
    item = _parse_item(feature(datetime=None, **ends), "image", "https://example.org")
    assert isinstance(item, Item)
    assert item.year == 2004 and list(dates.years(item.date)) == [2004, 2005]
    for broken in ({"datetime": "yesterday"}, {"datetime": None}, {}):
        assert _parse_item(feature(**broken), "image", "https://example.org") == "malformed item"


def test_the_nearest_item_is_the_one_with_fewest_days_between() -> None:
    def item(name: str, taken: str) -> Item:
        return Item(name, taken, 0, 0.6, shapely.box(0, 0, 1, 1), name)

    items = [item("year", "2004"), item("day", "2006-01-10"), item("span", "2007/2009")]
    mark = shapely.box(0.4, 0.4, 0.5, 0.5)
    for date_wanted, best in (("2004-11-05", "year"), ("2005-12", "day"), ("2008-05", "span")):
        assert rank_items(items, mark, "nearest", date_wanted)[0].name == best
    assert rank_items(items, mark, "newest", "")[0].name == "span"
    assert rank_items(items, mark, "oldest", "")[0].name == "year"


def write_jpeg(path: Path, taken: str) -> str:
    exif = Image.Exif()
    exif[ExifTags.IFD.GPSInfo] = {
        ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (38.0, 49.0, 30.0),
        ExifTags.GPS.GPSLongitudeRef: "W", ExifTags.GPS.GPSLongitude: (77.0, 4.0, 0.0),
    }  # fmt: skip
    exif[ExifTags.Base.DateTime] = taken
    Image.new("RGB", (40, 40)).save(path, exif=exif)
    return str(path)


@pytest.mark.parametrize(
    ("taken", "date"),
    [("2019:05:01 10:00:00", "2019-05-01"), ("0000:00:00 00:00:00", ""), ("    :  :  ", "")],
)
def test_a_camera_without_a_clock_gives_no_date(taken: str, date: str, tmp_path: Path) -> None:
    image = read_exif(write_jpeg(tmp_path / "a.jpg", taken), "CC0-1.0", "")
    assert not isinstance(image, str) and image.date == date


@pytest.mark.parametrize(
    ("written", "date"), [("2019", "2019"), ("", ""), ("2019-05-01", "2019-05-01")]
)
def test_a_table_of_images_has_dates_or_none(written: str, date: str, tmp_path: Path) -> None:
    write_jpeg(tmp_path / "a.jpg", "")
    (tmp_path / "t.csv").write_text(f"file,lat,lon,date\na.jpg,38.825,-77.067,{written}\n")
    about = StreetRules(kind="folder", files=str(tmp_path / "*.jpg"), table=str(tmp_path / "t.csv"),
                   blurred=True)  # fmt: skip
    folder = ImageFolder(about, region_of_bbox((-78.0, 38.0, -77.0, 39.0)))
    assert [one.date for one in folder.search(-180, -90, 180, 90)] == [date]
    (tmp_path / "t.csv").write_text("file,lat,lon,date\na.jpg,38.825,-77.067,yesterday\n")
    folder = ImageFolder(about, region_of_bbox((-78.0, 38.0, -77.0, 39.0)))
    with pytest.raises(ObservationsError, match="row 0, column 'date': 'yesterday' is no date"):
        folder.search(-180, -90, 180, 90)
