"""A store that lacks any of its objects, or has it cut short, never gives another answer."""

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import stores

from unigeo import client
from unigeo.client.areas.subset import cut_field
from unigeo.client.field.opening import open_field
from unigeo.client.probing.probe import Probe
from unigeo.producer.publishing.concepts import ConceptVectors
from unigeo.producer.publishing.publish import publish
from unigeo.schemas.errors import UnigeoError
from unigeo.schemas.store.quantization import quantize

LONLAT = np.random.default_rng(3).uniform((-18, -13), (14, 16), (120, 2))
BOX = (-16.0, -12.0, 14.0, 15.0)
PLACE = (-10.0, 3.0)
ENCODER = {"kind": "fourier", "width": 2, "depth": 0, "heads": 1, "mlp_ratio": 1.0,
           "sigmas": [1.0], "registers": 0, "scale_embedding": False, "features": "plane",
           "dimension": 8}  # fmt: skip
WEIGHTS = {
    "rotation": np.eye(8, dtype=np.float32),
    "frequencies": np.ones((1, 2, 1)),
    "perceptrons.0.head.weight": np.ones((8, 2), np.float32),
    "perceptrons.0.head.bias": np.zeros(8, np.float32),
}
Case = Callable[[client.Field, Path], Any]
_number = itertools.count()


def fresh(folder: Path, ending: str) -> Path:
    return folder / f"{next(_number)}{ending}"


def raster(path: Path) -> Any:
    import rasterio

    with rasterio.open(path) as dataset:
        return dataset.read()


def stored(path: Path) -> xr.Dataset:
    with xr.open_zarr(path, chunks=None) as dataset:
        return dataset.load()


