"""Readers of Python, each by its snippet of docs/readers.md."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from pyproj import CRS
from truth import DOCS, LAYOUT_2, Truth, blocks

from unigeo.schemas.store.quantization import dequantize
from unigeo.schemas.store.status import Status

pytestmark = [
    pytest.mark.readers,
    pytest.mark.filterwarnings("ignore"),  # theirs
]
Run = Callable[..., dict[str, Any]]
GDAL = tuple(int(part) for part in rasterio.__gdal_version__.split(".")[:2])


def check_cells(stored: Any, truth: Truth) -> None:
    """200 cells, as stored, are the client's."""
    stored = np.asarray(stored)
    assert stored.dtype == np.int8
    assert np.array_equal(dequantize(stored), truth.vectors, equal_nan=True)


def check_crs(crs: Any, truth: Truth) -> None:
    assert CRS.from_user_input(crs) == CRS(truth.grid.crs)


def check_clipped(clipped: xr.DataArray, truth: Truth) -> None:
    """An area is the client's; what lies outside has no vector."""
    expected = truth.clipped
    assert 20 < (expected.isel(band=0) != -128).sum() < 0.8 * expected.isel(band=0).size
    there = clipped.transpose("y", "x", "band").reindex(
        y=truth.grid.y, x=truth.grid.x, fill_value=-128
    )
    whole = expected.reindex(y=truth.grid.y, x=truth.grid.x, fill_value=-128)
    assert np.array_equal(there, whole)


@pytest.mark.parametrize("number", [0, 1], ids=["xarray", "dask"])
def test_xarray(run: Run, place: str, number: int, truth: Truth) -> None:
    names = run("xarray and dask", place, number)
    vectors = names["vectors"]
    assert (vectors.chunks is not None) == bool(number)
    at = {"y": xr.DataArray(truth.rows), "x": xr.DataArray(truth.cols)}
    check_cells(vectors.isel(at).values, truth)
    check_crs(names["ds"]["spatial_ref"].attrs["crs_wkt"], truth)
    assert np.array_equal(names["there"].values, truth.status == Status.VALID)
    rows, cols = (truth.clipped[axis].values for axis in "yx")
    inside = truth.field.region(truth.area, mask=True)["coordinate_status"].values
    window = vectors.sel(y=rows, x=cols).values
    window[inside != Status.VALID] = -128
    assert np.array_equal(window, truth.clipped)


def test_xarray_finds_the_pyramids(place: str, truth: Truth) -> None:
    url = f"{place}/gulf.zarr"
    overview = xr.open_zarr(url, group="overviews/2", chunks=None)
    assert overview["coordinate"].shape == (32, 32, 8)
    picture = xr.open_zarr(url, group="preview/1", chunks=None)
    assert np.array_equal(picture["coordinate"].any("rgb"), truth.status == Status.VALID)


@LAYOUT_2
def test_xarray_opens_every_group(store: Path) -> None:
    groups = xr.open_groups(store, engine="zarr")
    assert {"/", "/overviews/2", "/preview/1", "/manifest", "/encoder"} <= set(groups)


def test_rioxarray(run: Run, place: str, truth: Truth) -> None:
    names = run("rioxarray", place)
    vectors = names["vectors"]
    check_cells(vectors.values[:, truth.rows, truth.cols].T, truth)
    check_crs(vectors.rio.crs.to_wkt(), truth)
    assert tuple(vectors.rio.transform())[:6] == truth.grid.affine
    assert vectors.rio.nodata == -128
    masked = np.isnan(vectors.rio.reproject(vectors.rio.crs).where(vectors != -128)).any("band")
    assert np.array_equal(masked, truth.status != Status.VALID)
    check_clipped(names["clipped"], truth)


