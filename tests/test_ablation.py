"""Ablation tables: every row and seed is run once, failures are reported, nothing runs twice."""

import json
import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from scipy import stats

from unigeo.producer.ablation import run_trials
from unigeo.producer.ablation.ablation_table import read_table
from unigeo.producer.ablation.cached_observations import CachedObservations
from unigeo.producer.ablation.trials import (
    RESULT,
    Trial,
    plan_trials,
    read_error,
    read_result,
    trial_folder,
)
from unigeo.producer.ablation.workers import run_workers
from unigeo.producer.commands.ablate import ablate
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.patches import Patches
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.observations.wrapping import ObservationsWrapper, only
from unigeo.schemas.errors import ModelError, ObservationsError

MICRO = """
name = "micro"
metrics = ["test_ablation:blocks"]
[base]
seeds = 2
training = {locations = 400, batch = 32, steps = 4, warmup = 1, gallery = 20, block_km = 200}
[[question]]
name = "Depth"
row = [
    { name = "0", model.coordinate.depth = 0 },
    { name = "1, as the base", model.coordinate.depth = 1 },
]
[[question]]
name = "Modalities"
row = [{ name = "without text", model.text = "none" }, { name = "wild", training.rate = 1e30 }]
"""
EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "ablation.toml"
RUNS = 10
REPEATED = 2  # runs of the row that equals the base


def blocks(
    model: UniGeoCLIP, tokenizer: Any, observations: Observations, device: torch.device
) -> dict[str, float]:
    """A metric of a user's own."""
    return {"blocks": float(model.settings.coordinate.depth)}


