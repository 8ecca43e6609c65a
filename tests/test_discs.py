"""Means over discs: their outlines on the map, their shares of cells, and what `sample` makes."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyproj import Geod, Transformer
from support.commands import done, point_table, refused

from unigeo import client
from unigeo.client.points import disc_means
from unigeo.client.shapes import coverage
from unigeo.client.shapes.coverage import cover, cover_grid
from unigeo.client.shapes.discs import MOST_RADIUS_M, VERTICES, disc_outlines
from unigeo.schemas.errors import PointsError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.tables.points import Points
from unigeo.schemas.tables.table_files import read_table

pytestmark = pytest.mark.filterwarnings("ignore::unigeo.schemas.errors.PointsWarning")

GEOD = Geod(ellps="WGS84")
GLOBE = Grid("EPSG:8857", 400_000.0, row0=-22, col0=-44, shape=(44, 88))
"""All of the map, and cells off the globe round it."""
CASES = [
    ("coordinate", 1.0),
    ("aerial", 5_000.0),
    ("coordinate", 40_000.0),
    ("aerial", 400_000.0),
]
"""Radii within a cell of 80 km, of its size, and over many cells; `aerial` lacks cells."""


def lonlats(count: int, seed: int = 0) -> np.ndarray:
    """Points on the store `gulf` and a little beyond it, in its lake and where aerial lacks."""
    return np.random.default_rng(seed).uniform((-24, -18), (29, 22), (count, 2))


def polygon_of(lonlat: np.ndarray, radius_m: float, crs: str) -> shapely.Polygon:
    """A disc in metres of the map: the regular polygon of the circle's area, by PROJ."""
    turn = 2 * math.pi / VERTICES
    distance = radius_m * math.sqrt(turn / math.sin(turn))
    bearings = np.degrees(turn * np.arange(VERTICES))
    lon, lat, _ = GEOD.fwd(
        *np.repeat(lonlat[:, None], VERTICES, 1), bearings, [distance] * VERTICES
    )
    xy = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(lon, lat)
    return shapely.Polygon(np.stack(xy, axis=-1))


@pytest.mark.parametrize(("modality", "radius_m"), CASES)
def test_means_are_those_of_shapely_and_numpy(gulf: Path, modality: str, radius_m: float) -> None:
    points = lonlats(200)
    found = client.open_field(gulf).sample(points, modality, radius_m=radius_m)
    with xr.open_zarr(gulf, chunks=None) as dataset:
        x, y = np.meshgrid(dataset.x, dataset.y)
        stored = dataset[modality].values.astype(np.float64)
        valid = dataset[f"{modality}_status"].values == 1
    half = (x[0, 1] - x[0, 0]) / 2
    cells = shapely.box(x - half, y - half, x + half, y + half)
    tree = shapely.STRtree(cells.reshape(-1))
    vectors = stored / np.linalg.norm(stored, axis=-1, keepdims=True)
    for number, point in enumerate(points):
        disc = polygon_of(point, radius_m, "EPSG:8857")
        weights = np.zeros(cells.shape)
        near = np.unravel_index(tree.query(disc), cells.shape)
        weights[near] = shapely.area(shapely.intersection(cells[near], disc)) * valid[near]
        row = found.iloc[number]
        total = weights.sum()
        assert row[f"{modality}_share"] == pytest.approx(total / disc.area, abs=1e-6)
        assert (row[f"{modality}_status"] == "valid") == (total > 0)
        mean = row.filter(like=f"{modality}_0").to_numpy(float)
        if total:
            expected = (weights[..., None] * vectors).sum(axis=(0, 1)) / total
            np.testing.assert_allclose(mean, expected, atol=1e-6)
        else:
            assert np.isnan(mean).all()


centres = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@settings(max_examples=60)
@given(centre=centres, radius_m=st.floats(1e5, 6e6))
@example(centre=(180.0, 0.0), radius_m=1e6)
@example(centre=(-180.0, 60.0), radius_m=1e6)
@example(centre=(0.0, 90.0), radius_m=2e6)
@example(centre=(77.0, -90.0), radius_m=5e5)
@example(centre=(179.0, 89.0), radius_m=3e6)
@example(centre=(12.0, 0.0), radius_m=MOST_RADIUS_M)
@example(centre=(0.0, 80.0), radius_m=MOST_RADIUS_M)
def test_a_disc_has_the_area_of_its_circle_wherever_it_lies(
    centre: tuple[float, float], radius_m: float
) -> None:
    # On the sphere of the ellipsoid's area a cap has this area; the ellipsoid differs by 0.7 %.
    outlines = disc_outlines(np.array([centre]), radius_m, GLOBE)
    sphere_m = 6_371_007.2
    area = 2 * math.pi * sphere_m**2 * (1 - math.cos(radius_m / sphere_m))
    found = outlines.area[0] * GLOBE.resolution_m**2
    assert found == pytest.approx(area, rel=0.015)
    shares = sum(part.share.sum() for part in cover_grid(outlines, GLOBE))
    assert shares == pytest.approx(outlines.area[0], rel=1e-6)


