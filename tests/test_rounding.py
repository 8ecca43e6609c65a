"""What stays the same on other kernels: vectors within rounding, stored numbers within one step."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import rounding
import xarray as xr
from support.children import child

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.encoders.saved_models import save_model
from unigeo.producer.observations.forms import default_forms
from unigeo.producer.observations.synthetic.world import World

PRODUCE = """
import sys
from functools import partial
from pathlib import Path

from support import stores
import torch

from unigeo.producer.encoders.saved_models import load_model
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.raster.encoding import encoder_of
from unigeo.producer.raster.local_executor import rasterize
from unigeo.producer.raster.raster_job import Equipment
from unigeo.producer.storage.field_store import create_field
from unigeo.schemas.store.layout import Layout
from unigeo.schemas.geo.regions import region_of_bbox

url, model = sys.argv[1:]
model = load_model(Path(model))[0]
region = region_of_bbox((-106.0, 38.0, -102.0, 41.0), "denver")
modalities, bands = ("coordinate", "aerial", "dsm"), model.settings.dimension
layout = Layout(modalities=modalities, bands=bands, shard=8, chunk=4)
grid = region.grid(20_000, layout.shard)
world = World()
group = create_field(url, grid, layout, stores.attributes_of(region, grid, layout))
encoder = encoder_of(model, world, torch.device("cpu"))
opened = partial(Equipment, encoder, world.land)
job = stores.job_of(url, grid, layout, encoder, region, open_equipment=opened, batch=2048)
rasterize(group, stores.opened(job), progress=False)
"""


def test_files_without_products_are_there() -> None:
    """A name that is no longer there may have become that of a file with products."""
    names = {path.stem.removeprefix("test_") for path in rounding.HERE.glob("test_*.py")}
    assert set(rounding.NO_PRODUCTS) <= names


@pytest.mark.slow
def test_another_kernel_is_found_and_takes() -> None:
    mine, foreign = rounding.told(rounding.ASK, {}), rounding.told(rounding.ASK, rounding.foreign())
    assert mine and foreign
    if "OPENBLAS_CORETYPE" in rounding.foreign():
        assert mine != foreign


@pytest.mark.slow
def test_across_kernels_a_stored_number_differs_by_one_step_at_most(tmp_path: Path) -> None:
    """The promise of docs/production.md for machines that are not alike."""
    shapes = {name: World().shape(name) for name in ("aerial", "dsm")}
    save_model(UniGeoCLIP(tiny(default_forms(shapes, text=False))), None, tmp_path / "model")
    settings = [{}, rounding.foreign(), {"OMP_NUM_THREADS": "2"}, {}]
    here = {"PYTHONPATH": os.pathsep.join([str(rounding.HERE), os.environ.get("PYTHONPATH", "")])}
    found = []
    for number, chosen in enumerate(settings):
        url = tmp_path / f"{number}.zarr"
        environment = rounding.own() | {"OMP_NUM_THREADS": "1"} | here | chosen
        with child(
            [sys.executable, "-c", PRODUCE, url, tmp_path / "model"], env=environment
        ) as process:
            assert process.wait() == 0
        found.append(xr.open_zarr(url, consolidated=False).load())
    first, *others, again = found
    xr.testing.assert_identical(first, again)  # on one machine, of the same settings
    for other in others:
        for name in ("coordinate", "aerial", "dsm"):
            ours, theirs = (one[name].values.astype(np.int64) for one in (first, other))
            assert (first[f"{name}_status"] == other[f"{name}_status"]).all()
            off = np.abs(ours - theirs)
            assert off.max() <= 1 and (off > 0).mean() < 0.01, name
            valid = first[f"{name}_status"].values == 1
            one, two = ours[valid], theirs[valid]
            cosine = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
            assert valid.any() and cosine.min() > 0.9999, name
