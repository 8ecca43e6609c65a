"""An evaluation is honest: what is learned is judged elsewhere, and every promise is counted."""

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from unigeo.client.probing.folds import blocked_folds
from unigeo.producer.commands.cli import main
from unigeo.producer.encoders.model import load_model
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.evaluation import evaluate, geocells, retrieval_sections, table_probes
from unigeo.producer.evaluation.answer_sets import KINDS, answer_sets
from unigeo.producer.evaluation.calibration import (
    SCALES,
    best_scale,
    calibration_error,
    log_losses,
    reliability_bins,
    top_answers,
)
from unigeo.producer.evaluation.downstream.result import Result
from unigeo.producer.evaluation.downstream.suites import DOWNSTREAM, Benchmark
from unigeo.producer.evaluation.ensembles import combine, fit, learn, scores_of, uniform
from unigeo.producer.evaluation.evaluate import EvaluationPlan, evaluate_model
from unigeo.producer.evaluation.geocells import Geocells, cell_numbers, classify, geocell_table
from unigeo.producer.evaluation.holdouts import TrainedOn, out_of_region, random, spatial, temporal
from unigeo.producer.evaluation.html_report import (
    EvaluationReport,
    ReportFigure,
    ReportTable,
    Section,
)
from unigeo.producer.evaluation.model_under_test import ModelUnderTest
from unigeo.producer.evaluation.robustness import (
    AXES,
    coarsened,
    missing_curve,
    robustness_table,
    rotated,
)
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.train import train
from unigeo.schemas.errors import ModelError, ObservationsError
from unigeo.schemas.geo.regions import region_of_bbox

TRAINING = TrainingSettings(
    locations=400, batch=48, steps=6, warmup=2, gallery=24, block_km=150, holdout=0.3
)