@settings(max_examples=40)
@given(centre=centres, radius_m=st.floats(1e5, 6e6))
@example(centre=(180.0, 0.0), radius_m=1e6)
@example(centre=(0.0, 90.0), radius_m=2e6)
def test_cells_are_covered_if_the_disc_reaches_them(
    centre: tuple[float, float], radius_m: float
) -> None:
    shares = np.zeros(GLOBE.shape)
    for part in cover_grid(disc_outlines(np.array([centre]), radius_m, GLOBE), GLOBE):
        shares[part.row, part.col] += part.share
    lonlat = np.random.default_rng(0).uniform((-180, -90), (180, 90), (500, 2))
    row, col = GLOBE.cells(lonlat).T
    starts = np.repeat(np.array(centre)[:, None], len(lonlat), axis=1)
    _, _, distance = GEOD.inv(*starts, *lonlat.T)
    # The long edges of these large discs are straight on the map, and not circles.
    assert (shares[row, col][distance < 0.97 * radius_m] > 0).all()
    assert (shares[row, col][distance > 1.03 * radius_m] < 1).all()


@given(centre=st.tuples(st.floats(-150, 150), st.floats(-80, 80)), radius_m=st.floats(1, 25_000))
@example(centre=(0.0, 80.0), radius_m=4_000.0)
def test_small_discs_are_interpolated_exactly(centre: tuple[float, float], radius_m: float) -> None:
    outlines = disc_outlines(np.array([centre]), radius_m, GLOBE)
    found = (outlines.start[:, ::-1] + (GLOBE.col0, GLOBE.row0)) * GLOBE.resolution_m * (1, -1)
    expected = polygon_of(np.array(centre), radius_m, GLOBE.crs)
    vertices = np.array(expected.exterior.coords)[:-1]
    # A micrometre is the rounding of metres on the map; the rest is the interpolation's error.
    np.testing.assert_allclose(found, vertices, rtol=0, atol=1e-6 + 1e-8 * radius_m)
    # A plane circle's area; the Earth's curvature takes (radius / 6,371 km)^2 / 12 of it.
    area = math.pi * radius_m**2 * (1 - (radius_m / 6.36e6) ** 2 / 12)
    if radius_m > 100:
        assert expected.area == pytest.approx(area, rel=1e-6)


@settings(max_examples=25)
@given(
    lonlat=st.tuples(st.floats(-24, 29), st.floats(-18, 22)),
    radius_m=st.floats(1e-9, 1e-3),
)
def test_a_tiny_disc_has_the_vector_of_its_cell(
    gulf: Path, lonlat: tuple[float, float], radius_m: float
) -> None:
    field = client.open_field(gulf)
    x, y = Transformer.from_crs("OGC:CRS84", field.grid.crs, always_xy=True).transform(*lonlat)
    position = field.grid.position_m(np.array([x]), np.array([y]))
    if np.abs(position - np.rint(position)).min() < 1e-7:
        return  # on an edge the disc lies in two cells
    disc = field.sample([lonlat], radius_m=radius_m)
    nearest = field.sample([lonlat])
    for modality in field.modalities:
        assert disc[f"{modality}_share"].iloc[0] == (
            nearest[f"{modality}_status"].iloc[0] == "valid"
        )
    words = ["coordinate_status", "aerial_status"]
    assert disc[words].astype(str).equals(nearest[words].astype(str))
    columns = [name for name in nearest if name not in words]
    np.testing.assert_allclose(disc[columns], nearest[columns], atol=1e-6)


def test_a_disc_across_the_antimeridian(fiji: Path) -> None:
    field = client.open_field(fiji)
    point = (179.99, -17.5)
    lon, lat, _ = GEOD.fwd(
        *np.repeat(np.array(point)[:, None], 720, 1), np.arange(720) / 2, [150_000] * 720
    )
    ring = shapely.Polygon(np.stack([np.where(lon < 0, lon + 360, lon), lat], axis=-1))
    zonal = field.zonal([ring]).filter(like="_0").to_numpy()
    disc = field.sample([point, (point[0] - 360, point[1])], radius_m=150_000)
    np.testing.assert_allclose(disc.filter(like="_0").to_numpy(), np.repeat(zonal, 2, 0), atol=1e-4)
    assert (disc["coordinate_share"] > 0.999).all()


