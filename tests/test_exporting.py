import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from support import stores

from unigeo import client
from unigeo.schemas.errors import LayoutError, MissingExtraError, RegionError, StoreError
from unigeo.schemas.store.quantization import dequantize

BOX = (-8.0, -6.0, 6.0, 5.0)


def test_a_geotiff_holds_the_field_cell_for_cell(gulf: Path, tmp_path: Path) -> None:
    field = client.open_field(gulf)
    path = field.to_geotiff(tmp_path / "aerial.tif", modality="aerial")
    stored = field.dataset()["aerial"].values
    with rasterio.open(path) as tif:
        assert tif.crs.to_epsg() == 8857
        assert tuple(tif.transform)[:6] == field.grid.affine
        assert tuple(tif.bounds) == field.grid.bounds
        assert (tif.dtypes[0], tif.nodata) == ("int8", -128)
        assert tif.descriptions == tuple(f"aerial_{band:03d}" for band in range(8))
        assert tif.profile["tiled"]
        assert tif.tags()["TIFFTAG_COPYRIGHT"] == "CC0-1.0"
        assert np.array_equal(np.moveaxis(tif.read(), 0, -1), stored)
    assert [p.name for p in tmp_path.iterdir()] == ["aerial.tif"]


def test_some_bands_of_a_region_as_unit_vectors(gulf: Path, tmp_path: Path) -> None:
    field = client.open_field(gulf)
    path = field.to_geotiff(tmp_path / "a.tif", BOX, "coordinate", bands=[5, 0], dtype="float32")
    part = field.region(BOX)
    with rasterio.open(path) as tif:
        assert tif.descriptions == ("coordinate_005", "coordinate_000")
        assert np.isnan(tif.nodata)
        expected = dequantize(part["coordinate"].values)[..., [5, 0]]
        np.testing.assert_allclose(np.moveaxis(tif.read(), 0, -1), expected, atol=1e-7)
        west, south, east, north = part.unigeo.grid.bounds
        assert tuple(tif.bounds) == pytest.approx((west, south, east, north))
        column, row = 3, 4
        assert tif.xy(row, column) == (part.x.values[column], part.y.values[row])


def test_cells_outside_the_geometry_can_be_no_data(gulf: Path, tmp_path: Path) -> None:
    field = client.open_field(gulf)
    disc = shapely.Point(2, 3).buffer(7.3)
    path = field.to_geotiff(tmp_path / "a.tif", disc, "aerial", mask=True)
    with rasterio.open(path) as tif:
        found = np.moveaxis(tif.read(), 0, -1)
    assert np.array_equal(found, field.region(disc, mask=True)["aerial"].values)


def test_more_bands_than_are_written_at_once(tmp_path: Path) -> None:
    stores.build(tmp_path / "f", layout=stores.layout_of(("coordinate",), bands=40))
    field = client.open_field(tmp_path / "f")
    with rasterio.open(field.to_geotiff(tmp_path / "all.tif")) as tif:
        assert np.array_equal(np.moveaxis(tif.read(), 0, -1), field.dataset()["coordinate"].values)


def test_what_cannot_be_written_is_refused(gulf: Path, tmp_path: Path) -> None:
    field = client.open_field(gulf)
    path = tmp_path / "a.tif"
    with pytest.raises(LayoutError, match="one modality; choose among coordinate, aerial"):
        field.to_geotiff(path)
    for bands in ([8], [-1], []):
        with pytest.raises(LayoutError, match="its bands are 0 to 7"):
            field.to_geotiff(path, modality="aerial", bands=bands)
    with pytest.raises(RegionError, match="off the field"):
        field.to_geotiff(path, (100, 40, 110, 50), "aerial")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "must end in .tif or .tiff"),
        (" ", "must end in"),
        ("a.png", "must end in"),
        ("a", "must end in"),
        ("a.tif ", "must end in"),
        (".", "must end in"),
        ("there.tif", "it is there already; .*overwrite=True"),
        ("folder.tif", "it is a folder"),
        ("absent/a.tif", "there is no folder absent"),
        ("s3://bucket/a.tif", "a GeoTIFF is written to a local file"),
    ],
)
def test_a_name_is_refused_before_anything_is_read(
    gulf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.tif").write_text("an earlier file")
    Path("folder.tif").mkdir()
    field = client.open_field(gulf)
    for given in (name, Path(name)):
        if "://" in name and isinstance(given, Path):
            continue
        with pytest.raises(StoreError, match=said):
            field.to_geotiff(given, "no region", "aerial")
    assert Path("there.tif").read_text() == "an earlier file"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.tif", "there.tif"]


def test_an_earlier_file_is_replaced_where_that_is_allowed(gulf: Path, tmp_path: Path) -> None:
    field, path = client.open_field(gulf), tmp_path / "A.TIFF"
    path.write_text("an earlier file")
    with pytest.raises(RegionError):
        field.to_geotiff(path, (100, 40, 110, 50), "aerial", overwrite=True)
    assert path.read_text() == "an earlier file"
    field.to_geotiff(path, BOX, "aerial", bands=[0], overwrite=True)
    with rasterio.open(path) as tif:
        assert tif.count == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_broken_store_leaves_no_half_file(tmp_path: Path) -> None:
    stores.build(tmp_path / "f")
    shard = tmp_path / "f/coordinate/c/1/1/0"
    shard.write_bytes(bytes(shard.stat().st_size))
    field = client.open_field(tmp_path / "f")
    with pytest.raises(StoreError, match="cannot read coordinate"):
        field.to_geotiff(tmp_path / "a.tif", modality="coordinate")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_without_rasterio_the_extra_is_named(
    gulf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(MissingExtraError, match=r"unigeo\[geo\]"):
        client.open_field(gulf).to_geotiff(tmp_path / "a.tif", modality="aerial")
