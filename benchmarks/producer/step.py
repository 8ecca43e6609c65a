"""Time whole steps of training, fed by threads that make random observations.

    python -m benchmarks.producer.step --preset base                  # one H100 or H200, 5 minutes
    python -m benchmarks.producer.step --preset base --batch 1024 --chunk 0   # nothing done twice
    torchrun --nproc-per-node 8 -m benchmarks.producer.step --preset base
    python -m benchmarks.producer.step --preset tiny                  # on a CPU

Prints samples per second, MFU, the share of the step that the loss and its gathering take (goal: at
most 10 % of a base step), the share spent waiting for data, peak memory and energy. Where a figure
of a GPU falls short of its goal, the step is profiled.

It needs torch, timm, transformers, safetensors, jaxtyping, tqdm and numpy. unigeo need not be
installed: the repository's root is then taken for the package.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo.utils

from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from benchmarks.producer.profiles import profiled
from benchmarks.producer.report import Report, reporting
from unigeo.producer.encoders import presets
from unigeo.producer.encoders.model import UniGeoCLIP
from unigeo.producer.encoders.model_settings import ModelSettings
from unigeo.producer.encoders.tower_settings import ImageSettings, SurfaceSettings
from unigeo.producer.observations.forms import default_forms
from unigeo.producer.training.batches import StreamingBatches, on_device
from unigeo.producer.training.checkpoint import TrainingState
from unigeo.producer.training.ema import MeanWeights
from unigeo.producer.training.energy import EnergyMeter
from unigeo.producer.training.failures import explain_step_errors
from unigeo.producer.training.flops import peak_flops, sample_flops
from unigeo.producer.training.loop import train_step
from unigeo.producer.training.loss.contrast import contrastive_loss
from unigeo.producer.training.optimizer import build_optimizer
from unigeo.producer.training.processes import Processes, default_device, join_processes
from unigeo.producer.training.samples import Samples
from unigeo.producer.training.settings import TrainingSettings
from unigeo.producer.training.step import TrainingBatch, autocast, pair_scale, prepare_blocks

SHAPES = {"aerial": (3, 32, 32), "street": (3, 32, 48), "dsm": (1, 32, 32)}
"""Patches of the presets that are not `base`."""
BATCH = {"base": (4096, 512), "small": (1024, 256), "tiny": (256, 0)}
"""Numbers of samples in a step, and encoded at once (0: all)."""
WARM = 2
"""Steps before timing, in which blocks are compiled and memory is found."""
MOST_LOSS_SHARE = 0.10
"""Largest share of a base step that the loss and its gathering may take."""
LEAST_MFU, MOST_WAITING, MOST_FIRST_S = 0.45, 0.05, 60.0
"""Goals of a base step on an H100 or H200: model FLOPs utilization, share of the step spent waiting
for data, and seconds of the first step, in which blocks are compiled."""


@dataclass(frozen=True)
class Timing:
    """Time, memory and energy of one step."""

    device: str
    processes: int
    batch: int
    chunk: int | None
    parameters_million: float
    seconds: float
    places_per_second: float
    mfu: float | None
    needed_tflop: float
    computed_again_tflop: float
    loss_share: float
    waiting_share: float
    memory_gb: float | None
    joules_per_place: float | None
    first_step_seconds: float
    programs: int
    """Number of compiled programs, of all towers together."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=BATCH, default="base")
    parser.add_argument("--device", help="cuda or cpu; CUDA where there is one")
    parser.add_argument("--batch", type=int, help="samples in a step, over all processes")
    parser.add_argument("--chunk", type=int, help="samples encoded at once; 0 for all")
    parser.add_argument("--activation-checkpointing", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--precision", choices=("auto", "bfloat16", "float32"), default="auto")
    parser.add_argument("--steps", type=int, default=12, help="timed steps, at most")
    parser.add_argument("--seconds", type=float, default=240, help="time for them, at most")
    parser.add_argument("--workers", type=int, default=8, help="threads that make observations")
    parser.add_argument("--profile", action="store_true", help="profile whatever the figures are")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    device = torch.device(options.device) if options.device else default_device()
    settings = _settings(options)
    with (
        join_processes(device, settings.timeout_seconds) as processes,
        reporting(options.out if processes.is_first else None, device, options.preset) as report,
    ):
        timing, again = measure(
            _model(options.preset), settings, device, processes, options.seconds
        )
        if processes.is_first:
            show(timing, options.preset)
            short = judge(report, timing, options.preset)
            if (short or options.profile) and processes.count == 1:
                report.add(profile=profiled(again, device))


def judge(report: Report, timing: Timing, preset: str) -> bool:
    """Put the figures beside their goals; whether any falls short."""
    report.add(**asdict(timing))
    name = f"step of {preset}"
    report.figure(f"{name}: places", timing.places_per_second, "1/s")
    short = []
    if timing.mfu is not None:
        short.append(report.figure(f"{name}: MFU", timing.mfu, least=LEAST_MFU))
    if timing.memory_gb is not None:
        report.figure(f"{name}: peak memory", timing.memory_gb, "GB")
    if timing.joules_per_place is not None:
        report.figure(f"{name}: energy of a place", timing.joules_per_place, "J")
    short += [
        report.figure(f"{name}: share waiting for data", timing.waiting_share, most=MOST_WAITING),
        report.figure(
            f"{name}: share of the loss and its gathering", timing.loss_share, most=MOST_LOSS_SHARE
        ),
        report.figure(
            f"first step of {preset}, with compiling", timing.first_step_seconds, "s",
            most=MOST_FIRST_S,
        ),
    ]  # fmt: skip
    report.figure(f"programs compiled for {preset}", timing.programs)
    return any(short)


def measure(
    model_settings: ModelSettings,
    settings: TrainingSettings,
    device: torch.device,
    processes: Processes,
    seconds: float,
) -> tuple[Timing, Callable[[], Any]]:
    """Run steps until the time is up; return the median step, and a function that runs a step."""
    torch.manual_seed(0)
    model = UniGeoCLIP(model_settings, pretrained=False).to(device).train()
    flops = sample_flops(model, random_samples(model_settings, 1, 0).to(device))
    state = TrainingState(model, build_optimizer(model, settings), MeanWeights(model, settings.ema))
    prepare_blocks(model, settings, device)
    elapsed_s, waited, joules = [], [], []
    energy = EnergyMeter(device)
    stop, begun = False, time.perf_counter()
    source = _batches(model_settings, settings, processes, device)
    batches = _timed(on_device(source, device), waited)
    for batch in batches:
        start = time.perf_counter()
        with explain_step_errors(batch.step, settings, processes):
            _, stop = train_step(state, batch, settings, processes, device, stop)
        _wait(device)
        elapsed_s.append(time.perf_counter() - start + waited[-1])
        joules.append(energy.joules())
        if batch.step == WARM:
            begun = time.perf_counter()
        # All processes stop together: the next step's sum passes one's request on to all.
        if stop:
            break
        stop = batch.step > WARM and time.perf_counter() - begun > seconds
        last = batch
    middle = statistics.median(elapsed_s[WARM:])
    needed, again = flops.step(settings.steps - 1, settings, model_settings.dimension)
    peak = peak_flops(device, settings)
    used = [value for value in joules[WARM:] if value is not None]
    cuda = device.type == "cuda"
    timing = Timing(
        device=torch.cuda.get_device_name(device)
        if cuda
        else f"CPU, {torch.get_num_threads()} threads",
        processes=processes.count,
        batch=settings.batch,
        chunk=settings.chunk,
        parameters_million=sum(weight.numel() for weight in model.parameters()) / 1e6,
        seconds=middle,
        places_per_second=settings.batch / middle,
        mfu=None if peak is None else needed / middle / peak / processes.count,
        needed_tflop=needed / 1e12,
        computed_again_tflop=again / 1e12,
        loss_share=loss_seconds(model, last, settings, processes, device) / middle,
        waiting_share=statistics.median(waited[WARM:]) / middle,
        memory_gb=torch.cuda.max_memory_allocated(device) / 1e9 if cuda else None,
        joules_per_place=sum(processes.gather(statistics.median(used))) / settings.batch
        if used
        else None,
        first_step_seconds=elapsed_s[0] - waited[0],
        programs=torch._dynamo.utils.counters["stats"]["unique_graphs"],
    )
    return timing, lambda: train_step(state, last, settings, processes, device, False)


def loss_seconds(
    model: UniGeoCLIP,
    batch: TrainingBatch,
    settings: TrainingSettings,
    processes: Processes,
    device: torch.device,
) -> float:
    """Time the loss of a batch with its gathering, forward and backward, by itself."""
    count = len(batch.samples)
    vectors = {
        name: torch.nn.functional.normalize(
            torch.randn(count, model.settings.dimension, device=device), dim=1
        ).requires_grad_()
        for name in model.modalities
    }
    seconds = []
    for _ in range(5):
        _wait(device)
        start = time.perf_counter()
        with autocast(device, settings):
            loss = contrastive_loss(
                vectors,
                batch.samples.present,
                pair_scale(model, settings),
                settings.contrast,
                lonlat=batch.samples.inputs["coordinate"],
                group=processes.group,
            )
        loss.backward()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def random_samples(model_settings: ModelSettings, count: int, seed: int) -> Samples:
    """Make observations of the right shapes: noise, as every pixel costs the same."""
    rng = np.random.default_rng(seed)
    lonlat = rng.uniform((-125, 25), (-67, 49), (count, 2))
    inputs: dict[str, torch.Tensor] = {"coordinate": torch.from_numpy(lonlat)}
    for name in model_settings.modalities:
        tower, shape = model_settings.towers[name], (count, *model_settings.shape(name))
        if isinstance(tower, ImageSettings):
            inputs[name] = torch.from_numpy(rng.integers(0, 256, shape, np.uint8))
        elif isinstance(tower, SurfaceSettings):
            inputs[name] = torch.from_numpy(100 * rng.random(shape, np.float32))
        elif name == "text":
            inputs[name] = torch.from_numpy(rng.integers(0, tower.vocabulary, shape))
    return Samples(inputs, {name: torch.ones(count, dtype=torch.bool) for name in inputs})


def show(timing: Timing, preset: str) -> None:
    """Print the figures with their units."""
    kept = "kept" if timing.loss_share <= MOST_LOSS_SHARE else "MISSED"
    goal = f" (goal {100 * MOST_LOSS_SHARE:g} %: {kept})" if preset == "base" else ""
    lines = {
        "device": f"{timing.processes} x {timing.device}",
        "model": f"{preset}, {timing.parameters_million:.1f} M parameters",
        "batch": f"{timing.batch} places, chunk {timing.chunk}",
        "step": f"{timing.seconds:.3f} s (the first {timing.first_step_seconds:.1f} s)",
        "speed": f"{timing.places_per_second:.1f} places/s",
        "operations": f"{timing.needed_tflop:.4g} TFLOP a step, "
        f"and {timing.computed_again_tflop:.4g} again",
        "MFU": "peak not known" if timing.mfu is None else f"{100 * timing.mfu:.1f} %",
        "loss and gathering": f"{100 * timing.loss_share:.2f} % of the step{goal}",
        "waiting for data": f"{100 * timing.waiting_share:.2f} % of the step",
        "peak memory": "not counted here"
        if timing.memory_gb is None
        else f"{timing.memory_gb:.1f} GB",
        "energy": "not counted here"
        if timing.joules_per_place is None
        else f"{timing.joules_per_place:.3f} J a place",
    }
    for name, value in lines.items():
        print(f"{name:20}{value}")


def _batches(
    model_settings: ModelSettings,
    settings: TrainingSettings,
    processes: Processes,
    device: torch.device,
) -> Iterator[TrainingBatch]:
    lonlat = np.zeros((settings.locations, 2))
    lonlat[:, 0] = np.arange(len(lonlat))  # the seed of each sample

    def observe(seeds: np.ndarray) -> Samples:
        return random_samples(model_settings, len(seeds), int(seeds[0, 0]))

    pinned = device.type == "cuda"
    source = StreamingBatches(len(lonlat), lambda _: lonlat, observe, settings, processes, pinned)
    return source.batches(0, settings.steps)


def _timed(batches: Iterator[TrainingBatch], waited: list[float]) -> Iterator[TrainingBatch]:
    while True:
        start = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        waited.append(time.perf_counter() - start)
        yield batch


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _model(preset: str) -> ModelSettings:
    if preset == "base":
        return presets.base(pretrained=None)
    build: Any = getattr(presets, preset)
    return build(default_forms(SHAPES))


def _settings(options: argparse.Namespace) -> TrainingSettings:
    batch, chunk = BATCH[options.preset]
    batch = options.batch or batch
    chunk = chunk if options.chunk is None else options.chunk
    return TrainingSettings(
        locations=4 * batch,
        batch=batch,
        steps=WARM + options.steps,
        warmup=WARM,
        rate=1e-4,
        chunk=chunk or None,
        activation_checkpointing=options.activation_checkpointing,
        compile=False if options.no_compile else "auto",
        precision=options.precision,
        workers=options.workers,
    )


if __name__ == "__main__":
    main()