def test_pieces_of_any_size_give_the_same_means(
    gulf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, points = client.open_field(gulf), lonlats(10)
    once = [field.sample(points, radius_m=radius) for radius in (60_000, 900_000)]
    monkeypatch.setattr(disc_means, "_BATCH", 7)
    monkeypatch.setattr(disc_means, "_MOST_CELLS", 25)
    monkeypatch.setattr(disc_means, "_GROUP", 3)
    monkeypatch.setattr(coverage, "WINDOW_CELLS", 5)
    for radius, expected in zip((60_000, 900_000), once, strict=True):
        words = ["coordinate_status", "aerial_status"]
        found = field.sample(points, radius_m=radius)
        pd.testing.assert_frame_equal(found[words], expected[words])
        np.testing.assert_allclose(
            found.drop(columns=words), expected.drop(columns=words), atol=1e-6
        )


def test_covering_window_by_window_is_covering_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    outlines = disc_outlines(np.array([(10.0, 20.0), (179.0, -50.0), (0.0, 0.0)]), 3e6, GLOBE)
    monkeypatch.setattr(coverage, "WINDOW_CELLS", 4)
    shares = np.zeros((2, 3, *GLOBE.shape))
    parts = [cover(outlines, GLOBE.full_window), cover_grid(outlines, GLOBE)]
    for number, found in enumerate(parts):
        for part in found:
            shares[number, part.polygon, part.row, part.col] += part.share
    np.testing.assert_allclose(shares[1], shares[0], atol=1e-9)


def test_memory_does_not_grow_with_the_discs(gulf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disc_means, "_MOST_CELLS", 64)
    monkeypatch.setattr(coverage, "WINDOW_CELLS", 8)
    modality = client.open_field(gulf).modality("coordinate")
    gather, most = modality.vectors.gather, []

    def counted(rowcol: np.ndarray, *args: Any, **options: Any) -> None:
        most.append(len(rowcol))
        gather(rowcol, *args, **options)

    monkeypatch.setattr(modality.vectors, "gather", counted)
    points = Points(lonlats(40))
    assert disc_means.disc_means(modality, points, 5e6).share.max() > 0
    assert max(most) <= 64


@pytest.mark.parametrize("radius", [0, -1.0, math.nan, math.inf, 2 * MOST_RADIUS_M])
def test_a_radius_is_metres_above_0(gulf: Path, radius: float) -> None:
    with pytest.raises(ValueError, match="radius_m must be metres above 0 and up to 10,000,000"):
        client.sample([(0.0, 0.0)], gulf, radius_m=radius)


@pytest.mark.parametrize(
    "options",
    [{"method": "bilinear"}, {"dtype": "int8"}, {"as_": "xarray", "lazy": True}],
)
def test_what_does_not_go_with_a_radius_is_refused(gulf: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="radius_m averages whole cells"):
        client.open_field(gulf).sample([(0.0, 0.0)], radius_m=1000, **options)


def test_every_form_of_result_is_the_same(gulf: Path) -> None:
    field, points = client.open_field(gulf), np.vstack([lonlats(30), [[np.nan, np.nan]]])
    table = field.sample(points, radius_m=50_000)
    shares, statuses = ["coordinate_share", "aerial_share"], ["coordinate_status", "aerial_status"]
    assert list(table)[16:] == shares + statuses
    assert table["coordinate_status"].iloc[-1] == "no position"
    assert table["coordinate_share"].iloc[-1] == 0
    numpy = field.sample(points, radius_m=50_000, as_="numpy")
    dataset = field.sample(points, radius_m=50_000, as_="xarray")
    plain = xr.open_zarr(gulf, chunks=None).unigeo.sample(points, radius_m=50_000)
    pd.testing.assert_frame_equal(plain, table)
    for modality in field.modalities:
        vectors = table.filter(like=f"{modality}_0").to_numpy()
        np.testing.assert_array_equal(numpy[modality], vectors)
        np.testing.assert_array_equal(dataset[modality], vectors)
        np.testing.assert_array_equal(dataset[f"{modality}_share"], table[f"{modality}_share"])
    batches = list(field.sample_batches(points, batch=10, radius_m=50_000))
    pd.testing.assert_frame_equal(pd.concat(batches, ignore_index=True), table)
    dropped = field.sample(points, radius_m=50_000, missing="drop")
    valid = (table[statuses] == "valid").all(axis=1)
    pd.testing.assert_frame_equal(dropped, table[valid])
    with pytest.raises(PointsError, match="have no coordinate vector"):
        field.sample(points, radius_m=50_000, missing="raise")
    frame = pd.DataFrame(points, columns=["lon", "lat"])
    joined = field.join(frame, radius_m=50_000, prefix="")
    pd.testing.assert_frame_equal(joined, pd.concat([frame, table], axis=1))
    pd.testing.assert_frame_equal(client.join(frame, gulf, radius_m=50_000, prefix=""), joined)


def test_the_commands_average_discs(gulf: Path, tmp_path: Path) -> None:
    table, source, out = point_table(), tmp_path / "points.csv", tmp_path / "out.parquet"
    table.to_csv(source, index=False)
    field = client.open_field(gulf)
    expected = field.join(table, radius_m=60_000)
    done("join", gulf, source, "--radius-m", 60_000, "-o", out)
    found = read_table(str(out))[list(expected)]
    numbers = expected.select_dtypes("number").columns
    np.testing.assert_allclose(found[numbers], expected[numbers], rtol=1e-5, atol=1e-6)
    output = done("sample", gulf, "--at", 2, 3, "--radius-m", 60_000, "--modality", "aerial")
    assert output.splitlines()[0].split(",")[-2:] == ["aerial_share", "aerial_status"]
    assert "goes with neither" in refused(
        "sample", gulf, source, "--radius-m", 10, "--method", "bicubic"
    )
    assert "--radius-m must be metres above 0" in refused("join", gulf, source, "--radius-m", 0)