def run(*arguments: object, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(ablate, [str(arg) for arg in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "micro.toml").write_text(MICRO)
    result = run(folder / "micro.toml", "--out", folder / "out")
    return folder, result


def planned_trials(folder: Path) -> list[Trial]:
    return plan_trials(read_table(folder / "micro.toml"), World())


def test_a_row_that_fails_is_reported_and_the_others_go_on(micro: tuple[Path, Result]) -> None:
    folder, result = micro
    table = pd.read_csv(folder / "out" / "ablation.csv")
    assert result.exit_code == 1 and len(table) == RUNS
    failed = table[table.row == "wild"]
    assert list(failed.state) == ["failed", "failed"]
    assert failed.error.str.contains("the loss of step 1 is nan").all()
    assert (table[table.row != "wild"].state == "finished").all()
    for name in ("ablation.md", "ablation.html"):
        page = (folder / "out" / name).read_text()
        assert "Modalities: wild, seed 1" in page and "the loss of step 1 is nan" in page


def test_rows_that_come_to_the_same_share_one_training(micro: tuple[Path, Result]) -> None:
    folder, result = micro
    assert f"{RUNS - REPEATED} runs, 0 finished before" in result.stderr
    table = pd.read_csv(folder / "out" / "ablation.csv").set_index(["row", "seed"])
    assert table.loc[("base", 0), "run"] == table.loc[("1, as the base", 0), "run"]
    assert len(list((folder / "out" / "runs").iterdir())) == RUNS - REPEATED


def test_the_effects_are_those_of_scipy(micro: tuple[Path, Result]) -> None:
    folder, _ = micro
    runs = pd.read_csv(folder / "out" / "ablation.csv").set_index(["row", "seed"])
    effects = pd.read_csv(folder / "out" / "effects.csv").set_index(["measure", "row"])
    depth, base = (runs.loc[row, "R@10"] for row in ("0", "base"))
    effect = effects.loc[("R@10", "0")]
    interval = stats.ttest_1samp(depth, 0).confidence_interval(0.95)
    assert effect["mean"] == pytest.approx(depth.mean())
    assert effect.half_width == pytest.approx((interval.high - interval.low) / 2)
    paired = stats.ttest_rel(depth, base)
    interval = paired.confidence_interval(0.95)
    assert effect.difference == pytest.approx((interval.high + interval.low) / 2)
    assert effect.difference_half_width == pytest.approx((interval.high - interval.low) / 2)
    assert effect.p == pytest.approx(paired.pvalue)
    assert effects.loc[("R@10", "1, as the base"), "difference"] == 0
    assert effects.loc[("blocks", "0"), "difference"] == -1


def test_recall_is_the_mean_over_ordered_pairs_of_the_model_s_own_modalities(
    micro: tuple[Path, Result],
) -> None:
    folder, _ = micro
    runs = planned_trials(folder)
    table = pd.read_csv(folder / "out" / "ablation.csv").set_index(["row", "seed"])
    for trial in runs:
        if trial.row.name != "without text":
            continue
        model = trial_folder(trial, folder / "out") / "model"
        matrix = json.loads((model / "metrics.json").read_text())["retrieval"]["R@10"]
        recalls = [recall for part in matrix.values() for recall in part.values()]
        assert len(recalls) == 12 and "text" not in matrix
        measured = table.loc[("without text", trial.seed)]
        assert measured["R@10"] == pytest.approx(np.mean(recalls))
        assert measured["R@10 worst pair"] == min(recalls)


def test_a_second_start_does_only_what_is_missing(
    micro: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = micro
    runs = planned_trials(folder)
    results = {p: p.stat().st_mtime_ns for p in (folder / "out" / "runs").rglob(RESULT)}
    lost = trial_folder(next(t for t in runs if t.row.name == "0"), folder / "out") / RESULT
    kept = lost.read_text()
    lost.unlink()
    trained_folders: list[Path] = []
    train = run_trials.train
    monkeypatch.setattr(
        run_trials, "train", lambda *a, **k: trained_folders.append(a[3]) or train(*a, **k)
    )
    result = run(folder / "micro.toml", "--out", folder / "out")
    assert f"{RUNS - REPEATED} runs, {RUNS - REPEATED - 3} finished before" in result.stderr
    assert len(trained_folders) == 3  # the lost one, and the two that fail
    assert json.loads(lost.read_text())["retrieval"] == json.loads(kept)["retrieval"]
    now = {p: p.stat().st_mtime_ns for p in (folder / "out" / "runs").rglob(RESULT)}
    assert {p for p in now if now[p] != results[p]} == {lost}


def test_a_dry_run_lists_and_does_nothing(micro: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = micro
    fresh = run(folder / "micro.toml", "--out", tmp_path / "new", "--dry-run", "--seeds", 3)
    assert fresh.exit_code == 0 and not (tmp_path / "new").exists()
    assert len(fresh.stdout.splitlines()) == 15 and "12 of them different" in fresh.stderr
    again = run(folder / "micro.toml", "--out", folder / "out", "--dry-run")
    states = [line.split()[1] for line in again.stdout.splitlines()]
    assert states == ["finished"] * 8 + ["failed"] * 2 and "about" in again.stderr


def test_named_runs_come_by_stdin_and_are_answered_by_their_keys(
    micro: tuple[Path, Result],
) -> None:
    """As `--jobs` does with a worker."""
    folder, _ = micro
    runs = planned_trials(folder)
    keys = [runs[0].key, runs[-1].key]
    arguments = (folder / "micro.toml", "--out", folder / "out", "--run")
    done = run(*arguments, "-", stdin="\n".join(keys) + "\n")
    assert done.exit_code == 0 and done.stdout.split() == keys
    assert run(*arguments, runs[0].key).exit_code == 0
    failed = run(*arguments, runs[-1].key)
    assert failed.exit_code == 1 and "the loss of step 1 is nan" in failed.stderr
    with pytest.raises(ModelError, match="no run 123"):
        run(*arguments, "123")


def test_one_question_alone(micro: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = micro
    arguments = (folder / "micro.toml", "--out", tmp_path, "--dry-run", "--question")
    assert "Modalities" not in run(*arguments, "Depth").stdout
    text = (folder / "micro.toml").read_text()
    bracketed = tmp_path / "bracketed.toml"
    bracketed.write_text(text.replace('"Depth"', '"Depth (base: 1)"'))
    same = run(bracketed, *arguments[1:], "Depth").stdout
    assert "Depth (base: 1): " in same and "Modalities" not in same
    with pytest.raises(ModelError, match="no question 'Width'"):
        run(*arguments, "Width")


def test_changes_of_the_command_line_are_of_every_row(
    micro: tuple[Path, Result], tmp_path: Path
) -> None:
    folder, _ = micro
    arguments = (folder / "micro.toml", "--out", tmp_path, "--dry-run")
    with pytest.raises(ModelError, match=r"training\.steps must be a whole number"):
        run(*arguments, "--set", "training.steps=many")
    keys = [
        {line.split()[0] for line in run(*arguments, *more).stdout.splitlines()}
        for more in ((), ("--set", "training.steps=5"))
    ]
    assert not keys[0] & keys[1]


def test_a_batch_system_s_sigterm_stops_it_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "micro.toml").write_text(MICRO)
    arguments = (tmp_path / "micro.toml", "--out", tmp_path / "out", "--question", "Depth")
    train = run_trials.train
    trained_folders: list[Path] = []

    def stopped(*arguments: Any, **options: Any) -> Any:
        trained_folders.append(arguments[3])
        if len(trained_folders) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(*arguments, **options)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(run_trials, "train", stopped)
    result = run(*arguments)
    assert signal.getsignal(signal.SIGTERM) == before
    assert result.exit_code == 130 and "the same command goes on" in result.stderr
    states = pd.read_csv(tmp_path / "out" / "ablation.csv").state
    assert list(states) == ["finished", "open"] + ["open"] * 2 + ["finished", "open"]
    again = run(*arguments)
    assert again.exit_code == 0 and "4 runs, 1 finished before" in again.stderr


WORKER = """
import json, os, sys
from pathlib import Path
for line in sys.stdin:
    key = line.strip()
    folder = Path(sys.argv[1], "runs", key)
    folder.mkdir(parents=True, exist_ok=True)
    if key == sys.argv[2]:
        os._exit(7)
    if key == sys.argv[3]:
        import time; print("waiting", flush=True); time.sleep(600)
    (folder / "result.json").write_text(json.dumps({"pid": os.getpid(), "measured": []}))
    print("a library says something", flush=True)
    print(key, flush=True)
"""


def test_a_worker_that_dies_costs_its_run_only(micro: tuple[Path, Result], tmp_path: Path) -> None:
    runs = planned_trials(micro[0])
    different = list({trial.key: trial for trial in runs}.values())
    command = [sys.executable, "-c", WORKER, str(tmp_path), different[2].key, ""]
    ended = list(run_workers(different, command, 2, tmp_path))
    assert sorted(trial.key for trial, _ in ended) == sorted(trial.key for trial in different)
    assert [trial for trial, error in ended if error] == [different[2]]
    assert "ended with code 7" in (read_error(different[2], tmp_path) or "")
    results = [read_result(trial, tmp_path, ()) for trial in different]
    assert [result is None for result in results] == [k == 2 for k in range(len(different))]
    assert len({result["pid"] for result in results if result}) <= 3, "workers live for many runs"


def test_workers_end_when_they_are_left(micro: tuple[Path, Result], tmp_path: Path) -> None:
    runs = planned_trials(micro[0])
    command = [sys.executable, "-c", WORKER, str(tmp_path), "", runs[2].key]
    ended = run_workers([runs[0], runs[2], runs[4]], command, 1, tmp_path)
    assert next(ended) == (runs[0], None)
    pid = (read_result(runs[0], tmp_path, ()) or {})["pid"]
    ended.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert read_error(runs[2], tmp_path) is None, "it was stopped; it did not fail"


class Counting(ObservationsWrapper):
    """Counts the calls that observe."""

    calls = 0

    def patches(self, modality: str, lonlat: np.ndarray) -> Patches:
        self.calls += 1
        return super().patches(modality, lonlat)

    def texts(self, lonlat: np.ndarray, modality: str = "text") -> list[str | None]:
        self.calls += 1
        return super().texts(lonlat)


def test_cached_observations_equal_those_of_the_source(tmp_path: Path) -> None:
    world = World()
    counting = Counting(world)
    lonlat = world.locations(50, seed=3)
    for _ in range(2):
        cached = CachedObservations(counting, tmp_path)
        assert np.array_equal(cached.locations(50, 3), lonlat)
        for modality in ("aerial", "street", "dsm"):
            ours, theirs = cached.patches(modality, lonlat), world.patches(modality, lonlat)
            assert ours.values.dtype == theirs.values.dtype
            assert np.array_equal(ours.values, theirs.values)
            assert np.array_equal(ours.valid, theirs.valid)
        assert cached.texts(lonlat) == world.texts(lonlat)
        assert cached.provenance() == world.provenance()
    assert counting.calls == 4
    cached.patches("aerial", lonlat[::-1])
    assert counting.calls == 5, "other locations, or another order, are observed again"


def test_a_reader_cannot_change_the_cache(tmp_path: Path) -> None:
    lonlat = World().locations(5, seed=3)
    CachedObservations(World(), tmp_path).patches("dsm", lonlat).values[:] = 0
    assert CachedObservations(World(), tmp_path).patches("dsm", lonlat).values.any()


def test_modalities_that_are_not_observed_cannot_be_chosen() -> None:
    assert only(World(), ("text", "coordinate")).modalities == ("coordinate", "text")
    with pytest.raises(ObservationsError, match="no radar"):
        only(World(), ("coordinate", "radar"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[bas]\n", "unknown key 'bas' .did you mean 'base'"),
        ("[base]\nseeds = 0", "at least 1"),
        ("[base]\nseeds = true", "'seeds' cannot be True"),
        ("[base]\ntraining.seed = 3", "drawn from the table's seeds"),
        ("[[question]]\nname = 'a'", "lacks the key 'row'"),
        ("[[question]]\nname = 'a'\nrow = [{name = 'b'}, {name = 'b'}]", "two rows 'a: b'"),
        ("[[question]]\nname = 'a'\nrow = [{nam = 'b'}]", r"\(a\), row 1 has an unknown key 'nam'"),
        ("name = ", "cannot read"),
    ],
)
def test_a_table_without_sense_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(ModelError, match=message):
        read_table(tmp_path / "t.toml")


def test_a_setting_without_sense_is_refused_with_its_row_before_any_work(tmp_path: Path) -> None:
    row = "[[question]]\nname = 'Depth'\nrow = [{name = 'x', model.coordinate.dept = 1}]"
    (tmp_path / "t.toml").write_text(row)
    with pytest.raises(ModelError, match=r"row 'Depth: x': .* did you mean 'model.coordinate.dep"):
        run(tmp_path / "t.toml", "--out", tmp_path / "out")
    (tmp_path / "t.toml").write_text("metrics = ['os:nothing']")
    with pytest.raises(ModelError, match="no metric 'os:nothing'"):
        run(tmp_path / "t.toml", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_shipped_table_is_of_settings_that_there_are() -> None:
    table = read_table(EXAMPLE)
    made = plan_trials(table, World())
    assert len(made) == table.seeds * len(table.rows) > 70
    keys = {trial.key for trial in made}
    assert len(keys) == len(made), "no row is the base, or another row, over again"


def test_keys_of_a_table_are_read_in_their_nested_form(tmp_path: Path) -> None:
    text = """
    [base.training]
    steps = 7
    [[question]]
    name = "Rates"
    [[question.row]]
    name = "two"
    training.tower_stop = [["coordinate", 0.5], ["aerial", 1]]
    [question.row.model.coordinate]
    sigmas = [1, 4.5]
    scale_embedding = false
    """
    (tmp_path / "t.toml").write_text(textwrap.dedent(text))
    table = read_table(tmp_path / "t.toml")
    assert table.changes == {"training.steps": "7"} and table.name == "t"
    assert table.rows[1].changes == {
        "training.tower_stop": "coordinate:0.5,aerial:1",
        "model.coordinate.sigmas": "1,4.5",
        "model.coordinate.scale_embedding": "false",
    }
