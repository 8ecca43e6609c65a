"""The leading numbers of stored vectors are read as if they were all there is."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from support import stores
from support.commands import done, refused

from unigeo import client
from unigeo.client import Field
from unigeo.schemas.errors import LayoutError

POINTS = np.array([[-7.0, 5.5], [6.2, -6.1]])


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Field:
    path = tmp_path_factory.mktemp("leading") / "gulf.zarr"
    stores.build(path)
    return client.open_field(path)


def on_field(field: Field, count: int = 60) -> np.ndarray:
    """Centres of cells that have vectors."""
    status = field.read("coordinate_status", slice(None), slice(None))
    row, col = np.nonzero(status == 1)
    chosen = np.random.default_rng(0).choice(len(row), count)
    return field.grid.centres()[row[chosen], col[chosen]]


def shortened(stored: np.ndarray, dims: int) -> np.ndarray:
    """Unit vectors of the leading stored numbers, in float64."""
    kept = stored[..., :dims].astype(np.float64)
    return kept / np.linalg.norm(kept, axis=-1, keepdims=True)


@given(st.integers(2, 8))
def test_a_sample_is_of_the_leading_numbers_at_unit_length(field: Field, dims: int) -> None:
    points = on_field(field)
    stored = field.sample(points, dtype="int8", as_="numpy")
    for modality, values in field.sample(points, dims=dims, as_="numpy").items():
        assert values.shape == (len(points), dims)
        there = stored[modality][:, 0] != -128
        assert np.isnan(values[~there]).all() and there.any()
        assert np.allclose(values[there], shortened(stored[modality][there], dims), atol=1e-6)
    table = field.sample(points, "aerial", dims=dims)
    assert [name for name in table if name.startswith("aerial_0")] == [
        f"aerial_{k:03d}" for k in range(dims)
    ]


def test_means_are_of_shortened_vectors(field: Field) -> None:
    """Vectors have unit length before they are averaged, by interpolation or over an area."""
    short = field.leading(3)
    box = (-8.0, -8.0, 8.0, 8.0)
    mean = short.zonal([shapely.box(*box)], "aerial").filter(regex=r"aerial_\d").to_numpy()[0]
    full = field.zonal([shapely.box(*box)], "aerial").filter(regex=r"aerial_\d").to_numpy()[0]
    assert mean.shape == (3,) and full.shape == (8,)
    inside = on_field(field, 400)
    inside = inside[((inside > box[:2]) & (inside < box[2:])).all(axis=1)]
    stored = field.sample(inside, "aerial", dtype="int8", as_="numpy")["aerial"]
    units = shortened(stored[stored[:, 0] != -128], 3)
    assert np.allclose(mean, units.mean(axis=0), atol=0.35)  # of cells drawn there
    assert not np.allclose(mean, full[:3], atol=1e-3)
    between = short.sample(on_field(field, 20) + 0.01, method="bilinear", as_="numpy")["aerial"]
    assert between.shape == (20, 3) and not (np.linalg.norm(between, axis=1) > 1 + 1e-6).any()


def test_everything_of_a_field_reads_its_leading_numbers(field: Field) -> None:
    short = field.leading(2)
    assert short.bands == 2 and short.layout.width("aerial") == 2
    assert short.dataset().sizes["band"] == 2
    points = on_field(field)
    again = pickle.loads(pickle.dumps(short))
    read = short.sample(points, as_="numpy")["aerial"]
    assert np.array_equal(again.sample(points, as_="numpy")["aerial"], read, equal_nan=True)
    assert np.array_equal(field.sample(points, dims=2, as_="numpy")["aerial"], read, equal_nan=True)
    seen = points[np.isfinite(read).all(axis=1)]
    best = short.similar(seen[0], "aerial", count=1)
    assert best["similarity"].iloc[0] == pytest.approx(1, abs=1e-5)
    table = pd.DataFrame(points, columns=["lon", "lat"])
    assert [n for n in field.join(table, "aerial", dims=2) if n.startswith("ug_")] == [
        "ug_aerial_000", "ug_aerial_001", "ug_aerial_status",
    ]  # fmt: skip
    assert field.bands == 8 and field.leading(8) is field


@pytest.mark.parametrize("dims", [0, -1, 9])
def test_other_numbers_are_refused(field: Field, dims: int) -> None:
    with pytest.raises(LayoutError, match="dims is a whole number from 1 to 8"):
        field.sample(POINTS, dims=dims)


def test_the_commands_take_dims(field: Field, tmp_path: Path) -> None:
    points = tmp_path / "points.csv"
    pd.DataFrame(on_field(field, 5), columns=["lon", "lat"]).to_csv(points, index=False)
    out = tmp_path / "out.csv"
    done("join", field.url, points, "--modality", "aerial", "--dims", 3, "-o", out)
    names = [name for name in pd.read_csv(out) if name.startswith("ug_aerial_0")]
    assert names == ["ug_aerial_000", "ug_aerial_001", "ug_aerial_002"]
    assert "1 to 8" in refused("sample", field.url, points, "--dims", 9)