class Later(World):
    """The embedded world in another year."""

    name = "later world"

    def provenance(self):
        dated = {"aerial": {"acquired": "2031", "patch_m": 3200}}
        return super().provenance() | {"name": self.name, "modalities": dated}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "model"
    shapes = {m: World().shape(m) for m in ("aerial", "street", "dsm")}
    train(World(), tiny(shapes), TRAINING, folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def judge(folder):
    model, tokenizer = load_model(folder)
    return ModelUnderTest(model, tokenizer, torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(folder):
    return TrainedOn.of(json.loads((folder / "metrics.json").read_text()))


@pytest.fixture(scope="module")
def held(judge, trained):
    return spatial(judge, World(), trained, 80)


def unit(values):
    return torch.nn.functional.normalize(values, dim=-1)


def noisy(truth, noise, generator):
    """Vectors that show the truth through noise."""
    return unit(truth + noise * torch.randn(truth.shape, generator=generator))


# Hold-outs


def test_the_spatial_hold_out_lies_in_blocks_apart_and_the_random_one_between_them(
    judge, trained, held
):
    near = random(judge, World(), trained, 40)
    seen = {tuple(place) for place in World().locations(trained.locations, trained.seed)}
    assert trained.apart(held.lonlat).all() and not trained.apart(near.lonlat).any()
    for hold_out in (held, near):
        places = {tuple(place) for place in hold_out.lonlat}
        assert len(places) == len(hold_out) and not places & seen
    assert len(held) == 80 and len(near) == 40


def test_vectors_of_a_hold_out_are_those_of_its_places(judge, held):
    some = judge.embed(judge.look(World(), held.lonlat[:5]))
    for name, vectors in some.items():
        assert torch.allclose(vectors, held.embeddings[name][:5], atol=1e-5), name


def test_other_years_and_other_regions(judge, trained):
    later = temporal(judge, World(), Later(), trained, 24)
    assert not trained.apart(later.lonlat).any() and "aerial 2031" in later.meaning
    box = region_of_bbox((-105.0, 38.0, -95.0, 43.0), "plains")
    plains = out_of_region(judge, Later(), box, trained, 24)
    assert box.contains(plains.lonlat).all() and "plains" in plains.meaning
    with pytest.raises(ObservationsError, match="out of region"):
        out_of_region(judge, World(), region_of_bbox((5, 50, 6, 51), "sea"), trained, 24)


def test_a_model_that_does_not_say_how_it_was_trained_is_refused():
    with pytest.raises(ModelError, match="held out"):
        TrainedOn.of({"training": {"seed": 0}})


# Ensembles


def test_learned_ensembles_never_fall_below_their_best_part_in_many_worlds():
    """Parts of every quality, some of them pure noise, judged on places of their own."""
    rng = np.random.default_rng(0)
    ahead, uniform_ahead, kept = [], [], 0
    for draw in range(24):
        generator = torch.Generator().manual_seed(draw)
        truth = unit(torch.randn(640, 24, generator=generator))
        noise = rng.choice([0.15, 0.3, 0.6, 3.0], rng.integers(2, 4))
        parts = {f"m{k}": noisy(truth, float(n), generator) for k, n in enumerate(noise)}
        single = noisy(truth, 0.15, generator)
        blocks = np.arange(640) // 8
        taught, judged = np.arange(240), np.arange(240, 640)
        side = "query" if draw % 2 else "gallery"
        found = learn(
            {name: part[taught] for name, part in parts.items()},
            single[taught], blocks[taught], side,
        )  # fmt: skip
        assert min(found.weights.values()) >= 0
        assert sum(found.weights.values()) == pytest.approx(1)
        assert found.kept or found.weights[found.best] == 1
        ours = {name: part[judged] for name, part in parts.items()}
        best = max(float(scores_of(part, single[judged], side).mean()) for part in ours.values())
        score = float(scores_of(found.combine(ours), single[judged], side).mean())
        ahead.append(score - best)
        even = combine(ours, uniform(ours))
        uniform_ahead.append(float(scores_of(even, single[judged], side).mean()) - best)
        kept += found.kept
    assert min(ahead) >= -0.02, "a place in fifty, of 400 judged, is within chance"
    assert min(uniform_ahead) < -0.1, "uniform weights do fall, or this shows nothing"
    assert np.mean(ahead) > np.mean(uniform_ahead) and kept > 0


def test_parts_of_noise_get_no_weight():
    kept = 0
    for draw in range(8):
        generator = torch.Generator().manual_seed(draw)
        truth = unit(torch.randn(240, 16, generator=generator))
        parts = {"good": noisy(truth, 0.3, generator), "noise": noisy(truth, 30.0, generator)}
        single = noisy(truth, 0.2, generator)
        assert fit(parts, single, "gallery", "good")["good"] > 0.85
        kept += learn(parts, single, np.arange(240) // 6, "gallery").kept
    assert kept <= 1


def test_an_ensemble_of_equal_parts_is_the_part():
    part = unit(torch.randn(30, 8, generator=torch.Generator().manual_seed(0)))
    together = combine({"a": part, "b": part}, {"a": 0.2, "b": 0.8})
    assert torch.allclose(together, part, atol=1e-6)


# Answer sets and calibration


def test_stated_coverage_is_kept_on_blocks_that_did_not_calibrate():
    """Exchangeable blocks: within three standard errors of a binomial count."""
    generator = torch.Generator().manual_seed(0)
    truth = unit(torch.randn(900, 16, generator=generator))
    query, gallery = noisy(truth, 0.35, generator), noisy(truth, 0.2, generator)
    folds = blocked_folds(np.arange(900) // 5, 10, 0)
    found = answer_sets(query, gallery, folds, (0.5, 0.9))
    for (kind, level), covered in found.covered.items():
        chance = np.sqrt(level * (1 - level) / 900)
        assert abs(covered.mean() - level) < 3 * chance, (kind, level)
        size = found.size[kind, level]
        assert (size <= 900).all() and size.mean() < 450
    for kind in KINDS:
        assert (found.size[kind, 0.9] >= found.size[kind, 0.5]).all(), kind


def test_one_half_that_calibrates_covers_the_other_as_often_as_stated():
    """Not only on average over folds: one threshold, many new worlds."""
    covered = []
    for draw in range(12):
        generator = torch.Generator().manual_seed(draw)
        truth = unit(torch.randn(400, 12, generator=generator))
        folds = np.arange(400) // 200
        found = answer_sets(
            noisy(truth, 0.4, generator), noisy(truth, 0.2, generator), folds, (0.9,)
        )
        covered.append([found.covered[kind, 0.9][folds == 0].mean() for kind in KINDS])
    error = np.sqrt(0.09 / 200 * 2 / 12)  # of 200 that are judged by 200, twelve times
    assert np.mean(covered, axis=0) == pytest.approx([0.9, 0.9], abs=4 * error)


def test_the_set_of_a_query_that_is_sure_is_one_answer():
    vectors = unit(torch.randn(200, 64, generator=torch.Generator().manual_seed(0)))
    found = answer_sets(vectors, vectors, np.arange(200) % 4, (0.9,))
    assert found.size["threshold", 0.9].max() <= 1


def test_the_temperature_that_made_the_answers_is_found_again():
    """Answers drawn from the softmax itself are calibrated under its own temperature only."""
    generator = torch.Generator().manual_seed(0)
    query, gallery = unit(torch.randn(2, 1500, 12, generator=generator))
    drawn = torch.softmax(12 * (query @ gallery.T), dim=1).multinomial(1, generator=generator)
    owned = gallery[drawn[:, 0]]  # each query's own place, and others of the same kind
    losses = log_losses(query, owned)
    assert losses.shape == (1500, len(SCALES))
    assert losses[3, 7] == pytest.approx(
        float(-torch.log_softmax(SCALES[7] * (query[3] @ owned.T), dim=0)[3]), abs=1e-4
    )
    right = np.random.default_rng(0).random(4000)
    bins = reliability_bins(right, np.random.default_rng(1).random(4000) < right)
    assert calibration_error(bins) < 0.03
    assert calibration_error(reliability_bins(right, np.ones(4000, bool))) == pytest.approx(
        0.5, abs=0.02
    )


def test_a_parabola_finds_the_scale_between_two_of_the_table():
    exact = 23.0
    losses = np.log(SCALES / exact)[None, :] ** 2
    assert best_scale(losses) == pytest.approx(exact, rel=1e-6)


def test_sharper_temperatures_are_surer_of_the_same_answer():
    generator = torch.Generator().manual_seed(0)
    truth = unit(torch.randn(100, 8, generator=generator))
    query, gallery = noisy(truth, 0.3, generator), noisy(truth, 0.3, generator)
    soft, right = top_answers(query, gallery, np.full(100, 5.0))
    sharp, same = top_answers(query, gallery, np.full(100, 50.0))
    assert (sharp > soft).all() and np.array_equal(right, same)


# Geocells


def test_a_perfect_coordinate_encoder_finds_the_cell():
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-105, -95, 300), rng.uniform(35, 42, 300)], axis=1)
    side = 200_000.0
    own = cell_numbers(lonlat, side)
    colrow = np.unique(own, axis=0)
    centres = geocells._degrees((colrow + 0.5) * side)
    assert np.array_equal(cell_numbers(centres, side), colrow), "a cell holds its own centre"
    vectors = unit(torch.randn(len(colrow), 256, generator=torch.Generator().manual_seed(0)))
    cells = Geocells(side, colrow, centres, vectors, vectors)
    row = cells.of(lonlat)
    assert np.array_equal(colrow[row], own)
    query = vectors[torch.from_numpy(row)]
    assert np.array_equal(classify(query, vectors).numpy(), row)
    table = geocell_table({"perfect": query}, lonlat, cells)
    assert (table["right"] == 1).all()
    assert (table["median_m"] < side).all() and (table["Acc@200km"] == 1).all()


def test_cells_cover_the_land_round_the_places(judge):
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-103, -97, 50), rng.uniform(38, 41, 50)], axis=1)
    cells = geocells.cover(judge.model, World(), lonlat, 150.0, judge.device)
    assert (cells.of(lonlat) >= 0).all()
    exact = geocells.encode(judge.model, cells.lonlat, judge.device)
    assert torch.allclose(cells.centroid, exact)
    assert cells.interior.norm(dim=1).numpy() == pytest.approx(np.ones(len(exact)), abs=1e-5)
    with pytest.raises(ModelError, match="larger"):
        geocells.cover(judge.model, World(), lonlat, 0.1, judge.device)