def test_odc_geo(run: Run, place: str, truth: Truth) -> None:
    from odc.geo import Geometry

    names = run("odc-geo", place)
    vectors, box = names["vectors"], names["box"]
    check_cells(vectors.values[:, truth.rows, truth.cols].T, truth)
    check_crs(box.crs.to_wkt(), truth)
    assert tuple(box.affine)[:6] == truth.grid.affine and box.shape == truth.grid.shape
    assert vectors.odc.nodata == -128
    area = Geometry(truth.area.geometry[0], truth.grid.crs)
    clipped = vectors.odc.crop(area, all_touched=False)
    assert clipped.dtype == np.float32, "odc-geo itself says NaN where a mask leaves nothing"
    check_clipped(clipped.fillna(-128).astype(np.int8), truth)
    # Of a warp, cells near whose edge its approximation may take the neighbour are left out.
    degrees = names["degrees"].transpose("latitude", "longitude", "band")
    assert degrees.dtype == np.int8
    lon, lat = np.meshgrid(degrees["longitude"], degrees["latitude"])
    lonlat = np.stack([lon, lat], -1).reshape(-1, 2)
    stored = degrees.values.reshape(len(lonlat), -1)
    expected, sure = at_points(truth, lonlat)
    assert sure.mean() > 0.2
    assert np.array_equal(dequantize(stored[sure]), expected[sure], equal_nan=True)
    assert np.array_equal((stored == -128).all(1), (stored == -128).any(1))


