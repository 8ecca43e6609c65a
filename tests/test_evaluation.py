"""Evaluation: what is learned is tested on other locations, and stated coverage is measured."""

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from unigeo.client.probing.folds import blocked_folds
from unigeo.producer.commands.cli import main
from unigeo.producer.encoders.presets import tiny
from unigeo.producer.encoders.saved_models import load_model
from unigeo.producer.evaluation import evaluate, geocells, retrieval_sections, table_probes
from unigeo.producer.evaluation.answer_sets import KINDS, answer_sets
from unigeo.producer.evaluation.calibration import (
    SCALES,
    calibration_error,
    fit_scale,
    log_losses,
    reliability_bins,
    top_answers,
)
from unigeo.producer.evaluation.downstream.benchmarks import DOWNSTREAM, Benchmark
from unigeo.producer.evaluation.downstream.result import BenchmarkResult
from unigeo.producer.evaluation.ensembles import (
    Side,
    combine,
    fit_weights,
    learn_ensemble,
    recall_hits,
    uniform_weights,
)
from unigeo.producer.evaluation.evaluate import EvaluationPlan, evaluate_model
from unigeo.producer.evaluation.geocells import Geocells, cell_numbers, classify, geocell_table
from unigeo.producer.evaluation.holdouts import (
    TrainedOn,
    out_of_region_hold_out,
    random_hold_out,
    spatial_hold_out,
    temporal_hold_out,
)
from unigeo.producer.evaluation.html_report import (
    EvaluationReport,
    ReportFigure,
    ReportTable,
    Section,
)
from unigeo.producer.evaluation.model_under_test import HoldOut, ModelUnderTest
from unigeo.producer.evaluation.robustness import (
    AXES,
    coarsened,
    missing_curve,
    robustness_table,
    rotated,
)
from unigeo.producer.observations.forms import default_forms
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

    def provenance(self) -> dict[str, Any]:
        dated = {"aerial": {"acquired": "2031", "patch_m": 3200}}
        return super().provenance() | {"name": self.name, "modalities": dated}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated") / "model"
    shapes = {m: World().shape(m) for m in ("aerial", "street", "dsm")}
    train(World(), tiny(default_forms(shapes)), TRAINING, folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def model_under_test(folder: Path) -> ModelUnderTest:
    model, tokenizer = load_model(folder)
    return ModelUnderTest(model, tokenizer, torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(folder: Path) -> TrainedOn:
    return TrainedOn.from_metrics(json.loads((folder / "metrics.json").read_text()))


@pytest.fixture(scope="module")
def held(model_under_test: ModelUnderTest, trained: TrainedOn) -> HoldOut:
    return spatial_hold_out(model_under_test, World(), trained, 80)


def unit(values: Tensor) -> Tensor:
    return torch.nn.functional.normalize(values, dim=-1)


def noisy(truth: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Return unit vectors of the truth with Gaussian noise."""
    return unit(truth + noise * torch.randn(truth.shape, generator=generator))


# Hold-outs


def test_the_spatial_hold_out_lies_in_blocks_apart_and_the_random_one_between_them(
    model_under_test: ModelUnderTest, trained: TrainedOn, held: HoldOut
) -> None:
    near = random_hold_out(model_under_test, World(), trained, 40)
    seen = {tuple(row) for row in World().locations(trained.locations, trained.seed)}
    assert trained.is_held_out(held.lonlat).all() and not trained.is_held_out(near.lonlat).any()
    for hold_out in (held, near):
        locations = {tuple(row) for row in hold_out.lonlat}
        assert len(locations) == len(hold_out) and not locations & seen
    assert len(held) == 80 and len(near) == 40


def test_vectors_of_a_hold_out_are_those_of_its_locations(
    model_under_test: ModelUnderTest, held: HoldOut
) -> None:
    some = model_under_test.embed(model_under_test.observe(World(), held.lonlat[:5]))
    for name, vectors in some.items():
        assert torch.allclose(vectors, held.embeddings[name][:5], atol=1e-5), name


def test_other_years_and_other_regions(
    model_under_test: ModelUnderTest, trained: TrainedOn
) -> None:
    later = temporal_hold_out(model_under_test, World(), Later(), trained, 24)
    assert not trained.is_held_out(later.lonlat).any() and "aerial 2031" in later.description
    box = region_of_bbox((-105.0, 38.0, -95.0, 43.0), "plains")
    plains = out_of_region_hold_out(model_under_test, Later(), box, trained, 24)
    assert box.contains(plains.lonlat).all() and "plains" in plains.description
    with pytest.raises(ObservationsError, match="out of region"):
        out_of_region_hold_out(
            model_under_test, World(), region_of_bbox((5, 50, 6, 51), "sea"), trained, 24
        )


def test_a_model_that_does_not_say_how_it_was_trained_is_refused() -> None:
    with pytest.raises(ModelError, match="held out"):
        TrainedOn.from_metrics({"training": {"seed": 0}})


# Ensembles


def test_learned_ensembles_never_fall_below_their_best_part_in_many_worlds() -> None:
    """Parts of every quality, some of them pure noise, tested on locations of their own."""
    rng = np.random.default_rng(0)
    gains, uniform_gains, kept = [], [], 0
    for draw in range(24):
        generator = torch.Generator().manual_seed(draw)
        truth = unit(torch.randn(640, 24, generator=generator))
        noise = rng.choice([0.15, 0.3, 0.6, 3.0], rng.integers(2, 4))
        parts = {f"m{k}": noisy(truth, float(n), generator) for k, n in enumerate(noise)}
        single = noisy(truth, 0.15, generator)
        blocks = np.arange(640) // 8
        train, test = np.arange(240), np.arange(240, 640)
        side: Side = "query" if draw % 2 else "gallery"
        ensemble = learn_ensemble(
            {name: part[train] for name, part in parts.items()}, single[train], blocks[train], side
        )
        assert min(ensemble.weights.values()) >= 0
        assert sum(ensemble.weights.values()) == pytest.approx(1)
        assert ensemble.kept or ensemble.weights[ensemble.best] == 1
        test_parts = {name: part[test] for name, part in parts.items()}
        best = max(
            float(recall_hits(part, single[test], side).mean()) for part in test_parts.values()
        )
        score = float(recall_hits(ensemble.combine(test_parts), single[test], side).mean())
        gains.append(score - best)
        uniform = combine(test_parts, uniform_weights(test_parts))
        uniform_gains.append(float(recall_hits(uniform, single[test], side).mean()) - best)
        kept += ensemble.kept
    assert min(gains) >= -0.02, "one location in fifty, of 400 tested, is within chance"
    assert min(uniform_gains) < -0.1, "uniform weights do fall, or this shows nothing"
    assert np.mean(gains) > np.mean(uniform_gains) and kept > 0


def test_parts_of_noise_get_no_weight() -> None:
    kept = 0
    for draw in range(8):
        generator = torch.Generator().manual_seed(draw)
        truth = unit(torch.randn(240, 16, generator=generator))
        parts = {"good": noisy(truth, 0.3, generator), "noise": noisy(truth, 30.0, generator)}
        single = noisy(truth, 0.2, generator)
        assert fit_weights(parts, single, "gallery", "good")["good"] > 0.85
        kept += learn_ensemble(parts, single, np.arange(240) // 6, "gallery").kept
    assert kept <= 1


def test_an_ensemble_of_equal_parts_is_the_part() -> None:
    part = unit(torch.randn(30, 8, generator=torch.Generator().manual_seed(0)))
    together = combine({"a": part, "b": part}, {"a": 0.2, "b": 0.8})
    assert torch.allclose(together, part, atol=1e-6)


# Answer sets and calibration


def test_stated_coverage_is_kept_on_blocks_that_did_not_calibrate() -> None:
    """Exchangeable blocks: within three standard errors of a binomial count."""
    generator = torch.Generator().manual_seed(0)
    truth = unit(torch.randn(900, 16, generator=generator))
    query, gallery = noisy(truth, 0.35, generator), noisy(truth, 0.2, generator)
    folds = blocked_folds(np.arange(900) // 5, 10, 0)
    result = answer_sets(query, gallery, folds, (0.5, 0.9))
    for (kind, level), covered in result.covered.items():
        error = np.sqrt(level * (1 - level) / 900)
        assert abs(covered.mean() - level) < 3 * error, (kind, level)
        size = result.size[kind, level]
        assert (size <= 900).all() and size.mean() < 450
    for kind in KINDS:
        assert (result.size[kind, 0.9] >= result.size[kind, 0.5]).all(), kind


def test_one_half_that_calibrates_covers_the_other_as_often_as_stated() -> None:
    """Not only on average over folds: one threshold, many new worlds."""
    covered = []
    for draw in range(12):
        generator = torch.Generator().manual_seed(draw)
        truth = unit(torch.randn(400, 12, generator=generator))
        folds = np.arange(400) // 200
        result = answer_sets(
            noisy(truth, 0.4, generator), noisy(truth, 0.2, generator), folds, (0.9,)
        )
        covered.append([result.covered[kind, 0.9][folds == 0].mean() for kind in KINDS])
    error = np.sqrt(0.09 / 200 * 2 / 12)  # 200 calibrate and 200 are tested, twelve times
    assert np.mean(covered, axis=0) == pytest.approx([0.9, 0.9], abs=4 * error)


def test_the_set_of_a_query_that_is_sure_is_one_answer() -> None:
    vectors = unit(torch.randn(200, 64, generator=torch.Generator().manual_seed(0)))
    result = answer_sets(vectors, vectors, np.arange(200) % 4, (0.9,))
    assert result.size["threshold", 0.9].max() <= 1


def test_the_temperature_that_made_the_answers_is_found_again() -> None:
    """Answers drawn from the softmax itself are calibrated under its own temperature only."""
    generator = torch.Generator().manual_seed(0)
    query, gallery = unit(torch.randn(2, 1500, 12, generator=generator))
    drawn = torch.softmax(12 * (query @ gallery.T), dim=1).multinomial(1, generator=generator)
    answers = gallery[drawn[:, 0]]  # row k is the location of query k
    losses = log_losses(query, answers)
    assert losses.shape == (1500, len(SCALES))
    assert losses[3, 7] == pytest.approx(
        float(-torch.log_softmax(SCALES[7] * (query[3] @ answers.T), dim=0)[3]), abs=1e-4
    )
    right = np.random.default_rng(0).random(4000)
    bins = reliability_bins(right, np.random.default_rng(1).random(4000) < right)
    assert calibration_error(bins) < 0.03
    assert calibration_error(reliability_bins(right, np.ones(4000, bool))) == pytest.approx(
        0.5, abs=0.02
    )


def test_a_parabola_finds_the_scale_between_two_of_the_table() -> None:
    exact = 23.0
    losses = np.log(SCALES / exact)[None, :] ** 2
    assert fit_scale(losses) == pytest.approx(exact, rel=1e-6)


def test_sharper_temperatures_are_surer_of_the_same_answer() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = unit(torch.randn(100, 8, generator=generator))
    query, gallery = noisy(truth, 0.3, generator), noisy(truth, 0.3, generator)
    soft, right = top_answers(query, gallery, np.full(100, 5.0))
    sharp, same = top_answers(query, gallery, np.full(100, 50.0))
    assert (sharp > soft).all() and np.array_equal(right, same)


# Geocells


def test_a_perfect_coordinate_encoder_finds_the_cell() -> None:
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-105, -95, 300), rng.uniform(35, 42, 300)], axis=1)
    side = 200_000.0
    numbers = cell_numbers(lonlat, side)
    colrow = np.unique(numbers, axis=0)
    centres = geocells._to_lonlat((colrow + 0.5) * side)
    assert np.array_equal(cell_numbers(centres, side), colrow), "a cell holds its own centre"
    vectors = unit(torch.randn(len(colrow), 256, generator=torch.Generator().manual_seed(0)))
    cells = Geocells(side, colrow, centres, vectors, vectors)
    index = cells.index_of(lonlat)
    assert np.array_equal(colrow[index], numbers)
    query = vectors[torch.from_numpy(index)]
    assert np.array_equal(classify(query, vectors).numpy(), index)
    table = geocell_table({"perfect": query}, lonlat, cells)
    assert (table["right"] == 1).all()
    assert (table["median_m"] < side).all() and (table["Acc@200km"] == 1).all()


def test_cells_cover_the_land_around_the_locations(model_under_test: ModelUnderTest) -> None:
    rng = np.random.default_rng(0)
    lonlat = np.stack([rng.uniform(-103, -97, 50), rng.uniform(38, 41, 50)], axis=1)
    cells = geocells.cover_land(
        model_under_test.model, World(), lonlat, 150.0, model_under_test.device
    )
    assert (cells.index_of(lonlat) >= 0).all()
    exact = geocells.encode_coordinates(
        model_under_test.model, cells.lonlat, model_under_test.device
    )
    assert torch.allclose(cells.centroid, exact)
    assert cells.interior.norm(dim=1).numpy() == pytest.approx(np.ones(len(exact)), abs=1e-5)
    with pytest.raises(ModelError, match="larger"):
        geocells.cover_land(model_under_test.model, World(), lonlat, 0.1, model_under_test.device)


# Robustness


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_no_rotation_and_no_averaging_change_nothing_and_four_quarters_neither(
    dtype: torch.dtype,
) -> None:
    values = (255 * torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))).to(dtype)
    assert torch.equal(rotated(values, 0.0), values) and torch.equal(coarsened(values, 1), values)
    turned = values
    for _ in range(4):
        turned = rotated(turned, 90.0)
    assert torch.equal(turned, values) and not torch.equal(rotated(values, 90.0), values)
    assert rotated(values, 33.0).dtype == dtype == coarsened(values, 4).dtype


def test_a_small_angle_turns_the_same_way_as_a_quarter() -> None:
    """An image rotated by 89 degrees is nearly the one rotated by 90."""
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).contiguous()
    near, exact = rotated(ramp, 89.0), rotated(ramp, 90.0)
    assert (near - exact)[..., 8:24, 8:24].abs().max() < 0.05


def test_averaged_squares_keep_their_mean() -> None:
    values = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    coarse = coarsened(values, 4)
    assert coarse.shape == values.shape
    assert torch.allclose(coarse.mean(), values.mean(), atol=1e-6)
    assert torch.equal(coarse[..., 0, 0], coarse[..., 3, 3])
    assert coarsened(values[..., :30], 4).shape == (2, 1, 32, 30)


def test_unchanged_observations_stand_at_the_start_of_every_curve(
    model_under_test: ModelUnderTest, held: HoldOut
) -> None:
    table = robustness_table(model_under_test, held)
    for modality in ("aerial", "dsm"):
        degraded = table[(table["modality"] == modality) & (table["kind"] != "missing modalities")]
        start = degraded.sort_values("level").groupby("kind").first()
        assert start["R@10"].nunique() == 1 and len(start) == 4, start
    assert set(table["kind"]) == set(AXES)


def test_fewer_modalities_find_less() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = unit(torch.randn(400, 16, generator=generator))
    vectors = {name: noisy(truth, 0.35, generator) for name in "abcd"}
    curve = missing_curve(vectors, "a")
    assert list(curve) == [0, 1, 2] and curve[0] > curve[1] > curve[2]


# The report


@pytest.fixture(scope="module")
def report(folder: Path) -> EvaluationReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval_sections, "CELLS_KM", (400.0,))
        patch.setattr(table_probes, "WORLD_LOCATIONS", 240)
        patch.setattr(table_probes, "BASELINES", ("mean", "lonlat kNN"))
        table = pd.DataFrame({"class": ["a", "b"], "iou": [0.25, 0.5]})
        made = BenchmarkResult(
            name="made", metrics={"miou": 0.375}, table=table, facts={"samples": 3}
        )
        benchmark = Benchmark("aerial", "nothing", lambda model, folder, device: made)
        patch.setitem(DOWNSTREAM, "made", benchmark)
        plan = EvaluationPlan(locations=96, later=Later(), downstream={"made": folder})
        return evaluate_model(folder, World(), plan)


def test_the_report_has_every_table_and_needs_no_other_file(
    report: EvaluationReport, tmp_path: Path
) -> None:
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


def test_shares_lie_between_none_and_all(report: EvaluationReport) -> None:
    for name, frame in report.tables.items():
        shares = frame.filter(regex=r"^(R@|Acc@|covered|right)")
        assert ((shares >= 0) & (shares <= 1)).all(axis=None), name


def test_the_retrieval_of_the_report_is_that_of_its_ensembles_parts(
    report: EvaluationReport,
) -> None:
    weights = report.tables["ensemble_weights"]
    columns = [name for name in weights if name.startswith("weight_")]
    assert weights[columns].sum(axis=1).to_numpy() == pytest.approx(np.ones(len(weights)))
    assert len(weights) == 10 and len(report.tables["retrieval_spatial"]) == 21


def test_text_of_a_report_is_escaped() -> None:
    frame = pd.DataFrame({"a<b": ["<script>", "x"], "n": [1.0, float("nan")]})
    section = Section("s & t", "", [ReportTable("t", "<b>", frame), ReportFigure("p", '"q"', b"")])
    page = EvaluationReport("<title>", {"k": "<v>"}, ["<w>"], [section]).html()
    assert "<script>" not in page and "<v>" not in page and "<w>" not in page
    assert "&lt;script&gt;" in page and "nan" not in page


# The command


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int | str, str, str]:
    monkeypatch.setattr(sys, "argv", ["unigeo-produce", "evaluate", *map(str, arguments)])
    code: int | str = 0
    try:
        main()
    except SystemExit as stopped:
        code = stopped.code or 0
    output = capsys.readouterr()
    return code, output.out.strip(), output.err


def test_the_command_writes_a_report_beside_the_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = command(
        monkeypatch, capsys, folder, "--parts", "retrieval", "--places", 64, "--other-region",
        "-105,35,-95,45",
    )  # fmt: skip
    assert code == 0, err
    assert Path(out) == folder.with_name("model-evaluation") / "report.html"
    assert (Path(out).parent / "retrieval_out_of_region.csv").exists()
    assert "No temporal hold-out" in err and "not those" not in err


def test_other_observations_than_those_of_training_are_warned_of(folder: Path) -> None:
    report = evaluate_model(folder, Later(), EvaluationPlan(locations=64, parts=("sets",)))
    assert "not those that the model was trained on" in report.warnings[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no finished model"),
        (["MODEL", "--parts", "magic"], "magic"),
        (["MODEL", "--places", "3"], "64"),
        (["MODEL", "--observations", "none.toml"], "none.toml"),
        (["MODEL", "--suite", "s.toml"], "--data"),
        (["MODEL", "--downstream", "mdas"], "NAME=FOLDER"),
        (["MODEL", "--downstream", "other=x"], "other"),
        (["MODEL", "--other-region", "atlantis"], "atlantis"),
        (["MODEL", "--other-region", "1,2"], "a box is west,south,east,north"),
    ],
)
def test_bad_options_end_in_one_message_and_exit_code_2(
    folder: Path,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    replaced = [str(folder) if argument == "MODEL" else argument for argument in arguments]
    code, out, err = command(monkeypatch, capsys, *replaced)
    assert code == 2 and out == "" and message in err, err
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_other_observations_asks_for_them(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["observations"]["name"] = "somewhere"
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    code, _, err = command(monkeypatch, capsys, tmp_path)
    assert code == 2 and "'somewhere'" in err and "--observations" in err


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(ModelError, match="no part"):
        replace(EvaluationPlan(), parts=())
    assert set(EvaluationPlan().parts) == set(evaluate.PARTS)