# Robustness


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_no_rotation_and_no_averaging_change_nothing_and_four_quarters_neither(dtype):
    values = (255 * torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))).to(dtype)
    assert torch.equal(rotated(values, 0.0), values) and torch.equal(coarsened(values, 1), values)
    turned = values
    for _ in range(4):
        turned = rotated(turned, 90.0)
    assert torch.equal(turned, values) and not torch.equal(rotated(values, 90.0), values)
    assert rotated(values, 33.0).dtype == dtype == coarsened(values, 4).dtype


def test_a_small_angle_turns_the_same_way_as_a_quarter():
    """Turned by 89 degrees a picture is nearly the one turned by 90."""
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).contiguous()
    near, exact = rotated(ramp, 89.0), rotated(ramp, 90.0)
    assert (near - exact)[..., 8:24, 8:24].abs().max() < 0.05


def test_averaged_squares_keep_their_mean():
    values = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    coarse = coarsened(values, 4)
    assert coarse.shape == values.shape
    assert torch.allclose(coarse.mean(), values.mean(), atol=1e-6)
    assert torch.equal(coarse[..., 0, 0], coarse[..., 3, 3])
    assert coarsened(values[..., :30], 4).shape == (2, 1, 32, 30)


def test_unspoiled_observations_stand_at_the_start_of_every_curve(judge, held):
    table = robustness_table(judge, held)
    for modality in ("aerial", "dsm"):
        whole = table[(table["modality"] == modality) & (table["kind"] != "missing modalities")]
        start = whole.sort_values("level").groupby("kind").first()
        assert start["R@10"].nunique() == 1 and len(start) == 4, start
    assert set(table["kind"]) == set(AXES)


