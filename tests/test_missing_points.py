"""Where most points have no vector, one warning names the likely cause, or says where both lie."""

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
from pyproj import Transformer
from test_sampling import in_memory

from unigeo import client
from unigeo.client.points.missing_points import warn_of_missing
from unigeo.client.reading.cell_protocol import WindowCells
from unigeo.client.reading.sampling import Modality, read_status
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import Points, read_points

RNG = np.random.default_rng(4)
GULF = RNG.uniform((2, -13), (11, -6), (40, 2))
PATAGONIA = RNG.uniform((-72, -45), (-66, -38), (40, 2))


def warnings_of(url: Path, points: Any, **options: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.sample(points, url, as_="numpy", modalities="coordinate", **options)
    assert all(warning.category is client.PointsWarning for warning in caught)
    return [str(warning.message) for warning in caught]


def test_good_points_and_a_few_bad_ones_do_not_warn(gulf: Path) -> None:
    assert not warnings_of(gulf, GULF)
    assert not warnings_of(gulf, [])
    half = np.concatenate([GULF, GULF + 90])
    assert not warnings_of(gulf, half)
    assert len(warnings_of(gulf, half[1:])) == 1


def patagonia(codes: np.ndarray | None = None) -> Modality:
    """Land only, where no sign and no order of the coordinates is found twice."""
    grid = Grid("EPSG:8858", 20_000.0, 190, 60, (100, 100))
    status = np.full(grid.shape, Status.VALID, np.uint8) if codes is None else codes
    arrays = {"dsm": np.ones((*grid.shape, 8), np.int8), "dsm_status": status}
    return in_memory(arrays, "dsm", grid)


def told_of(points: Any, modality: Modality, crs: Any = None) -> list[str]:
    read = read_points(points, crs, missing="keep")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_missing(read, read_status(modality, read), modality)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        (lambda p: p[:, ::-1], "Longitude and latitude look swapped: exchanged"),
        (lambda p: p * (-1, 1), "The longitudes look as if they had lost their minus sign"),
        (lambda p: p * (1, -1), "The latitudes look as if they had lost their minus sign"),
        (lambda p: p * (-1, -1), "Both coordinates look as if they had lost their minus sign"),
        (lambda p: (p * (-1, 1))[:, ::-1], "swapped, and the longitudes look"),
    ],
)
def test_a_slip_of_degrees_is_named(slip: Any, said: str) -> None:
    assert not told_of(PATAGONIA, patagonia())
    (told,) = told_of(slip(PATAGONIA), patagonia())
    assert told.startswith("40 of 40 points have no vector (40 outside region). ")
    assert said in told
    assert "40 of 40 would lie on the field" in told
    many = np.concatenate([slip(PATAGONIA)] * 30)
    assert "1,000 of 1,000 tried would lie on the field" in told_of(many, patagonia())[0]


@pytest.mark.parametrize(("meant", "named"), [(4326, 3857), (3857, 8857), (8858, 3857)])
def test_another_crs_is_named(meant: int, named: int) -> None:
    xy = np.stack(Transformer.from_crs(4326, meant, always_xy=True).transform(*PATAGONIA.T), -1)
    words = "WGS 84 longitude and latitude" if meant == 4326 else f"EPSG:{meant}"
    frame = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(*xy.T), crs=named)
    for told in (*told_of(xy, patagonia(), named), *told_of(frame, patagonia())):
        assert f"Their numbers look like {words}, not like" in told
        assert "40 of 40 would lie on the field" in told
    (told,) = told_of(xy[:, ::-1], patagonia(), meant) if meant != 4326 else ("look swapped",)
    assert "look swapped" in told


def test_points_in_the_water_of_the_field_warn_where_a_slip_explains_them() -> None:
    status = np.full((100, 100), Status.VALID, np.uint8)
    status[:, 25:] = Status.WATER
    sea = PATAGONIA[np.argsort(PATAGONIA[:, 0])[-10:]]
    assert not told_of(sea, patagonia(status))
    assert told_of(sea * (-1, 1), patagonia())


def test_a_cause_whose_cells_cannot_be_read_is_left_out() -> None:
    class Lost(WindowCells):
        def gather(self, *args: Any, **options: Any) -> None:
            raise StoreError("lost")

    whole = patagonia()
    lost = Lost(lambda rows, cols: np.zeros(0), 1, np.dtype(np.uint8), (32, 32), (8, 8))
    points = Points(PATAGONIA * (-1, 1))
    with pytest.warns(client.PointsWarning, match="They lie between longitudes"):
        warn_of_missing(points, read_status(whole, points), replace(whole, status=lost))


def test_where_nothing_explains_it_both_extents_are_named(gulf: Path) -> None:
    (told,) = warnings_of(gulf, [(100.0, 60.0), (110.0, 65.0)])
    assert "They lie between longitudes 100 and 110 and latitudes 60 and 65; the field" in told


def test_points_without_a_position_are_counted(gulf: Path) -> None:
    table = pd.DataFrame(GULF, columns=["lon", "lat"])
    table.loc[7, "lat"] = None
    told = "1 of 40 points have no position (NaN, null, masked or empty), the first in row 7."
    assert warnings_of(gulf, table) == [told]
    assert warnings_of(gulf, table, missing="drop") == [told]
    with pytest.warns(client.PointsWarning, match="the first in row 7"):
        client.join(table, gulf)
    nowhere = table.assign(lon=np.nan)
    (told,) = warnings_of(gulf, nowhere)
    assert told.startswith("40 of 40 points have no vector (40 no position). 40 of 40 points have")


def test_most_rows_may_lack_a_position_and_the_others_be_right(gulf: Path) -> None:
    points = GULF.copy()
    points[:30] = np.nan
    (told,) = warnings_of(gulf, points)
    assert "30 no position" in told
    assert "look" not in told


def test_batches_warn_once_and_count_rows_from_the_start(gulf: Path) -> None:
    points = np.concatenate([GULF, GULF])
    points[[50, 70]] = np.nan
    with pytest.warns(client.PointsWarning, match="the first in row 50") as caught:
        list(client.open_field(gulf).sample_batches(points, batch=20))
    assert len(caught) == 1


def test_the_warning_shows_the_line_of_the_user(gulf: Path, tmp_path: Path) -> None:
    """As a user meets it: without the checks of annotations that this test run adds."""
    script = tmp_path / "asks.py"
    script.write_text(
        "from unigeo import client\n"
        f"field = client.open_field({str(gulf)!r})\n"
        "field.sample([(100.0, 60.0)])\n"
        f"client.sample([(100.0, 61.0)], {str(gulf)!r})\n"
        "for _ in field.sample_batches([(100.0, 62.0)]): pass\n"
        "import xarray\n"
        f"xarray.open_zarr({str(gulf)!r}).unigeo.sample([(100.0, 63.0)], as_='xarray', lazy=True)\n"
    )
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if "PointsWarning" in line]
    assert [line.split(":")[1] for line in lines] == ["3", "4", "5", "7"]
    assert all(line.startswith(str(script)) for line in lines)


def test_rows_that_are_dropped_leave_the_numbers_of_the_others_in_every_batch(gulf: Path) -> None:
    field = client.open_field(gulf)
    on_land = field.sample(field.grid.centres().reshape(-1, 2), "coordinate", missing="drop").index
    land = field.grid.centres().reshape(-1, 2)[on_land[:3]]
    points = np.stack([land[0], [170.0, -60.0], land[1], land[2]])
    batches = field.sample_batches(points, "coordinate", batch=2, missing="drop")
    assert [batch.index.tolist() for batch in batches] == [[0], [2, 3]]
