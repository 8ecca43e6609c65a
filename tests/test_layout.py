import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401  (adds the `rio` accessor)
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS, Transformer
from support import stores

from unigeo.schemas.errors import LayoutError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.attributes import read_attributes
from unigeo.schemas.store.layout import CHUNK, Layout
from unigeo.schemas.store.quantization import FILL

GRID = stores.grid_of(stores.GULF, stores.layout_of())
GDAL = tuple(int(part) for part in rasterio.__gdal_version__.split(".")[:2])


def test_plain_xarray_opens_a_published_field(gulf: Path) -> None:
    dataset = xr.open_zarr(gulf)
    assert {"coordinate", "aerial", "coordinate_status", "aerial_status"} <= set(dataset.data_vars)
    vectors = dataset["coordinate"]
    assert vectors.dims == ("y", "x", "band")
    assert vectors.dtype == np.int8  # not decoded to floats
    assert vectors.shape == (*GRID.shape, 8)
    assert dataset["coordinate_status"].dtype == np.uint8
    assert dataset["band"].values.tolist() == list(range(8))


def test_coordinates_are_the_cells_pyproj_says(gulf: Path) -> None:
    dataset = xr.open_zarr(gulf)
    x, y = np.meshgrid(dataset["x"], dataset["y"])
    inverse = Transformer.from_crs(GRID.crs, "OGC:CRS84", always_xy=True)
    lon, lat = inverse.transform(x, y)
    assert np.allclose(GRID.centres(), np.stack([lon, lat], -1), rtol=0, atol=1e-9)
    assert (np.diff(dataset["x"]) == GRID.resolution_m).all()
    assert (np.diff(dataset["y"]) == -GRID.resolution_m).all()


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rioxarray's
@pytest.mark.parametrize("name", ["coordinate", "aerial_status"])
def test_rioxarray_knows_crs_and_transform(gulf: Path, name: str) -> None:
    array = xr.open_zarr(gulf, decode_coords="all")[name]
    if "band" in array.dims:
        array = array.transpose("band", "y", "x")
    assert array.rio.crs.to_epsg() == 8857
    assert tuple(array.rio.transform())[:6] == GRID.affine
    assert array.rio.bounds() == GRID.bounds


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # odc-geo's
@pytest.mark.parametrize("name", ["coordinate", "aerial_status"])
def test_odc_geo_knows_crs_and_transform(gulf: Path, name: str) -> None:
    pytest.importorskip("dask", reason="odc.geo.xr imports dask")
    import odc.geo.xr  # noqa: F401  (adds the `odc` accessor)

    box = xr.open_zarr(gulf, decode_coords="all")[name].odc.geobox
    assert box is not None
    assert box.crs.to_epsg() == 8857
    assert tuple(box.affine)[:6] == GRID.affine
    assert tuple(box.shape) == GRID.shape


def test_rasterio_opens_the_vectors(gulf: Path) -> None:
    if GDAL < (3, 13):
        pytest.skip(f"GDAL {rasterio.__gdal_version__} cannot open sharded Zarr; 3.13 can")
    with rasterio.open(f'ZARR:"{gulf}":/coordinate') as dataset:
        assert tuple(dataset.transform)[:6] == GRID.affine
        assert CRS.from_wkt(dataset.crs.to_wkt()).to_epsg() == 8857


def test_a_cell_holds_what_was_written_there(gulf: Path) -> None:
    dataset = xr.open_zarr(gulf)
    status = dataset["aerial_status"].values
    stored = dataset["aerial"].values
    vectors, _ = stores.encoder()("aerial", GRID.centres()[status == 1])
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    assert np.abs(stored[status == 1] - 127 * vectors / largest).max() <= 0.5 + 1e-4
    assert (stored[status != 1] == FILL).all()
    assert (status != 0).all()


def test_every_shard_is_one_object_and_no_data_is_none(fiji: Path) -> None:
    shards = {path for path in stores.tree(fiji) if path.startswith("coordinate/c/")}
    status = xr.open_zarr(fiji)["coordinate_status"].values
    held = {
        f"coordinate/c/{row}/{col}/0"
        for row, col in np.ndindex(2, 2)
        if (status[row * 32 : row * 32 + 32, col * 32 : col * 32 + 32] == 1).any()
    }
    assert shards == held


