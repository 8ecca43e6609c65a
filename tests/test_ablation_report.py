"""The report of an ablation, besides effects: units, escaping, and the probe of the world."""

import doctest

import numpy as np
import pandas as pd

from unigeo.producer.ablation import ablation_report, run_metrics
from unigeo.producer.ablation.effects import Measure
from unigeo.producer.evaluation.probe_metrics import _mean_scores
from unigeo.producer.evaluation.table_probes import probe_world
from unigeo.producer.observations.synthetic.world import World

RECALL = Measure("R@10", lambda result, other: 0.0, percent=True)
SCORE = Measure("score", lambda result, other: 0.0)
PARAMETERS = Measure("parameters", lambda result, other: 0.0, larger_is_better=False)


def test_numbers_are_shown_in_their_units() -> None:
    assert ablation_report._format_interval(RECALL, 0.4325, 0.0126) == "43.2 ± 1.3"
    assert ablation_report._format_interval(RECALL, 0.0326, 0.01, sign=True) == "+3.3 ± 1.0"
    assert ablation_report._format_interval(SCORE, -0.0126, float("nan"), sign=True) == "-0.013"
    assert ablation_report._format_number(PARAMETERS, 1_354_321) == "1.35"
    assert ablation_report._format_number(SCORE, float("nan")) == ""


def test_text_of_a_table_cannot_break_its_page() -> None:
    rows = pd.DataFrame([{"row": "a|b\nc"}])
    assert ablation_report._markdown_table(rows).splitlines()[-1] == "| a\\|b c |"


def test_the_probe_of_the_world_reads_what_is_there_and_nothing_else() -> None:
    world = World()
    rng = np.random.default_rng(0)

    def vectors(lonlat: np.ndarray) -> dict[str, np.ndarray]:
        targets = np.stack(list(world.targets(lonlat).values()), axis=1)
        mixing = np.random.default_rng(1).normal(size=(targets.shape[1], 12))
        return {"joined": targets @ mixing, "coordinate": rng.normal(size=(len(lonlat), 12))}

    numbers = _mean_scores(probe_world(vectors, world, seed=1, baselines=False))
    assert set(numbers) == {
        f"{split} {features}"
        for split in ("blocked", "random")
        for features in ("joined", "coordinate")
    }
    assert min(numbers["blocked joined"], numbers["random joined"]) > 0.999
    assert max(numbers["blocked coordinate"], numbers["random coordinate"]) < 0.02


def test_the_examples_hold() -> None:
    assert doctest.testmod(run_metrics).failed == 0