def drawn(paths: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


def lazily(field: client.Field, _: Path) -> Any:
    return field.sample(LONLAT, as_="xarray", lazy=True).compute()


def pieces(field: client.Field, _: Path) -> Any:
    return [(p.stored["aerial"], p.status["aerial"]) for p in field.iter_region(BOX, "aerial")]


def geotiff(field: client.Field, folder: Path) -> Any:
    return raster(field.to_geotiff(fresh(folder, ".tif"), BOX, "aerial", bands=[0, 7]))


def heights() -> pd.DataFrame:
    vectors, _ = stores.encoder()("coordinate", LONLAT)
    return pd.DataFrame({"lon": LONLAT[:, 0], "lat": LONLAT[:, 1], "height": vectors[:, 0]})


def probed(field: client.Field, _: Path) -> Any:
    return field.probe(heights(), "height", "coordinate", baselines=False, block_km=200).scores


def labelled(field: client.Field, _: Path) -> Any:
    return field.label(heights(), "height", "aerial").map()


def plotted(field: client.Field, _: Path) -> Any:
    axes = MagicMock()
    field.plot("aerial", ax=axes)
    return axes.imshow.call_args.args[0]


READERS: dict[str, Case] = {
    "cite": lambda field, _: field.cite(),
    "concepts": lambda field, _: field.concepts.vectors,
    "covariates": lambda field, _: field.covariates,
    "coverage": lambda field, _: [str(field.coverage()), field.coverage(BOX)],
    "dataset": lambda field, _: field.dataset().compute(),
    "encode": lambda field, _: field.encode(LONLAT),
    "encoder": lambda field, _: list(field.encoder.weights.values()),
    "features": lambda field, _: field.features(LONLAT),
    "info": lambda field, _: {**field.info(), "url": ""},
    "iter_region": pieces,
    "join": lambda field, _: field.join(pd.DataFrame(LONLAT, columns=["lon", "lat"])),
    "label": labelled,
    "modality": lambda field, _: field.modality("aerial").grid,
    "plan": lambda field, _: field.plan(LONLAT).requests,
    "plot": plotted,
    "preview": lambda field, folder: drawn(field.preview(fresh(folder, ""), ["aerial"])),
    "probe": probed,
    "region": lambda field, _: field.region(BOX, mask=True).compute(),
    "leading": lambda field, _: field.leading(3).sample(LONLAT, "aerial"),
    "sample": lambda field, _: [
        *(field.sample(LONLAT, method=method) for method in ("nearest", "bicubic")),
        field.sample(LONLAT, radius_m=90_000),
    ],
    "sample_batches": lambda field, _: list(field.sample_batches(LONLAT, batch=50)),
    "search": lambda field, _: [field.search("marsh"), field.search("marsh", as_="map")],
    "similar": lambda field, _: field.similar(PLACE, "aerial", apart_km=50),
    "similarity": lambda field, _: field.similarity(PLACE, "aerial", region=BOX),
    "suggest": lambda field, _: field.suggest(field.label(heights(), "height", "aerial"), 3),
    "to_geotiff": geotiff,
    "verify": lambda field, _: verified(field),
    "zonal": lambda field, _: [field.zonal(BOX), field.zonal(BOX, stats=("std", "quantile:0.5"))],
}
"""Every public verb of a field that may read its store."""
KNOWN_WITHOUT_READING = {
    "attributes", "bands", "cells", "checked", "chosen", "citation", "default_modalities",
    "explore", "grid", "known_source", "known_store", "layout", "licence", "modalities", "opened",
    "read", "reopen", "source", "url",
}  # fmt: skip
OTHERS: dict[str, Case] = {
    "lazy sample": lazily,
    "cut": lambda field, folder: stores.tree(cut_field(field, fresh(folder, ".zarr"), BOX)),
    "overview": lambda field, _: [
        (coarse := open_field(field.source, overview=2)).sample(LONLAT),
        coarse.region(BOX).compute(),
        str(coarse.coverage()),
    ],
    "dask": lambda field, folder: by_xarray(opened(field), folder),
    "xarray": lambda field, folder: by_xarray(opened(field, chunks=None), folder),
    "dask window": lambda field, folder: by_xarray(
        opened(field).isel(y=slice(5, 60)), folder, region=False
    ),
    "window": lambda field, folder: by_xarray(
        opened(field, chunks=None).isel(y=slice(5, 60)), folder
    ),
}
"""Other ways to read one."""


def verified(field: client.Field) -> str:
    report = field.verify()
    if not report.ok:
        raise UnigeoError("; ".join(report.problems))
    return str(report)


class PlainXarrayError(Exception):
    """xarray could not open the store by itself."""


def opened(field: client.Field, **options: Any) -> xr.Dataset:
    try:
        return xr.open_zarr(field.source, **options)
    except Exception as error:
        raise PlainXarrayError from error


def by_xarray(dataset: xr.Dataset, folder: Path, region: bool = True) -> Any:
    """Verbs on a Dataset that plain xarray opened, which itself reads a lost object as empty.

    A region of a window in dask's hands is the window, which only xarray reads.
    """
    field = dataset.unigeo
    return [
        field.sample(LONLAT),
        pieces(field, folder),
        str(field.coverage()),
        field.region(BOX).compute() if region else None,
        lazily(field, folder),
        field.similarity(PLACE, "aerial", region=BOX),
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "field.zarr"
    group, grid, layout = stores.begin(path)
    stores.fill(group, grid, layout)
    vectors, _ = stores.encoder()("aerial", np.array([(-3.0, -5.0)]))
    concepts = ConceptVectors(("marsh",), quantize(vectors))
    publish(group, encoder=WEIGHTS, encoder_settings=ENCODER, concepts=concepts)
    return path


@pytest.fixture(scope="module")
def copy(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(whole, tmp_path_factory.mktemp("copy") / "field.zarr"))


@pytest.fixture(scope="module")
def probe(whole: Path) -> Probe:
    vectors, _ = stores.encoder()("aerial", LONLAT)
    table = pd.DataFrame({"lon": LONLAT[:, 0], "lat": LONLAT[:, 1], "height": vectors[:, 0]})
    return open_field(whole).probe(table, "height", "aerial", baselines=False, block_km=200)


@pytest.fixture(scope="module")
def cases(probe: Probe) -> dict[str, Case]:
    def of(field: client.Field) -> Probe:
        return dataclasses.replace(probe, field=field)

    def as_zarr(field: client.Field, folder: Path) -> Any:
        path = fresh(folder, ".zarr")
        of(field).to_zarr(path, region=BOX)
        return stored(path)

    maps: dict[str, Case] = {
        "probe.map": lambda field, _: of(field).map(region=BOX).compute(),
        "probe.predict": lambda field, _: of(field).predict(LONLAT),
        "probe.to_geotiff": lambda field, folder: raster(
            of(field).to_geotiff(fresh(folder, ".tif"), region=BOX)
        ),
        "probe.to_zarr": as_zarr,
    }
    return READERS | OTHERS | maps


@pytest.fixture(scope="module")
def right(
    whole: Path, cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("right")
    return {name: case(open_field(whole), folder) for name, case in cases.items()}


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, rtol=1e-5)
    elif isinstance(expected, xr.Dataset | xr.DataArray):
        xr.testing.assert_allclose(found, expected)
    elif isinstance(expected, np.ndarray):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


def objects() -> st.SearchStrategy[float]:
    """Where in the sorted list of a store's objects one stands."""
    return st.floats(0, 1, exclude_max=True)


@contextmanager
def put_aside(path: Path, left: bytes | None) -> Iterator[None]:
    """Let an object be missing, or be less than it was; put it back as it was."""
    aside = path.with_name(path.name + ".aside")
    path.replace(aside)
    if left is not None:
        path.write_bytes(left)
    try:
        yield
    finally:
        aside.replace(path)


def check(
    name: str, copy: Path, cases: dict[str, Case], right: dict[str, Any], folder: Path
) -> None:
    """Every reader gives what it gives of the whole store, or an error that names the object."""
    for verb, case in cases.items():
        before = set(folder.iterdir())
        try:
            found = case(open_field(copy), folder)
        except PlainXarrayError:
            pass
        except UnigeoError as error:
            assert name in str(error), f"{verb}: {error}"
            left = {path for path in set(folder.iterdir()) - before if not path.is_dir()}
            assert not left, f"{verb} left {left}"
            assert not list(folder.glob("*.zarr.partial")) and not list(folder.glob("*.partial*"))
        else:
            assert_same(found, right[verb])


SEARCHED = settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = ("aerial/c/0/1/0", "aerial_status/c/1/0", "coordinate_status/c/0/0", "x/c/0",
         "manifest/aerial_bytes/c/0/0", "manifest/objects_keys/c/0", "encoder/rotation/c/0/0",
         "concepts/vectors/c/0/0", "overviews/2/aerial/c/0/1/0", "overviews/2/aerial_status/c/0/1",
         "preview/1/aerial/c/0/0/1", "zarr.json", "aerial/zarr.json", "spatial_ref/c",
         "band/c/0")  # fmt: skip


def names(store: Path) -> list[str]:
    return [
        path.relative_to(store).as_posix() for path in sorted(store.rglob("*")) if path.is_file()
    ]


def test_every_verb_of_a_field_has_its_case() -> None:
    public = {name for name in dir(client.Field) if not name.startswith("_")}
    public |= {field.name for field in dataclasses.fields(client.Field)}
    assert public == set(READERS) | KNOWN_WITHOUT_READING


@pytest.mark.parametrize(
    ("name", "left"),
    [*(pytest.param(name, (None, 0.6)[number % 2], marks=pytest.mark.slow if number % 6 else ())
       for number, name in enumerate(KINDS)),
     (KINDS[0], 0.0), (KINDS[1], None), ("manifest/root_attributes/zarr.json", 0.0)],
)  # fmt: skip
def test_an_object_of_each_kind_is_missed_by_name(
    name: str,
    left: float | None,
    copy: Path,
    cases: dict[str, Case],
    right: dict[str, Any],
    tmp_path: Path,
) -> None:
    content = (copy / name).read_bytes()
    cut = None if left is None else content[: int(left * len(content))]
    with put_aside(copy / name, cut):
        check(name, copy, cases, right, tmp_path)


@SEARCHED
@given(where=objects(), share=st.one_of(st.none(), st.floats(0, 1, exclude_max=True)))
@pytest.mark.slow
def test_any_object_is_missed_by_name_or_not_at_all(
    where: float,
    share: float | None,
    copy: Path,
    cases: dict[str, Case],
    right: dict[str, Any],
    tmp_path: Path,
) -> None:
    every = names(copy)
    name = every[int(where * len(every))]
    content = (copy / name).read_bytes()
    cut = None if share is None else content[: int(share * len(content))]
    with put_aside(copy / name, cut):
        check(name, copy, cases, right, tmp_path)
