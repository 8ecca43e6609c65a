"""A map of a few labels: ridge that is the textbook's, honest about what it does not know."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from unigeo import client
from unigeo.client.areas.polygons import read_polygons
from unigeo.client.field.label_rows import (
    MOST_CELLS,
    cells_within,
    chosen_cells,
    read_label_rows,
)
from unigeo.client.probing.label_ridge import LEAST_LABELS, PENALTIES, block_score, fit_labels
from unigeo.schemas.errors import ProbeError

RNG = np.random.default_rng(0)


def problem(labels: int, bands: int, outputs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(labels, bands))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, rng.normal(size=(labels, outputs))


@given(labels=st.integers(3, 30), bands=st.integers(2, 12), seed=st.integers(0, 99))
def test_weights_solve_the_normal_equations(labels: int, bands: int, seed: int) -> None:
    """Ridge with an intercept of its own column, which has no penalty, as scikit-learn's."""
    vectors, targets = problem(labels, bands, 2, seed)
    ridge = fit_labels(vectors, targets)
    design = np.column_stack([vectors, np.ones(labels)])
    penalties = np.diag([ridge.penalty] * bands + [0.0])
    solved = np.linalg.solve(design.T @ design + penalties, design.T @ targets)
    np.testing.assert_allclose(ridge.weights, solved[:-1], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        ridge.predict(np.zeros((1, bands)))[0], solved[-1], rtol=1e-6, atol=1e-8
    )


@given(seed=st.integers(0, 99))
def test_the_penalty_makes_the_labels_most_likely(seed: int) -> None:
    """Of contrasts, which no intercept changes: they are normal with a known covariance."""
    vectors, targets = problem(9, 4, 1, seed)
    ridge = fit_labels(vectors, targets)
    contrasts = np.linalg.qr(np.column_stack([np.ones(9), np.eye(9)[:, 1:]]))[0][:, 1:]
    free = contrasts.T @ targets[:, 0]
    prior = contrasts.T @ vectors @ vectors.T @ contrasts

    def likelihood(penalty: float) -> tuple[float, float]:
        covariance = prior / penalty + np.eye(8)
        variance = free @ np.linalg.solve(covariance, free) / 8
        whole = variance * covariance
        exponent = free @ np.linalg.solve(whole, free)
        return float(-0.5 * (np.linalg.slogdet(whole).logabsdet + exponent)), float(variance)

    scale = np.var(vectors, axis=0).sum()
    assert any(ridge.penalty == pytest.approx(scale * one) for one in PENALTIES)
    best = max(likelihood(scale * one)[0] for one in PENALTIES)
    found, variance = likelihood(ridge.penalty)
    assert found == pytest.approx(best, rel=1e-9)
    assert ridge.noise == pytest.approx(np.sqrt(variance), rel=1e-9)


@given(seed=st.integers(0, 99))
def test_the_deviation_is_that_of_bayesian_regression(seed: int) -> None:
    """Of weights with the prior variance noise² / penalty, an intercept with a flat one."""
    vectors, targets = problem(8, 3, 1, seed)
    ridge = fit_labels(vectors, targets)
    design = np.column_stack([vectors, np.ones(len(vectors))])
    covariance = np.linalg.inv(design.T @ design + np.diag([ridge.penalty] * 3 + [0.0]))
    new = np.column_stack([problem(5, 3, 1, seed + 1)[0], np.ones(5)])
    expected = ridge.noise * np.sqrt(1 + np.einsum("nd,de,ne->n", new, covariance, new))
    np.testing.assert_allclose(ridge.deviation(new[:, :3]), expected, rtol=1e-9)


@given(seed=st.integers(0, 99), classes=st.integers(2, 5))
def test_shares_are_those_of_normal_labels(seed: int, classes: int) -> None:
    """To the 0.01 by which the logistic function departs from the normal distribution's."""
    rng = np.random.default_rng(seed)
    vectors, targets = problem(12, 4, 1, seed)[0], np.eye(classes)[rng.integers(0, classes, 12)]
    ridge = fit_labels(vectors, targets + rng.normal(0, 1e-3, targets.shape))
    new = problem(6, 4, 1, seed + 1)[0]
    predicted, deviation = ridge.predict(new), ridge.deviation(new)
    shares = ridge.shares(predicted, deviation)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert np.array_equal(shares.argmax(axis=1), predicted.argmax(axis=1))
    above = norm.cdf((predicted - 0.5) / deviation[:, None])
    odds = shares / shares.max(axis=1, keepdims=True)
    np.testing.assert_allclose(odds * above.max(axis=1, keepdims=True), above, atol=0.02)
    far = ridge.shares(np.full((1, classes), -40.0) - np.arange(classes), np.full(1, 0.01))
    assert far[0, 0] == pytest.approx(1) and np.isfinite(far).all()


def test_few_labels_or_blocks_are_not_judged() -> None:
    vectors, _ = problem(60, 4, 1, 0)
    targets = vectors[:, :1] * 3 + 1
    blocks = np.stack([np.arange(60) % 10, np.zeros(60, int)], axis=1)
    few = slice(LEAST_LABELS - 1)
    assert block_score(vectors[few], targets[few], blocks[few], 1e-3, False) is None
    assert block_score(vectors, targets, blocks % 4, 1e-3, False) is None
    score = block_score(vectors, targets, blocks, 1e-6, False)
    assert score is not None and score.value > 0.99
    noise = block_score(vectors, RNG.normal(size=(60, 1)), blocks, 1e-3, False)
    assert noise is not None and noise.value < 0.3


