import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unigeo.client.field.field import Field
from unigeo.client.field.opening import open_field
from unigeo.client.probing import sampled_features
from unigeo.client.probing.cross_validation import probe_table
from unigeo.client.probing.feature_rows import (
    FeatureRows,
    FileRows,
    JoinedRows,
    ScatteredRows,
    SelectedRows,
    row_blocks,
)

ROWS, BANDS = 5000, 3


def numbers(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, BANDS)).astype(np.float32)


def filed(values: np.ndarray, block: int = 700) -> FileRows:
    rows = FileRows()
    for start in range(0, len(values), block):
        rows.append(values[start : start + block])
    return rows


FILED = filed(numbers())


@given(st.lists(st.integers(0, ROWS - 1), max_size=60), st.integers(1, 40))
def test_rows_in_a_file_are_those_of_the_array_in_any_order(wanted: list[int], step: int) -> None:
    values = numbers()
    for rows in (np.array(wanted, np.int64), np.arange(0, ROWS, step)):
        np.testing.assert_array_equal(FILED[rows], values[rows])


def test_rows_put_together_are_those_of_the_whole_array() -> None:
    values = numbers()
    marked = np.random.default_rng(1).random(ROWS) < 0.4
    rows = np.array([4999, 0, 17, 17, 2500])
    spread = np.full_like(values, np.nan)
    spread[marked] = values[marked]
    beside = JoinedRows([values, FILED])
    pairs: list[tuple[FeatureRows, np.ndarray]] = [
        (beside, np.concatenate([values, values], axis=1)),
        (SelectedRows(FILED, np.flatnonzero(marked)), values[marked]),
        (ScatteredRows(values[marked], marked), spread),
        (
            SelectedRows(ScatteredRows(values[marked], marked), np.flatnonzero(marked)),
            values[marked],
        ),
    ]
    for features, expected in pairs:
        assert isinstance(features, FeatureRows)
        assert features.shape == expected.shape
        own = rows % len(expected)
        np.testing.assert_array_equal(features[own], expected[own])


def test_blocks_hold_every_row_once() -> None:
    rows = np.arange(1000)
    blocks = list(row_blocks(rows, 100, block_numbers=12_345))
    assert max(map(len, blocks)) * 100 <= 12_345
    np.testing.assert_array_equal(np.concatenate(blocks), rows)


def test_a_probe_of_vectors_in_a_file_has_the_scores_of_those_in_memory() -> None:
    values = numbers(600)
    rng = np.random.default_rng(2)
    lonlat = np.stack([rng.uniform(-120, -75, 600), rng.uniform(30, 48, 600)], axis=1)
    targets = {"y": values @ np.arange(1.0, 4.0) + rng.standard_normal(600)}
    scores = [
        probe_table({"v": features}, targets, lonlat, baselines=False)["score"]
        for features in (values, filed(values))
    ]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-9)


def test_a_table_too_large_for_memory_is_probed_from_files(
    gulf: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    field: Field = open_field(str(gulf))
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"lon": rng.uniform(-18, 18, 700), "lat": rng.uniform(-14, 11, 700)})
    table["height"] = table["lat"] + 0.1 * rng.standard_normal(700)
    table.loc[::50, "height"] = np.nan
    plain = field.probe(table, "height", block_km=300, baselines=False)
    monkeypatch.setattr(sampled_features, "_MAX_NUMBERS_IN_MEMORY", 1)
    monkeypatch.setattr(sampled_features, "_BATCH_POINTS", 64)
    filed_probe = field.probe(table, "height", block_km=300, baselines=False)
    assert filed_probe.counts == plain.counts
    np.testing.assert_allclose(filed_probe.scores["score"], plain.scores["score"], rtol=1e-9)
