"""One step: encode a batch in every modality, contrast it, and find the gradients."""

import re
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.training.loss.contrast import contrastive_loss
from unigeo.producer.training.noise import hide, jitter
from unigeo.producer.training.processes import Processes
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.schedule import learns
from unigeo.producer.training.settings import TrainingSettings
from unigeo.schemas.errors import ModelError

_BLOCK = re.compile(r"\.(blocks|layers)\.\d+$")


@dataclass(frozen=True)
class TrainingBatch:
    """Places of one step: this process's share."""

    step: int
    places: Samples
    positions: Int[np.ndarray, " place"]
    """Where they stand in the whole batch."""


@dataclass(frozen=True)
class StepResult:
    """What a batch gave, beside the gradients that the weights now hold."""

    loss: Float[Tensor, ""]
    """Of the whole batch of all processes."""
    vectors: dict[str, Tensor]
    present: dict[str, Tensor]


def gradients(
    model: UniGeoCLIP, batch: TrainingBatch, settings: TrainingSettings, processes: Processes
) -> StepResult:
    """Add the gradient of a batch's loss to the weights, this process's share of it.

    With chunks the vectors are first computed without a graph; the loss gives a gradient for each
    vector; then each chunk is encoded again, and passes its vectors' gradients on to the weights.
    No more than one chunk's graph is held, and the result is that of the whole batch.

    Source: Gao et al. 2021, GradCache, arXiv 2101.06983.
    """
    places, step = batch.places, batch.step
    lonlat = places.inputs["coordinate"]
    seen = {**places.inputs, "coordinate": jitter(lonlat, batch.positions, step, settings)}
    inputs = {name: seen[name] for name in model.modalities}
    there = {name: places.present[name] for name in model.modalities}
    present = hide(there, batch.positions, step, settings)
    chunk = min(settings.chunk or len(places), len(places))
    learning = {name for name in inputs if learns(name, step, settings)}
    at_once = chunk == len(places)

    def encode(name: str, start: int, graph: bool) -> Tensor:
        # Towers that draw at random draw the same in both passes, and after a restart.
        torch.manual_seed(_seed(settings.seed, step, processes.rank, start))
        with torch.set_grad_enabled(graph), autocast(lonlat.device, settings):
            return encode_filled(model, name, inputs[name][start : start + chunk], chunk)

    starts = range(0, len(places), chunk)
    vectors = {
        name: torch.cat([encode(name, start, at_once and name in learning) for start in starts])
        for name in inputs
    }
    if not at_once:
        vectors = {name: v.requires_grad_(name in learning) for name, v in vectors.items()}
    with autocast(lonlat.device, settings):
        loss = contrastive_loss(
            vectors,
            present,
            pair_scale(model, settings),
            settings.contrast,
            lonlat=lonlat,
            panorama=places.panorama,
            group=processes.group,
        )
    loss.backward()
    if not at_once:
        for name in inputs:  # in their order, as towers may share weights
            flow = vectors[name].grad
            if flow is None:  # it rests, or no pair holds it
                continue
            for start in starts:
                again = encode(name, start, True)
                if again.requires_grad:
                    again.backward(flow[start : start + chunk])
    return StepResult(loss.detach(), {name: v.detach() for name, v in vectors.items()}, present)


def encode_filled(
    model: UniGeoCLIP, modality: str, inputs: Shaped[Tensor, "place ..."], count: int
) -> Float[Tensor, "place dimension"]:
    """Encode a batch; one of fewer than `count` is filled up where blocks are compiled.

    A program is compiled for one shape: the last part of a batch would have others made, of every
    tower, for some seconds each.
    """
    own = len(inputs)
    if own < count and _is_compiled(model):
        inputs = torch.cat([inputs, inputs[:1].expand(count - own, *inputs.shape[1:])])
    return model.encode(modality, inputs)[:own]


def pair_scale(model: UniGeoCLIP, settings: TrainingSettings) -> Float[Tensor, "*pair"]:
    """Give the inverse temperature, one or that of each pair that is contrasted.

    Raises:
        ModelError: if a self pair would need one of its own.
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
    """Products in bfloat16 where the settings say so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16(device, settings))


def in_bfloat16(device: torch.device, settings: TrainingSettings) -> bool:
    """Whether towers multiply in bfloat16."""
    if settings.precision == "auto":
        return device.type == "cuda"
    return settings.precision == "bfloat16"


def fit_out(model: UniGeoCLIP, settings: TrainingSettings, device: torch.device) -> None:
    """Compile the transformer blocks and have them forget, as the settings say.

    Block by block: the blocks of a tower share one compiled program, so it is there in seconds.
    """
    compiled = device.type == "cuda" if settings.compile == "auto" else settings.compile
    if compiled:
        compile_blocks(model)
    model.checkpoint_activations(settings.activation_checkpointing)


def compile_blocks(model: UniGeoCLIP) -> None:
    """Compile each transformer block for the shapes that it will see."""
    # Three programs per tower: with a graph, without, and in evaluation's precision.
    torch._dynamo.config.recompile_limit = 64
    for name, module in model.named_modules():
        if _BLOCK.search(name):
            module.forward = torch.compile(module.forward, dynamic=False)


def _is_compiled(model: UniGeoCLIP) -> bool:
    return any(_BLOCK.search(name) and "forward" in vars(m) for name, m in model.named_modules())


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
