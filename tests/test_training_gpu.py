"""What only a GPU can show: memory that runs out, compiled blocks, copies behind the work."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.gpu_marks import MARKS

from benchmarks.producer.waves import Waves, model_settings
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.presets import base
from unigeo.producer.encoders.text import train_tokenizer
from unigeo.producer.training.failures import explain_step_errors
from unigeo.producer.training.optimizer import build_optimizer
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples, observe
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import TrainingBatch, compute_gradients, prepare_blocks
from unigeo.producer.training.train import train
from unigeo.schemas.errors import ModelError

pytestmark = MARKS
ALONE = Processes()
SMALL = TrainingSettings(locations=300, batch=23, steps=14, warmup=3, gallery=24, block_km=150)
NOISY = replace(SMALL, jitter_m=300.0, drop=0.3, ema=0.7, chunk=5)


def test_running_out_of_memory_says_what_to_set() -> None:
    """A whole batch of street images at once does not fit any GPU of today."""
    settings = replace(SMALL, batch=16_384, locations=100_000)
    street = base(pretrained=None).with_towers(coordinate=None, aerial=None, dsm=None, text=None)
    with torch.device("cuda"):
        model = UniGeoCLIP(street).train()
        images = torch.zeros(settings.batch, 3, 224, 224, dtype=torch.uint8)
        degrees = torch.zeros(settings.batch, 2, dtype=torch.float64)
        present = torch.ones(settings.batch, dtype=torch.bool)
    samples = Samples(
        {"coordinate": degrees, "street": images}, {"coordinate": present, "street": present}
    )
    batch = TrainingBatch(4, samples, np.arange(settings.batch))
    with (
        pytest.raises(ModelError, match="step 4: batch 16384"),
        explain_step_errors(4, settings, ALONE),
    ):
        compute_gradients(model, batch, settings, ALONE)


def test_compiled_blocks_in_chunks_give_the_gradients_of_plain_ones(samples: Samples) -> None:
    plain = gradients_of(samples, replace(SMALL, compile=False, precision="float32"))
    quick = gradients_of(samples, replace(SMALL, compile=True, precision="float32", chunk=8))
    rough = gradients_of(samples, replace(SMALL, compile=True, precision="bfloat16", chunk=8))
    for name, values in plain.items():
        assert torch.allclose(values, quick[name], atol=1e-4 * float(values.abs().max()) + 1e-7)
        cosine = torch.nn.functional.cosine_similarity(
            values.flatten(), rough[name].flatten(), dim=0
        )
        assert cosine > 0.95 or float(values.norm()) < 1e-4, name


def test_cached_and_streamed_samples_train_the_same_model(tmp_path: Path) -> None:
    settings = replace(NOISY, precision="float32", compile=False)
    for name, kept_gb in (("kept", 1.0), ("ahead", 0.0)):
        train(
            Waves(),
            model_settings(),
            replace(settings, kept_gb=kept_gb),
            tmp_path / name,
            progress=False,
        )
    kept, ahead = (losses(tmp_path / name) for name in ("kept", "ahead"))
    assert kept == pytest.approx(ahead, abs=1e-4)


@pytest.fixture(scope="module")
def samples() -> Samples:
    waves, model = Waves(), model_settings()
    lonlat = waves.locations(SMALL.batch, 0)
    texts = waves.texts(lonlat)
    tokenizer = train_tokenizer([text for text in texts if text], model.text)
    observed = observe(waves, lonlat, tokenizer, model.modalities)
    return observed.to(torch.device("cuda"))


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "train.jsonl").read_text().splitlines()]


def gradients_of(samples: Samples, settings: TrainingSettings) -> dict[str, torch.Tensor]:
    model = UniGeoCLIP(model_settings()).cuda().train()
    build_optimizer(model, settings)
    prepare_blocks(model, settings, torch.device("cuda"))
    compute_gradients(model, TrainingBatch(3, samples, np.arange(len(samples))), settings, ALONE)
    return {name: w.grad.float() for name, w in model.named_parameters() if w.grad is not None}
