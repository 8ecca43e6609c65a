"""What a stranger's file may not do: run code, take memory by its claims, lead elsewhere."""

import json
import pickle
import re
import shutil
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from support import stores

from unigeo import client
from unigeo.client.encoding.coordinate_encoder import load_encoder
from unigeo.client.field.search import load_concepts
from unigeo.producer.encoders.saved_models import load_model
from unigeo.producer.observations.file_contents import ReplacedError
from unigeo.producer.observations.forms import default_forms
from unigeo.producer.observations.raster_files.band_facts import Stated
from unigeo.producer.observations.raster_files.open_source import open_source
from unigeo.producer.observations.raster_files.raster_source import RasterSource
from unigeo.producer.publishing.concepts import ConceptVectors
from unigeo.producer.publishing.publish import publish
from unigeo.schemas.errors import LayoutError, ModelError, ObservationsError, StoreError
from unigeo.schemas.io.limits import DOCUMENT_BYTES
from unigeo.schemas.io.stores import open_group, read_document
from unigeo.schemas.store.validation import field_problems

ROOT = Path(__file__).parents[1]
HUGE = 1_000_000_000_000_000
FORBIDDEN = (
    r"\bpickle\.loads?\b", r"\bUnpickler\b", r"\btorch\.load\b", r"allow_pickle\s*=\s*True",
    r"trust_remote_code\s*=\s*True", r"\bjoblib\b", r"\bdill\b", r"\bcloudpickle\b", r"\bmarshal\b",
    r"(?<![\w.])eval\(", r"(?<![\w.])exec\(", r"yaml\.(unsafe_)?load\(", r"shell\s*=\s*True",
)  # fmt: skip


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_nothing_in_the_packages_runs_what_it_reads(pattern: str) -> None:
    # A doctest may write a pickle, to show that it is not loaded.
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("client", "producer", "schemas")
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == []


def test_a_pickle_instead_of_weights_is_refused(tmp_path: Path) -> None:
    import hashlib

    from unigeo.producer.encoders.model_settings import to_json
    from unigeo.producer.encoders.presets import tiny

    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (ran,)

    content = pickle.dumps({"weight": Evil()})
    (tmp_path / "model.safetensors").write_bytes(content)
    description = {
        "format": 1,
        "settings": to_json(tiny(default_forms({}, text=False), seed=0)),
        "sha256": {"model.safetensors": hashlib.sha256(content).hexdigest()},
    }
    (tmp_path / "settings.json").write_text(json.dumps(description))
    with pytest.raises(ModelError, match="does not fit its settings"):
        load_model(tmp_path)
    assert not ran.exists()


