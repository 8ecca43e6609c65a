"""Count the programs that training compiles: each takes seconds on a GPU.

    python -m benchmarks.producer.programs     # anywhere, in seconds: the programs run uncompiled

Prints JSON: how many towers there are, and how many programs each part of two runs made, one run
in chunks that do not divide the batch, one without chunks.
"""

import json
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from benchmarks.producer.waves import Waves, model_settings
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.text import train_tokenizer
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples, observe
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import TrainingBatch, compute_gradients, prepare_blocks
from unigeo.producer.training.train import embed

BATCH, CHUNK = 23, 8
"""Places in a step, and encoded at once: the last chunk has 7."""


def count() -> dict[str, int]:
    """Make both runs, with a compiler that only notes what it is given."""
    made: list[Any] = []

    def note(program: Any, inputs: Any) -> Any:
        made.append(program)
        return program.forward

    found = {"towers": len(model_settings().modalities)}

    def told(part: str) -> None:
        found[part] = len(made)
        made.clear()

    compiled, cpu = torch.compile, torch.device("cpu")
    torch.compile = partial(compiled, backend=note)  # type: ignore[assignment]
    try:
        chunked = _settings(CHUNK)
        model = UniGeoCLIP(model_settings())
        prepare_blocks(model, chunked, cpu)
        _learn(model, places(BATCH, 4), 0, chunked)
        told("first step")
        _learn(model, places(BATCH, 1), 1, chunked)
        told("shorter texts")
        for gallery in (21, 21, 16):
            embed(model, places(gallery, 2), cpu, batch=CHUNK)
        told("evaluation")
        _learn(model, places(BATCH, 2), 2, chunked)
        told("after evaluation")
        model = UniGeoCLIP(model_settings())
        torch._dynamo.reset()
        prepare_blocks(model, _settings(None), cpu)
        for step in range(2):
            _learn(model, places(BATCH, 4), step, _settings(None))
        told("without chunks")
    finally:
        torch.compile = compiled
    return found


def places(count: int, longest: int) -> Samples:
    """What is seen, with texts of at most so many words."""
    waves, model = _ShortTexts(longest), model_settings()
    lonlat = waves.locations(count, 0)
    assert model.text is not None
    tokenizer = train_tokenizer([text for text in waves.texts(lonlat) if text], model.text)
    return observe(waves, lonlat, tokenizer, model.modalities)


class _ShortTexts(Waves):
    """The observations of `Waves` with at most so many words in a text."""

    def __init__(self, longest: int) -> None:
        self._longest = longest

    def texts(self, lonlat: np.ndarray) -> list[str | None]:
        texts = super().texts(lonlat)
        return [text and " ".join(text.split()[: self._longest]) for text in texts]


def _settings(chunk: int | None) -> TrainingSettings:
    return TrainingSettings(
        locations=100, batch=BATCH, chunk=chunk, compile=True, precision="bfloat16"
    )


def _learn(model: UniGeoCLIP, seen: Samples, step: int, settings: TrainingSettings) -> None:
    model.train()
    compute_gradients(model, TrainingBatch(step, seen, np.arange(len(seen))), settings, Processes())


if __name__ == "__main__":
    print(json.dumps(count()))