def test_a_vector_is_one_run_of_bytes(gulf: Path) -> None:
    """Uncompressed, in (y, x, band) order: the vector alone can be found by its bytes."""
    vector = xr.open_zarr(gulf)["coordinate"].values[40, 40]
    assert vector[0] != FILL
    assert vector.tobytes() in (gulf / "coordinate/c/1/1/0").read_bytes()


def test_metadata_are_consolidated_and_say_how_the_field_was_made(gulf: Path) -> None:
    document = json.loads((gulf / "zarr.json").read_text())
    nodes = document["consolidated_metadata"]["metadata"]
    assert {"coordinate", "x", "manifest", "manifest/coordinate_sha256", "encoder"} <= set(nodes)
    own = read_attributes(document["attributes"], "gulf")
    assert own.state == "published"
    assert own.region == "gulf"
    assert own.grid.grid() == GRID
    assert own.field_layout() == stores.layout_of()
    assert document["attributes"]["license"] == "CC0-1.0"
    assert document["attributes"]["proj:code"] == "EPSG:8857"


def test_no_array_names_a_codec_that_other_readers_lack(gulf: Path, fiji: Path) -> None:
    from unigeo.schemas.store.validation import field_problems

    for path in (gulf, fiji):
        assert field_problems(zarr.open_group(path, mode="r")) == []


def test_the_manifest_is_the_hash_of_what_is_stored(gulf: Path) -> None:
    import hashlib

    group = zarr.open_group(gulf, mode="r")["manifest"]
    for row, col in np.ndindex(2, 2):
        content = (gulf / f"aerial/c/{row}/{col}/0").read_bytes()
        hashed = np.asarray(group["aerial_sha256"][row, col]).tobytes()
        assert hashed == hashlib.sha256(content).digest()
        assert group["aerial_bytes"][row, col] == len(content)
    status = xr.open_zarr(gulf)["aerial_status"].values
    assert np.asarray(group["aerial_valid_cells"]).sum() == (status == 1).sum()


@pytest.mark.parametrize(
    "wrong",
    [
        {"modalities": ()}, {"bands": 0}, {"chunk": 7}, {"chunk": 0},
        {"widths": {"dsm": 0}}, {"modalities": ("dsm", "dsm")}, {"modalities": ("dsm", "DSM")},
        {"modalities": ("dsm", "fused"), "widths": {"fused": 9}},
    ],
)  # fmt: skip
def test_a_layout_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    good: dict[str, object] = {"modalities": ("dsm",), "bands": 8, "chunk": CHUNK}
    with pytest.raises(LayoutError):
        Layout(**(good | wrong))


@pytest.mark.parametrize(
    "name",
    [
        "", "x", "Y", "band", "band_8", "BAND_64", "spatial_ref", "overviews", "preview", "encoder",
        "concepts", "manifest", "covariates", "objects", "rgb", "name", "joined", "aerial_status",
        ".", "..", "a/b", "../x", "a b", "c\\d", "a\n", "1", "_a", "a.b", "é", "a" * 65,
    ],
)  # fmt: skip
def test_a_name_that_an_array_of_vectors_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(LayoutError, match="cannot store a modality named"):
        Layout(modalities=("dsm", name), bands=8)


@given(
    names=st.lists(
        st.from_regex(r"q[A-Za-z0-9_-]{0,9}", fullmatch=True).filter(
            lambda name: not name.lower().endswith("_status")
        ),
        min_size=1,
        max_size=5,
        unique_by=str.lower,
    ),
    widths=st.lists(st.integers(1, 40_000), min_size=5, max_size=5),
)
def test_widths_stand_in_the_root_and_one_dimension_has_one_length(
    names: list[str], widths: list[int]
) -> None:
    given_widths = dict(zip(names, widths, strict=False))
    layout = Layout(modalities=tuple(names), bands=768, widths=given_widths)
    grid = stores.grid_of(stores.GULF, stores.layout_of())
    own = stores.attributes_of(stores.GULF, grid, layout)["unigeo"]["layout"]
    assert own["widths"] == given_widths == {name: layout.width(name) for name in names}
    for name in names:
        assert layout.band_dimensions[layout.dimension(name)] == layout.width(name)
        assert (layout.dimension(name) == "band") == (layout.width(name) == 768)


def test_a_grid_off_the_shards_is_refused() -> None:
    with pytest.raises(LayoutError, match="whole multiples of the shard"):
        stores.layout_of().shards(Grid("EPSG:8857", 1000.0, 0, 1, (32, 32)))