def test_fewer_modalities_find_less():
    generator = torch.Generator().manual_seed(0)
    truth = unit(torch.randn(400, 16, generator=generator))
    vectors = {name: noisy(truth, 0.35, generator) for name in "abcd"}
    curve = missing_curve(vectors, "a")
    assert list(curve) == [0, 1, 2] and curve[0] > curve[1] > curve[2]


# The report


@pytest.fixture(scope="module")
def report(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval_sections, "CELLS_KM", (400.0,))
        patch.setattr(table_probes, "WORLD_PLACES", 240)
        patch.setattr(table_probes, "BASELINES", ("mean", "lonlat kNN"))
        table = pd.DataFrame({"class": ["a", "b"], "iou": [0.25, 0.5]})
        made = Result(name="made", metrics={"miou": 0.375}, table=table, facts={"samples": 3})
        runner = Benchmark("aerial", "nothing", lambda model, folder, device: made)
        patch.setitem(DOWNSTREAM, "made", runner)
        settings = EvaluationPlan(places=96, later=Later(), downstream={"made": folder})
        return evaluate_model(folder, World(), settings)


def test_the_report_has_every_table_and_needs_no_other_file(report, tmp_path):
    page = report.write(tmp_path / "report").read_text()
    names = {
        "retrieval_means", "retrieval_spatial", "retrieval_random", "retrieval_temporal",
        "ensembles", "ensemble_weights", "geocells", "answer_sets", "coverage", "reliability",
        "robustness", "probes", "probe_means", "probe_blocked", "probe_intervals", "downstream",
        "downstream_made",
    }  # fmt: skip
    assert names <= set(report.tables)
    stored = json.loads((tmp_path / "report" / "report.json").read_text())
    for name, frame in report.tables.items():
        with (tmp_path / "report" / f"{name}.csv").open() as file:
            assert len(list(csv.reader(file))) == len(frame) + 1, name
        assert len(stored["tables"][name]) == len(frame) and f"{name}.csv" in page
    assert not re.search(r"(src|href)=\"?(https?:|//)", page)
    assert page.count("data:image/png;base64,") == 8
    assert "out of region" in page and "96 places" in page


