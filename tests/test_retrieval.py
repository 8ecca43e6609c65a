"""Retrieval: chance finds chance, equal vectors find nothing, and order does not matter."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from unigeo.producer.evaluation.retrieval import KS, RADII_M, accuracy_name, retrieval_table
from unigeo.producer.training import recall
from unigeo.producer.training.recall import Answers, find, recall_matrix
from unigeo.schemas.errors import ModelError


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def locations(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(-125, -67, count), rng.uniform(25, 49, count)], axis=1)


def assert_alike(one: Answers, other: Answers) -> None:
    """The same answers, but for pairs whose products are equal within rounding."""
    assert (one.rank - other.rank).abs().max() <= 1
    assert (one.top == other.top).float().mean() >= 0.98


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    first = unit(400, 16)
    near = torch.nn.functional.normalize(first + 0.3 * unit(400, 16, seed=1), dim=1)
    vectors = {"a": first, "b": near, "c": unit(400, 16, seed=2)}
    return retrieval_table(vectors, locations(400)).set_index(["query", "gallery"])


def test_identical_vectors_are_all_found_and_unrelated_ones_by_chance_only() -> None:
    first = unit(500, 16)
    vectors = {"a": first, "same": first.clone(), "other": unit(500, 16, seed=1)}
    metrics = retrieval_table(vectors, locations(500)).set_index(["query", "gallery"])
    assert (metrics.loc[("a", "same"), ["R@1", "R@10", "Acc@100m"]] == 1).all()
    assert metrics.loc[("a", "same"), "median_m"] == 0
    chance = metrics.loc[("chance", "")]
    assert metrics.loc[("a", "other"), "R@10"] == pytest.approx(chance["R@10"], abs=0.02)
    assert metrics.loc[("a", "other"), "median_rank"] == pytest.approx(250, rel=0.15)
    assert metrics.loc[("a", "other"), "median_m"] == pytest.approx(chance["median_m"], rel=0.1)


def test_vectors_that_are_all_equal_find_nothing_and_answer_another_location() -> None:
    answers = find(torch.ones(20, 4), torch.ones(20, 4))
    assert (answers.rank == 20).all() and (answers.top != torch.arange(20)).all()


def test_more_answers_and_wider_radii_find_more(table: pd.DataFrame) -> None:
    assert (table[[f"R@{k}" for k in KS]].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    accuracies = table[[accuracy_name(radius) for radius in RADII_M]]
    assert (accuracies.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert (accuracies.iloc[:, 0] >= table["R@1"] - 1e-12)[:-1].all(), "the own location is at 0 m"


def test_the_order_of_the_locations_does_not_matter(table: pd.DataFrame) -> None:
    order = np.random.default_rng(0).permutation(400)
    first = unit(400, 16)
    near = torch.nn.functional.normalize(first + 0.3 * unit(400, 16, seed=1), dim=1)
    again = retrieval_table({"a": first[order], "b": near[order]}, locations(400)[order])
    again = again.set_index(["query", "gallery"]).iloc[:2]
    pd.testing.assert_frame_equal(again, table.loc[again.index])


def test_the_matrix_of_training_and_the_table_agree(table: pd.DataFrame) -> None:
    first = unit(400, 16)
    near = torch.nn.functional.normalize(first + 0.3 * unit(400, 16, seed=1), dim=1)
    matrix = recall_matrix({"a": first, "b": near}, (1, 5, 10))
    for name, rows in matrix.items():
        assert rows["a"]["b"] == pytest.approx(table.loc[("a", "b"), name], abs=1.5 / 400)


def test_a_gallery_larger_than_the_memory_of_its_matrix_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query, gallery = unit(300, 8), unit(300, 8, seed=1)
    full = find(query, gallery)
    monkeypatch.setattr(recall, "CHUNK_NUMBERS", 7 * 300)
    parts = find(query, gallery)
    assert_alike(full, parts)


def test_the_rank_is_the_one_of_a_sorted_list() -> None:
    query, gallery = unit(60, 4), unit(90, 4, seed=1)
    own = torch.arange(60) + 20
    answers = find(query, gallery, own)
    order = (query.double() @ gallery.double().T).argsort(dim=1, descending=True)
    assert_alike(
        answers, replace(answers, top=order[:, 0], rank=(order == own[:, None]).int().argmax(1) + 1)
    )


def test_vectors_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ModelError, match="finite"):
        find(torch.full((2, 3), float("nan")), torch.ones(2, 3))