def at_points(truth: Truth, lonlat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The client's vectors at points, and which points lie well inside a cell."""
    from pyproj import Transformer

    to_field = Transformer.from_crs("OGC:CRS84", truth.grid.crs, always_xy=True)
    x, y = to_field.transform(*lonlat.T)
    west, _, _, north = truth.grid.bounds
    size = truth.grid.resolution_m
    inside = np.abs(np.stack([(north - y) / size, (x - west) / size], 1) % 1 - 0.5).max(1) < 0.3
    vectors = truth.field.sample(lonlat, "coordinate", as_="numpy")["coordinate"]
    return vectors, inside


def test_rasterix(run: Run, place: str, truth: Truth) -> None:
    names = run("rasterix", place)
    index = names["index"]
    at = {"y": xr.DataArray(truth.rows), "x": xr.DataArray(truth.cols)}
    check_cells(names["ds"]["coordinate"].isel(at).values, truth)
    check_crs(index.crs, truth)
    assert tuple(index.transform())[:6] == truth.grid.affine
    mask = names["ds"]["coordinate_status"] != Status.VALID
    assert np.array_equal(mask, truth.status != Status.VALID)
    check_clipped(names["clipped"], truth)


def test_exactextract_and_xvec(run: Run, place: str, truth: Truth) -> None:
    names = run("exactextract and xvec", place)
    vectors = names["vectors"]
    check_cells(vectors.values[:, truth.rows, truth.cols].T, truth)
    cells = truth.field.zonal(truth.area, "coordinate")["coordinate_cells"].item()
    assert names["counted"].to_numpy() == pytest.approx(cells, rel=1e-6)
    assert names["counts"].values.ravel() == pytest.approx(cells, rel=1e-6)
    check_crs(names["counts"].xvec.geom_coords_indexed["geometry"].crs, truth)
    whole = vectors.isel(band=0).xvec.zonal_stats(
        truth.area.geometry, x_coords="x", y_coords="y", stats="count", method="exactextract"
    )
    assert whole.item() == pytest.approx(cells, rel=1e-6)
    stored = names["found"].values
    expected = truth.field.sample(names["points"], "coordinate", as_="numpy")["coordinate"]
    assert np.array_equal(dequantize(stored), expected, equal_nan=True)
    size = truth.area.geometry[0].area / truth.grid.resolution_m**2
    assert cells < 0.95 * size, "some cells of the area have no vector"


def test_gdal_shows_the_preview(run: Run, place: str, truth: Truth) -> None:
    from unigeo.client.field.preview import stored_colours

    prefix = "/vsicurl/" if "://" in place else ""
    names = run("GDAL and QGIS", prefix + place)
    check_crs(names["crs"].to_wkt(), truth)
    assert tuple(names["transform"])[:6] == truth.grid.affine
    assert names["nodata"] == 0
    there = truth.status == Status.VALID
    assert np.array_equal(names["mask"] > 0, there)
    drawn = stored_colours(truth.field, "coordinate")
    assert drawn is not None
    rows, cols = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    crop = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    colours = np.moveaxis(names["colours"], 0, 2)[crop] / 255
    assert np.array_equal(colours[there[crop]], drawn[0][0][there[crop]])


@LAYOUT_2
def test_gdal_reads_the_statuses(run: Run, place: str, truth: Truth) -> None:
    prefix = "/vsicurl/" if "://" in place else ""
    names = run("GDAL and QGIS", prefix + place, 1)
    assert np.array_equal(names["status"], truth.status)


def test_gdal_reads_the_vectors(store: Path, truth: Truth) -> None:
    if GDAL < (3, 13):
        pytest.skip(f"GDAL {rasterio.__gdal_version__} cannot open sharded Zarr; 3.13 can")
    with rasterio.open(f'ZARR:"{store}":/coordinate') as dataset:
        check_crs(dataset.crs.to_wkt(), truth)
        assert tuple(dataset.transform)[:6] == truth.grid.affine
        stored = dataset.read()
        axis = int(np.argmin(stored.shape))
        check_cells(np.moveaxis(stored, axis, 2)[truth.rows, truth.cols], truth)


def test_tensorstore(run: Run, store: Path, place: str, truth: Truth) -> None:
    import tensorstore

    if "://" in place:
        spec = {"driver": "zarr3", "kvstore": f"{place}/gulf.zarr/coordinate/"}
        vectors, nodata = tensorstore.open(spec).result(), -128
    else:
        names = run("tensorstore", place)
        vectors, nodata = names["vectors"], names["nodata"]
    whole = vectors.read().result()
    check_cells(whole[truth.rows, truth.cols], truth)
    assert nodata == -128
    assert np.array_equal((whole == nodata).all(2), truth.status != Status.VALID)
    west, north = truth.clipped["x"].values[0], truth.clipped["y"].values[0]
    row, col = np.flatnonzero(truth.grid.y == north)[0], np.flatnonzero(truth.grid.x == west)[0]
    height, width, _ = truth.clipped.shape
    part = vectors[row : row + height, col : col + width].read().result()
    inside = (truth.clipped != -128).all("band").values
    assert np.array_equal(part[inside], truth.clipped.values[inside])


def test_stac_leads_to_the_field(run: Run, place: str, truth: Truth) -> None:
    names = run("STAC", place)
    vectors = names["vectors"]
    at = {"y": xr.DataArray(truth.rows), "x": xr.DataArray(truth.cols)}
    check_cells(vectors.isel(at).values, truth)
    check_crs(names["ds"]["spatial_ref"].attrs["crs_wkt"], truth)
    check_crs(names["item"].properties["proj:code"], truth)
    assert np.array_equal(names["status"] == Status.VALID, truth.status == Status.VALID)
    picture = xr.open_dataset(names["item"].assets["preview"])
    assert "coordinate_axes" in picture


def test_odc_stac_reads_the_item(folder: Path, truth: Truth) -> None:
    """It opens images alone, so the Zarr assets are accessories to it."""
    import odc.stac
    import pystac

    item = pystac.Item.from_file(str(folder / "unigeo-gulf-80000m-r1.json"))
    parsed = odc.stac.parse_item(item)
    assert parsed.collection.has_proj and not parsed.bands
    lon, lat = truth.grid.centres()[truth.status == Status.VALID].T
    west, south, east, north = parsed.geometry.boundingbox
    assert west <= lon.min() and lon.max() <= east and south <= lat.min() and lat.max() <= north


def test_stac_is_valid_for_pystac(folder: Path) -> None:
    """Offline: with the rules of the extensions in `tests/data/stac`."""
    import pystac
    from pystac.validation.local_validator import get_local_schema_cache
    from pystac.validation.stac_validator import JsonSchemaSTACValidator

    validator = JsonSchemaSTACValidator()
    validator.schema_cache = get_local_schema_cache() | {
        schema["$id"]: schema
        for path in (Path(__file__).parents[1] / "data" / "stac").glob("*.json")
        if (schema := json.loads(path.read_text()))
    }
    catalogue = pystac.Catalog.from_file(str(folder / "catalog.json"))
    pystac.validation.set_validator(validator)
    assert catalogue.validate_all() == 1


def test_the_page_names_every_reader() -> None:
    page = DOCS.read_text()
    run_here = {"xarray and dask", "rioxarray", "odc-geo", "rasterix", "exactextract and xvec"}
    run_here |= {"GDAL and QGIS", "tensorstore", "STAC", "zarrita", "OpenLayers"}
    assert {heading for heading, _ in blocks()} == run_here
    for name in ("odc-stac", "xpystac", "GDAL 3.13"):
        assert name in page
