"""One training step up to the gradients: encode a batch in every modality, and contrast it."""

import re
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.observations.forms import COORDINATE
from unigeo.producer.training.loss.contrast import contrastive_loss
from unigeo.producer.training.noise import drop_modalities, jitter
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.schedule import learns
from unigeo.producer.training.settings import TrainingSettings
from unigeo.schemas.errors import ModelError

_BLOCK = re.compile(r"\.(blocks|layers)\.\d+$")


@dataclass(frozen=True)
class TrainingBatch:
    """Share of one process in the batch of a step."""

    step: int
    samples: Samples
    indices: Int[np.ndarray, " sample"]
    """Index of each sample in the batch of all processes."""


@dataclass(frozen=True)
class StepResult:
    """Results of a batch beside the gradients, which are in the weights."""

    loss: Float[Tensor, ""]
    """Loss of the batch of all processes."""
    vectors: dict[str, Tensor]
    """Embeddings of this process's samples by modality."""
    present: dict[str, Tensor]
    """Samples that were observed and not hidden, by modality."""


def compute_gradients(
    model: UniGeoCLIP, batch: TrainingBatch, settings: TrainingSettings, processes: Processes
) -> StepResult:
    """Add this process's share of the gradient of a batch's loss to the weights.

    With chunks the vectors are first computed without a graph, and the loss gives the gradient of
    each vector. Then each chunk is encoded again, with a graph, and passes its vectors' gradients
    on to the weights. At most one chunk's graph is held, and the result is that of the whole batch.

    Source: Gao et al. 2021, GradCache, arXiv 2101.06983.
    """
    samples, step = batch.samples, batch.step
    lonlat = samples.inputs[COORDINATE]
    moved = {**samples.inputs, COORDINATE: jitter(lonlat, batch.indices, step, settings)}
    inputs = {name: moved[name] for name in model.modalities}
    observed = {name: samples.present[name] for name in model.modalities}
    present = drop_modalities(observed, batch.indices, step, settings)
    chunk = min(settings.chunk or len(samples), len(samples))
    learning = {name for name in inputs if learns(name, step, settings)}
    in_one_chunk = chunk == len(samples)

    def encode(name: str, start: int, graph: bool) -> Tensor:
        # Dropout must draw the same numbers in both passes, and after a restart.
        torch.manual_seed(_seed(settings.seed, step, processes.rank, start))
        with torch.set_grad_enabled(graph), autocast(lonlat.device, settings):
            return encode_padded(model, name, inputs[name][start : start + chunk], chunk)

    starts = range(0, len(samples), chunk)
    vectors = {
        name: torch.cat(
            [encode(name, start, in_one_chunk and name in learning) for start in starts]
        )
        for name in inputs
    }
    if not in_one_chunk:  # the vectors become leaves, where the loss leaves its gradients
        vectors = {name: v.requires_grad_(name in learning) for name, v in vectors.items()}
    with autocast(lonlat.device, settings):
        loss = contrastive_loss(
            vectors,
            present,
            pair_scale(model, settings),
            settings.contrast,
            lonlat=lonlat,
            panorama=samples.panorama,
            group=processes.group,
        )
    total = loss.detach()
    if model.heads is not None:
        error = settings.numbers * model.heads.loss(vectors, inputs, present, settings.batch)
        total = total + processes.sum(error.detach())  # the contrast is of all processes already
        loss = loss + error
    loss.backward()
    if not in_one_chunk:
        for name in inputs:  # in a fixed order: tied towers add to the same weights
            grad = vectors[name].grad
            if grad is None:  # a tower that does not learn, or a modality in no pair
                continue
            for start in starts:
                again = encode(name, start, True)
                if again.requires_grad:
                    again.backward(grad[start : start + chunk])
    return StepResult(total, {name: v.detach() for name, v in vectors.items()}, present)


def encode_padded(
    model: UniGeoCLIP, modality: str, inputs: Shaped[Tensor, "sample ..."], count: int
) -> Float[Tensor, "sample dimension"]:
    """Encode a batch, padded to `count` samples if the model's blocks are compiled.

    A program is compiled for one shape: a smaller last chunk would have every tower compiled once
    more, which takes seconds each.
    """
    unpadded = len(inputs)
    if unpadded < count and _is_compiled(model):
        inputs = torch.cat([inputs, inputs[:1].expand(count - unpadded, *inputs.shape[1:])])
    return model.encode(modality, inputs)[:unpadded]


def pair_scale(model: UniGeoCLIP, settings: TrainingSettings) -> Float[Tensor, "*pair"]:
    """Return the inverse temperature, one for all or one of each contrasted pair.

    Raises:
        ModelError: if a self pair would need a temperature of its own.
    """
    scale: Tensor = model.scale()
    if scale.ndim == 0:
        return scale
    known = [frozenset(pair) for pair in model.settings.pairs]
    pairs = [frozenset(pair) for pair in settings.contrast.selected(model.modalities)]
    if any(pair not in known for pair in pairs):
        raise ModelError("a temperature per pair goes without self pairs; leave one of them off")
    return scale[[known.index(pair) for pair in pairs]]


def autocast(device: torch.device, settings: TrainingSettings) -> torch.autocast:
    """Return the context in which towers multiply in the precision of the settings."""
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16(device, settings))


def in_bfloat16(device: torch.device, settings: TrainingSettings) -> bool:
    """Return whether towers multiply in bfloat16."""
    if settings.precision == "auto":
        return device.type == "cuda"
    return settings.precision == "bfloat16"


def prepare_blocks(model: UniGeoCLIP, settings: TrainingSettings, device: torch.device) -> None:
    """Compile the transformer blocks and switch activation checkpointing, as the settings say.

    Each block is compiled by itself: the blocks of a tower share one program, which takes seconds.
    """
    compiled = device.type == "cuda" if settings.compile == "auto" else settings.compile
    if compiled:
        compile_blocks(model)
    model.checkpoint_activations(settings.activation_checkpointing)


def compile_blocks(model: UniGeoCLIP) -> None:
    """Compile each transformer block for the shapes that it is called with."""
    # Three programs per tower: with a graph, without, and in evaluation's precision.
    torch._dynamo.config.recompile_limit = 64
    for name, module in model.named_modules():
        if _BLOCK.search(name):
            module.forward = torch.compile(module.forward, dynamic=False)


def _is_compiled(model: UniGeoCLIP) -> bool:
    # `compile_blocks` sets `forward` on the instance; the class's own is not in `vars`.
    return any(_BLOCK.search(name) and "forward" in vars(m) for name, m in model.named_modules())


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