def sparse_tiff(path: Path, side: int, block: int) -> Path:
    """A BigTIFF of one uint8 band whose header claims side x side pixels, and which holds none."""
    counts = (-(-side // block)) ** 2
    tags = [
        (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (277, 3, 1, 1), (322, 4, 1, block), (323, 4, 1, block),
    ]  # fmt: skip
    scale, tie = struct.pack("<3d", 1, 1, 0), struct.pack("<6d", 0, 0, 0, 500_000, 4_000_000, 0)
    keys = struct.pack("<16H", 1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32613)
    entries = 8 + 2 + 3
    data = 16 + 8 + 20 * entries + 8
    body, extra = b"", []
    for tag, kind, count, raw in (
        (33550, 12, 3, scale), (33922, 12, 6, tie), (34735, 3, 16, keys),
    ):  # fmt: skip
        extra.append((tag, kind, count, data + len(body)))
        body += raw
    size = 8 * counts
    tags += [(324, 16, counts, data + len(body) if counts > 1 else 0)]
    tags += [(325, 16, counts, data + len(body) + size if counts > 1 else 0)]
    content = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + struct.pack("<Q", entries)
    for tag, kind, count, value in sorted(tags + extra):
        content += struct.pack("<HHQQ", tag, kind, count, value)
    content += struct.pack("<Q", 0) + body
    path.write_bytes(content + bytes(2 * size if counts > 1 else 0))
    return path


def test_a_tiff_of_two_kilobytes_that_claims_ten_gigabytes_is_refused(tmp_path: Path) -> None:
    path = sparse_tiff(tmp_path / "bomb.tif", 100_000, 100_000 // 16 * 16 + 16)
    assert path.stat().st_size < 2048
    with rasterio.open(path) as dataset:
        assert dataset.shape == (100_000, 100_000), "GDAL itself believes it"
    tracemalloc.start()
    with pytest.raises(ObservationsError, match=r"claims 100,000 x 100,000 pixels.*no codec"):
        open_source(path, (1,), None, "table [aerial]: bomb.tif")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_a_sparse_raster_of_honest_size_is_read(tmp_path: Path) -> None:
    """Empty tiles are no crime: a large mosaic may have few."""
    path = tmp_path / "sparse.tif"
    profile = {
        "driver": "GTiff", "height": 20_000, "width": 20_000, "count": 1, "dtype": "uint8",
        "crs": "EPSG:32613", "transform": from_origin(5e5, 4e6, 1, 1), "tiled": True,
        "compress": "deflate", "sparse_ok": True,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as out:
        noise = np.random.default_rng(0).integers(0, 255, (1, 256, 256), dtype=np.uint8)
        out.write(noise, window=rasterio.windows.Window(0, 0, 256, 256))
    assert open_source(path, (1,), None, "sparse.tif").shape == (20_000, 20_000)


def vrt(path: Path, source: str, band: str = "", dataset: str = "") -> Path:
    """A VRT of one band that takes its pixels from `source`."""
    path.write_text(
        f'<VRTDataset rasterXSize="8" rasterYSize="8"{dataset}><SRS>EPSG:32613</SRS>'
        "<GeoTransform>500000, 1, 0, 4000000, 0, -1</GeoTransform>"
        f'<VRTRasterBand dataType="Byte" band="1"{band}><SimpleSource>{source}'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path


def named(name: str, relative: int = 1) -> str:
    return f'<SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'


def tiff(path: Path, **profile: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    options = {"driver": "GTiff", "height": 8, "width": 8, "count": 1, "dtype": "uint8"}
    where = {"crs": "EPSG:32613", "transform": from_origin(5e5, 4e6, 1, 1)}
    with rasterio.open(path, "w", **options | where | profile) as out:
        out.write(np.full((1, 8, 8), 7, np.uint8))
    return path


def opened(path: Path, root: Path, *addresses: str) -> RasterSource:
    stated = Stated(root=root, addresses=frozenset(addresses))
    return open_source(path, (1,), None, f"table [aerial]: {path.name}", stated=stated)


def test_a_vrt_joins_files_of_the_data_folder_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    inside, outside = tiff(data / "a.tif"), tiff(tmp_path / "secret" / "b.tif")
    (data / "link.tif").symlink_to(outside)
    (data / "wms.tif").write_text("<GDAL_WMS><Service name='TMS'/></GDAL_WMS>")
    source = opened(vrt(data / "good.vrt", named("a.tif")), data)
    assert source.files == (data / "good.vrt", inside)
    assert opened(vrt(data / "whole.vrt", named(str(inside), 0)), data).shape == (8, 8)
    python = ' subClass="VRTDerivedRasterBand"'
    for text, band, dataset, message in (
        (named("../secret/b.tif"), "", "", "which is outside of"),
        (named(str(outside), 0), "", "", "which is outside of"),
        (named("link.tif"), "", "", "which is outside of"),
        (named("/vsicurl/http://127.0.0.1:9/a.tif", 0), "", "", "an address that the descr"),
        (named("https://example.org/a.tif", 0), "", "", "an address that the description does"),
        (named("/vsimem/a.tif", 0), "", "", "an address that the description does not"),
        (named("/vsitar//etc/a.tar/a", 0), "", "", "an address that the description does not"),
        (named("WMS:http://127.0.0.1:9", 0), "", "", "there is no such file|an address"),
        (named("gone.tif"), "", "", "there is no such file"),
        (named("wms.tif"), "", "", "is none of GeoTIFF"),
        (named("a.tif"), python, "", "a VRT with `subClass`"),
        (named("a.tif"), "", ' subClass="VRTWarpedDataset"', "a VRT with `subClass`"),
        (named("a.tif") + "<OpenOptions/>", "", "", "a VRT with <OpenOptions>"),
        ("<sourcefilename>/etc/passwd</sourcefilename>", "", "", "with <sourcefilename>"),
        (named("evil.vrt"), "", "", "more than 4 VRTs hold one another"),
    ):
        path = vrt(data / "evil.vrt", text, band, dataset)
        with pytest.raises(ObservationsError, match=message) as refused:
            opened(path, data)
        assert "\n" not in str(refused.value)
    bomb = '<!DOCTYPE a [<!ENTITY b "c">]>' + (data / "good.vrt").read_text()
    (data / "bomb.vrt").write_text(bomb)
    with pytest.raises(ObservationsError, match=r"is (no VRT|none of GeoTIFF)"):
        opened(data / "bomb.vrt", data)
    source.check()
    tiff(inside, nodata=3)
    with pytest.raises(ReplacedError, match=r"a\.tif was replaced"):
        source.check()


def test_what_a_file_is_read_with_lies_in_the_data_folder(tmp_path: Path) -> None:
    """Overviews, masks and world files beside a raster may be links, and metadata name files."""
    data = tmp_path / "data"
    path, elsewhere = tiff(data / "a.tif"), tiff(tmp_path / "elsewhere" / "o.tif")
    assert opened(path, data).shape == (8, 8)
    (data / "a.tif.ovr").symlink_to(elsewhere)
    with pytest.raises(ObservationsError, match=r"read together with .*o\.tif, which is outside"):
        opened(path, data)
    (data / "a.tif.ovr").unlink()
    (data / "a.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
        "/vsicurl/http://127.0.0.1:9/o.tif</MDI></Metadata></PAMDataset>"
    )
    with pytest.raises(ObservationsError, match=r"read together with /vsicurl/http"):
        opened(path, data)


def test_numbers_of_a_netcdf_file_lie_in_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["t"] = np.zeros((4, 4))
    with h5py.File(data / "link.nc", "w") as file:
        file["t"] = h5py.ExternalLink(tmp_path / "other.h5", "t")
    with pytest.raises(ObservationsError, match="links /t to"):
        opened(data / "link.nc", data)
    side = 1 << 20
    for name, shape, how, message in (
        ("raw", (4, 4), {"external": [("/etc/passwd", 0, 16)]}, "numbers of /raw lie in other"),
        ("bomb", (side, side), {"chunks": (1 << 15, 1 << 16)}, "in chunks of 2,147,483,648 bytes"),
        ("x", (side**2,), {"chunks": (1024,)}, "claims 1,099,511,627,776 numbers along one"),
    ):  # fmt: skip
        with h5py.File(data / f"{name}.nc", "w") as file:
            file.create_dataset(name, shape, "u1", **how)
        with pytest.raises(ObservationsError, match=message):
            opened(data / f"{name}.nc", data)


def test_a_zarr_store_of_rasters_runs_no_code_and_leads_nowhere(tmp_path: Path) -> None:
    import xarray as xr

    data = tmp_path / "data"
    scene = xr.Dataset(
        {"t": (("lat", "lon"), np.zeros((4, 4), np.float32))},
        {"lat": np.arange(4.0), "lon": np.arange(4.0)},
    )
    store = data / "a.zarr"
    scene.to_zarr(store, zarr_format=2, consolidated=False)
    assert opened(store, data).shape == (4, 4)
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (ran,)

    about = json.loads((store / "t" / ".zarray").read_text())
    (store / "t" / ".zarray").write_text(json.dumps(about | {"filters": [{"id": "pickle"}]}))
    (store / "t" / "0.0").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ObservationsError, match=r"a\.zarr.*'pickle'"):
        opened(store, data)
    assert not ran.exists()
    (store / "t" / ".zarray").write_text(
        json.dumps(about | {"shape": [1 << 20, 1 << 20], "chunks": [1 << 16, 1 << 16]})
    )
    with pytest.raises(ObservationsError, match=r"in chunks of 17,179,869,184 bytes"):
        opened(store, data)
    (store / "t" / ".zarray").write_text(json.dumps(about))
    (store / "t" / "0.0").unlink()
    (store / "t" / "0.0").symlink_to("/etc/passwd")
    with pytest.raises(ObservationsError, match=r"holds the link t/0\.0"):
        opened(store, data)


def claim(store: Path, name: str, shape: list[int], chunk: list[int] | None = None) -> None:
    """Let an array claim another shape, in its own metadata and in the root's."""
    for place in (store / name / "zarr.json", store / "zarr.json"):
        document = json.loads(place.read_text())
        node = document
        if place.parent == store:
            node = document["consolidated_metadata"]["metadata"][name]
        node["shape"] = shape
        if chunk is not None:
            node["chunk_grid"]["configuration"]["chunk_shape"] = chunk
        place.write_text(json.dumps(document))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "field.zarr"
    group, grid, layout = stores.begin(path)
    stores.fill(group, grid, layout)
    concepts = ConceptVectors(("a", "b"), np.full((2, 8), 127, np.int8))
    settings = {"kind": "fourier", "width": 2, "depth": 0, "heads": 1, "mlp_ratio": 1.0,
                "sigmas": [1.0], "registers": 0, "scale_embedding": False, "features": "plane",
                "dimension": 8}  # fmt: skip
    weights = {
        "rotation": np.eye(8, dtype=np.float32),
        "frequencies": np.ones((1, 2, 1)),
        "perceptrons.0.head.weight": np.ones((8, 2), np.float32),
        "perceptrons.0.head.bias": np.zeros(8, np.float32),
    }
    publish(group, encoder=weights, encoder_settings=settings, concepts=concepts)
    return path


@pytest.mark.parametrize(
    ("name", "shape"),
    [("x", [HUGE]), ("y", [HUGE]), ("band", [HUGE]), ("aerial", [HUGE, 1, 8]),
     ("aerial_status", [HUGE, 1])],
)  # fmt: skip
def test_a_zarr_array_that_claims_a_petabyte_is_refused(
    whole: Path, tmp_path: Path, name: str, shape: list[int]
) -> None:
    store = Path(shutil.copytree(whole, tmp_path / "bomb.zarr"))
    claim(store, name, shape, chunk=shape if name in ("x", "y", "band") else None)
    tracemalloc.start()
    with pytest.raises(LayoutError, match=f"array '{name}' .* claims to be 1,000,000,000,000,000"):
        client.open_field(store)
    assert any(f"'{name}'" in problem for problem in field_problems(open_group(store)))
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


def test_chunks_that_claim_a_petabyte_are_refused(whole: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(whole, tmp_path / "bomb.zarr"))
    claim(store, "aerial_status", [64, 64], chunk=[10**8, 10**8])
    with pytest.raises(
        LayoutError, match=r"'aerial_status' .* has chunks of 10,000,000,000,000,000"
    ):
        client.open_field(store)


def test_weights_concepts_and_manifest_that_claim_a_petabyte_are_refused(
    whole: Path, tmp_path: Path
) -> None:
    store = Path(shutil.copytree(whole, tmp_path / "bomb.zarr"))
    claim(store, "encoder/rotation", [HUGE, 1], chunk=[HUGE, 1])
    claim(store, "concepts/vectors", [10**6, 10**9], chunk=[10**6, 10**9])
    claim(store, "manifest/aerial_bytes", [HUGE, 1], chunk=[HUGE, 1])
    claim(store, "manifest/objects_keys", [HUGE], chunk=[HUGE])
    with pytest.raises(LayoutError, match=r"rotation is .1000000000000000, 1., expected"):
        load_encoder(store, "field")
    with pytest.raises(LayoutError, match="array 'concepts/vectors' of field claims"):
        load_concepts(store, "field")
    problems = client.open_field(store).verify(level="presence").problems
    assert any("manifest/aerial_bytes' is (1000000000000000, 1)" in one for one in problems)
    assert any("'manifest/objects_keys' cannot be read" in one for one in problems)


@pytest.mark.parametrize("shape", [[10**15, 10**15], [10**9, 32], [0, 32]])
def test_a_grid_larger_than_the_globe_is_refused(
    whole: Path, tmp_path: Path, shape: list[int]
) -> None:
    store = Path(shutil.copytree(whole, tmp_path / "bomb.zarr"))
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"]["unigeo"]["grid"]["shape"] = shape
    (store / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(LayoutError, match="the grid claims"):
        client.open_field(store)


def test_a_catalogue_larger_than_any_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "catalog.json").open("wb") as file:
        file.truncate(DOCUMENT_BYTES + 1)
    with pytest.raises(StoreError, match="at most 67,108,864 are read whole"):
        read_document(tmp_path / "catalog.json")


def test_a_manifest_s_keys_stay_in_the_store(whole: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(whole, tmp_path / "bomb.zarr"))
    (tmp_path / "secret").write_text("x")
    place = store / "manifest/objects_keys/c/0"
    content = place.read_bytes()
    first = content[: content.index(b"\n")]
    evil = b"../secret".ljust(len(first), b"x")
    place.write_bytes(evil + content[len(first) :])
    problems = client.open_field(store).verify().problems
    assert any("which is no key of this store" in problem for problem in problems)


def test_a_link_to_a_raster_is_read_where_the_settings_name_it(tmp_path: Path) -> None:
    """Files of a set may lie anywhere: whoever names them has chosen them."""
    path = tiff(tmp_path / "disk" / "a.tif")
    (tmp_path / "here").mkdir()
    link = tmp_path / "here" / "b.tif"
    link.symlink_to(path)
    assert open_source(link, (1,), None, "b.tif").shape == (8, 8)