LABELS = pd.DataFrame(
    {
        "lon": [-10.0, -8.0, -6.0, 8.0, 10.0, 12.0, 100.0],
        "lat": [2.0, 3.0, 1.0, -8.0, -9.0, -7.0, 0.0],
        "cover": ["wood", "wood", "wood", "town", "town", "town", "town"],
        "height": [1.0, 1.5, 1.2, 7.0, 8.0, 7.5, 9.0],
    }
)


def test_a_map_of_classes_agrees_with_its_labels(gulf: Path) -> None:
    field = client.open_field(gulf)
    labelled = field.label(LABELS, "cover", "coordinate")
    assert labelled.classes == ("town", "wood")
    assert labelled.used == 6, "one lies off the field"
    assert "too few to judge" in repr(labelled)
    layers = labelled.map()
    rowcol = field.grid.cells(LABELS[["lon", "lat"]].to_numpy()[:6])
    found = layers["value"].values[tuple(rowcol.T)].astype(int)
    assert [labelled.classes[one] for one in found] == list(LABELS["cover"][:6])
    similarity = field.similarity([(0, 0)], "coordinate")
    assert np.array_equal(np.isnan(layers["uncertainty"]), np.isnan(similarity))
    assert layers["value"].attrs["classes"] == ["town", "wood"]
    shares = layers["share"].values
    assert np.nanmin(shares) >= 0.5 and np.nanmax(shares) <= 1


def test_what_to_label_next_is_uncertain_and_spread_out(gulf: Path) -> None:
    field = client.open_field(gulf)
    labelled = field.label(LABELS, "height", "coordinate")
    layers = labelled.map()
    known = field.grid.cells(LABELS[["lon", "lat"]].to_numpy()[:6])
    next_ones = field.suggest(labelled, 5)
    assert next_ones.uncertainty[0] == pytest.approx(float(layers["uncertainty"].max()))
    assert next_ones.uncertainty.min() > layers["uncertainty"].values[tuple(known.T)].max()
    cells = field.grid.cells(next_ones[["lon", "lat"]].to_numpy())
    apart = np.linalg.norm(cells[:, None] - cells[None], axis=-1)
    valid = int(layers["uncertainty"].notnull().sum())
    assert apart[np.triu_indices(5, 1)].min() > 0.4 * np.sqrt(valid / 5), "over the whole field"
    assert len(next_ones) == 5, "so far apart that all have room"
    near = field.suggest(labelled, 5, apart_km=0)
    assert near.uncertainty.sum() >= next_ones.uncertainty.sum()


@settings(max_examples=12)
@given(
    west=st.floats(-9, 4), south=st.floats(-9, 4), width=st.floats(0.1, 4), hole=st.floats(0.1, 0.9)
)
def test_a_polygon_labels_the_cells_whose_centre_it_holds(
    west: float, south: float, width: float, hole: float, gulf: Path
) -> None:
    """By shapely, in longitude and latitude; of many cells a hundred, in even steps."""
    grid = client.open_field(gulf).grid
    outer = shapely.box(west, south, west + width, south + width)
    inner = shapely.box(west, south, west + hole * width, south + hole * width)
    shape = outer - shapely.affinity.translate(inner, 0.05 * width, 0.05 * width)
    (found,) = cells_within(read_polygons([shape]), grid)
    centres = grid.centres(grid.full_window)
    held = np.argwhere(shapely.contains_xy(shape, *np.moveaxis(centres, -1, 0)))
    assert found.tolist() == held[chosen_cells(len(held))].tolist()
    assert len(found) == min(len(held), MOST_CELLS)


def test_labels_are_read_from_features_in_every_form(gulf: Path, tmp_path: Path) -> None:
    """Polygons, points and rows without a shape, as a mapping, a file or a table: one result."""
    shapes = [shapely.box(-11, 0, -7, 4), None, shapely.box(8, -10, 11, -7), shapely.Point(9, -6)]
    table = geopandas.GeoDataFrame(
        {"cover": ["wood", "wood", "town", "town"]}, geometry=shapes, crs="OGC:CRS84"
    )
    document = json.loads(table.to_json(drop_id=True))
    (tmp_path / "labels.geojson").write_text(json.dumps(document))
    table.to_file(tmp_path / "labels.gpkg")
    field = client.open_field(gulf)
    forms = [table, table.to_crs(field.grid.crs), document]
    forms += [tmp_path / "labels.geojson", str(tmp_path / "labels.gpkg")]
    first, *others = [field.label(form, "cover", "coordinate") for form in forms]
    assert first.classes == ("town", "wood") and first.used > 20
    for other in others:
        np.testing.assert_allclose(other.ridge.weights, first.ridge.weights, rtol=1e-6, atol=1e-9)
    rows = read_label_rows(table, "cover", field.grid, None, None)
    assert (np.diff(rows.row) >= 0).all() and set(rows.row) == {0, 1, 2, 3}
    with pytest.raises(ProbeError, match="there is no column 'kind'"):
        field.label(document, "kind", "coordinate")


@pytest.mark.parametrize(
    ("rows", "column", "said"),
    [(slice(0, 3), "cover", "every label"), (slice(6, 7), "cover", "two cells at least")],
)
def test_labels_that_tell_nothing_apart_are_refused(
    rows: slice, column: str, said: str, gulf: Path
) -> None:
    with pytest.raises(ProbeError, match=said):
        client.open_field(gulf).label(LABELS[rows], column, "coordinate")
