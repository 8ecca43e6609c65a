"""The open observations that come with the producer, and which observations a run takes."""

import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from unigeo.producer.commands.cli import produce
from unigeo.producer.observations.open_conus import DESCRIPTION, EXTENT, FOLDER, NAME
from unigeo.producer.observations.open_named import included_observations, open_named
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.geo.region_forms import read_region

DENVER = (-104.99, 39.74)


def test_the_files_are_those_that_are_described_and_small() -> None:
    files = json.loads((FOLDER / "files.json").read_text())
    sizes = {name: (FOLDER / name).stat().st_size for name in files}
    assert sizes == {name: about["bytes"] for name, about in files.items()}
    assert sum(sizes.values()) <= 10e6
    for name, about in files.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == about["sha256"], name
        assert f"`{name}`" in (FOLDER / "datasheet.md").read_text()


def test_every_view_of_a_city_is_there_and_says_what_is_known_of_it() -> None:
    observations = open_named(str(DESCRIPTION), None)
    assert observations.name == NAME
    lonlat = np.array([DENVER])
    patches = {
        name: observations.patches(name, lonlat)
        for name in ("aerial", "nightlights", "dsm", "greenness", "seasons", "soil", "landcover")
    }
    assert all(patch.valid.all() for patch in patches.values())
    near, wide = patches["dsm"].values[0]
    assert 1_550 < near[15:17, 15:17].mean() < 1_750  # the city lies at 1,609 m
    assert wide.max() > 3_500  # the Front Range is in the wide view
    assert patches["nightlights"].values[0, 0].max() > 200


def test_an_install_of_symbolic_links_opens(tmp_path: Path) -> None:
    """A strict editable install links each file where it cannot make hard links."""
    for file in FOLDER.iterdir():
        (tmp_path / file.name).symlink_to(file)
    linked = runpy.run_path(str(tmp_path / "__init__.py"))
    assert open_named(str(linked["DESCRIPTION"]), None).name == NAME


@pytest.mark.parametrize(("region", "inside"), [("conus", True), ("amsterdam", False)])
def test_they_serve_what_they_cover(region: str, inside: bool) -> None:
    shape = read_region(region, None)
    if inside:
        assert included_observations(shape) == str(DESCRIPTION)
        return
    with pytest.raises(ObservationsError, match=r"amsterdam reaches from 4\.73 .*--observations"):
        included_observations(shape)
    result = CliRunner().invoke(produce, ["--region", region, "--dry-run"])
    assert f"{EXTENT[0]:g} to {EXTENT[2]:g}" in str(result.exception)
