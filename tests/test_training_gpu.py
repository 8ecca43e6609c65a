"""What only a GPU can show: memory that runs out, compiled blocks, copies behind the work."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_runs import NOISY, SMALL, gave, model_settings

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.presets import base
from unigeo.producer.observations.world import World
from unigeo.producer.training.failures import told
from unigeo.producer.training.optimizer import build_optimizer
from unigeo.producer.training.places import Places
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.step import Batch, fit_out, gradients
from unigeo.producer.training.training import train
from unigeo.schemas.errors import ModelError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
ALONE = Processes()


def test_running_out_of_memory_says_what_to_set():
    """A whole batch of street pictures at once does not fit any GPU of today."""
    settings = replace(SMALL, batch=16_384, locations=100_000)
    street = replace(base(pretrained=None), coordinate=None, aerial=None, dsm=None, text=None)
    with torch.device("cuda"):
        model = UniGeoCLIP(street).train()
        seen = torch.zeros(settings.batch, 3, 224, 224, dtype=torch.uint8)
        degrees = torch.zeros(settings.batch, 2, dtype=torch.float64)
        there = torch.ones(settings.batch, dtype=torch.bool)
    places = Places({"coordinate": degrees, "street": seen}, {"coordinate": there, "street": there})
    batch = Batch(4, places, np.arange(settings.batch))
    with pytest.raises(ModelError, match="step 4: batch 16384"), told(4, settings, ALONE):
        gradients(model, batch, settings, ALONE)


def test_compiled_blocks_in_chunks_give_the_gradients_of_plain_ones(trained_places):
    plain = flow(trained_places, replace(SMALL, compile=False, precision="float32"))
    quick = flow(trained_places, replace(SMALL, compile=True, precision="float32", chunk=8))
    rough = flow(trained_places, replace(SMALL, compile=True, precision="bfloat16", chunk=8))
    for name, values in plain.items():
        assert torch.allclose(values, quick[name], atol=1e-4 * float(values.abs().max()) + 1e-7)
        cosine = torch.nn.functional.cosine_similarity(
            values.flatten(), rough[name].flatten(), dim=0
        )
        assert cosine > 0.95 or float(values.norm()) < 1e-4, name


def test_kept_and_streamed_places_train_the_same_model(tmp_path):
    settings = replace(NOISY, precision="float32", compile=False)
    for name, kept_gb in (("kept", 1.0), ("ahead", 0.0)):
        train(
            World(),
            model_settings(),
            replace(settings, kept_gb=kept_gb),
            tmp_path / name,
            progress=False,
        )
    kept, ahead = ([line["loss"] for line in gave(tmp_path / name)] for name in ("kept", "ahead"))
    assert kept == pytest.approx(ahead, abs=1e-5)


@pytest.fixture(scope="module")
def trained_places():
    world = World()
    lonlat = world.locations(SMALL.batch, 0)
    inputs = {"coordinate": torch.from_numpy(lonlat)}
    for name in ("aerial", "dsm"):
        inputs[name] = torch.from_numpy(world.patches(name, lonlat).values)
    inputs["text"] = torch.randint(0, 300, (SMALL.batch, 16))
    there = torch.ones(SMALL.batch, dtype=torch.bool)
    return Places(inputs, dict.fromkeys(inputs, there)).to(torch.device("cuda"))


def flow(places, settings):
    model = UniGeoCLIP(model_settings()).cuda().train()
    build_optimizer(model, settings)
    fit_out(model, settings, torch.device("cuda"))
    gradients(model, Batch(3, places, np.arange(len(places))), settings, ALONE)
    return {name: w.grad.float() for name, w in model.named_parameters() if w.grad is not None}
