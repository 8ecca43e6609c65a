"""A point without a vector is read at the nearest cell that has one, and the distance is said."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.commands import done, run

from unigeo.client.field.opening import open_field
from unigeo.schemas.geo.great_circle import great_circle_m
from unigeo.schemas.geo.grid import from_wgs84
from unigeo.schemas.store.status import Status

SNAP_KM = 60.0


@pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.PointsWarning")
@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["nearest", "bilinear"]))
def test_no_cell_with_a_vector_is_nearer(gulf: Path, seed: int, method: str) -> None:
    field = open_field(gulf)
    points = np.random.default_rng(seed).uniform(0, 10, (40, 2))  # a lake, and land round it
    found = field.sample(points, "aerial", method=method, snap_km=SNAP_KM)
    plain = field.sample(points, "aerial", method=method)
    status = field.read("aerial_status", slice(None), slice(None))
    centres = field.grid.centres()[status == Status.VALID]
    cells = field.sample(centres, "aerial")
    project = from_wgs84(field.grid.crs).transform
    middle, half = np.stack(project(*centres.T), axis=-1), field.grid.resolution_m / 2
    for row, point in enumerate(points):
        moved = found["aerial_snap_km"].iloc[row]
        within = np.clip(np.array(project(*point)), middle - half, middle + half)
        border = np.stack(project(*within.T, direction="INVERSE"), axis=-1)
        distance = great_circle_m(border, point) / 1000.0
        if plain["aerial_status"].iloc[row] == "valid":
            assert moved == 0
            assert found.iloc[row, :8].equals(plain.iloc[row, :8])
        elif distance.min() > SNAP_KM:
            assert np.isnan(moved)
            assert found["aerial_status"].iloc[row] == plain["aerial_status"].iloc[row]
        else:
            assert moved == pytest.approx(distance.min(), rel=1e-6)
            nearest = np.flatnonzero(distance <= distance.min() * (1 + 1e-6))
            own = found.iloc[row, :8].to_numpy(float)
            at = cells.iloc[nearest, :8].to_numpy(float)
            assert np.abs(at - own).max(axis=1).min() < 1e-5
            assert found["aerial_status"].iloc[row] == "valid"


@pytest.mark.filterwarnings("ignore:1 of 4 points have no position")
def test_every_form_of_result_says_how_far(gulf: Path) -> None:
    field = open_field(gulf)
    table = pd.DataFrame(
        {"lon": [5.0, 3.0, 1.2, np.nan], "lat": [5.0, 3.0, 1.0, 2.0]}, index=[*"abcd"]
    )
    joined = field.join(table, "aerial", snap_km=400)
    assert joined["ug_aerial_status"].tolist() == ["valid", "valid", "valid", "no position"]
    moved = joined["ug_aerial_snap_km"]
    assert (moved[["a", "b"]] > 0).all() and moved["c"] == 0 and np.isnan(moved["d"])
    dataset = field.sample(table, snap_km=400, as_="xarray")
    np.testing.assert_array_equal(dataset["aerial_snap_km"], moved)
    assert dataset["lon"].values[0] == 5.0
    stored = field.sample(table, "aerial", snap_km=400, as_="numpy", dtype="int8")["aerial"]
    assert (stored[:3] != -128).all()
    kept = field.join(table, "aerial", snap_km=400, missing="drop")
    assert kept.index.tolist() == [*"abc"]
    text = done("join", gulf, "-", "--snap-km", 400, "--modality", "aerial", stdin=table.to_csv())
    np.testing.assert_allclose(pd.read_csv(io.StringIO(text))["ug_aerial_snap_km"], moved)


def test_what_does_not_go_together_is_refused(gulf: Path) -> None:
    field = open_field(gulf)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="snap_km must be a distance in kilometres"):
            field.sample([(5, 5)], snap_km=wrong)
    for options in ({"radius_m": 10.0}, {"lazy": True, "as_": "xarray"}):
        with pytest.raises(ValueError, match="snap_km moves points"):
            field.sample([(5, 5)], snap_km=1.0, **options)
    result = run("sample", gulf, "--at", 5, 5, "--snap-km", 9, "--radius-m", 9)
    assert "does not go with --snap-km" in result.stderr
