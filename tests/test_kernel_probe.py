"""`kernel=True` of a probe: what bends is read, predicted, mapped and saved."""

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from support.commands import done, refused
from support.probe_tables import linear_table

from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.client.probing import kernel_map
from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.feature_rows import JoinedRows
from unigeo.client.probing.fitted_models import NumberModel, predict_layers
from unigeo.client.probing.kernel_map import KernelMap
from unigeo.client.probing.kernel_option import check_kernel
from unigeo.client.probing.probe import Probe
from unigeo.client.probing.ridge import RidgeProbe
from unigeo.schemas.errors import ProbeError, ProbeWarning

BOX = (-5.0, -5.0, 5.0, 5.0)


@pytest.fixture(scope="module")
def field(gulf: Path) -> Field:
    return open_field(str(gulf))


def bent_table(field: Field, count: int = 200, seed: int = 0) -> pd.DataFrame:
    """`height` is linear in the vectors; `ridges`, its square, and `band`, its classes, are not."""
    table = linear_table(field, count, seed)
    standard = table["height"] / 10
    table["ridges"] = (standard**2).clip(0, 4)
    table["band"] = np.where(standard.abs() < 0.7, "middle", "ends")
    return table


@pytest.fixture(scope="module")
def probe(field: Field) -> Probe:
    table = bent_table(field)
    return field.probe(table, ["ridges", "height"], block_km=150, baselines=False, kernel=True)


