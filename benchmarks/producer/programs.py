"""Count the programs that training compiles: each takes seconds on a GPU.

    python -m benchmarks.producer.programs     # anywhere, in seconds: the programs run uncompiled

Prints JSON: the number of towers, and of the programs that each part of two runs makes, one run
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
"""Numbers of samples in a step, and encoded at once: the last chunk has 7."""


def count() -> dict[str, int]:
    """Make both runs, with a compiler that only records its programs."""
    programs: list[Any] = []

    def record(program: Any, inputs: Any) -> Any:
        programs.append(program)
        return program.forward

    counts = {"towers": len(model_settings().modalities)}

    def count_programs(part: str) -> None:
        counts[part] = len(programs)
        programs.clear()

    compiled, cpu = torch.compile, torch.device("cpu")
    torch.compile = partial(compiled, backend=record)  # type: ignore[assignment]
    try:
        chunked = _settings(CHUNK)
        model = UniGeoCLIP(model_settings())
        prepare_blocks(model, chunked, cpu)
        _learn(model, observe_waves(BATCH, 4), 0, chunked)
        count_programs("first step")
        _learn(model, observe_waves(BATCH, 1), 1, chunked)
        count_programs("shorter texts")
        for gallery in (21, 21, 16):
            embed(model, observe_waves(gallery, 2), cpu, batch=CHUNK)
        count_programs("evaluation")
        _learn(model, observe_waves(BATCH, 2), 2, chunked)
        count_programs("after evaluation")
        model = UniGeoCLIP(model_settings())
        torch._dynamo.reset()
        prepare_blocks(model, _settings(None), cpu)
        for step in range(2):
            _learn(model, observe_waves(BATCH, 4), step, _settings(None))
        count_programs("without chunks")
    finally:
        torch.compile = compiled
    return counts


def observe_waves(count: int, most_words: int) -> Samples:
    """Observe `Waves` at `count` locations, with texts of at most `most_words`."""
    waves, model = _ShortTexts(most_words), model_settings()
    lonlat = waves.locations(count, 0)
    assert model.text is not None
    tokenizer = train_tokenizer([text for text in waves.texts(lonlat) if text], model.text)
    return observe(waves, lonlat, tokenizer, model.modalities)


class _ShortTexts(Waves):
    """The observations of `Waves` with at most `most_words` words in a text."""

    def __init__(self, most_words: int) -> None:
        self._most_words = most_words

    def texts(self, lonlat: np.ndarray, modality: str = "text") -> list[str | None]:
        texts = super().texts(lonlat)
        return [text and " ".join(text.split()[: self._most_words]) for text in texts]


def _settings(chunk: int | None) -> TrainingSettings:
    return TrainingSettings(
        locations=100, batch=BATCH, chunk=chunk, compile=True, precision="bfloat16"
    )


def _learn(model: UniGeoCLIP, samples: Samples, step: int, settings: TrainingSettings) -> None:
    model.train()
    batch = TrainingBatch(step, samples, np.arange(len(samples)))
    compute_gradients(model, batch, settings, Processes())


if __name__ == "__main__":
    print(json.dumps(count()))