def test_shares_lie_between_none_and_all(report):
    for name, frame in report.tables.items():
        shares = frame.filter(regex=r"^(R@|Acc@|covered|right)")
        assert ((shares >= 0) & (shares <= 1)).all(axis=None), name


def test_the_retrieval_of_the_report_is_that_of_its_ensembles_parts(report):
    weights = report.tables["ensemble_weights"]
    columns = [name for name in weights if name.startswith("weight_")]
    assert weights[columns].sum(axis=1).to_numpy() == pytest.approx(np.ones(len(weights)))
    assert len(weights) == 10 and len(report.tables["retrieval_spatial"]) == 21


def test_words_of_a_report_are_escaped():
    frame = pd.DataFrame({"a<b": ["<script>", "x"], "n": [1.0, float("nan")]})
    section = Section("s & t", "", [ReportTable("t", "<b>", frame), ReportFigure("p", '"q"', b"")])
    page = EvaluationReport("<title>", {"k": "<v>"}, ["<w>"], [section]).html()
    assert "<script>" not in page and "<v>" not in page and "<w>" not in page
    assert "&lt;script&gt;" in page and "nan" not in page


# The command


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["unigeo-produce", "evaluate", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as stopped:
        code = stopped.code or 0
    said = capsys.readouterr()
    return code, said.out.strip(), said.err


def test_the_command_writes_a_report_beside_the_model(folder, monkeypatch, capsys):
    code, out, err = command(
        monkeypatch, capsys, folder, "--parts", "retrieval", "--places", 64, "--other-region",
        "-105,35,-95,45",
    )  # fmt: skip
    assert code == 0, err
    assert Path(out) == folder.with_name("model-evaluation") / "report.html"
    assert (Path(out).parent / "retrieval_out_of_region.csv").exists()
    assert "No temporal hold-out" in err and "not those" not in err


def test_other_observations_than_those_of_training_are_warned_of(folder):
    report = evaluate_model(folder, Later(), EvaluationPlan(places=64, parts=("sets",)))
    assert "not those that the model was trained on" in report.warnings[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "no finished model"),
        (["MODEL", "--parts", "magic"], "magic"),
        (["MODEL", "--places", "3"], "64"),
        (["MODEL", "--observations", "none.toml"], "none.toml"),
        (["MODEL", "--suite", "s.toml"], "--data"),
        (["MODEL", "--downstream", "mdas"], "NAME=FOLDER"),
        (["MODEL", "--downstream", "other=x"], "other"),
        (["MODEL", "--other-region", "atlantis"], "atlantis"),
        (["MODEL", "--other-region", "1,2"], "four numbers"),
    ],
)
def test_bad_options_end_in_one_message_and_exit_code_2(
    folder, arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    named = [str(folder) if word == "MODEL" else word for word in arguments]
    code, out, err = command(monkeypatch, capsys, *named)
    assert code == 2 and out == "" and words in err, err
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_other_observations_asks_for_them(folder, tmp_path, monkeypatch, capsys):
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["observations"]["name"] = "somewhere"
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    code, _, err = command(monkeypatch, capsys, tmp_path)
    assert code == 2 and "'somewhere'" in err and "--observations" in err


def test_settings_without_sense_are_refused():
    with pytest.raises(ModelError, match="no part"):
        replace(EvaluationPlan(), parts=())
    assert set(EvaluationPlan().parts) == set(evaluate.PARTS)