@given(
    count=st.integers(2, 40),
    bands=st.integers(1, 6),
    size=st.sampled_from([1e-3, 1.0, 1e4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_products_of_the_numbers_are_the_gaussian_kernel(
    count: int, bands: int, size: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = size * (rng.standard_normal((count, bands)) + 3)
    kernel = KernelMap.of(vectors, 0)
    numbers = kernel.apply(vectors)
    distances = ((vectors[:, None] - vectors) ** 2).sum(axis=2)
    width = np.median(distances[np.triu_indices(count, 1)])
    np.testing.assert_allclose(numbers @ numbers.T, np.exp(-distances / width), atol=1e-5)


@given(factor=st.floats(1e-3, 1e3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_sets_side_by_side_weigh_alike_in_any_unit(factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.standard_normal((2, 30, 4))
    as_given, changed = JoinedRows([one, other]), JoinedRows([one, factor * other])
    before, after = (
        KernelMap.of(rows, 0).apply(rows[np.arange(30)]) for rows in (as_given, changed)
    )
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)


def test_fewer_landmarks_than_points_and_rows_in_a_file_approximate_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = np.random.default_rng(0).standard_normal((400, 2))
    exact = KernelMap.of(vectors, 0)
    monkeypatch.setattr(kernel_map, "MOST_LANDMARKS", 150)
    monkeypatch.setattr(kernel_map, "_MOST_NUMBERS", 1)
    few = KernelMap.of(vectors, 0)
    assert len(few.landmarks) == 150
    numbers = few.rows(vectors)
    assert numbers.shape == (400, 150) and not isinstance(numbers, np.ndarray)
    kept = numbers[np.arange(400)].astype(np.float64)
    whole = exact.apply(vectors)
    # Both have the median distance of landmarks as their width, which is nearly the same.
    assert np.abs(kept @ kept.T - whole @ whole.T).mean() < 0.01


def test_points_that_share_their_vectors_and_vectors_all_alike_are_probed() -> None:
    rng = np.random.default_rng(0)
    lonlat = np.column_stack([rng.uniform(-120, -75, 90), rng.uniform(30, 45, 90)])
    vectors = np.repeat(rng.standard_normal((9, 5)), 10, axis=0)
    target = np.repeat(rng.standard_normal(9), 10)
    sets = {"few": vectors, "alike": np.ones((90, 3))}
    found = probe_table(sets, {"y": target}, lonlat, baselines=["mean"], kernel=True)
    score = found.set_index(["features", "split"])["score"]
    assert score["few kernel", "random"] > 0.95
    assert score["alike kernel", "random"] == pytest.approx(score["mean", "random"], abs=1e-6)


def test_what_bends_is_read_and_noise_is_not(field: Field) -> None:
    table = bent_table(field)
    table["noise"] = np.random.default_rng(1).standard_normal(len(table))
    found = field.probe(
        table, ["ridges", "band", "noise"], "coordinate", block_km=150, baselines=["mean"],
        kernel=True,
    )  # fmt: skip
    score = found.scores.set_index(["target", "features", "split"])["score"]
    for target in ("ridges", "band"):
        both = score[target].xs("blocked", level="split")
        assert both["coordinate kernel"] > both["coordinate"] + 0.05, target
        assert found.default_features(target) == "coordinate kernel"
    assert score["noise", "coordinate kernel", "blocked"] < 0.05
    new = bent_table(field, 200, seed=1)
    predicted = found.predict(new)
    assert (predicted["band"] == new["band"]).mean() > score["band", "mean", "blocked"]
    inside = new["ridges"].between(predicted["ridges_lower"], predicted["ridges_upper"])
    assert inside.mean() > 0.8


def test_a_saved_kernel_predicts_and_maps_as_it_did(
    field: Field, probe: Probe, tmp_path: Path
) -> None:
    names = ["joined kernel", "coordinate kernel", "joined"]
    loaded = Probe.load(probe.save(tmp_path / "probe", names), open_field(field.url))
    new = bent_table(field, 100, seed=2)
    for name in names:
        pd.testing.assert_frame_equal(
            loaded.predict(new, name), probe.predict(new, name), rtol=1e-6
        )
    maps = (each.map("ridges", BOX, "joined kernel").compute() for each in (loaded, probe))
    xr.testing.assert_allclose(*maps, rtol=1e-5)
    alone = probe.save(tmp_path / "alone", locations=False)
    assert "kernels" not in (alone / "weights.safetensors").read_bytes()[:4096].decode("latin-1")
    with pytest.warns(ProbeWarning, match="without its locations"):
        linear = Probe.load(alone, field)
    assert not any(name.endswith("kernel") for name in linear.fitted)
    with pytest.raises(ProbeError, match="holds locations"):
        probe.save(tmp_path / "none", "joined kernel", locations=False)


def test_a_kernel_with_position_and_controls(field: Field, tmp_path: Path) -> None:
    table = bent_table(field)
    table["age"] = np.random.default_rng(2).standard_normal(len(table))
    table["ridges"] += table["age"] + np.sin(table["lon"])
    found = field.probe(
        table, "ridges", "coordinate", block_km=150, baselines=False, kernel=True,
        spatial="residuals", controls=["age"],
    )  # fmt: skip
    names = set(found.scores["features"])
    assert {"coordinate kernel + position", "coordinate kernel + controls + position"} <= names
    new = bent_table(field, 50, seed=3)
    saved = found.save(tmp_path / "probe", "coordinate kernel + position")
    pd.testing.assert_frame_equal(
        Probe.load(saved, field).predict(new),
        found.predict(new, "coordinate kernel + position"),
        rtol=1e-6,
    )


def test_the_command_scores_and_predicts_by_a_kernel(field: Field, tmp_path: Path) -> None:
    bent_table(field, 150).to_csv(tmp_path / "table.csv", index=False)
    options = ["--target", "ridges", "--modality", "coordinate", "--block-km", "150"]
    arguments = ["probe", str(field.url), str(tmp_path / "table.csv"), *options]
    printed = done(*arguments, "--kernel")
    assert "coordinate kernel" in printed
    words = refused(*arguments, "--features", "coordinate kernel", "--map", "ridges", "x.tif")
    assert "no features 'coordinate kernel'" in words


@pytest.mark.parametrize("kernel", ["rbf", 1, None])
def test_other_kernels_are_refused(kernel: object) -> None:
    with pytest.raises(ProbeError, match="True or False"):
        check_kernel(kernel, ())
    with pytest.raises(ProbeError, match="named like"):
        check_kernel(True, ["my kernel"])


def test_a_kernel_is_applied_to_few_points_at_a_time() -> None:
    """Its numbers of all points at once would take 432 MB."""
    rng = np.random.default_rng(0)
    known = rng.standard_normal((900, 4))
    kernel = KernelMap.of(known, 0)
    ridge = RidgeProbe().fit(kernel.apply(known), known[:, :1] ** 2, np.arange(900) % 3)
    model = NumberModel(ridge, 1.0, kernel=kernel)
    points = rng.standard_normal((60_000, 4))
    tracemalloc.start()
    try:
        layers = predict_layers(model, points, lambda: points[:, :2])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60_000 * 900 * 8
    some = slice(59_000, None)
    for name, values in model.predict(points[some]).items():
        np.testing.assert_allclose(layers[name][some], values, rtol=1e-6, atol=1e-9)
    assert {
        len(values) for values in predict_layers(model, points[:0], lambda: points).values()
    } == {0}
