"""What a run tells: its log, operations and energy, and what went wrong."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.training_runs import SMALL, model_settings
from transformers import AutoTokenizer, Siglip2Tokenizer, SiglipConfig

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.text import tokenize
from unigeo.producer.observations.synthetic.world import World
from unigeo.producer.training.checkpoint import TrainingState
from unigeo.producer.training.dataset import prepare_data
from unigeo.producer.training.ema import MeanWeights
from unigeo.producer.training.energy import EnergyMeter
from unigeo.producer.training.failures import LostRankError, explain_step_errors
from unigeo.producer.training.flops import data_sheet_peak, peak_flops, sample_flops
from unigeo.producer.training.log import TrainingLog, read_log, total_measured
from unigeo.producer.training.loop import train_step
from unigeo.producer.training.loss.contrast_settings import ContrastSettings
from unigeo.producer.training.optimizer import build_optimizer
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.step import TrainingBatch
from unigeo.schemas.errors import MissingExtraError, ModelError

ALONE = Processes()
CPU = torch.device("cpu")


def coordinates(count: int = 8) -> tuple[UniGeoCLIP, Samples]:
    settings = model_settings().with_towers(aerial=None, text=None)
    lonlat = torch.from_numpy(World().locations(count, 0))
    heights = torch.zeros(count, 1, *settings.shape("dsm")[1:])
    present = torch.ones(count, dtype=torch.bool)
    return UniGeoCLIP(settings), Samples(
        {"coordinate": lonlat, "dsm": heights}, {"coordinate": present, "dsm": present}
    )


def test_a_log_goes_on_after_the_last_checkpoint(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, 0)
    for step in range(4):
        log.write(step, {"loss": 0.1 * step}, {"seconds": 0.5, "joules": 2.0})
    log.close()
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # cut short by a crash
    assert len(read_log(tmp_path / "train.jsonl")) == 4
    again = TrainingLog(tmp_path, 2)
    again.write(2, {"loss": 7.0}, {"seconds": 1.0})
    again.close()
    lines = read_log(tmp_path / "train.jsonl")
    assert [(line["step"], line["loss"]) for line in lines] == [(0, 0), (1, 0.1), (2, 7)]
    assert total_measured(lines) == {"seconds": 2.0}, "joules are not known of every step"
    assert total_measured(lines[:2]) == {"seconds": 1.0, "joules": 4.0}


def test_tensorboard_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"unigeo\[tensorboard\]"):
        TrainingLog(tmp_path, 0, tmp_path / "board")


def test_energy_is_the_counters_difference_over_their_end(tmp_path: Path) -> None:
    for package, range_uj in (("intel-rapl:0", 10_000_000), ("intel-rapl:1", 50_000_000)):
        zone = tmp_path / package
        zone.mkdir()
        (zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
        (zone / "energy_uj").write_text("9000000\n")
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of the first package, counted present
    meter = EnergyMeter(CPU, tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("1000000\n")  # started again at 10 J
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("12000000\n")
    assert meter.joules() == pytest.approx(2 + 3)
    assert meter.joules() == 0
    assert EnergyMeter(CPU, tmp_path / "nowhere").joules() is None


def test_operations_are_those_of_the_products() -> None:
    """By hand for one point: 4 tokens of width 32, two blocks, and the loss over the batch."""
    model, samples = coordinates()
    counted = sample_flops(model, samples)
    tokens, width, hidden = 4, 32, 64
    block = 2 * tokens * (3 * width**2 + width**2 + 2 * width * hidden) + 4 * tokens**2 * width
    phases, rotation = 2 * 3 * 2 * (width // 2), 2 * 32 * 32
    assert counted.forward["coordinate"] == 2 * block + phases + rotation
    assert counted.backward["coordinate"] == pytest.approx(2 * (2 * block + rotation), rel=0.02)
    needed, again = counted.step(5, SMALL, 32)
    towers = sum(counted.forward.values()) + sum(counted.backward.values())
    assert needed == SMALL.batch * towers + 3 * 2 * SMALL.batch**2 * 32
    assert again == 0 and all(weight.grad is None for weight in model.parameters())
    chunked = replace(SMALL, chunk=4, activation_checkpointing=True, tower_rates=(("dsm", 0.0),))
    needed, again = counted.step(5, chunked, 32)
    assert again == SMALL.batch * 2 * counted.forward["coordinate"]


def test_a_peak_is_that_of_the_data_sheet_or_measured() -> None:
    assert data_sheet_peak("NVIDIA H200") == data_sheet_peak("NVIDIA H100 80GB HBM3") == 989.4e12
    assert data_sheet_peak("NVIDIA H100 PCIe") == 756e12 and data_sheet_peak("NVIDIA L4") == 121e12
    assert data_sheet_peak("NVIDIA L40S") == 362e12 and data_sheet_peak("GeForce 256") is None
    peak = peak_flops(CPU, SMALL)
    assert peak is not None and 1e8 < peak < 1e14


def test_running_out_of_memory_says_what_to_set() -> None:
    """Asks for more than present is, for real."""
    with (
        pytest.raises(ModelError, match=r"step 3: batch 23 .* chunk=4 or activation_checkpointing"),
        explain_step_errors(3, replace(SMALL, chunk=8), ALONE),
    ):
        torch.empty(2**52, dtype=torch.uint8)


def test_a_lost_process_is_distinguished_from_a_mistake_of_ours() -> None:
    two = Processes(0, 2)
    with pytest.raises(LostRankError, match="step 9"), explain_step_errors(9, SMALL, two):
        raise RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(RuntimeError, match="shapes"), explain_step_errors(9, SMALL, two):
        raise RuntimeError("shapes do not match")


def test_a_loss_that_is_no_number_names_step_and_tower() -> None:
    model, samples = coordinates()
    with torch.no_grad():
        next(model.encoders["dsm"].parameters()).fill_(torch.nan)
    state = TrainingState(model, build_optimizer(model, SMALL), MeanWeights(model, 0))
    with pytest.raises(ModelError, match=r"step 6 is nan; vectors of dsm .* tower_rates"):
        train_step(state, TrainingBatch(6, samples, np.arange(8)), SMALL, ALONE, CPU, False)


def test_what_the_observations_do_not_show_is_refused() -> None:
    settings = replace(SMALL, contrast=ContrastSettings(same_panorama=True))
    with pytest.raises(ModelError, match="panorama"):
        prepare_data(World(), model_settings(), settings, ALONE)

    class Blind(World):
        modalities = ("coordinate", "aerial", "text")

    with pytest.raises(ModelError, match="encoders of dsm"):
        prepare_data(Blind(), model_settings(), SMALL, ALONE)


def test_a_text_tower_from_a_checkpoint_reads_with_its_tokenizer(tmp_path: Path) -> None:
    """Another vocabulary would make its weights meaningless."""
    SiglipConfig().save_pretrained(tmp_path)
    sentences = ["zebra crossings, quite unlike the world's words", "tile roofs and pasture"] * 9
    theirs = Siglip2Tokenizer(add_eos_token=True, add_bos_token=False)
    theirs.train_new_from_iterator(sentences, vocab_size=300).save_pretrained(tmp_path)
    text = replace(model_settings().text, pretrained=str(tmp_path))
    data = prepare_data(World(), model_settings().with_towers(text=text), SMALL, ALONE)
    expected = AutoTokenizer.from_pretrained(tmp_path)("zebra crossings")["input_ids"]
    learned = prepare_data(World(), model_settings(), SMALL, ALONE)
    for tokenizer, same in ((data.tokenizer, True), (learned.tokenizer, False)):
        ids = tokenize(tokenizer, ["zebra crossings"])[0, : len(expected)].tolist()
        assert (ids == expected) is same


def test_settings_can_be_written_as_json() -> None:
    assert json.loads(json.dumps(SMALL.identity()))["contrast"]["pairs"] == "all"
