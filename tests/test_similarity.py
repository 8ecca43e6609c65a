from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rioxarray  # noqa: F401
import xarray as xr

from unigeo import client
from unigeo.client.field.similarity import check_choice
from unigeo.schemas.errors import LayoutError, PointsError

HOME = (-10.0, 3.0)


def distance_km(lonlat: np.ndarray, other: np.ndarray) -> np.ndarray:
    (lon, lat), (lon0, lat0) = np.radians(lonlat.T), np.radians(other)
    cosine = np.sin(lat) * np.sin(lat0) + np.cos(lat) * np.cos(lat0) * np.cos(lon - lon0)
    return 6371.0088 * np.arccos(np.clip(cosine, -1, 1))


def test_the_map_is_the_cosine_of_every_cell(gulf: Path) -> None:
    field = client.open_field(gulf)
    scores = field.similarity(HOME, "aerial")
    stored = xr.open_zarr(gulf, chunks=None)
    vectors = stored["aerial"].values.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors[stored["aerial_status"].values != 1] = np.nan
    home = field.sample([HOME], "aerial", as_="numpy")["aerial"][0]
    assert np.allclose(scores, vectors @ home, atol=1e-6, equal_nan=True)
    assert np.array_equal(scores["x"], stored["x"])
    assert scores.rio.crs is not None


def test_the_point_itself_comes_first(gulf: Path) -> None:
    field = client.open_field(gulf)
    found = field.similar(HOME, "coordinate", count=5)
    assert found["similarity"].is_monotonic_decreasing
    assert found["similarity"][0] == pytest.approx(1, abs=1e-6)
    home = field.grid.cells(np.array([HOME]))
    assert np.array_equal(field.grid.cells(found[["lon", "lat"]].to_numpy()[:1]), home)
    vector = field.sample([HOME], "coordinate", as_="numpy")["coordinate"][0]
    pd.testing.assert_frame_equal(field.similar(vector, "coordinate", count=5), found)


@pytest.mark.parametrize(("store", "place"), [("gulf", HOME), ("fiji", (179.9, -17.0))])
def test_cells_lie_apart_and_none_better_was_passed_over(
    store: str, place: tuple[float, float], request: pytest.FixtureRequest
) -> None:
    """As by comparing every cell with every one chosen so far; across the antimeridian too."""
    field = client.open_field(request.getfixturevalue(store))
    apart = 3 * field.grid.resolution_m / 1000
    found = field.similar(place, "coordinate", count=6, apart_km=apart)
    scores = field.similarity(place, "coordinate").values.ravel()
    centres = field.grid.centres().reshape(-1, 2)
    left = ~np.isnan(scores)
    for lon, lat, score in found.to_numpy():
        chosen = np.hypot(*(centres - (lon, lat)).T).argmin()
        assert np.allclose(centres[chosen], (lon, lat)) and left[chosen]
        assert scores[chosen] == pytest.approx(score)
        assert scores[left].max() == pytest.approx(score)  # cells alike differ by rounding
        left &= ~(distance_km(centres, centres[chosen]) < apart)


def test_only_the_region_is_looked_at(gulf: Path) -> None:
    field = client.open_field(gulf)
    box = (-5.0, -5.0, 4.0, 4.0)
    found = field.similar(HOME, "aerial", count=20, region=box)
    assert len(found) == 20
    assert found["lon"].between(-5, 4).all()
    assert found["lat"].between(-5, 4).all()
    assert found["similarity"].max() < 1
    many = field.similar([HOME, (3.0, -4.0)], "aerial", region=box)
    assert len(many) == 10


def test_bad_queries_are_named(gulf: Path) -> None:
    field = client.open_field(gulf)
    with pytest.raises(LayoutError, match="name one modality of coordinate, aerial"):
        field.similar(HOME)
    with pytest.raises(PointsError, match=r"no aerial vector \(1 water\)"):
        field.similar((5.0, 5.0), "aerial")
    with pytest.raises(
        PointsError, match=r"1 of 2 places .*\(1 outside region\), the first in row 1"
    ):
        field.similar([HOME, (100.0, 3.0)], "aerial")
    with pytest.raises(PointsError, match="1 no position"):
        field.similarity((np.nan, 3.0), "aerial")
    with pytest.raises(PointsError, match=r"neither a vector of 8 numbers nor places: .* shape"):
        field.similar(np.ones(7), "aerial")
    with pytest.raises(PointsError, match="not complex numbers"):
        field.similar(np.ones(8, complex), "aerial")
    with pytest.raises(PointsError, match="no direction"):
        field.similar(np.zeros(8), "aerial")
    with pytest.raises(ValueError, match="count must be a whole number from 1 on, not 0"):
        field.similar(HOME, "aerial", count=0)
    with pytest.raises(ValueError, match="apart_km must be a distance of 0 km or more, not nan"):
        field.similar(HOME, "aerial", apart_km=np.nan)
    for count, apart_km in ((2.5, 0), (True, 0), (np.nan, 0), ("3", 0), (3, -1), (3, "1")):
        with pytest.raises(ValueError, match="must be a"):
            check_choice(count, apart_km)


def test_a_vector_may_be_a_row_of_a_table_or_of_a_dataset(gulf: Path) -> None:
    field = client.open_field(gulf)
    expected = field.similar(HOME, "aerial", count=3)
    row = field.sample([HOME], "aerial").iloc[0, :8]
    one = field.sample([HOME], "aerial", as_="xarray")["aerial"][0]
    for vector in (row, row.to_numpy(), one, list(row)):
        pd.testing.assert_frame_equal(field.similar(vector, "aerial", count=3), expected)
